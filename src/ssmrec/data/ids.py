"""Ids of one declared type: integers or strings, never mixed, none missing unnoticed."""

from __future__ import annotations

import logging

import polars as pl

from ssmrec.data.columns import first_row, refuse_no_ids
from ssmrec.data.place import Place
from ssmrec.data.text import TEXTS, Distinct
from ssmrec.errors import DataError

log = logging.getLogger(__name__)

CANONICAL = r"^(0|-?[1-9][0-9]{0,17})$"  # "007" is text: as a number it would become 7
WHOLE = r"^(0|-?[1-9][0-9]{0,17})\.0+$"  # what pandas writes for integers beside a missing one
LEADING_ZERO = r"^-?0[0-9]+$"
EXACT = {"Float16": 2**11, "Float32": 2**24, "Float64": 2**53}
"""From here on two whole numbers may be one float."""
DOUBTFUL = 0.9  # from this share of integers on, the other ids are more likely faults than names


def to_ids(values: pl.Series, wanted: str, text: bool, where: Place) -> pl.Series:
    """Ids as Int64, or text as it is (String or Categorical); nulls stay.

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
    if values.dtype.is_decimal():
        values = _integral(values, where, pl.Int128)
    if values.dtype.is_integer():
        return _cast(values, pl.String if wanted == "str" else pl.Int64, where)
    refuse_no_ids(values.dtype, values.name, values.name, where)
    if wanted == "int":
        column = Distinct(values)
        return _checked(values, _numbers(column), where)
    return _told(values, where) if wanted == "auto" and text else values


def ids_or_text(values: pl.Series, wanted: str, text: bool, where: Place) -> pl.Series:
    """As `to_ids`; all is text where a word stands among integers, at worst an id that nobody knows."""
    try:
        return to_ids(values, wanted, text, where)
    except DataError:
        return to_ids(values, "str", text, where)


def _told(values: pl.Series, where: Place) -> pl.Series:
    """Text as integers when every id is one, `1.0` too; a doubtful mixture is refused or told."""
    column = Distinct(values)
    whole = _without_point(column.values).str.contains(CANONICAL)
    if whole.all():
        return _checked(values, _numbers(column), where)
    rows, known = column.spread(whole), len(values) - values.null_count()
    n = int(rows.sum())
    if n == 0 or column.values.str.contains(LEADING_ZERO).any():
        return values
    row = first_row(~rows.fill_null(True))
    mixed = f"{n:,} integers, {known - n:,} text, first {values[row]!r} in {where.row(row)}"
    if n >= DOUBTFUL * known:
        raise DataError(
            f"{where}: column {values.name} has mixed ids: {mixed}; set data.ids=str if they are "
            "meant, or mend the file"
        )
    log.warning("%s: column %s has mixed ids, read as text: %s; data.ids=str says so without this "
                "warning, data.ids=int refuses text", where, values.name, mixed)  # fmt: skip
    return values


def _numbers(column: Distinct) -> pl.Series:
    """Text as Int64, null where it is none."""
    return column.spread(_without_point(column.values).cast(pl.Int64, strict=False))


def _without_point(values: pl.Series) -> pl.Series:
    whole = values.str.contains(WHOLE)
    return values.str.replace(r"\.0+$", "").zip_with(whole, values) if whole.any() else values


def _integral(values: pl.Series, where: Place, dtype: type[pl.DataType] = pl.Int64) -> pl.Series:
    whole = values.floor() == values
    if not whole.all():
        row = first_row(~whole)
        raise DataError(
            f"{where}: column {values.name} holds fractions, {where.row(row)} is {values[row]}; "
            "ids must be integers or strings"
        )
    if values.dtype.is_float():
        rounded = (values.abs() >= EXACT[str(values.dtype)]) & values.is_finite()
        if rounded.any():
            row = first_row(rounded)
            raise DataError(
                f"{where}: column {values.name}, {where.row(row)}: {values[row]!r} is of a size that "
                f"{values.dtype} rounds, so that different ids become one: write the ids as integers or text"
            )
    return _cast(values, dtype, where)


def _cast(values: pl.Series, dtype: type[pl.DataType], where: Place) -> pl.Series:
    return _checked(values, values.cast(dtype, strict=False), where)


def _checked(values: pl.Series, cast: pl.Series, where: Place) -> pl.Series:
    """`cast` under the name of `values`, when it has no more nulls."""
    if cast.null_count() > values.null_count():
        row = first_row(cast.is_null() & values.is_not_null())
        fault = "is too large for" if isinstance(values[row], int) else "is not"
        raise DataError(
            f"{where}: column {values.name}, {where.row(row)}: {values[row]!r} {fault} an integer "
            "id; set data.ids=str"
        )
    return cast.alias(values.name)


def same_type(frames: list[pl.DataFrame], column: str) -> list[pl.DataFrame]:
    """Give ids of several files one type: integers if all are, else strings."""
    texts = {n: Distinct(f[column]) for n, f in enumerate(frames) if f[column].dtype in TEXTS}
    if len(texts) in (0, len(frames)):
        return frames
    whole = all(text.values.str.contains(CANONICAL).all() for text in texts.values())
    log.warning("%s ids are int in one file and str in another: read as %s", column,
                "int" if whole else "str")  # fmt: skip
    if whole:
        return [
            f.with_columns(_numbers(texts[n]).alias(column)) if n in texts else f
            for n, f in enumerate(frames)
        ]
    return [f.with_columns(pl.col(column).cast(pl.String)) for f in frames]
