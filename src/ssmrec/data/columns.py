"""From columns of any name and type to user, item, timestamp and weight of the one right type."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable

import polars as pl

from ssmrec.config import nearest
from ssmrec.data.aliases import find_alias
from ssmrec.data.config import DataConfig
from ssmrec.data.place import Place
from ssmrec.data.table import Table
from ssmrec.errors import DataError

log = logging.getLogger(__name__)

ROLES = ("user", "item", "timestamp", "rating", "weight", "event")
YEAR_FIRST = r"^\d{4}[-/]"
PARSERS: tuple[Callable[[pl.Series], pl.Series], ...] = (
    lambda text: text.str.to_datetime(strict=False, time_unit="us", time_zone="UTC"),
    lambda text: text.str.to_datetime(strict=False, time_unit="us"),
    lambda text: text.str.to_date(strict=False),
)
_WITH_COMMA = re.compile(r"-?[0-9.]*,[0-9]+")
_COMMA = "; a decimal comma must become a point (polars: pl.read_csv(..., decimal_comma=True))"
EARLIEST = 1e8  # a column without a name is taken for seconds when all values are from 1973 on


def choose_columns(
    names: list[str],
    config: DataConfig,
    where: Place,
    table: Table | None = None,
    rating: bool = False,
) -> dict[str, str]:
    """Map each role in use to a column name: as asked, else by alias, else by position.

    Args:
        names: the columns there are.
        config: the columns asked for.
        where: the file, for messages.
        table: given when the columns have no names, to tell timestamps from their values.
        rating: whether a rating is kept that `config` does not use.

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
    positions = [role for role in ("user", "item") if role not in found] if len(names) == 2 else []
    found |= dict(zip(positions, free, strict=False))
    _check(found, names, config, where)
    if positions:
        told = ", ".join(f"{role}={found[role]}" for role in positions)
        log.warning("%s: no usual name tells which column is which, so that %s %s guessed: set %s", where, told,
                    "are" if len(positions) > 1 else "is",
                    " and ".join(f"data.{role}=..." for role in positions))  # fmt: skip
    if table is not None:
        types = table.frame.collect_schema()
        for role in ("user", "item"):
            refuse_no_ids(types[found[role]], found[role], role, where)
    told = [f"{role}={column}" for role, column in found.items()]
    if config.min_rating is None and "rating" in found and not rating:
        told[list(found).index("rating")] += " (not used: set data.min_rating)"
        found.pop("rating")
    if guessed and (unused := [name for name in names if name not in taken]):
        told.append(f"not used: {' '.join(unused)}")
    log.info("%s: columns %s", where, ", ".join(told))
    return found


def tell_twice(names: list[str], where: Place) -> None:
    """Warn of names that several columns have."""
    if twice := sorted({name for name in names if names.count(name) > 1}):
        log.warning(
            "%s: several columns are named %s: the first one is read", where, ", ".join(twice)
        )


def _asked(role: str, column: str | int, names: list[str], where: Place) -> str:
    if str(column) in names:  # also a number, as pandas writes its labels
        return str(column)
    if str(column).isdecimal():
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
        head = table.head(1000).collect({name: name for name in names[2:]})
        for name in names[2:]:
            values = head[name].cast(pl.Float64, strict=False)
            if values.null_count() == 0:
                large = float(values.min() or 0) >= EARLIEST  # type: ignore[arg-type]
                roles.setdefault("timestamp" if large else "rating", name)
    return roles


def _check(found: dict[str, str], names: list[str], config: DataConfig, where: Place) -> None:
    for role in ("user", "item"):
        if role not in found:
            raise DataError(
                f"{where}: cannot tell the {role} column among {_shown(names)}; set data.{role}=..."
            )
    if config.min_rating is not None and "rating" not in found:
        raise DataError(f"{where}: data.min_rating needs a rating column; set data.rating=...")
    if config.events and "event" not in found:
        raise DataError(
            f"{where}: data.events needs the column that holds them; set data.event=..."
        )
    if found["user"] == found["item"]:
        raise DataError(f"{where}: user and item are the same column {found['user']!r}")


def refuse_no_ids(dtype: pl.DataType, column: str, role: str, where: Place) -> None:
    """Raise a `DataError` where a column is of a type that cannot hold ids, such as a date."""
    if not (dtype.is_numeric() or dtype in (pl.String, pl.Categorical, pl.Enum)):
        raise DataError(
            f"{where}: column {column} holds {dtype}, not ids: convert it to integers or text, or name "
            f"another column with data.{role}=..."
        )


