"""Ids on the command line: given directly, or by a file that lists them or is a table with a column of them."""

from __future__ import annotations

import gzip
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl

from ssmrec.data import DataConfig
from ssmrec.data.aliases import find_alias, is_known
from ssmrec.data.folder import open_source
from ssmrec.data.formats import first_lines, is_columns
from ssmrec.data.ids import ids_or_text
from ssmrec.data.sniff import DELIMITERS, split_line
from ssmrec.data.table import Table, readable
from ssmrec.errors import DataError
from ssmrec.ranking import Ranker, as_ids, none_known

logger = logging.getLogger("ssmrec")

LIKE_A_FILE = re.compile(r"[/\\]|\.(txt|csv|tsv|json|jsonl|ndjson|parquet|pq|gz)$", re.IGNORECASE)
QUOTED = re.compile(r'"((?:[^"]|"")*)"')
NAMES = {"user": "user, customer_id", "item": "item, sku, product_id"}


@dataclass(frozen=True)
class Side:
    """The users or the items of a run, by which ids are told from files, and from names of columns."""

    ranker: Ranker
    role: Literal["user", "item"]

    def known(self, ids: list[str]) -> np.ndarray:
        """bool (n,): which of some ids the run was trained on."""
        find = self.ranker.find_users if self.role == "user" else self.ranker.find_items
        return find(as_ids(ids)) >= 0

    @property
    def text(self) -> bool:
        """Whether the ids of the run are text."""
        train = self.ranker.train
        return (train.users if self.role == "user" else train.items).ids.dtype == pl.String

    @property
    def examples(self) -> list[int | str]:
        """Two ids that the run was trained on."""
        ranker = self.ranker
        items = ranker.train.items.ids.filter(pl.Series(ranker.known_items))
        return (ranker.known_users if self.role == "user" else items).head(2).to_list()

    @property
    def advice(self) -> str:
        """How a file of ids must look."""
        return (
            f"write one id a line, or a table with a column named as {NAMES[self.role]} or the like"
        )


def ids_of(
    values: list[str], option: str, side: Side, needed: bool = True, empty: bool = False
) -> list[str] | None:
    """The ids that `values` give, ids or files, as text, each once; None for no values.

    Args:
        needed: whether a file of which no id is known is an error, as are ids of which none is.
        empty: whether a file may have no ids, which is told.

    Raises:
        DataError: a file cannot be read or has no ids, what looks like a file is neither one nor an id,
            or nothing that is `needed` is known; the message begins with `option`.
    """
    found: list[str] = []
    for value in values:
        if not _is_file(value, option, side):
            found.append(value)
            continue
        ids = [] if empty and _is_blank(Path(value)) else read_ids(Path(value), side)
        if not ids and empty:
            logger.warning("%s %s: no ids in it", option, value)
            continue
        if not ids:
            raise DataError(f"{option} {value}: no ids in it; {side.advice}")
        if needed:
            assert_any(ids, f"{option} {value}", side)
        found += ids
    if needed and found:
        assert_any(found, f"{option} {named(values)}", side)
    return list(dict.fromkeys(found)) if values else None


def _is_blank(path: Path) -> bool:
    return path.is_file() and path.stat().st_size < 1024 and not path.read_bytes().strip()


def assert_any(ids: list[str], what: str, side: Side, more: str = "") -> None:
    """Refuse ids of which the run knows none: a mistyped file looks like that.

    Raises:
        DataError: it begins with `what`, and ends with `more`.
    """
    if side.known(ids).any():
        return
    told = none_known(what, len(set(ids)), f"{side.role}s", side.examples)
    raise DataError(f"{told}; in a file, {side.advice}{more}")


def named(values: list[str]) -> str:
    """The first three of some values."""
    return ", ".join(values[:3]) + (" ..." if len(values) > 3 else "")


def read_ids(path: Path, side: Side) -> list[str]:
    """The ids of a file as text: of the column of a table with the usual names, or one a line.

    A text file is a table if its first line is names, and no known id. Ids may stand in double quotes.

    Raises:
        DataError: it cannot be read, or is a table of which no column can be told to hold the ids.
    """
    if path.is_dir() or is_columns(path):
        return _column(open_source(path, DataConfig()), side)
    head = first_lines(path)[0].strip()
    names = not side.known([head])[0]
    for delimiter in DELIMITERS if names else ():
        fields = split_line(head, delimiter)
        plain = delimiter != " " or all(map(is_known, fields))
        if len(fields) > 1 and plain and find_alias(side.role, fields):
            config = DataConfig(format="csv", header=True, delimiter=delimiter)
            return _column(open_source(path, config), side)
    with readable(path):
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        lines = [line.strip() for line in data.decode("utf-8-sig").splitlines()]
    lines = [line for line in lines if line]
    if names and find_alias(side.role, [head.strip('"')]):
        lines = lines[1:]
    return _unquoted(lines, side)


def _column(table: Table, side: Side) -> list[str]:
    """The ids of a table; rows without one are left out."""
    names = table.names
    column = find_alias(side.role, names) or (names[0] if len(names) == 1 else None)
    if column is None:
        raise DataError(
            f"{table.where}: cannot tell the {side.role} column among {', '.join(names[:20])}; {side.advice}"
        )
    ids = table.collect({side.role: column})[side.role]
    ids = ids_or_text(ids, "str" if side.text else "auto", table.text, table.where)
    return ids.cast(pl.String).drop_nulls().to_list()


def _unquoted(lines: list[str], side: Side) -> list[str]:
    """Without the quotes around an id, but where the run knows it with them."""
    inner = [QUOTED.fullmatch(line) for line in lines]
    if not any(inner):
        return lines
    return [
        one[1].replace('""', '"').strip() if one and not known else line
        for line, one, known in zip(lines, inner, side.known(lines), strict=True)
    ]


def _is_file(value: str, option: str, side: Side) -> bool:
    """Whether `value` is a file or folder of ids, and not an id.

    Raises:
        DataError: it looks like a file, and is neither one nor an id.
    """
    like = LIKE_A_FILE.search(value)
    try:
        if Path(value).is_file() or (like and Path(value).is_dir()):
            return True
    except OSError:  # longer than the name of a file may be
        return False
    if like and not side.known([value])[0]:
        raise DataError(f"{option} {value}: neither a file nor an id that the run was trained on")
    return False
