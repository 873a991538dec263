"""`ssmrec explain`: why a user is recommended items."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import polars as pl
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ssmrec.cli.titles import titles_or_none
from ssmrec.reporting.cells import score
from ssmrec.serving.live import Live

logger = logging.getLogger("ssmrec")


def explain(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    user: Annotated[str, typer.Argument(help="User id.")],
    items: Annotated[
        list[str] | None,
        typer.Argument(help="Items to explain; else those of the user's list.", metavar="ITEM..."),
    ] = None,
    top: Annotated[int, typer.Option(help="How many of the user's list.", min=1)] = 5,
    reasons: Annotated[int, typer.Option(help="Most reasons for each item.", min=1)] = 3,
) -> None:
    """Show why a user is recommended items: what the user has that speaks for them most.

    The effect of a reason is by how much the item's score would fall if the user had not had it.

    Examples:

      ssmrec explain runs/shop 17850

      ssmrec explain runs/shop 17850 1680 1011 --reasons 5
    """
    live = Live.load(run)
    frame = live.explain(user, items, top, reasons)
    if frame.is_empty():
        logger.warning("nothing that the user has speaks for these items more than for others")
        return
    titles = titles_or_none(live.trained)

    def named(item: object) -> list[Text]:
        return [Text(str(item)), *([Text(titles.get(str(item), ""))] if titles else [])]

    title = ["title"] if titles else []
    table = Table("item", *title, "because of", *title, "effect")
    for row in frame.iter_rows(named=True):
        first = row["rank"] == 1
        if first and table.row_count:
            table.add_section()
        item = named(row["item"]) if first else [Text("")] * (1 + len(title))
        table.add_row(*item, *named(row["reason"]), score(row["effect"]))
    Console().print(table)
    if silent := [one for one in items or [] if one not in set(frame["item"].cast(pl.String))]:
        logger.warning("nothing that the user has speaks for %s", ", ".join(silent))
