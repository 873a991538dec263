"""Where a row stands, for messages: the line of a text file, or the row of a frame or Parquet file."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal, TextIO

import polars as pl

from ssmrec.errors import DataError

Layout = Literal["table", "columns", "jsonl", "adjacency"]


@dataclass(frozen=True)
class Place:
    """The source of rows.

    Args:
        name: the file, or `frame`.
        layout: `table` has no lines; `columns` and `jsonl` one row a line; `adjacency` one row an item.
        delimiter: between fields; None for blanks.
        header: whether the first line is names.
        first: number of the row, counted from 0, that positions begin at.
    """

    name: str
    layout: Layout = "table"
    delimiter: str | None = None
    header: bool = False
    first: int = 0

    def __str__(self) -> str:
        return self.name

    @property
    def has_lines(self) -> bool:
        """Whether it is a text that can be read again, to tell of a line."""
        return self.layout != "table" and "://" not in self.name

    def files(self) -> tuple[Place, ...]:
        """The files that hold the rows, in their order."""
        return (self,)

    def row(self, position: int) -> str:
        """`line 7` or `row 7` of a row counted from 0. Text files are read again up to there."""
        position += self.first
        if not self.has_lines:
            return f"row {position + 1}"
        for line, fields in self._records():
            position -= len(fields) - 1 if self.layout == "adjacency" else 1
            if position < 0:
                return f"line {line}"
        return f"row {position + 1}"

    def wider(self, width: int) -> tuple[int, int] | None:
        """(line, number of fields) of the first line with more than `width` fields."""
        lines = self._lines()
        return next(((line, len(f)) for line, f in lines if len(f) > width), None)

    def broken(self) -> tuple[int, str] | None:
        """(line, what is wrong) of the first line of JSON Lines that is no object."""
        with self._opened("utf-8") as file:
            for number, line in enumerate(file, 1):
                try:
                    if line.strip() and not isinstance(json.loads(line.strip()), dict):
                        return number, "it is no object in braces"
                except json.JSONDecodeError as error:
                    return number, f"{error.msg}, column {error.colno}"
                except RecursionError:
                    return number, "it is nested too deeply"
        return None

    def size(self) -> int:
        """Number of rows of a file."""
        if self.layout == "table":
            return int(pl.scan_parquet(self.name, glob=False).select(pl.len()).collect().item())
        one = self.layout != "adjacency"
        return sum(1 if one else len(fields) - 1 for _, fields in self._records())

    def _records(self) -> Iterator[tuple[int, list[str]]]:
        """The lines that are rows: not the header, and none without anything in a field."""
        filled = ((line, fields) for line, fields in self._lines() if any(map(str.strip, fields)))
        return islice(filled, int(self.header), None)

    def _lines(self) -> Iterator[tuple[int, list[str]]]:
        with self._opened("utf-8-sig") as file:
            yield from self._fields(file)

    def _opened(self, encoding: str) -> TextIO:
        opener = gzip.open if self.name.endswith(".gz") else open
        return opener(Path(self.name), "rt", encoding=encoding, newline="")  # type: ignore[return-value]

    def _fields(self, file: TextIO) -> Iterator[tuple[int, list[str]]]:
        if self.layout == "columns" and self.delimiter and len(self.delimiter) == 1:
            reader = csv.reader(file, delimiter=self.delimiter)
            start = 1
            try:
                for fields in reader:
                    yield start, fields
                    start = reader.line_num + 1  # a quoted field may hold line breaks
            except csv.Error as error:
                raise DataError(f"{self.name}: line {start} cannot be read ({error})") from None
            return
        for number, line in enumerate(file, 1):
            yield number, split_fields(line, self.delimiter)


@dataclass(frozen=True)
class Folder(Place):
    """Several files, whose rows follow each other.

    Args:
        parts: the files, all of the same layout.
    """

    parts: tuple[Place, ...] = ()

    def files(self) -> tuple[Place, ...]:
        return self.parts

    def row(self, position: int) -> str:
        """`line 7 of clicks/b.csv`, of a row counted from 0 over all files."""
        position += self.first
        for part in self.parts:
            if position < (size := part.size()):
                return f"{part.row(position)} of {part}"
            position -= size
        return f"row {position + 1}"


def split_fields(line: str, delimiter: str | None) -> list[str]:
    """The fields of a line; between blanks there are no empty ones."""
    return line.rstrip("\r\n").split(delimiter) if line.strip() else []
