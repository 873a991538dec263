"""From columns of any name and type to user, item, timestamp and weight of the one right type."""

from __future__ import annotations

import logging
from collections.abc import Callable

import polars as pl

from ssmrec.config import nearest
from ssmrec.data.aliases import find_alias
from ssmrec.data.config import DataConfig
from ssmrec.data.formats import Table
from ssmrec.errors import DataError

log = logging.getLogger(__name__)

ROLES = ("user", "item", "timestamp", "rating", "weight", "event")
CANONICAL = r"^(0|-?[1-9][0-9]{0,17})$"  # "007" is text: as a number it would become 7
YEAR_FIRST = r"^\d{4}[-/]"
PARSERS: tuple[Callable[[pl.Series], pl.Series], ...] = (
    lambda text: text.str.to_datetime(strict=False, time_unit="us", time_zone="UTC"),
    lambda text: text.str.to_datetime(strict=False, time_unit="us"),
    lambda text: text.str.to_date(strict=False),
)
EARLIEST = 1e8  # a column without a name is taken for seconds when all values are from 1973 on


def choose_columns(
    names: list[str], config: DataConfig, where: str, table: Table | None = None
) -> dict[str, str]:
    """Map each role in use to a column name: as asked, else by alias, else by position.

    Args:
        names: the columns there are.
        config: the columns asked for.
        where: the file, for messages.
        table: given when the columns have no names, to tell timestamps from their values.

    Raises:
        DataError: an asked column is missing, or user and item cannot be told.
    """
    asked = {role: getattr(config, role) for role in ROLES}
    found = {r: _asked(r, c, names, where) for r, c in asked.items() if c is not None}
    taken = set(found.values())
    guessed = _by_position(table) if table is not None and not table.named else {}
    for role in ("user", "item", "timestamp", "rating", "weight"):
        free = [name for name in names if name not in taken]
        guess = guessed.get(role) if guessed else find_alias(role, free)
        if role not in found and guess in free:
            found[role] = str(guess)
            taken.add(str(guess))
    free = [name for name in names if name not in taken]
    if len(names) == 2:
        for role in ("user", "item"):
            if role not in found:
                found[role] = free.pop(0)
    _check(found, names, config, where)
    if config.min_rating is None:
        found.pop("rating", None)
    log.info("%s: columns %s", where, ", ".join(f"{r}={c}" for r, c in found.items()))
    return found


def _asked(role: str, column: str | int, names: list[str], where: str) -> str:
    if column in names:
        return str(column)
    if str(column).isdigit():
        if int(column) < len(names):
            return names[int(column)]
        raise DataError(
            f"{where}: no column {column} for {role}, there are {len(names)} (0, 1, ...)"
        )
    raise DataError(f"{where}: no column {column!r} for {role}{nearest(str(column), names)}")


def _by_position(table: Table) -> dict[str, str]:
    """user, item, then a number (a rating) or large numbers (a timestamp)."""
    names = table.names
    roles = {"user": names[0], "item": names[1]} if len(names) > 1 else {}
    if len(names) > 2:
        head = table.collect({name: name for name in names[2:]}).head(1000)
        for name in names[2:]:
            values = head[name].cast(pl.Float64, strict=False)
            if values.null_count() == 0:
                large = float(values.min() or 0) >= EARLIEST  # type: ignore[arg-type]
                roles.setdefault("timestamp" if large else "rating", name)
    return roles


def _check(found: dict[str, str], names: list[str], config: DataConfig, where: str) -> None:
    for role in ("user", "item"):
        if role not in found:
            raise DataError(
                f"{where}: cannot tell the {role} column among {', '.join(names)}; set {role}=..."
            )
    if config.min_rating is not None and "rating" not in found:
        raise DataError(f"{where}: min_rating needs a rating column; set rating=...")
    if config.events and "event" not in found:
        raise DataError(f"{where}: events needs the column that holds them; set event=...")
    if found["user"] == found["item"]:
        raise DataError(f"{where}: user and item are the same column {found['user']!r}")


def missing_to_null(rows: pl.DataFrame) -> list[pl.Expr]:
    """Empty text and NaN as nulls."""
    texts = [name for name, dtype in rows.schema.items() if dtype == pl.String]
    floats = [name for name, dtype in rows.schema.items() if dtype.is_float()]
    empty = pl.col(texts).is_in(["", "nan", "NaN"])
    return [pl.when(~empty).then(pl.col(texts)).name.keep()] * bool(texts) + [
        pl.col(floats).fill_nan(None)
    ] * bool(floats)


