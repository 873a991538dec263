"""Sums over histories, and counts of items that occur together: the sparse side of item-item models."""

from __future__ import annotations

import numpy as np
from numba import njit, prange
from torch import Tensor

Array = np.ndarray


@njit(parallel=True, cache=True, nogil=True)
def sum_rows(indptr, indices, table, out):  # pragma: no cover - compiled
    """out[k] = sum of table[i] over the items i of row k, added in the order of `indices`.

    indptr (m + 1,), indices: CSR of m rows; table (n, d); out (m, d). A row's sum does not depend on
    the other rows nor on the number of threads.
    """
    for k in prange(len(indptr) - 1):
        total = out[k]
        total[:] = 0
        for p in range(indptr[k], indptr[k + 1]):
            row = table[indices[p]]
            for c in range(len(total)):
                total[c] += row[c]


@njit(parallel=True, cache=True, nogil=True)
def occur_together(starts, users, indptr, indices, weights, out):  # pragma: no cover - compiled
    """out[i, j] = sum of weights[u] over the users u that have both i and j: R' diag(weights) R.

    starts (n + 1,), users: CSR by item; indptr (m + 1,), indices: CSR by user; weights (m,);
    out (n, n). Takes the sum of squared user degrees in steps.
    """
    for i in prange(len(starts) - 1):
        row = out[i]
        row[:] = 0
        for p in range(starts[i], starts[i + 1]):
            u = users[p]
            for q in range(indptr[u], indptr[u + 1]):
                row[indices[q]] += weights[u]


def sum_rows_reference(rows: Tensor, table: Tensor) -> Tensor:
    """The definition of `sum_rows`: binary rows (m, n) times table (n, d)."""
    return rows @ table


def occur_together_reference(rows: Tensor, weights: Tensor) -> Tensor:
    """The definition of `occur_together`: binary rows (m, n), weights (m,)."""
    return rows.T @ (weights[:, None] * rows)
