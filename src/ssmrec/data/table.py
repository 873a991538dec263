"""Columns that are not yet read, of one file or several, and how a failure to read them is told."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from ssmrec.data.place import Place
from ssmrec.data.remote import Remote, reason
from ssmrec.data.sniff import LINES_ADVICE
from ssmrec.data.text import prepared
from ssmrec.errors import DataError

# A damaged Parquet file can make polars panic, which is no Exception.
UNREADABLE = (
    pl.exceptions.PolarsError,
    pl.exceptions.PanicException,
    OSError,
    EOFError,
    UnicodeDecodeError,
    zlib.error,
)


@dataclass(frozen=True)
class Table:
    """Columns not yet read.

    Args:
        frame: the lazy columns; text files hold strings only.
        where: the file, for messages.
        named: whether the columns have names; if not they are called "0", "1", ...
        text: whether types still have to be told from the text.
    """

    frame: pl.LazyFrame
    where: Place
    named: bool = True
    text: bool = False

    @property
    def names(self) -> list[str]:
        with readable(self.where):
            return self.frame.collect_schema().names()

    def head(self, n: int) -> Table:
        """The first `n` rows."""
        return replace(self, frame=self.frame.head(n))

    def rows(self, columns: dict[str, str], ids: type[pl.DataType]) -> pl.LazyFrame:
        """The columns needed, with null for what is missing.

        Args:
            columns: maps the new name to the one in the file.
            ids: the type of ids, `user` and `item`, that are text: String or Categorical.
        """
        chosen = [pl.col(old).alias(new) for new, old in columns.items()]
        if self.text:
            chosen = [column.str.strip_chars() for column in chosen]
        with self.reading():
            frame = self.frame.select(chosen)
            return frame.with_columns(prepared(frame.collect_schema(), ids))

    def reading(self) -> AbstractContextManager[None]:
        """Where a failure becomes one line."""
        return readable(self.where, len(self.names) if self.text else None)

    def collect(self, columns: dict[str, str]) -> pl.DataFrame:
        """`rows` as a stream: what is dropped on the way, and the text of each id, is never held."""
        with self.reading():
            return self.rows(columns, pl.Categorical).collect(engine="streaming")


@contextmanager
def readable(where: Place | Path | Remote, width: int | None = None) -> Iterator[None]:
    """Turn a reader's failure into one line that names the file, and a line wider than `width`."""
    try:
        yield
    except UNREADABLE as error:
        if isinstance(where, Place) and (said := _broken(where) or too_wide(where, width)):
            raise DataError(said) from None
        raise DataError(
            f"{where}: cannot be read, damaged or of another format ({reason(error)})"
        ) from None


def _broken(place: Place) -> str | None:
    """What to say of the first line that should be a JSON object and is none, if there is one."""
    for part in place.files() if place.layout == "jsonl" and place.has_lines else ():
        with suppress(
            OSError, EOFError, UnicodeDecodeError, zlib.error
        ):  # it was these that failed
            if (found := part.broken()) is not None:
                line, fault = found
                return (
                    f"{part}: line {line} cannot be read as JSON ({fault}); mend or delete the line"
                )
    return None


def too_wide(place: Place, width: int | None) -> str | None:
    """What to say of the first line with more fields than the first one, if there is one."""
    for part in place.files() if place.layout == "columns" and place.has_lines else ():
        if width is not None and (wider := part.wider(width)) is not None:
            line, fields = wider
            return (
                f"{part}: line {line} has {fields} fields, but the "
                f"{'header' if part.header else 'first line'} has {width}; mend the line, or "
                f"{LINES_ADVICE}"
            )
    return None
