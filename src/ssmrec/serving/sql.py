"""Databases: training rows by a query, recommendations into a table in one transaction.

`postgresql://user@host/name`, `sqlite:///file.db` (four slashes for an absolute path) and
`duckdb:///file.duckdb`. PostgreSQL and SQLite by their ADBC drivers, in Arrow columns; DuckDB by its own.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import closing
from importlib import import_module
from pathlib import Path
from typing import Any

import polars as pl

from ssmrec.errors import ConfigError, DataError, RunError
from ssmrec.training import replaced

logger = logging.getLogger("ssmrec")
KINDS = ("postgresql", "postgres", "sqlite", "duckdb")
COLUMNS = {"user": "user_id", "rank": "rank", "item": "item_id", "score": "score"}
DRIVERS = {
    "postgresql": "adbc_driver_postgresql.dbapi",
    "sqlite": "adbc_driver_sqlite.dbapi",
    "duckdb": "duckdb",
}


def is_database(source: str) -> bool:
    """Whether `source` is written like a database: `kind://...`."""
    return "://" in source


def read_query(uri: str, query: str) -> pl.DataFrame:
    """The rows of one query.

    Raises:
        ConfigError: an unknown kind of database, or its driver is not installed.
        DataError: no connection, or the query fails; the message is the database's.
    """
    kind = _kind(uri)
    driver = _driver(kind)
    try:
        with closing(_connect(driver, kind, uri)) as connection:
            if kind == "duckdb":
                return pl.from_arrow(connection.execute(query).to_arrow_table())  # type: ignore[return-value]
            with closing(connection.cursor()) as cursor:
                cursor.execute(query)
                return pl.from_arrow(cursor.fetch_arrow_table())  # type: ignore[return-value]
    except driver.Error as error:
        raise DataError(f"{shown(uri)}: {_reason(error)}") from None


def snapshot(uri: str, query: str, file: Path) -> Path:
    """Keep the rows of a query as a Parquet file, so that a run can be measured on them again.

    Raises:
        DataError, ConfigError: as `read_query`. RunError: the file cannot be written.
    """
    rows = read_query(uri, query)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with replaced(file) as part:
            rows.write_parquet(part)
    except OSError as error:
        raise RunError(f"{file}: cannot be written ({error})") from None
    logger.info("%s: %s rows kept in %s", shown(uri), f"{len(rows):,}", file)
    return file


def write_table(uri: str, table: str, frames: Iterator[pl.DataFrame]) -> tuple[int, int]:
    """Replace the rows of a table by those of the frames, in one transaction.

    Readers see the old rows until the new ones are whole; after a failure the old ones stay. The
    table is made where it is missing (user_id, rank, item_id, score); its grants, indexes and views
    are kept otherwise.

    Args:
        uri: the database. table: `name` or `schema.name`.
        frames: columns user, rank, item, score.

    Returns:
        Rows and users written.

    Raises:
        ConfigError: an unknown kind of database, a bad name, or no driver.
        RunError: no connection, or the database refuses.
    """
    kind, parts = _kind(uri), _name(table)
    driver = _driver(kind)
    rows = users = 0
    try:
        with closing(_connect(driver, kind, uri)) as connection:
            if kind == "duckdb":
                connection.begin()
            put = _put_duckdb if kind == "duckdb" else _put_adbc
            first = True
            for frame in frames:
                put(connection, parts, frame.rename(COLUMNS), first)
                first = False
                rows, users = rows + len(frame), users + frame["user"].n_unique()
            connection.commit()
    except driver.Error as error:
        raise RunError(
            f"{shown(uri)}, table {table}: {_reason(error)}; nothing was changed"
        ) from None
    return rows, users


def shown(uri: str) -> str:
    """The address without its password."""
    return re.sub(r"(://[^/@:]*):[^@]*@", r"\1:***@", uri)


def _put_adbc(connection: Any, parts: list[str], frame: pl.DataFrame, first: bool) -> None:
    with closing(connection.cursor()) as cursor:
        schema = parts[0] if len(parts) > 1 else None
        data = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
        if first:
            # An empty ingest makes the table where it is missing.
            cursor.adbc_ingest(parts[-1], data.slice(0, 0), "create_append", db_schema_name=schema)
            cursor.execute(f"DELETE FROM {_quoted(parts)}")
        if len(frame):
            cursor.adbc_ingest(parts[-1], data, "append", db_schema_name=schema)


def _put_duckdb(connection: Any, parts: list[str], frame: pl.DataFrame, first: bool) -> None:
    connection.register("ssmrec_rows", frame.to_arrow())
    name = _quoted(parts)
    if first:
        connection.execute(f"CREATE TABLE IF NOT EXISTS {name} AS FROM ssmrec_rows LIMIT 0")
        connection.execute(f"DELETE FROM {name}")
    connection.execute(f"INSERT INTO {name} BY NAME FROM ssmrec_rows")
    connection.unregister("ssmrec_rows")


def _kind(uri: str) -> str:
    kind = uri.partition("://")[0]
    if kind not in KINDS:
        raise ConfigError(f"{kind}://: unknown database; choose from: {', '.join(KINDS)}")
    return "postgresql" if kind == "postgres" else kind


def _driver(kind: str) -> Any:
    try:
        return import_module(DRIVERS[kind])
    except ImportError:
        raise ConfigError(f"{kind} needs a driver: pip install 'ssmrec[sql]'") from None


def _connect(driver: Any, kind: str, uri: str) -> Any:
    if kind == "postgresql":
        return driver.connect(uri)
    place = uri.partition("://")[2].partition("/")[2]
    if not place:
        raise ConfigError(f"{uri}: names no file; write {kind}:///file.db")
    return driver.connect(place)


def _name(table: str) -> list[str]:
    parts = table.split(".")
    if not all(parts) or len(parts) > 2 or "\0" in table:
        raise ConfigError(f"table {table!r}: must be a name, or schema.name")
    return parts


def _quoted(parts: list[str]) -> str:
    return ".".join('"' + part.replace('"', '""') + '"' for part in parts)


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
