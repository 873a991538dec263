"""Titles of the items of a run, for people to read."""

from __future__ import annotations

import logging
from pathlib import Path

import polars as pl

from ssmrec.data import DataConfig, item_titles
from ssmrec.data.titles import read_titles
from ssmrec.errors import DataError
from ssmrec.recommender import PYTHON
from ssmrec.training import Trained

logger = logging.getLogger("ssmrec")


def titles_of(data: DataConfig, file: Path | None = None) -> dict[str, str]:
    """Title by the text of the id: of a file, or of the data set of a run; none where it has none.

    Raises:
        DataError: they cannot be read.
    """
    if file is None and data.source == PYTHON:
        return {}
    table = item_titles(data.source, data.item) if file is None else read_titles(file, data.item)
    if table is None:
        return {}
    return dict(table.select(pl.col("item").cast(pl.String), "title").drop_nulls().iter_rows())


def titles_or_none(run: Trained) -> dict[str, str]:
    """As `titles_of` the data sets of a run, the latest of its updates before the others and what it began
    with; what is wrong with them is told, and stops nothing."""
    found: dict[str, str] = {}
    update = run.metrics.get("update", {})
    later = [*update.get("before", ()), update.get("new_data")]
    for source in dict.fromkeys(filter(None, (run.config.data.source, *later))):
        try:
            found |= titles_of(run.config.data.model_copy(update={"source": source}))
        except (DataError, OSError) as error:
            logger.warning("without titles: %s", error)
    return found
