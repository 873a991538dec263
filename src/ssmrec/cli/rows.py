"""The rows of a database's query: fetched beside those of a run, in their place when the new run is saved."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ssmrec.errors import ConfigError, DataError
from ssmrec.serving.address import is_database, kind_of, shown
from ssmrec.serving.snapshot import asked_by, is_snapshot, snapshot
from ssmrec.storage.files import CHECKPOINT
from ssmrec.training.peers import current

logger = logging.getLogger("ssmrec")
KEPT = ("data.parquet", "update.parquet")
NEXT = ".next.parquet"


@dataclass(frozen=True)
class Query:
    """A query whose rows a run folder keeps.

    Args:
        address: of the database. sql: the query.
        file: where the rows are, once the run that was trained on them is saved.
    """

    address: str
    sql: str
    file: Path

    @property
    def fetched(self) -> Path:
        """Where the rows are until then; the folder may hold another run, with rows of its own."""
        return self.file.with_suffix(NEXT)


def query_of(data: str | None, sql: str | None, out: Path | None, name: str) -> Query | None:
    """The query that `data` and `--query` ask for, its rows to be `name` in `out`; None: no database.

    Raises:
        ConfigError: one of the three is missing, or the database is of an unknown kind.
    """
    if sql is None and (data is None or not is_database(data)):
        return None
    if data is not None and is_database(data):
        kind_of(data)
    if data is None or sql is None or not is_database(data) or out is None:
        raise ConfigError(
            "a database needs its address, such as sqlite:///shop.db, --query and --out"
        )
    return Query(data, sql, out / name)


@contextmanager
def rows_of(query: Query | None, folder: Path, resume: bool) -> Iterator[Path | None]:
    """The file to read the rows from; None without a query. A resumed training keeps those it began with.

    After a failure nothing stays of what was fetched, unless a checkpoint needs it to go on, nor an empty
    folder.

    Args:
        folder: of the run, which may be written.
        resume: go on from its checkpoint, where there is one.
    """
    peers = current()
    goes_on = resume and (folder / CHECKPOINT).exists()
    if peers.rank == 0 and not goes_on:
        forget_rows(folder)
    try:
        yield None if query is None else _fetch(query, goes_on)
    except BaseException as error:
        if peers.rank == 0 and not (folder / CHECKPOINT).exists():
            forget_rows(folder)
            with suppress(OSError):  # something else is in it
                folder.rmdir()
        if type(error) is DataError and query is not None:
            place = f"{shown(query.address)}, --query"
            raise DataError(str(error).replace(str(query.fetched), place)) from None
        raise


def _fetch(query: Query, goes_on: bool) -> Path:
    kept = next((file for file in (query.fetched, query.file) if file.exists()), None)
    if goes_on and kept is not None:
        if not asked_by(query.address, query.sql, kept):
            raise ConfigError(
                f"{kept} has the rows of another query or database, with which this training began: name "
                "that one, or leave --resume out"
            )
        logger.info("%s: going on with the rows that this training began with, in %s; the database is not "
                    "asked again", shown(query.address), kept)  # fmt: skip
    elif current().rank == 0:
        rows = snapshot(query.address, query.sql, query.fetched)
        logger.info("%s: %s rows, to be kept in %s", shown(query.address), f"{rows:,}", query.file)
    current().meet()
    return query.fetched if query.fetched.exists() else query.file


def fetched_rows(folder: Path) -> dict[Path, Path]:
    """The files that `rows_of` fetched, by the place that they are to take."""
    places = {folder / name: (folder / name).with_suffix(NEXT) for name in KEPT}
    return {place: file for place, file in places.items() if is_snapshot(file)}


def foreign_rows(query: Query | None) -> list[Path]:
    """The files in the places of the rows of a query that no earlier query left there."""
    places = [] if query is None else [query.file, query.fetched]
    return [file for file in places if os.path.lexists(file) and not is_snapshot(file)]


def forget_rows(folder: Path) -> None:
    """Delete what `rows_of` fetched and no run has taken."""
    for file in fetched_rows(folder).values():
        file.unlink(missing_ok=True)
