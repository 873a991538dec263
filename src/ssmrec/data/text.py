"""Columns of text: what means nothing, and ids by their distinct values, each held once."""

from __future__ import annotations

import numpy as np
import polars as pl

MISSING = (
    "", "nan", "NaN", "NAN", "null", "Null", "NULL", "none", "None", "NONE", "NA", "N/A", "<NA>",
    r"\N",
)  # fmt: skip
TEXTS = (pl.String, pl.Categorical, pl.Enum)


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