def _shown(names: list[str]) -> str:
    """The first names, each cut to a readable length."""
    cut = [name if len(name) <= 40 else f"{name[:40]}..." for name in names[:20]]
    return ", ".join([*cut, *(["..."] if len(names) > 20 else [])])


def to_seconds(values: pl.Series, where: Place) -> pl.Series:
    """Timestamps as Int64: numbers as they are, dates as seconds since 1970 (UTC); nulls stay.

    A fraction of a second is cut off, with a warning.
    """
    if values.dtype == pl.String:
        numbers = values.cast(pl.Float64, strict=False)
        unread = numbers.null_count() - values.null_count()
        values = numbers if unread == 0 else _dates(values, where)
    if values.dtype == pl.Datetime:
        _tell_fractions(values.dt.nanosecond() != 0, values.name, where)
    if values.dtype in (pl.Datetime, pl.Date):
        return values.dt.epoch("s").cast(pl.Int64)
    if values.dtype.is_numeric():
        whole = values.cast(pl.Int64, strict=False)
        if whole.null_count() > values.null_count():
            row = first_row(whole.is_null() & values.is_not_null())
            raise DataError(f"{where}: timestamp in {where.row(row)} is {values[row]}, not seconds")
        if not values.dtype.is_integer():
            _tell_fractions(values % 1 != 0, values.name, where)
        if _like_dates(whole):
            log.warning("%s: timestamps such as %s look like dates and are read as seconds since 1970, so that "
                        "their order is right and their distance is not: write dates as 2011-10-31",
                        where, whole.max())  # fmt: skip
        return whole
    raise DataError(f"{where}: timestamp column holds {values.dtype}, not numbers or dates")


def _tell_fractions(cut: pl.Series, column: str, where: Place) -> None:
    """Warn of the rows (n,) whose fraction of a second is cut off."""
    if n := int(cut.sum()):
        log.warning("%s: column %s: %s of %s rows have a fraction of a second, which is cut off, so that the "
                    "order within a second is lost: give integers of milliseconds or microseconds",
                    where, column, f"{n:,}", f"{len(cut):,}")  # fmt: skip


def _like_dates(values: pl.Series) -> bool:
    """Whether all are such numbers as 20111031; as seconds they would be of days in August 1970."""
    some = values.drop_nulls()
    if not len(some) or not some.is_between(19000101, 21001231).all():
        return False
    return (some // 100 % 100).is_between(1, 12).all() and (some % 100).is_between(1, 31).all()


def _dates(values: pl.Series, where: Place) -> pl.Series:
    iso = values.str.contains(YEAR_FIRST)  # 12/1/2010 is in January or December: not guessed
    if iso.all():
        for parse in PARSERS:
            parsed = _parsed(parse, values)
            if parsed is not None:
                return parsed
        row = max(_first_unread(parse, values) for parse in PARSERS)
    else:
        row = first_row(~iso.fill_null(True))
    before = f" (before it {values[row - 1]!r})" if row else ""
    raise DataError(
        f"{where}: timestamps are not all numbers or ISO dates of one form (2011-10-31, "
        f"2011-10-31T12:00:00Z), such as {where.row(row)}: {values[row]!r}{before}; convert them, or name "
        "another column with data.timestamp=..."
    )


def _parsed(parse: Callable[[pl.Series], pl.Series], values: pl.Series) -> pl.Series | None:
    """Dates, or None where not all can be read."""
    try:
        parsed = parse(values)
    except pl.exceptions.PolarsError:
        return None
    return parsed if (parsed.is_not_null() | values.is_null()).all() else None


def _first_unread(parse: Callable[[pl.Series], pl.Series], values: pl.Series) -> int:
    """Position of the first date that cannot be read, found by halves: some fail as a whole only."""
    read, unread = 0, len(values)
    while unread - read > 1:
        half = (read + unread) // 2
        if _parsed(parse, values[:half]) is None:
            unread = half
        else:
            read = half
    return read


def to_numbers(values: pl.Series, where: Place, finite: bool = True) -> pl.Series:
    """Ratings or weights as Float64; nulls stay, and infinite ones where they need not be `finite`."""
    numbers = values.cast(pl.Float64, strict=False)
    bad = numbers.is_null() & values.is_not_null()
    if finite:
        bad |= ~numbers.is_finite().fill_null(True)
    if bad.any():
        row = first_row(bad)
        told = f"{where}: column {values.name}, {where.row(row)}: {values[row]!r} is not a number"
        raise DataError(told + (_COMMA if _WITH_COMMA.fullmatch(str(values[row])) else ""))
    return numbers


def first_row(mask: pl.Series) -> int:
    """Position of the first True."""
    return int(mask.arg_true()[0])
