"""Sampling against the known positives of each row's user, without Python loops over rows.

All randomness comes in as arrays of uniform numbers, so that the draws depend on the seed only and
not on the number of threads.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

Array = np.ndarray


@njit(parallel=True, cache=True, nogil=True)
def uniform_unknown(users, indptr, indices, n_items, uniform, out):  # pragma: no cover - compiled
    """out[b, j]: an item uniform among those the user does not have; -1 if there is none.

    The r-th unknown item is found directly by binary search over the sorted history (the smallest t
    with history[t] - t > r gives item r + t), so nothing is ever drawn twice.
    """
    for b in prange(len(users)):
        lo, hi = indptr[users[b]], indptr[users[b] + 1]
        free = n_items - (hi - lo)
        for j in range(out.shape[1]):
            if free <= 0:
                out[b, j] = -1
                continue
            r = min(int(uniform[b, j] * free), free - 1)
            left, right = lo, hi
            while left < right:
                middle = (left + right) // 2
                if indices[middle] - (middle - lo) > r:
                    right = middle
                else:
                    left = middle + 1
            out[b, j] = r + (left - lo)


@njit(cache=True, nogil=True)
def is_known(history, item):  # pragma: no cover - compiled
    """Whether sorted `history` holds `item`."""
    left, right = 0, len(history)
    while left < right:
        middle = (left + right) // 2
        if history[middle] < item:
            left = middle + 1
        else:
            right = middle
    return left < len(history) and history[left] == item


@njit(parallel=True, cache=True, nogil=True)
def weighted_unknown(
    users, indptr, indices, cumulative, uniform, out
):  # pragma: no cover - compiled
    """out[b, j]: an item drawn by the cumulative weights, redrawn while the user has it.

    uniform is (B, N, tries); after the last try the draw is given up and marked -1, so a user who
    knows almost everything cannot hold up the batch.
    """
    for b in prange(len(users)):
        history = indices[indptr[users[b]] : indptr[users[b] + 1]]
        for j in range(out.shape[1]):
            out[b, j] = -1
            for t in range(uniform.shape[2]):
                item = np.searchsorted(cumulative, uniform[b, j, t], side="right")
                item = min(item, len(cumulative) - 1)
                if not is_known(history, item):
                    out[b, j] = item
                    break


@njit(cache=True, nogil=True)
def known_pairs(users, indptr, indices, candidates, n_items):  # pragma: no cover - compiled
    """(row, column) pairs, int64 (2, M), where shared `candidates[column]` is known to users[row].

    Each row walks its own history and looks up where its items stand among the candidates (a linked
    list per item), so the cost is the length of the histories, not rows times candidates.
    """
    head = np.full(n_items, -1, dtype=np.int32)
    following = np.empty(len(candidates), dtype=np.int32)
    for column in range(len(candidates) - 1, -1, -1):
        following[column] = head[candidates[column]]
        head[candidates[column]] = column
    total = 0
    for fill in range(2):
        if fill == 1:
            pairs = np.empty((2, total), dtype=np.int64)
        total = 0
        for b in range(len(users)):
            for p in range(indptr[users[b]], indptr[users[b] + 1]):
                column = head[indices[p]]
                while column >= 0:
                    if fill == 1:
                        pairs[0, total] = b
                        pairs[1, total] = column
                    total += 1
                    column = following[column]
    return pairs


def known_pairs_reference(known: Array, candidates: Array) -> Array:
    """The definition, from dense rows: known (B, n_items) bool, candidates (N,)."""
    return np.stack(np.nonzero(known[:, candidates]))
