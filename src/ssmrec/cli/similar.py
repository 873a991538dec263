"""`ssmrec similar`: items like an item."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ssmrec.cli.titles import titles_or_none
from ssmrec.reporting.cells import score
from ssmrec.serving.live import Live


def similar(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    items: Annotated[list[str], typer.Argument(help="Item ids.", metavar="ITEM...")],
    top: Annotated[int, typer.Option(help="Length of the lists.", min=1)] = 10,
) -> None:
    """Show the items most like an item, by the cosine of their vectors.

    Example:

      ssmrec similar runs/shop 1680
    """
    live = Live.load(run)
    frame = live.ranker.similar(items, top)
    names = titles_or_none(live.trained)
    table = Table("item", "rank", "similar", *(["title"] if names else []), "score")
    for row in frame.iter_rows(named=True):
        if row["rank"] == 1 and table.row_count:
            table.add_section()
        title = [Text(names.get(str(row["similar"]), ""))] if names else []
        table.add_row(
            Text(str(row["item"])), str(row["rank"]), Text(str(row["similar"])), *title,
            score(row["score"]),
        )  # fmt: skip
    Console().print(table)
