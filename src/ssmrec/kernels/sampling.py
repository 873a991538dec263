"""Sampling against the known positives of each row's user, without Python loops over rows.

All randomness comes in as arrays of uniform numbers, so that the draws depend on the seed only and
not on the number of threads.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from ssmrec.kernels.threads import parallel

Array = np.ndarray

_BITS = 0xFFFF
"""The last bits of an id that the filter of `known_pairs` looks at."""


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


@njit(cache=True, nogil=True)
def known_pairs(users, indptr, indices, candidates):  # pragma: no cover - compiled
    """(row, column) pairs, int64 (2, M), where shared `candidates[column]` is known to users[row].

    Sorted by row. Each row walks its own history and looks up where its items stand among the
    candidates, so the cost is the length of the histories, not rows times candidates. Most items are
    no candidates: one bit for the last bits of an id says so without a look at the hash table.
    """
    keys, head, following, maybe = _places_of(candidates)
    longest = 0
    for b in range(len(users)):
        longest = max(longest, indptr[users[b] + 1] - indptr[users[b]])
    likely = np.empty(longest, dtype=indices.dtype)
    pairs = np.empty((2, 4 * len(users) + 1), dtype=np.int64)
    total = 0
    for b in range(len(users)):
        count = 0
        for item in indices[indptr[users[b]] : indptr[users[b] + 1]]:
            likely[count] = item  # without a branch, which would often be guessed wrong
            count += maybe[item & _BITS]
        for item in likely[:count]:
            column = head[_slot(np.int64(item), keys)]
            while column >= 0:
                if total == pairs.shape[1]:
                    more = np.empty((2, 2 * total), dtype=np.int64)
                    more[:, :total] = pairs
                    pairs = more
                pairs[0, total], pairs[1, total] = b, column
                total += 1
                column = following[column]
    return pairs[:, :total].copy()


@njit(cache=True, nogil=True)
def _places_of(candidates):  # pragma: no cover - compiled
    """A hash table of ids with the first place of each, the next place after each, and the filter."""
    size = 16
    while size < 2 * len(candidates):
        size *= 2
    keys, head = np.full(size, -1, dtype=np.int64), np.full(size, -1, dtype=np.int64)
    following = np.empty(len(candidates), dtype=np.int64)
    maybe = np.zeros(_BITS + 1, dtype=np.uint8)
    for column in range(len(candidates) - 1, -1, -1):
        item = np.int64(candidates[column])
        slot = _slot(item, keys)
        following[column] = head[slot]
        keys[slot], head[slot] = item, column
        maybe[item & _BITS] = 1
    return keys, head, following, maybe


@njit(cache=True, nogil=True)
def _slot(item, keys):  # pragma: no cover - compiled
    """Where `item` stands in a hash table of ids, or would stand."""
    last = len(keys) - 1
    slot = (item * np.int64(0x9E3779B1)) >> np.int64(7) & last
    while keys[slot] >= 0 and keys[slot] != item:
        slot = (slot + 1) & last
    return slot


def known_pairs_reference(known: Array, candidates: Array) -> Array:
    """The definition, from dense rows: known (B, n_items) bool, candidates (N,)."""
    return np.stack(np.nonzero(known[:, candidates]))
