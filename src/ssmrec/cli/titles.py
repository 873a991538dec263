"""Titles of the items of a run, for people to read."""

from __future__ import annotations

import logging
from pathlib import Path

import polars as pl

from ssmrec.data import item_titles
from ssmrec.data.named import read_titles
from ssmrec.errors import DataError
from ssmrec.recommender import PYTHON

logger = logging.getLogger("ssmrec")


def titles_of(source: str, file: Path | None = None) -> dict[str, str]:
    """Title by the text of the id: of a file, or of the data set `source` of a run; none where it has none.

    Raises:
        DataError: they cannot be read.
    """
    if file is None and source == PYTHON:
        return {}
    table = item_titles(source) if file is None else read_titles(file)
    if table is None:
        return {}
    return dict(table.select(pl.col("item").cast(pl.String), "title").drop_nulls().iter_rows())


def titles_or_none(source: str) -> dict[str, str]:
    """As `titles_of`; what is wrong with them is told, and stops nothing."""
    try:
        return titles_of(source)
    except DataError as error:
        logger.warning("without titles: %s", error)
        return {}
