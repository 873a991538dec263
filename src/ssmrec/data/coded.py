"""A source written anew with a number for each id of text: id tables larger than memory, made on disk."""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from fnmatch import fnmatch
from glob import escape
from importlib import import_module
from pathlib import Path
from typing import Any

import polars as pl

from ssmrec.data.clean import Coded
from ssmrec.data.columns import choose_columns
from ssmrec.data.config import DataConfig
from ssmrec.data.folder import IDS, files_of_source, is_coded, is_pattern, open_source
from ssmrec.data.formats import pinned
from ssmrec.data.ids import CANONICAL, DOUBTFUL, LEADING_ZERO, WHOLE
from ssmrec.data.named import files_of
from ssmrec.data.parts import tell_left_out
from ssmrec.data.place import Place
from ssmrec.data.read import RESULT, checked
from ssmrec.data.remote import Remote, exists
from ssmrec.data.table import UNREADABLE, readable
from ssmrec.data.text import TEXTS
from ssmrec.data.vocabulary import Vocabulary
from ssmrec.errors import ConfigError, DataError

log = logging.getLogger(__name__)

SIDES = ("user", "item")
_LATER = ("events", "event_weights", "min_rating", "min_user", "min_item", "duplicates", "split")
"""Settings for what is done when the coded rows are read."""
_ROWS = 1 << 18
"""Rows that are checked at once."""
_FULL = re.compile(rf"os error ({errno.ENOSPC}|{errno.EDQUOT}|{errno.EFBIG})\b")
"""How polars tells that nothing more can be written."""


def write_coded(config: DataConfig, out: Path, memory: str | None = None) -> dict[str, int]:
    """Write the rows of `config.source` into a folder that is read as the source is, ids as numbers.

    `out` holds train.parquet (valid and test too, where the source has them): user and item as Int32,
    and as they are in the source timestamp, rating, weight and event, as far as they are known.
    Nothing is dropped; what `load` refuses is refused (rows without an id too, unless `nulls` is drop). So
    `load` and `prepare` give the same for both, but for the order of rows.

    Args:
        config: which columns to read, and how. The folder need not exist.
        memory: how much DuckDB may hold, such as `4GB`, before it goes to disk; None: most of it.

    Returns:
        Rows of each part, and ids of each side that was text.

    Raises:
        DataError: the source cannot be read, its ids are of several types, or `out` holds something, lies in
            the source or cannot be written.
        ConfigError: no DuckDB, or it does not understand `memory`.
    """
    files = files_of(config)
    for path in files.values():
        _assert_apart(path, out)
    tell_left_out(files, config.source)
    config = pinned(files_of_source(files["train"])[0], config)
    plain = DataConfig()
    if idle := [f"data.{key}" for key in _LATER if getattr(config, key) != getattr(plain, key)]:
        log.warning("rows are dropped, merged and split when %s is read, so without effect: %s", out,
                    ", ".join(idle))  # fmt: skip
    with _folder(out) as work, closing(_duckdb(work / "spill", memory)) as database:
        frames, kinds = {}, {}
        for part, path in files.items():
            table = open_source(path, config)
            with table.reading():
                chosen = choose_columns(table.names, config, table.where, table, rating=True)
                rows = table.rows(chosen, pl.String)
                kinds[part] = [_kind(rows, side, config, table.text, table.where) for side in SIDES]
            frames[part] = (table, rows)
        coded = [side for n, side in enumerate(SIDES) if _one(side, [k[n] for k in kinds.values()])]
        for part, (table, rows) in frames.items():
            file = work / f"{part}.rows"
            with table.reading(), _writing(out):
                _numbers(rows, coded).sink_parquet(file)
            _check(file, config, table.where)
        with _told(memory, out):
            counts = _code(database, work, list(frames), coded)
    for side in coded:
        log.info("%s: %s %s ids", out, f"{counts[side]:,}", side)
    return counts


