"""One source to clean rows: user, item and, where known, timestamp and weight."""

from __future__ import annotations

import logging
from functools import partial
from numbers import Real
from pathlib import Path, PurePath
from typing import Any

import polars as pl

from ssmrec.config import build
from ssmrec.data.columns import ROLES, choose_columns, first_row, to_numbers, to_seconds
from ssmrec.data.config import DataConfig
from ssmrec.data.folder import open_source
from ssmrec.data.frames import is_pandas, is_table, one_level, read_table
from ssmrec.data.ids import to_ids
from ssmrec.data.place import Place
from ssmrec.data.remote import located
from ssmrec.data.sparse import Cells, cells, is_sparse
from ssmrec.errors import DataError

log = logging.getLogger(__name__)

WEIGHTS = 1e-24, 1e24
"""Least and largest weight of a row: times that of its event, and summed, float32 still holds it."""
RESULT = ("user", "item", "timestamp", "weight")
FRAME = "frame"
"""What a frame is called in messages."""

Source = Any
"""A path, a table: of polars (LazyFrame too), pandas, pyarrow, or what else has Arrow's C stream; or a sparse
matrix of scipy."""


def read_frame(
    source: Source, config: DataConfig | None = None, name: str = FRAME, **options: Any
) -> tuple[pl.DataFrame, dict[str, int]]:
    """Read one source as a stream: the text of an id is held once, however many rows have it.

    Args:
        source: a file, a folder of files, a pattern of names, a polars, pandas or pyarrow table, or a sparse
            matrix of scipy.
        config: which columns to read and what to drop; or the same settings as `options`.
        name: of a frame, for messages.

    Returns:
        The rows (user and item Int64, or Categorical or String for text, timestamp Int64, weight
        Float64; the last two only where known), and counts: `rows_read`, and `dropped_...` by reason.

    Raises:
        DataError: the source cannot be read as interactions; the message names file, column, row.
    """
    settings: DataConfig = config or build(DataConfig, options, "data")
    rows, where, text = _raw(source, settings, Place(name))
    counts = {"rows_read": len(rows)}
    if isinstance(where, Cells) and where.zeros:
        counts = {"rows_read": len(rows) + where.zeros, "dropped_zeros": where.zeros}
    if rows.is_empty():
        raise DataError(f"{where}: the file has no rows")
    rows = checked(rows, settings, where, text, counts)
    rows = _wanted(rows, settings, where, counts)
    if rows.is_empty():
        raise DataError(f"{where}: {no_rows_left(counts, settings)}")
    return rows.select(name for name in RESULT if name in rows.columns), counts


def checked(
    rows: pl.DataFrame, config: DataConfig, where: Place, text: bool, counts: dict[str, int]
) -> pl.DataFrame:
    """Rows of the right types that lack nothing, as `read_frame` gives them; what is dropped is counted.

    Args:
        text: whether types have to be told from text.

    Raises:
        DataError: a value that cannot be used; the message names its row.
    """
    # Types first: row numbers in messages then are those of the file.
    rows = _typed(rows, config, where, text)
    rows = _without_nulls(rows, config, where, counts)
    return _with_weights(rows, config, where, counts)


def no_rows_left(counts: dict[str, int], config: DataConfig) -> str:
    """`no rows left: 4 read, 4 dropped by min_user=5`."""
    dropped = [
        f"{n} dropped by data.{reason}={getattr(config, reason)}"
        for reason in ("nulls", "events", "min_rating", "min_user", "min_item")
        if (n := counts.get(f"dropped_{reason}", 0))
    ]
    if n := counts.get("dropped_weights", 0):
        dropped.append(f"{n} dropped for weights out of range")
    if n := counts.get("dropped_zeros", 0):
        dropped.append(f"{n} zeros")
    return ", ".join([f"no rows left: {counts['rows_read']} read", *dropped])


def is_frame(source: Source, key: str = "source") -> bool:
    """Whether what is given as `data.key` is a table or a sparse matrix, and not a path.

    Raises:
        DataError: it is none of them.
    """
    if is_table(source) or is_sparse(source):
        return True
    if isinstance(source, (str, PurePath)):
        return False
    kind = type(source).__name__
    matrix = "; a matrix of users and items becomes one by scipy.sparse.csr_array(matrix)"
    raise DataError(
        f"data.{key}: cannot read a {kind}; give a path, or a polars, pandas or pyarrow table, or a sparse "
        f"matrix of scipy{matrix if getattr(source, 'ndim', 0) == 2 else ''}"
    )


