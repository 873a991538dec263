"""Titles of items, from a table beside the rows."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from ssmrec.data.aliases import find_alias, plain
from ssmrec.data.config import DataConfig
from ssmrec.data.folder import open_source
from ssmrec.data.ids import ids_or_text
from ssmrec.errors import DataError

TITLES = ("title", "name", "description")


def read_titles(file: Path, item: str | int | None = None) -> pl.DataFrame:
    """Titles of items, from a file with a column of item ids and one of `TITLES`.

    Args:
        item: the column of ids in the rows, which goes before the usual names for one.

    Returns:
        Columns item (Int64 where all ids are integers, else String) and title (String), one row for
        each item.

    Raises:
        DataError: it cannot be read, or lacks such columns.
    """
    table = open_source(file, DataConfig(header=True))
    names = {plain(name): name for name in reversed(table.names)}
    title = next((names[name] for name in TITLES if name in names), None)
    free = [name for name in table.names if name != title]
    ids = item if item in free else find_alias("item", free)
    if title is None or ids is None:
        raise DataError(
            f"{file}: needs a column of item ids (item, sku, product_id or the like) and one of titles "
            f"({', '.join(TITLES)}); it has {', '.join(table.names[:20])}"
        )
    rows = table.collect({"item": str(ids), "title": title})
    items = ids_or_text(rows["item"], "auto", table.text, table.where)
    items = items if items.dtype == pl.Int64 else items.cast(pl.String)
    rows = rows.with_columns(items, pl.col("title").cast(pl.String))
    return rows.unique("item", keep="first").sort("item")