def with_ids(coded: Coded, files: Mapping[str, Path | Remote]) -> Coded:
    """`coded` with the ids of the tables beside its files in the place of their numbers, if there are any.

    Raises:
        DataError: only some of the files belong to the tables, or their ids are read as text.
    """
    found = {side: {f.parent / IDS.format(side) for f in files.values()} for side in SIDES}
    for side, places in found.items():
        there = [place for place in places if exists(place)]
        if not there:
            continue
        vocabulary = getattr(coded, f"{side}s")
        if len(places) > 1 or vocabulary.ids.dtype != pl.Int64:
            raise DataError(
                f"{there[0]}: numbers the {side}s of the files beside it: leave data.ids at auto, and "
                "give other parts to `ssmrec data encode` together with it"
            )
        ids, numbers = _ids(there[0]), vocabulary.ids
        if len(numbers) and not 0 <= numbers.min() <= numbers.max() < len(ids):  # type: ignore[operator]
            raise DataError(
                f"{there[0]}: has {len(ids):,} ids, and the rows beside it {side}s numbered from "
                f"{numbers.min()} to {numbers.max()}: encode the source again"
            )
        known = Vocabulary(ids if len(numbers) == len(ids) else ids.gather(numbers))
        coded = replace(coded, **{f"{side}s": known})
    return coded


def _ids(file: Path | Remote) -> pl.Series:
    """The ids of a side, sorted and distinct, as `_code` wrote them."""
    with readable(file):
        ids = pl.read_parquet(str(file), glob=False).to_series()
    if ids.name != "id" or ids.dtype != pl.String or ids.null_count() or ids.n_unique() < len(ids):
        raise DataError(
            f"{file}: is not the table of ids that was written: encode the source again"
        )
    return ids


def _assert_apart(path: Path | Remote, out: Path) -> None:
    """Refuse to code what is coded, and to write where a source would take it in."""
    if is_coded(path.parent):
        raise DataError(f"{path.parent}: was written by `ssmrec data encode` already; copy it")
    if isinstance(path, Remote):
        return
    place, source = out.resolve(), path.resolve()
    inside = path.is_dir() and place.is_relative_to(source)
    if inside or (is_pattern(path) and fnmatch(str(place), str(source))):
        raise DataError(f"{out}: lies in {path}, and would be read with it; choose another folder")


def _check(file: Path, config: DataConfig, where: Place) -> None:
    """Refuse the rows of a source that `load` would refuse: what is coded no longer knows their lines."""
    rows, config = pl.scan_parquet(file, glob=False), config.model_copy(update={"ids": "auto"})
    names = [name for name in RESULT if name in rows.collect_schema()]
    size = rows.select(pl.len()).collect().item()
    if not size:
        raise DataError(f"{where}: the file has no rows")
    for start in range(0, size, _ROWS):
        some = rows.select(names).slice(start, _ROWS).collect()
        checked(some, config, replace(where, first=start), False, {})


def _kind(rows: pl.LazyFrame, side: str, config: DataConfig, text: bool, where: Place) -> str:
    """`int` or `text`, as the reader takes the ids of a side."""
    dtype = rows.collect_schema()[side]
    if dtype not in TEXTS:
        if config.ids == "str" and not dtype.is_integer():
            raise DataError(
                f"{where}: column {side} holds {dtype}: write its ids as text, or as integers"
            )
        return "text" if config.ids == "str" else "int"
    if config.ids == "str" or (config.ids == "auto" and not text):
        return "text"
    ids = pl.col(side).str
    whole = ids.contains(CANONICAL) | ids.contains(WHOLE)
    asked = rows.select(
        whole.sum(), known=pl.col(side).count(), zero=ids.contains(LEADING_ZERO).any()
    )
    n, known, zero = asked.collect(engine="streaming").row(0)
    if n == known:
        return "int"
    if config.ids == "int" or (n >= DOUBTFUL * known and not zero):
        raise DataError(
            f"{where}: column {side} has mixed ids: {n:,} integers, {known - n:,} text; set "
            "data.ids=str if they are meant, or mend the file"
        )
    return "text"


def _one(side: str, kinds: list[str]) -> bool:
    """Whether a side is text in all parts."""
    if len(set(kinds)) > 1:
        raise DataError(f"{side} ids are integers in one part and text in another: set data.ids")
    return kinds[0] == "text"