def to_ids(values: pl.Series, wanted: str, text: bool, where: str) -> pl.Series:
    """Ids as Int64 or String, by the declared type `wanted` (auto, int, str); nulls stay."""
    if values.dtype.is_float():
        values = _integral(values, where)
    if values.dtype.is_integer():
        return _cast(values, pl.String if wanted == "str" else pl.Int64, where)
    if isinstance(values.dtype, (pl.Categorical, pl.Enum)):
        values = values.cast(pl.String)
    if values.dtype != pl.String:
        raise DataError(f"{where}: column {values.name} holds {values.dtype}, not ids")
    if wanted == "int" or (wanted == "auto" and text and values.str.contains(CANONICAL).all()):
        return _cast(values, pl.Int64, where)
    return values


def _integral(values: pl.Series, where: str) -> pl.Series:
    whole = values.floor() == values
    if not whole.all():
        row = first_row(~whole)
        raise DataError(
            f"{where}: column {values.name} holds fractions, row {row + 1} is {values[row]}; "
            "ids must be integers or strings"
        )
    return _cast(values, pl.Int64, where)


def _cast(values: pl.Series, dtype: type[pl.DataType], where: str) -> pl.Series:
    cast = values.cast(dtype, strict=False)
    if cast.null_count() > values.null_count():
        row = first_row(cast.is_null() & values.is_not_null())
        raise DataError(
            f"{where}: column {values.name}, row {row + 1}: {values[row]!r} is not an integer id; "
            "set ids=str"
        )
    return cast


def same_type(frames: list[pl.DataFrame], column: str) -> list[pl.DataFrame]:
    """Give ids of several files one type: integers if all are, else strings."""
    if len({frame.schema[column] for frame in frames}) == 1:
        return frames
    texts = [frame[column] for frame in frames if frame.schema[column] == pl.String]
    whole = all(text.str.contains(CANONICAL).all() for text in texts)
    log.info("%s ids are int in one file and str in another: read as %s", column,
             "int" if whole else "str")  # fmt: skip
    return [f.with_columns(pl.col(column).cast(pl.Int64 if whole else pl.String)) for f in frames]


def to_seconds(values: pl.Series, where: str) -> pl.Series:
    """Timestamps as Int64: numbers as they are, dates as seconds since 1970 (UTC); nulls stay."""
    if values.dtype == pl.String:
        numbers = values.cast(pl.Float64, strict=False)
        unread = numbers.null_count() - values.null_count()
        values = numbers if unread == 0 else _dates(values, where)
    if values.dtype in (pl.Datetime, pl.Date):
        return values.dt.epoch("s").cast(pl.Int64)
    if values.dtype.is_numeric():
        whole = values.cast(pl.Int64, strict=False)
        if whole.null_count() > values.null_count():
            row = first_row(whole.is_null() & values.is_not_null())
            raise DataError(f"{where}: timestamp in row {row + 1} is {values[row]}, not seconds")
        return whole
    raise DataError(f"{where}: timestamp column holds {values.dtype}, not numbers or dates")


def _dates(values: pl.Series, where: str) -> pl.Series:
    iso = values.str.contains(YEAR_FIRST)  # 12/1/2010 is in January or December: not guessed
    for parse in PARSERS if iso.all() else ():
        try:
            parsed = parse(values)
        except pl.exceptions.PolarsError:
            continue
        iso = parsed.is_not_null() | values.is_null()
        if iso.all():
            return parsed
    row = first_row(~iso.fill_null(True)) if not iso.all() else 0
    raise DataError(
        f"{where}: timestamps are not all numbers or ISO dates (2011-10-31, 2011-10-31T12:00:00Z), "
        f"such as row {row + 1}: {values[row]!r}; convert them, or name another timestamp=..."
    )


def to_numbers(values: pl.Series, where: str) -> pl.Series:
    """Ratings or weights as Float64; nulls stay."""
    numbers = values.cast(pl.Float64, strict=False)
    bad = (numbers.is_null() & values.is_not_null()) | ~numbers.is_finite().fill_null(True)
    if bad.any():
        row = first_row(bad)
        raise DataError(
            f"{where}: column {values.name}, row {row + 1}: {values[row]!r} is not a number"
        )
    return numbers


def first_row(mask: pl.Series) -> int:
    """Position of the first True."""
    return int(mask.arg_true()[0])
