"""Sums over histories, counts of items that occur together, and the nodes most alike by them."""

from __future__ import annotations

import numpy as np
from numba import njit, prange
from torch import Tensor

from ssmrec.kernels.threads import parallel

Array = np.ndarray

_CHUNKS = 64
"""Parts of the nodes, each with counts of its own, that `most_alike` works on in parallel."""


@parallel
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


@parallel
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


@parallel
def most_alike(starts, users, indptr, indices, out):  # pragma: no cover - compiled
    """out[i]: nodes j != i with the highest cosine of their binary columns, best first; -1 fills up.

    Args:
        starts (n + 1,), users: CSR by node. indptr (m + 1,), indices: CSR of the other side.
        out: int64 (n, k). Only nodes that share a pair count; of equal ones the lower index comes first.

    Takes the sum of the other side's squared degrees in steps.
    """
    n, k = out.shape
    chunks = min(n, _CHUNKS)
    for chunk in prange(chunks):
        together, met = np.zeros(n, np.int64), np.empty(n, np.int64)
        best = np.empty(k, np.float64)
        for i in range(chunk * n // chunks, (chunk + 1) * n // chunks):
            count = 0
            for p in range(starts[i], starts[i + 1]):
                for q in range(indptr[users[p]], indptr[users[p] + 1]):
                    j = indices[q]
                    if together[j] == 0:
                        met[count] = j
                        count += 1
                    together[j] += 1
            best[:], out[i] = 0, -1
            for t in range(count):
                j = met[t]
                # The square of the cosine, times the degree of i: whole numbers until here.
                value = together[j] * together[j] / (starts[j + 1] - starts[j])
                together[j] = 0
                if j != i:
                    _insert(best, out[i], value, j)


@njit(cache=True, nogil=True)
def _insert(best, ids, value, item):  # pragma: no cover - compiled
    """Put an item into its place among the best, which are sorted, if it has one."""
    at = len(best)
    while at and (value > best[at - 1] or (value == best[at - 1] and item < ids[at - 1])):
        at -= 1
    for later in range(len(best) - 1, at, -1):
        best[later], ids[later] = best[later - 1], ids[later - 1]
    if at < len(best):
        best[at], ids[at] = value, item


def sum_rows_reference(rows: Tensor, table: Tensor) -> Tensor:
    """The definition of `sum_rows`: binary rows (m, n) times table (n, d)."""
    return rows @ table


def occur_together_reference(rows: Tensor, weights: Tensor) -> Tensor:
    """The definition of `occur_together`: binary rows (m, n), weights (m,)."""
    return rows.T @ (weights[:, None] * rows)
