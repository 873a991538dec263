"""Text to read: how large it may be, what means nothing in it, and ids by distinct values, each held once."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import polars as pl

from ssmrec.errors import DataError

MISSING = (
    "", "nan", "NaN", "NAN", "null", "Null", "NULL", "none", "None", "NONE", "NA", "N/A", "<NA>",
    r"\N",
)  # fmt: skip
TEXTS = (pl.String, pl.Categorical, pl.Enum)

_BLOCK, _LONGEST = 1 << 20, 16 << 20
_PACKED = 100
"""Times that text is larger than its gzip file, from which on its lines are looked at before they are read."""


@contextmanager
def fitting_memory(where: object) -> Iterator[None]:
    """Where memory runs out while `where` is read, settings of the training are no remedy."""
    try:
        yield
    except MemoryError:
        raise DataError(
            f"{where}: out of memory while reading: split it into several files, save it as Parquet with the "
            "columns needed only, or take a machine with more memory"
        ) from None


def assert_lines(path: Path) -> None:
    """Refuse a gzip file with a line of more than 16 MB, which polars would hold several times over.

    Raises:
        DataError: names the line. OSError, EOFError, zlib.error: it is damaged.
    """
    with path.open("rb") as file:
        size = file.seek(-4, 2) + 4
        if int.from_bytes(file.read(4), "little") < _PACKED * size:  # as its end tells
            return
    line, length = 1, 0
    with gzip.open(path) as file:
        while block := file.read(_BLOCK):
            first = block.find(b"\n")
            length += len(block) if first < 0 else first
            if length > _LONGEST:
                raise DataError(
                    f"{path}: line {line} has more than {_LONGEST >> 20} MB; mend or delete it"
                )
            if first >= 0:
                line, length = line + block.count(b"\n"), len(block) - 1 - block.rfind(b"\n")


def prepared(schema: pl.Schema, ids: type[pl.DataType] = pl.Categorical) -> list[pl.Expr]:
    """How columns are read: what says "nothing here" as null, ids of text as `ids`.

    As categories a row holds a number, and the text of an id is held once.
    """
    columns = []
    for name, dtype in schema.items():
        column = pl.col(name)
        if dtype in TEXTS:
            text = column.cast(pl.String)
            text = pl.when(~text.is_in(MISSING)).then(text)
            columns.append(text.cast(ids) if name in ("user", "item") else text)
        elif dtype.is_float():
            columns.append(column.fill_nan(None))
    return columns


class Distinct:
    """A column of ids by its distinct values: what is asked of a value is computed once.

    Args:
        column: String or Categorical (n,).

    Attributes:
        values: String (m,), without null, in no order.
    """

    def __init__(self, column: pl.Series) -> None:
        coded = column if column.dtype == pl.Categorical else column.cast(pl.Categorical)
        kinds = coded.unique().drop_nulls()
        self.values = kinds.cast(pl.String)
        self._codes, places = coded.to_physical(), kinds.to_physical().to_numpy()
        self._at = np.zeros(int(places.max()) + 1 if len(places) else 0, dtype=np.uint32)
        self._at[places] = np.arange(len(places), dtype=np.uint32)

    def spread(self, answers: pl.Series) -> pl.Series:
        """To each row (n,) the answer of its value; `answers` (m,) go with `values`. Nulls stay."""
        return answers.gather(pl.Series(self._at).gather(self._codes))