def _raw(source: Source, config: DataConfig, frame: Place) -> tuple[pl.DataFrame, Place, bool]:
    if is_sparse(source):
        frame = cells(source, "weight" if config.min_rating is None else "rating", frame)
        source = frame.frame
    if is_frame(source):
        _check_labels(source := one_level(source, frame), config, frame)
        choose = partial(choose_columns, config=config, where=frame)
        return read_table(source, frame, choose, config.ids), frame, False
    near = isinstance(source, Path) or "://" not in str(source)
    table = open_source(Path(source) if near else located(str(source)), config)
    columns = choose_columns(table.names, config, table.where, table)
    return table.collect(columns), table.where, table.text


def _check_labels(source: Any, config: DataConfig, where: Place) -> None:
    """Where pandas labels columns by numbers, a number that is no label is no position either."""
    labels = list(source.columns) if is_pandas(source) else []
    shown = ", ".join(map(str, labels[:20])) + ", ..." * (len(labels) > 20)
    numbered = any(isinstance(label, Real) for label in labels)
    for role in ROLES if numbered else ():
        column = str(getattr(config, role))
        if column.isdecimal() and column not in map(str, labels):
            raise DataError(f"{where}: no column {column} for {role}, the labels are {shown}")


def _typed(rows: pl.DataFrame, config: DataConfig, where: Place, text: bool) -> pl.DataFrame:
    columns = [to_ids(rows[side], config.ids, text, where) for side in ("user", "item")]
    if "timestamp" in rows.columns:
        columns.append(to_seconds(rows["timestamp"], where))
    for name in (name for name in ("weight", "rating") if name in rows.columns):
        columns.append(to_numbers(rows[name], where, finite=name == "rating"))
    return rows.with_columns(columns)


def _without_nulls(
    rows: pl.DataFrame, config: DataConfig, where: Place, counts: dict[str, int]
) -> pl.DataFrame:
    """Rows that lack an id, timestamp or weight are an error, or dropped and counted."""
    whole = pl.Series([True]).new_from_index(0, len(rows))
    for name in (column for column in RESULT if column in rows.columns):
        lacking = rows[name].is_null()
        if config.nulls == "error" and lacking.any():
            raise DataError(
                f"{where}: {lacking.sum()} of {len(rows)} rows have no {name}, first in "
                f"{where.row(first_row(lacking))}; mend them or set data.nulls=drop"
            )
        whole &= ~lacking
    if whole.all():
        return rows
    counts["dropped_nulls"] = len(rows) - int(whole.sum())
    return rows.filter(whole)


def _with_weights(
    rows: pl.DataFrame, config: DataConfig, where: Place, counts: dict[str, int]
) -> pl.DataFrame:
    """Weights out of range are an error, or dropped and counted with `data.nulls=drop`."""
    if "weight" not in rows.columns or not (bad := ~rows["weight"].is_between(*WEIGHTS)).any():
        return rows
    if config.nulls == "error":
        row = first_row(bad)
        wanted = "above 0" if (rows["weight"] <= 0).any() else "from 1e-24 to 1e24"
        raise DataError(
            f"{where}: {bad.sum()} of {len(rows)} weights are not {wanted}, first in "
            f"{where.row(row)}: {rows['weight'][row]:g}; mend them or set data.nulls=drop"
        )
    counts["dropped_weights"] = int(bad.sum())
    return rows.filter(~bad)


def _wanted(
    rows: pl.DataFrame, config: DataConfig, where: Place, counts: dict[str, int]
) -> pl.DataFrame:
    """Only the events asked for, and only ratings from `min_rating` on."""
    if config.events:
        names = rows["event"].cast(pl.String)
        kept = names.is_in(config.events).fill_null(False)
        present = set(names.drop_nulls().unique())
        if not kept.any():
            raise DataError(
                f"{where}: no event is {' or '.join(config.events)} (data.events); "
                f"the names present are {', '.join(sorted(present)[:10])}"
            )
        for absent in sorted(set(config.events) - present):
            log.warning("%s: no event is %s (data.events)", where, absent)
        counts["dropped_events"] = len(rows) - int(kept.sum())
        rows = _weighed(rows.filter(kept), config)
    if config.min_rating is not None:
        kept = (rows["rating"] >= config.min_rating).fill_null(False)
        counts["dropped_min_rating"] = len(rows) - int(kept.sum())
        rows = rows.filter(kept)
    return rows


def _weighed(rows: pl.DataFrame, config: DataConfig) -> pl.DataFrame:
    """With the weight of each row's event, times its own where it has one."""
    if not config.event_weights:
        return rows
    own = pl.col("weight") if "weight" in rows.columns else pl.lit(1.0)
    of_event = dict(zip(config.events, config.event_weights, strict=True))
    weight = pl.col("event").cast(pl.String).replace_strict(of_event, return_dtype=pl.Float64)
    return rows.with_columns(weight=own * weight)
