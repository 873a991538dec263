"""`ssmrec demo`: everything once, on the bundled data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import polars as pl
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ssmrec.blending.blend import blend
from ssmrec.cli.train import run
from ssmrec.config import read_recipe
from ssmrec.data import Split, item_titles
from ssmrec.recommender import Recommender
from ssmrec.reporting.progress import ProgressBars
from ssmrec.reporting.tables import caption, metrics_table
from ssmrec.training import resolve, train_run
from ssmrec.training.run import is_ours

NAMES = ["recall@20", "ndcg@20"]
WEIGHTS = (0.25, 0.75)
"""Of LightGCN and EASE, as validation chooses them (docs/models.md)."""


def demo(
    out: Annotated[Path, typer.Option(help="Run folder.")] = Path("runs/demo"),
) -> None:
    """Train LightGCN with sampled softmax on the bundled shop data, compare, and recommend."""
    console = Console()
    console.print("LightGCN with sampled softmax on online-retail (a gift shop's purchases)")
    config = resolve(read_recipe("online-retail-lightgcn-ssm"))
    trained, split, folder = run(config, out, resume=False, overwrite=is_ours(out))
    if trained.metrics["stopped"] == "interrupted":
        raise typer.Exit(130)
    console.print("blended with EASE, and for comparison matrix factorisation with BPR")
    with ProgressBars() as bars:
        solved, rival = (
            train_run(resolve(read_recipe(name)), split, bars)
            for name in ("online-retail-ease", "online-retail-mf-bpr")
        )
        both = blend([trained, solved], split, WEIGHTS)
    reference = trained.metrics["reference"]
    table = metrics_table(
        {
            "LightGCN + SSM": trained.metrics["test"],
            "blended with EASE": both.metrics["test"],
            "MF + BPR": rival.metrics["test"],
            "most popular": reference["most_popular"],
            "best possible": reference["best_possible"],
        },
        NAMES,
        "held-out later purchases, all products ranked",
    )
    console.print(table)
    console.print(caption(trained.metrics), markup=False, highlight=False)
    _recommendations(console, Recommender.of(trained), split)
    console.print(f"run folder: {folder}\nnext: ssmrec recommend {folder} --users 17850 --top 20")
    console.print(f"why:  ssmrec explain {folder} 17850")


def _recommendations(console: Console, recommender: Recommender, split: Split) -> None:
    """Top 10 of three customers beside what they bought before; what they bought later is marked."""
    train, test = recommender.trained_.seen, split.test
    titles = item_titles("online-retail")
    assert test is not None and titles is not None
    names = dict(zip(titles["item"].to_list(), titles["title"].to_list(), strict=True))
    fit = np.flatnonzero(
        (train.user_degrees >= 15) & (train.user_degrees <= 60) & (test.user_degrees >= 5)
    )
    users = fit[np.linspace(0, len(fit) - 1, 5).astype(int)[1:4]]
    lists = recommender.recommend(train.users.decode(users), 10)
    for user in users:
        bought = train.indices[train.indptr[user] : train.indptr[user + 1]]
        latest = bought
        if train.timestamps is not None:
            when = train.timestamps[train.indptr[user] : train.indptr[user + 1]]
            latest = bought[np.argsort(-when, kind="stable")]
        later = set(test.items.decode(test.indices[test.indptr[user] : test.indptr[user + 1]]))
        name = train.users.ids[int(user)]
        table = Table("bought before (latest first)", "recommended", "bought later",
                      title=f"customer {name}: {len(bought)} products known")  # fmt: skip
        found = lists.filter(pl.col("user") == name)["item"].to_list()
        for before, item in zip(train.items.decode(latest[:10]), found, strict=False):
            table.add_row(Text(names[before]), Text(names[item]), "yes" if item in later else "")
        console.print(table)
