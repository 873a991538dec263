"""Sparse matrices of scipy as tables: a row is a user, a column an item, and their numbers are the ids."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from ssmrec.data.place import Place
from ssmrec.errors import DataError


@dataclass(frozen=True, eq=False)
class Cells(Place):
    """The cells of a matrix, for messages.

    Args:
        frame: columns user and item, a row a cell.
        zeros: how many stored cells held 0.
    """

    frame: pl.DataFrame = field(default_factory=pl.DataFrame)
    zeros: int = 0

    def row(self, position: int) -> str:
        """`cell (3, 17)` of a row counted from 0."""
        user, item = self.frame.row(position)[:2]
        return f"cell ({user}, {item})"


def is_sparse(source: Any) -> bool:
    """Whether it is a sparse matrix or array of scipy, which need not be installed."""
    modules = {kind.__module__.partition(".")[0] for kind in type(source).__mro__}
    return "scipy" in modules and hasattr(source, "tocsr")


def cells(matrix: Any, name: str, where: Place) -> Cells:
    """The cells that are not 0: user, item and, where they are not all 1, their values as `name`.

    Cells that come twice are added up, as scipy does.

    Raises:
        DataError: it has not two dimensions, or holds no real numbers.
    """
    if matrix.ndim != 2:
        raise DataError(f"{where}: a matrix has users and items, not the shape {matrix.shape}")
    if matrix.dtype.kind not in "biuf":
        raise DataError(
            f"{where}: the matrix holds {matrix.dtype}, not numbers: convert its values"
        )
    whole = matrix.tocsr(copy=True)
    whole.sum_duplicates()
    stored = whole.nnz
    whole.eliminate_zeros()
    user = np.repeat(np.arange(whole.shape[0], dtype=np.int64), np.diff(whole.indptr))
    frame = pl.DataFrame({"user": user, "item": whole.indices.astype(np.int64)})
    if not (whole.data == 1).all() or name == "rating":
        frame = frame.with_columns(pl.Series(name, whole.data.astype(np.float64)))
    return Cells(where.name, frame=frame, zeros=stored - whole.nnz)
