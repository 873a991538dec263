"""Sampling against the known positives of each row's user, without Python loops over rows.

All randomness comes in as arrays of uniform numbers, so that the draws depend on the seed only and
not on the number of threads.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from ssmrec.kernels.threads import parallel

Array = np.ndarray

_BUCKETS = 1 << 16
"""Most numbers that the last bits of an id can make in `known_pairs`."""


@parallel
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


@parallel
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


def known_pairs(
    users: Array, indptr: Array, indices: Array, candidates: Array, n_items: int
) -> Array:
    """(row, column) pairs, int64 (2, M), where shared `candidates[column]` is known to users[row].

    Sorted by row. Each row walks its own history and looks up where its items stand among the
    candidates, so the cost is the length of the histories, not rows times candidates. They are looked up by
    the last bits of their ids, at a cost that does not grow with the catalogue.
    """
    size = min(1 << max(n_items - 1, 0).bit_length(), _BUCKETS)
    number, first = np.zeros(size, dtype=np.int32), np.empty(size, dtype=np.int32)
    following = np.empty(len(candidates), dtype=np.int32)
    _places_of(candidates, number, first, following)
    starts = np.zeros(len(users) + 1, dtype=np.int64)
    _count_likely(users, indptr, indices, number, starts)
    np.cumsum(starts, out=starts)
    pairs, ends = np.empty((2, starts[-1]), dtype=np.int64), np.empty_like(starts[1:])
    _find_known(users, indptr, indices, candidates, number, first, following, starts, pairs, ends)
    if (ends == starts[1:]).all():
        return pairs
    places = np.arange(starts[-1])
    return pairs[:, places < ends.repeat(np.diff(starts))]


@njit(cache=True, nogil=True)
def _places_of(candidates, number, first, following):  # pragma: no cover - compiled
    """Columns by the last bits of their ids: how many, the first, and the next one after each or -1."""
    last = len(number) - 1
    for column in range(len(candidates) - 1, -1, -1):
        bucket = candidates[column] & last
        following[column] = first[bucket] if number[bucket] else -1
        first[bucket] = column
        number[bucket] += 1


@parallel
def _count_likely(users, indptr, indices, number, starts):  # pragma: no cover - compiled
    """starts[b + 1]: how many pairs row b has at most, by the last bits of the ids."""
    last = len(number) - 1
    for b in prange(len(users)):
        count = 0
        for item in indices[indptr[users[b]] : indptr[users[b] + 1]]:
            count += number[item & last]
        starts[b + 1] = count


@parallel
def _find_known(
    users, indptr, indices, candidates, number, first, following, starts, pairs, ends
):  # pragma: no cover - compiled
    """The pairs of row b, from starts[b] to ends[b]."""
    last = len(number) - 1
    for b in prange(len(users)):
        at = starts[b]
        if at < starts[b + 1]:
            history = indices[indptr[users[b]] : indptr[users[b] + 1]]
            likely = np.empty(len(history), dtype=indices.dtype)
            count = 0
            for item in history:
                likely[count] = item  # without a branch, which would often be guessed wrong
                count += number[item & last] > 0
            for item in likely[:count]:
                column = first[item & last]
                while column >= 0:
                    if candidates[column] == item:
                        pairs[0, at], pairs[1, at] = b, column
                        at += 1
                    column = following[column]
        ends[b] = at


def known_pairs_reference(known: Array, candidates: Array) -> Array:
    """The definition, from dense rows: known (B, n_items) bool, candidates (N,)."""
    return np.stack(np.nonzero(known[:, candidates]))
