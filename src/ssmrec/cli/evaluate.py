"""`ssmrec evaluate`: measure a finished run again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from torch import Tensor

from ssmrec.analysis.popularity import exposure
from ssmrec.data import Interactions, prepare
from ssmrec.data.align import aligned
from ssmrec.data.named import files_of
from ssmrec.errors import ConfigError, DataError
from ssmrec.evaluation import best_possible, most_popular, parse_metric
from ssmrec.evaluation import evaluate as evaluate_vectors
from ssmrec.ranking import top_k
from ssmrec.ranking.corrections import corrected_vectors
from ssmrec.ranking.vectors import ranking_vectors
from ssmrec.recommender import PYTHON
from ssmrec.reporting.tables import caption, metrics_table
from ssmrec.training import Trained, label, load_run


def evaluate(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    on: Annotated[str, typer.Option(help="The part to measure on: test or valid.")] = "test",
    metrics: Annotated[
        list[str] | None,
        typer.Option("--metric", help="Such as ndcg@20; repeat. Default: the run's."),
    ] = None,
    similarity: Annotated[
        str | None, typer.Option(help="Rank by dot or cosine instead of the run's.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Where the run's data lies now, if it was moved.")
    ] = None,
    any_data: Annotated[
        bool, typer.Option("--any-data", help="Go on although the data differ from the run's.")
    ] = False,
    correct: Annotated[
        str | None,
        typer.Option(help="Correct popularity: tten, edge or dap, as in edge:strength=0.5."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Full-ranking metrics of a run, beside most-popular and the best possible values."""
    if on not in ("test", "valid"):
        raise ConfigError(f"--on must be test or valid, not {on!r}")
    if similarity not in (None, "dot", "cosine"):
        raise ConfigError(f"--similarity must be dot or cosine, not {similarity!r}")
    for name in metrics or ():
        parse_metric(name)
    trained, fingerprint = load_run(run)
    held_out = held_out_pairs(trained, on, data, None if any_data else fingerprint)
    seen = [trained.train, trained.seen] if on == "test" else [trained.train]
    names = metrics or trained.config.evaluation.names
    rank = similarity or trained.config.ranking.similarity
    allowed = trained.train.item_degrees > 0
    vectors = {"": ranking_vectors(trained.model, rank)}  # type: ignore[arg-type]
    if correct is not None:
        found = corrected_vectors(trained.model, trained.train, rank, correct)  # type: ignore[arg-type]
        vectors[f", {correct}"] = found
    results = {
        name: evaluate_vectors(*pair, held_out, seen, names, allowed=allowed)
        for name, pair in vectors.items()
    }
    result = list(results.values())[-1]
    popular = evaluate_vectors(*most_popular(trained.train), held_out, seen, names, allowed=allowed)
    if as_json:
        kept = ("protocol", "selected_on", "best_epoch", "similarity")
        facts = {key: trained.metrics[key] for key in kept}
        facts["similarity"] = {**facts["similarity"], "rank": rank}
        facts |= {} if correct is None else {"correct": correct}
        typer.echo(json.dumps({on: result.values, "counts": result.counts, **facts}, indent=2))
        return
    rows = {
        **{label(trained.config) + name: found.values for name, found in results.items()},
        "most popular": popular.values,
        "best possible": best_possible(held_out, seen, names, allowed),
    }
    console = Console()
    console.print(metrics_table(rows, names if metrics else _widest(names), on))
    console.print(caption(trained.metrics, rank), markup=False, highlight=False)
    typer.echo(
        ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in result.counts.items())
    )
    if correct is not None:
        k = max(int(name.split("@")[1]) for name in names)
        for name, pair in vectors.items():
            typer.echo(f"{label(trained.config)}{name}: {_exposure(trained, pair, seen, k)}")


def _exposure(
    trained: Trained, vectors: tuple[Tensor, Tensor], seen: list[Interactions], k: int
) -> str:
    """How popular what is listed is, over the lists of all users with training pairs."""
    train = trained.train
    index = np.flatnonzero(train.user_degrees > 0)
    users, items = vectors
    lists = top_k(
        users[torch.from_numpy(index).to(users.device)], items, k, seen=seen, user_index=index,
        allowed=train.item_degrees > 0,
    )  # fmt: skip
    row, column = np.nonzero(lists.ids >= 0)
    found = exposure(row, lists.ids[row, column], train.item_degrees)
    return (
        f"in lists of {k}, mean popularity {found.mean_popularity:,.1f}, tail share {found.tail_share:.4f}, "
        f"coverage {found.coverage:.4f}"
    )


def held_out_pairs(
    trained: Trained, on: str, source: str | None, fingerprint: str | None
) -> Interactions:
    """The held-out part `on` of a run's data, read again from `source` or where the run had it.

    Its pairs are over the ids of the run; those with ids the run does not know are left out and told.

    Raises:
        DataError: the data are not found, lack that part, have another fingerprint (None: any), or
            no id in common with the run.
    """
    settings = trained.config.data
    if source is None and settings.source == PYTHON:
        raise DataError(
            "this run was trained from Python and knows no data file: name it with --data"
        )
    if source is not None:
        settings = settings.model_copy(update={"source": source})
    try:
        files_of(settings)
    except DataError as error:
        advice = "" if source else "; if the run's data were moved, name their place with --data"
        raise DataError(f"{error}{advice}") from None
    split = prepare(settings, trained.config.seed)
    # A run trained from Python knew the parts it was given, and test was none of them.
    alike = (split.fingerprint, replace(split, test=None).fingerprint)
    if fingerprint is not None and fingerprint not in alike:
        raise DataError(
            f"{settings.source}: the data differ from those the run was trained on; "
            "give the right ones with --data, or measure all the same with --any-data"
        )
    part = split.test if on == "test" else split.valid
    if part is None:
        raise DataError(f"{settings.source}: has no {on} part")
    return aligned(part, trained.train)


def _widest(names: list[str]) -> list[str]:
    """The metrics at the longest list, so that the table fits the terminal."""
    longest = max(int(name.split("@")[1]) for name in names)
    return [name for name in names if name.endswith(f"@{longest}")]