def _numbers(rows: pl.LazyFrame, coded: list[str]) -> pl.LazyFrame:
    """The rows with ids of one type: text where they are to be coded, else as numbers."""
    schema = rows.collect_schema()
    texts = [pl.col(side).cast(pl.String) for side in coded]
    numbers = [
        pl.col(side).str.replace(r"\.0+$", "").cast(pl.Int64)
        for side in SIDES
        if side not in coded and schema[side] in TEXTS
    ]
    return rows.with_columns(*texts, *numbers)


def _code(database: Any, work: Path, parts: list[str], coded: list[str]) -> dict[str, int]:
    """Number the ids of `PART.rows` files, and write PART.parquet in their place."""
    raw = {part: work / f"{part}.rows" for part in parts}
    counts = {}
    for side in coded:
        distinct = " UNION ".join(f'SELECT "{side}" AS id FROM {_file(p)}' for p in raw.values())
        ids = f"SELECT DISTINCT id FROM ({distinct}) WHERE id IS NOT NULL ORDER BY id"
        counts[side] = _copy(database, ids, work / IDS.format(side))
    database.execute("SET preserve_insertion_order = false")  # else a whole part waits in memory
    for part, file in raw.items():
        names = pl.scan_parquet(file, glob=False).collect_schema()
        columns = [
            f'"{n}_ids".file_row_number::INTEGER AS "{n}"' if n in coded else f'r."{n}"'
            for n in names
        ]
        joins = [
            f'LEFT JOIN {_file(work / IDS.format(side), ", file_row_number = true")} AS "{side}_ids" '
            f'ON r."{side}" = "{side}_ids".id'
            for side in coded
        ]
        rows = f"SELECT {', '.join(columns)} FROM {_file(file)} AS r {' '.join(joins)}"
        counts[part] = _copy(database, rows, work / f"{part}.parquet")
        file.unlink()
    return counts


def _copy(database: Any, query: str, file: Path) -> int:
    """Write the rows of a query; their number."""
    database.execute(f"COPY ({query}) TO {_quoted(file)} (FORMAT parquet, COMPRESSION zstd)")
    return int(database.fetchone()[0])


def _file(path: Path, options: str = "") -> str:
    return f"read_parquet({_quoted(escape(str(path)))}{options})"  # else [ and * would be a pattern


def _quoted(text: object) -> str:
    return "'" + str(text).replace("'", "''") + "'"


def _duckdb(spill: Path, memory: str | None) -> Any:
    try:
        duckdb = import_module("duckdb")
    except ImportError:
        raise ConfigError("ssmrec data encode needs DuckDB: pip install 'ssmrec[sql]'") from None
    database = duckdb.connect()
    database.execute(f"SET temp_directory = {_quoted(spill)}")
    if memory is not None:
        if not re.fullmatch(r"\d+(\.\d+)? ?([KMGT]i?)B", memory, re.IGNORECASE):
            raise ConfigError(f"memory {memory!r}: not a size such as 4GB or 512MB")
        database.execute(f"SET memory_limit = {_quoted(memory)}")
    return database


@contextmanager
def _told(memory: str | None, out: Path) -> Iterator[None]:
    """What DuckDB could not do, in one line."""
    duckdb = import_module("duckdb")
    try:
        yield
    except duckdb.OutOfMemoryException:
        raise ConfigError(
            f"memory {memory or 'of this machine'}: too little to number the ids"
        ) from None
    except duckdb.IOException as error:
        raise _unwritable(out, error) from None


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    """A full disk, told of what is written and not of what is read."""
    try:
        yield
    except UNREADABLE as error:
        if _FULL.search(str(error)):
            raise _unwritable(out, error) from None
        raise


def _unwritable(out: Path, error: BaseException) -> DataError:
    return DataError(f"{out}: cannot be written ({str(error).splitlines()[0]})")


@contextmanager
def _folder(out: Path) -> Iterator[Path]:
    """A folder that is `out` at the end, and gone after a failure."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out}: is there already; choose another folder, or delete it")
    work: Path | None = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
        yield work
        shutil.rmtree(work / "spill", ignore_errors=True)
        os.replace(work, out)
    except OSError as error:
        raise DataError(f"{out}: cannot be written ({error.strerror or error})") from None
    finally:
        if work is not None:
            shutil.rmtree(work, ignore_errors=True)
