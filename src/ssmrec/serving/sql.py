"""Databases: training rows by a query, recommendations into a table in one transaction.

`postgresql://user@host/name`, `sqlite:///file.db` (four slashes for an absolute path) and
`duckdb:///file.duckdb`. PostgreSQL and SQLite by their ADBC drivers, in Arrow columns; DuckDB by its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from importlib import import_module
from pathlib import Path
from typing import Any

import polars as pl
from pyarrow import types

from ssmrec.errors import ConfigError, DataError, RunError
from ssmrec.serving.address import file_of, kind_of, place_of, refuse_unclear, shown, told
from ssmrec.serving.kinds import named, plain, with_uuids

BUSY = 10_000
"""Milliseconds to wait for a locked SQLite file."""
COLUMNS = {"user": "user_id", "rank": "rank", "item": "item_id", "score": "score"}
DRIVERS = {
    "postgresql": "adbc_driver_postgresql.dbapi",
    "sqlite": "adbc_driver_sqlite.dbapi",
    "duckdb": "duckdb",
}


def read_query(uri: str, query: str) -> pl.DataFrame:
    """The rows of one query.

    Raises:
        ConfigError: an unknown kind of database, or its driver is not installed.
        DataError: no such file, no connection, or the query fails; the message is the database's.
    """
    kind = kind_of(uri)
    driver = _driver(kind)
    if (file := file_of(uri)) is not None and not file.exists():  # a driver would make it, empty
        raise DataError(f"{file}: no such file")
    try:
        with closing(_connect(driver, kind, uri, reading=True)) as connection:
            rows = _rows(connection, query)
    except driver.Error as error:
        raise DataError(f"{shown(uri)}: {told(error, uri)}") from None
    if rows is None or not rows.num_columns:
        raise DataError(f"{shown(uri)}: the query gives no table; write a select")
    try:
        return plain(rows)
    except DataError as error:
        raise DataError(f"{shown(uri)}: {error}") from None


def _rows(connection: Any, query: str) -> Any:
    """An Arrow table, or None where there is none."""
    if hasattr(connection, "sql"):  # DuckDB
        found = connection.sql(query)
        return None if found is None else found.to_arrow_table()
    with closing(connection.cursor()) as cursor:
        cursor.execute(query)
        return cursor.fetch_arrow_table()


_LONGEST = 63
"""Bytes of a name that PostgreSQL tells apart."""


def write_table(uri: str, table: str, frames: Iterable[pl.DataFrame]) -> tuple[int, int]:
    """Replace the rows of a table of recommendations (user_id, rank, item_id, score), see `replace_rows`.

    Args:
        uri: the database. table: `name` or `schema.name`.
        frames: columns user, rank, item, score.

    Returns:
        Rows and users written.

    Raises:
        As `replace_rows`.
    """
    rows = users = 0

    def named() -> Iterator[pl.DataFrame]:
        nonlocal rows, users
        for frame in frames:
            rows, users = rows + len(frame), users + frame["user"].n_unique()
            yield frame.rename(COLUMNS)

    replace_rows(uri, {table: named()})
    return rows, users


def replace_rows(uri: str, tables: Mapping[str, Iterable[pl.DataFrame]]) -> None:
    """Replace the rows of some tables by those of frames, in one transaction.

    Readers see the old rows until the new ones of all tables are whole; after a failure the old ones
    stay. A table is made where it is missing; its grants, indexes and views are kept otherwise.

    Args:
        uri: the database. tables: frames by `name` or `schema.name`, at least one of each.

    Raises:
        ConfigError: an unknown kind of database, a bad name, or no driver.
        RunError: no connection, or the database refuses.
    """
    kind, names = kind_of(uri), {table: _name(table) for table in tables}
    for part in (part for parts in names.values() for part in parts if kind == "postgresql"):
        if len(part.encode()) > _LONGEST:  # it would cut them, and take two for one
            raise ConfigError(f"table name {part!r}: PostgreSQL takes up to {_LONGEST} bytes")
    driver = _driver(kind)
    if (file := file_of(uri)) is not None and not file.parent.is_dir():
        raise RunError(f"{file}: there is no folder {file.parent}")
    if kind == "duckdb" and file is not None:
        _refuse_data(file)
    table = next(iter(tables))
    try:
        with closing(_connect(driver, kind, uri)) as connection:
            if kind == "duckdb":
                connection.begin()
            for table, frames in tables.items():
                for number, frame in enumerate(frames):
                    PUT[kind](connection, names[table], frame, number == 0)
            connection.commit()
    except driver.Error as error:
        raise RunError(
            f"{shown(uri)}, table {table}: {told(error, uri)}; nothing was changed"
        ) from None


def _refuse_data(file: Path) -> None:
    """DuckDB opens files of data as well, and would keep in memory what is written to them."""
    if not file.is_file():
        return
    with open(file, "rb") as content:
        if content.read(12)[8:] != b"DUCK":
            raise RunError(f"{file}: is no DuckDB database; nothing was changed")


def _put_adbc(
    connection: Any,
    parts: list[str],
    frame: pl.DataFrame,
    first: bool,
    sqlite: bool = False,
) -> None:
    place = "catalog_name" if sqlite else "db_schema_name"
    where = {place: parts[0]} if len(parts) > 1 else {}
    with closing(connection.cursor()) as cursor:
        if first and not (_columns(cursor, parts) if sqlite else _is_there(cursor, parts)):
            nothing = frame[:0].to_arrow(compat_level=pl.CompatLevel.oldest())
            cursor.adbc_ingest(parts[-1], nothing, "create_append", **where)
        cursor.execute(f"SELECT * FROM {_quoted(parts)} LIMIT 0")
        there = cursor.fetch_arrow_table().schema
        frame = with_uuids(frame, there, ".".join(parts))
        data = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
        if first:
            _refuse_other(parts, there, data.schema, None if sqlite else _copies)
            cursor.execute(f"DELETE FROM {_quoted(parts)}")
        if len(frame):
            cursor.adbc_ingest(parts[-1], data, "append", **where)


def _is_there(cursor: Any, parts: list[str]) -> bool:
    """Whether PostgreSQL has the table."""
    cursor.execute("SELECT to_regclass($1) IS NOT NULL", (_quoted(parts),))
    return cursor.fetchone()[0]


def _columns(cursor: Any, parts: list[str]) -> dict[str, str]:
    """The declared type of each column of an SQLite table; none where it is missing."""
    schema = f"{_quoted(parts[:-1])}." if len(parts) > 1 else ""
    cursor.execute(f"PRAGMA {schema}table_info({_quoted(parts[-1:])})")
    return {row[1]: str(row[2]).upper() for row in cursor.fetchall()}


def _refuse_other(
    parts: list[str], there: Any, ours: Any, takes: Callable[[Any, Any], bool] | None
) -> None:
    """A table with other columns is somebody else's; one of other types is that, or of an older export.

    Args:
        there, ours: Arrow schemas.
        takes: whether a column of one type takes values of another; None where any does.
    """
    table, advice = ".".join(parts), "name another --table, or drop it; nothing was changed"
    if set(there.names) != set(ours.names):
        raise RunError(
            f"table {table}: has columns {', '.join(there.names)}, not {', '.join(ours.names)}: {advice}"
        )
    for name in ours.names:
        theirs, mine = there.field(name).type, ours.field(name).type
        if takes is not None and not takes(theirs, mine):
            raise RunError(
                f"table {table}: column {name} is {named(there.field(name))}, the rows are {mine}: {advice}"
            )


def _copies(theirs: Any, mine: Any) -> bool:
    """PostgreSQL is given bytes, and would take those of a number for another."""
    if hasattr(mine, "value_type"):
        return hasattr(theirs, "value_type") and _copies(theirs.value_type, mine.value_type)
    if types.is_large_string(mine):
        return types.is_string(theirs) or getattr(theirs, "type_name", "") == "citext"
    return theirs == mine or types.is_large_binary(mine)  # the bytes of a uuid


def _converts(theirs: Any, mine: Any) -> bool:
    """DuckDB converts values, but for the length of arrays, and text only where it is like a number."""
    if types.is_fixed_size_list(theirs) and types.is_fixed_size_list(mine):
        return theirs.list_size == mine.list_size
    return types.is_primitive(mine) or not types.is_primitive(theirs)


def _put_sqlite(connection: Any, parts: list[str], frame: pl.DataFrame, first: bool) -> None:
    if first:
        _put_adbc(connection, parts, frame[:0], True, sqlite=True)
    _refuse_text(connection, parts, frame)
    _put_adbc(connection, parts, frame, False, sqlite=True)


def _refuse_text(connection: Any, parts: list[str], frame: pl.DataFrame) -> None:
    """SQLite takes any text for a column of whole numbers; a join would not find it."""
    texts = [name for name in ("user_id", "item_id") if frame[name].dtype == pl.String]
    with closing(connection.cursor()) as cursor:
        kinds = _columns(cursor, parts)
    for name in (name for name in texts if "INT" in kinds.get(name, "")):
        odd = frame[name].filter(~frame[name].str.contains(r"^-?\d+$"))
        if len(odd):
            raise RunError(
                f"table {'.'.join(parts)}: column {name} is {kinds[name]}, {odd[0]!r} is not; "
                "nothing was changed"
            )


def _put_duckdb(connection: Any, parts: list[str], frame: pl.DataFrame, first: bool) -> None:
    data = frame.to_arrow()
    connection.register("ssmrec_rows", data)
    name = _quoted(parts)
    if first:
        connection.execute(f"CREATE TABLE IF NOT EXISTS {name} AS FROM ssmrec_rows LIMIT 0")
        there = _rows(connection, f"FROM {name} LIMIT 0").schema
        _refuse_other(parts, there, data.schema, _converts)
        connection.execute(f"DELETE FROM {name}")
    connection.execute(f"INSERT INTO {name} BY NAME FROM ssmrec_rows")
    connection.unregister("ssmrec_rows")


PUT = {"postgresql": _put_adbc, "sqlite": _put_sqlite, "duckdb": _put_duckdb}


def _driver(kind: str) -> Any:
    try:
        return import_module(DRIVERS[kind])
    except ImportError:
        raise ConfigError(f"{kind} needs a driver: pip install 'ssmrec[sql]'") from None


def _connect(driver: Any, kind: str, uri: str, reading: bool = False) -> Any:
    if kind == "postgresql":
        refuse_unclear(uri)
        return driver.connect(uri)
    if kind == "duckdb":  # would keep at once what a query changes; the others roll it back
        return driver.connect(place_of(uri), read_only=reading and file_of(uri) is not None)
    connection = driver.connect(place_of(uri))
    with closing(connection.cursor()) as cursor:
        # Else a file that another process writes fails at once.
        cursor.execute(f"PRAGMA busy_timeout = {BUSY}")
    return connection


def _name(table: str) -> list[str]:
    parts = table.split(".")
    if not all(parts) or len(parts) > 2 or "\0" in table:
        raise ConfigError(f"table {table!r}: must be a name, or schema.name")
    return parts


def _quoted(parts: list[str]) -> str:
    return ".".join('"' + part.replace('"', '""') + '"' for part in parts)
