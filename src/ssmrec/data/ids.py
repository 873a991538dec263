"""Ids of one declared type: integers or strings, never mixed, none missing unnoticed."""

from __future__ import annotations

import logging

import polars as pl

from ssmrec.data.columns import first_row
from ssmrec.data.place import Place
from ssmrec.errors import DataError

log = logging.getLogger(__name__)

MISSING = (
    "", "nan", "NaN", "NAN", "null", "Null", "NULL", "none", "None", "NONE", "NA", "N/A", "<NA>",
    r"\N",
)  # fmt: skip
CANONICAL = r"^(0|-?[1-9][0-9]{0,17})$"  # "007" is text: as a number it would become 7
WHOLE = r"^(0|-?[1-9][0-9]{0,17})\.0+$"  # what pandas writes for integers beside a missing one
LEADING_ZERO = r"^-?0[0-9]+$"
DOUBTFUL = 0.9  # from this share of integers on, the other ids are more likely faults than names


def missing_to_null(rows: pl.DataFrame) -> list[pl.Expr]:
    """Empty text, NaN and the usual words for "nothing here" as nulls."""
    texts = [name for name, dtype in rows.schema.items() if dtype == pl.String]
    floats = [name for name, dtype in rows.schema.items() if dtype.is_float()]
    empty = pl.col(texts).is_in(MISSING)
    return [pl.when(~empty).then(pl.col(texts)).name.keep()] * bool(texts) + [
        pl.col(floats).fill_nan(None)
    ] * bool(floats)


def to_ids(values: pl.Series, wanted: str, text: bool, where: Place) -> pl.Series:
    """Ids as Int64 or String; nulls stay.

    Args:
        values: the column.
        wanted: auto, int or str. `auto` keeps the type, and reads text as integers when all are.
        text: whether the column comes from a text file, so that its type is not known.
        where: the source, for messages.

    Raises:
        DataError: ids that are not of the type, fractions, or (`auto`) almost only integers.
    """
    if values.dtype.is_float():
        values = _integral(values, where)
    if values.dtype.is_integer():
        return _cast(values, pl.String if wanted == "str" else pl.Int64, where)
    if isinstance(values.dtype, (pl.Categorical, pl.Enum)):
        values = values.cast(pl.String)
    if values.dtype != pl.String:
        raise DataError(f"{where}: column {values.name} holds {values.dtype}, not ids")
    if wanted == "int":
        return _cast(_without_point(values), pl.Int64, where)
    return _told(values, where) if wanted == "auto" and text else values


def _told(values: pl.Series, where: Place) -> pl.Series:
    """Text as integers when every id is one, `1.0` too; a doubtful mixture is refused or told."""
    if values.str.contains(CANONICAL).all():
        return _cast(values, pl.Int64, where)
    plain = _without_point(values)
    whole = plain.str.contains(CANONICAL)
    if whole.all():
        return _cast(plain, pl.Int64, where)
    n, known = int(whole.sum()), len(values) - values.null_count()
    if n == 0 or values.str.contains(LEADING_ZERO).any():
        return values
    row = first_row(~whole.fill_null(True))
    mixed = f"{n:,} integers, {known - n:,} text, first {values[row]!r} in {where.row(row)}"
    if n >= DOUBTFUL * known:
        raise DataError(
            f"{where}: column {values.name} has mixed ids: {mixed}; set data.ids=str if they are "
            "meant, or mend the file"
        )
    log.warning("%s: column %s has mixed ids, read as text: %s; data.ids=str says so without this "
                "warning, data.ids=int refuses text", where, values.name, mixed)  # fmt: skip
    return values


def _without_point(values: pl.Series) -> pl.Series:
    return values.to_frame().select(
        pl.when(pl.first().str.contains(WHOLE))
        .then(pl.first().str.replace(r"\.0+$", ""))
        .otherwise(pl.first())
    )[values.name]


def _integral(values: pl.Series, where: Place) -> pl.Series:
    whole = values.floor() == values
    if not whole.all():
        row = first_row(~whole)
        raise DataError(
            f"{where}: column {values.name} holds fractions, {where.row(row)} is {values[row]}; "
            "ids must be integers or strings"
        )
    return _cast(values, pl.Int64, where)


def _cast(values: pl.Series, dtype: type[pl.DataType], where: Place) -> pl.Series:
    cast = values.cast(dtype, strict=False)
    if cast.null_count() > values.null_count():
        row = first_row(cast.is_null() & values.is_not_null())
        fault = "is too large for" if isinstance(values[row], int) else "is not"
        raise DataError(
            f"{where}: column {values.name}, {where.row(row)}: {values[row]!r} {fault} an integer "
            "id; set data.ids=str"
        )
    return cast


def same_type(frames: list[pl.DataFrame], column: str) -> list[pl.DataFrame]:
    """Give ids of several files one type: integers if all are, else strings."""
    if len({frame.schema[column] for frame in frames}) == 1:
        return frames
    texts = [frame[column] for frame in frames if frame.schema[column] == pl.String]
    whole = all(text.str.contains(CANONICAL).all() for text in texts)
    log.warning("%s ids are int in one file and str in another: read as %s", column,
                "int" if whole else "str")  # fmt: skip
    return [f.with_columns(pl.col(column).cast(pl.Int64 if whole else pl.String)) for f in frames]
