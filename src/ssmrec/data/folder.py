"""A folder of files, or a pattern of names, as one table: files of one kind, in the order of their paths."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from glob import escape, glob, has_magic
from pathlib import Path
from typing import overload
from urllib.parse import unquote

import polars as pl

from ssmrec.data.aliases import plain
from ssmrec.data.config import DataConfig
from ssmrec.data.formats import first_lines, open_table
from ssmrec.data.ids import CANONICAL
from ssmrec.data.parts import TITLES, assert_one_table
from ssmrec.data.place import Folder, Place
from ssmrec.data.remote import Remote, exists, located
from ssmrec.data.sniff import PARQUET, SUFFIXES, asked_columns, is_header
from ssmrec.data.table import Table, readable
from ssmrec.data.text import TEXTS
from ssmrec.errors import DataError

log = logging.getLogger(__name__)

IDS = "_{}_ids.parquet"
"""Beside rows that `write_coded` has numbered: the sorted ids of a side, `user` or `item`."""
NOTHING = "__HIVE_DEFAULT_PARTITION__"
Keys = dict[str, str]
"""Columns that the folders of a file name, as in `date=2011-10-31/part-0.parquet`."""


def is_coded(folder: Path | Remote) -> bool:
    """Whether `write_coded` has made a folder, so that its ids are numbers of its own."""
    return any(exists(folder / IDS.format(side)) for side in ("user", "item"))


def is_pattern(path: Path) -> bool:
    """Whether a path stands for the files that fit it, as `clicks/2011-*.parquet` does."""
    return has_magic(str(path)) and not path.exists()


@overload
def files_of_source(path: Path) -> list[Path]: ...
@overload
def files_of_source(path: Path | Remote) -> list[Path] | list[Remote]: ...
def files_of_source(path: Path | Remote) -> list[Path] | list[Remote]:
    """The files with rows of a folder (and its folders) or a pattern, by path; a file or an address is itself.

    Left out are names that begin with a dot or `_`, as `_SUCCESS` does, files of 0 bytes, and
    `items.*`, the titles.

    Raises:
        DataError: there is none, or one that is no table, cannot be read, is the held-out part of
            another, or has ids that are numbers of its own.
    """
    if isinstance(path, Remote):
        return [path]
    if is_pattern(path):
        found = [Path(name) for name in glob(str(path), recursive=True)]
    elif path.is_dir():
        found = [path]
    else:
        return [path]
    root = _root(path)
    inside = {f for each in found for f in (each.rglob("*") if each.is_dir() else (each,))}
    inside = {f for f in inside if not _hidden(f.relative_to(root))}
    _assert_readable(inside)
    files = sorted(f for f in inside if f.is_file())
    if path.is_dir():
        files = [f for f in files if f.parent != path or not _holds_titles(f)]
        _assert_tables(files, path)
        assert_one_table(inside)
    elif not _holds_titles(path):
        files = [f for f in files if not _holds_titles(f)]
    if files := [f for f in files if f.stat().st_size]:
        return files
    if path.is_dir():
        raise DataError(
            f"{path}: the folder has no train file and no other with rows ({', '.join(SUFFIXES)})"
        )
    raise DataError(f"{path}: no file with rows fits")


def source_name(source: str) -> str:
    """What to call a source in the name of a run folder: of a pattern, the folder it looks in."""
    path = located(source) if "://" in source else Path(source)
    if isinstance(path, Remote):
        parts = path.parts[1:]
        return next((p for p in reversed(parts) if not has_magic(p)), path.scheme).split(".")[0]
    return _root(path).resolve().name if is_pattern(path) else path.stem


def open_source(path: Path | Remote, config: DataConfig) -> Table:
    """Open a file, a folder or a pattern as one table. The first file decides how text is read.

    Raises:
        DataError: as `open_table`, or a file is not like the first one; the message names it.
    """
    if isinstance(path, Remote):
        return open_table(path, config)
    files = files_of_source(path)
    if files == [path]:
        return _with_own(open_table(path, config), path, config)
    first = open_table(files[0], config)
    config = _as_read(first, config)
    root = _root(path)
    keys = [_keys(file.relative_to(root)) for file in files]
    for file, own in zip(files, keys, strict=True):
        if len(own) < sum("=" in part for part in file.relative_to(root).parts[:-1]):
            raise DataError(f"{file}: its folders name a column twice")
    tables = [first]
    for file, own in zip(files[1:], keys[1:], strict=True):
        if (file.suffix in PARQUET) != (files[0].suffix in PARQUET):
            raise DataError(f"{file}: is of another kind than {files[0]}: a folder holds one kind")
        tables.append(open_table(file, config, first.names))
        _assert_like(tables[-1], own, first, keys[0])
        if first.where.layout == "columns" and not first.named and is_header(first_lines(file)[0]):
            raise DataError(f"{file}: begins with names, and {files[0]} does not")
    frames = [table.frame.select(first.names) for table in tables]
    added = {name: _values(name, keys, first) for name in keys[0] if name not in first.names}
    frames = [
        frame.with_columns(pl.lit(values[n]).alias(name) for name, values in added.items())
        for n, frame in enumerate(frames)
    ]
    parts = tuple(table.where for table in tables)
    where = Folder(str(path), first.where.layout, parts=parts)
    _tell_contradictions(frames, keys, first.names, where)
    table = Table(pl.concat(frames, how="vertical_relaxed"), where, first.named, first.text)
    return _with_own(table, root / "_", config)


def _with_own(table: Table, file: Path, config: DataConfig) -> Table:
    """The table with what is asked for and only the path itself names, as `clicks/event=buy` does `event`."""
    own = _keys(file.absolute())
    names = {str(n) for n in asked_columns(config) if n in own and n not in table.names}
    columns = [pl.lit(_values(name, [own], table)[0]).alias(name) for name in sorted(names)]
    return replace(table, frame=table.frame.with_columns(columns))


def _tell_contradictions(
    frames: list[pl.LazyFrame], keys: list[Keys], names: list[str], where: Place
) -> None:
    """Warn where a column says other than the folders of its files do; the column counts.

    A moment says what the folder of its day does.
    """
    for key in keys[0]:
        name = next((name for name in names if plain(name) == plain(key)), None)
        if name is None:
            continue
        text, end = pl.col(name).cast(pl.String).str.strip_chars(), "([T .]|$)"
        wrong = [
            frame.select((~text.str.contains(f"^{re.escape(own[key])}{end}")).sum())
            for frame, own in zip(frames, keys, strict=True)
            if key in own
        ]
        with readable(where):
            count = int(pl.concat(wrong).sum().collect(engine="streaming").item())
        if count:
            log.warning("%s: column %s says other than the names of the folders in %s rows: the column counts",
                        where, name, f"{count:,}")  # fmt: skip


def _root(path: Path) -> Path:
    """The folder whose own name says nothing about the rows."""
    if not is_pattern(path):
        return path
    return next(parent for parent in path.parents if not has_magic(str(parent)))


def _holds_titles(path: Path) -> bool:
    return path.name.split(".")[0] == TITLES


def _hidden(path: Path) -> bool:
    return any(part[0] in "._" for part in path.parts)


def _assert_readable(inside: set[Path]) -> None:
    """Refuse what would be missed: links that lead nowhere or to folders, pipes, and coded rows."""
    for path in sorted(inside):
        if path.is_symlink() and path.is_dir():
            raise DataError(f"{path}: is a link to a folder; name that folder itself")
        if not (path.is_file() or path.is_dir()):
            kind = "a link to nothing" if path.is_symlink() else "no file that can be read again"
            raise DataError(f"{path}: is {kind}; remove it, or name the files that count")
        if is_coded(path.parent):
            raise DataError(
                f"{path.parent}: was written by `ssmrec data encode`, and its ids are numbers of its own: "
                "name that folder alone"
            )


def _assert_tables(files: list[Path], folder: Path) -> None:
    other = next((f for f in files if not f.name.endswith(SUFFIXES)), None)
    if other is None:
        return
    table = next((f for f in files if f.name.endswith(SUFFIXES)), None)
    example = ""
    if table is not None:
        suffix = max((s for s in SUFFIXES if table.name.endswith(s)), key=len)
        place = escape(str(folder)) + ("" if table.parent == folder else "/**")
        example = f", such as '{place}/*{suffix}'"
    raise DataError(
        f"{other}: is none of {', '.join(SUFFIXES)}; move it, or name the files that count{example}"
    )


def _as_read(first: Table, config: DataConfig) -> DataConfig:
    """The settings with what the first file was found to be."""
    if not first.text:
        return config
    if first.where.layout in ("adjacency", "jsonl"):
        return config.model_copy(update={"format": first.where.layout})
    found = {"format": "csv", "delimiter": first.where.delimiter, "header": first.where.header}
    return config.model_copy(update=found)


def _keys(path: Path) -> Keys:
    pairs = (part.split("=", 1) for part in path.parts[:-1] if "=" in part)
    return {name: unquote(value) for name, value in pairs}


def _values(name: str, keys: list[Keys], first: Table) -> pl.Series:
    """The values of a folder's key for each file: integers when all are, as in Parquet."""
    texts = pl.Series(name, [own[name] for own in keys]).replace(NOTHING, None)
    whole = not first.text and texts.str.contains(CANONICAL).all()
    return texts.cast(pl.Int64) if whole else texts


def _assert_like(table: Table, own: Keys, first: Table, keys: Keys) -> None:
    """Refuse a file whose columns, or the keys of its folders, are others than those of the first."""
    mine, theirs = (
        [*t.names, *(x for x in k if x not in t.names)] for t, k in ((table, own), (first, keys))
    )
    if set(table.names) != set(first.names) or set(mine) != set(theirs):
        raise DataError(
            f"{table.where}: has columns {', '.join(mine)}, but {first.where} has {', '.join(theirs)}"
        )
    types = table.frame.collect_schema()
    for name, dtype in first.frame.collect_schema().items():
        if _kind(types[name]) != _kind(dtype) and pl.Null not in (types[name], dtype):
            raise DataError(
                f"{table.where}: column {name} holds {types[name]}, but {dtype} in {first.where}"
            )


def _kind(dtype: pl.DataType) -> str:
    return "text" if dtype in TEXTS else "number" if dtype.is_numeric() else str(dtype)
