"""The k best items of each row of a score tile, seen and disallowed ones left out.

`select_reference` defines the result. `select` (numba, CPU) reads each score once: a strip of
scores is compared with the row's k-th best so far, and only a strip that beats it is looked at item
by item. `select_more` goes on with the lists of the items before, so that later tiles are hardly more
than read.
`select_torch` gives the same answer with torch operations on any device.
"""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock

import numpy as np
import torch
from numba import njit, prange
from torch import Tensor

from ssmrec.errors import DataError
from ssmrec.kernels.threads import parallel

Array = np.ndarray
Seen = tuple[Array, Array]
"""CSR of the items to leave out: indptr int64 (m + 1,) and indices int32, one row per tile row."""

STRIP = 128
"""Scores compared at once: long enough for vector instructions, short enough to rescan."""

_LOWEST = np.float32(-np.inf)
one_caller = Lock()  # numba's fallback threading layer allows one parallel call at a time


def select(
    scores: Array, k: int, seen: Sequence[Seen] = (), allowed: Array | None = None
) -> tuple[Array, Array]:
    """The k best items of each row, best first; of equal scores the lower item index comes first.

    Args:
        scores: float32 (m, n), C-contiguous; seen entries are overwritten with minus infinity.
        k: 1 to n.
        seen: items to leave out, row by row.
        allowed: bool (n,), items that may be returned; None allows all.

    Returns:
        ids int32 (m, k) and scores float32 (m, k); -1 and minus infinity where a row has fewer
        than k items to offer.

    Raises:
        DataError: the score of an item that may be returned is not a number.
    """
    ids = np.full((len(scores), k), -1, dtype=np.int32)
    best = np.full((len(scores), k), -np.inf, dtype=np.float32)
    select_more(ids, best, 0, scores, seen, allowed)
    return ids, best


def select_more(
    ids: Array,
    best: Array,
    first: int,
    scores: Array,
    seen: Sequence[Seen] = (),
    allowed: Array | None = None,
) -> None:
    """Take the items numbered from `first`, whose `scores` are given, into the lists of those before.

    Args:
        ids: int32 (m, k), written: lists as `select` returns them; all -1 before the first items.
        best: float32 (m, k), written: their scores; all minus infinity before the first items.
        first: number of the first item, higher than all in the lists.
        scores, allowed: as for `select`, of n items from `first` on.
        seen: as for `select`, but by the items' numbers; those that are not among the n do not matter.

    Raises:
        DataError: the score of an item that may be returned is not a number.
    """
    for indptr, indices in seen:
        _hide(scores, indptr, indices, first)
    permitted = np.ones(0, dtype=np.bool_) if allowed is None else allowed
    with one_caller:
        faults = _select(scores, permitted, first, ids, best)
    if faults:
        raise DataError(_not_a_number(faults))


def select_reference(
    scores: Tensor, k: int, seen: Sequence[Seen] = (), allowed: Array | None = None
) -> tuple[Tensor, Tensor]:
    """What `select` must return, by a stable sort of whole rows; `scores` is left as it was."""
    scores = _masked(scores.clone(), seen, allowed)
    faults = int(scores.isnan().any(dim=1).sum())
    if faults:
        raise DataError(_not_a_number(faults))
    best, ids = scores.sort(dim=1, descending=True, stable=True)
    return _padded(ids[:, :k], best[:, :k])


def select_torch(
    scores: Tensor, k: int, seen: Sequence[Seen] = (), allowed: Array | None = None
) -> tuple[Tensor, Tensor]:
    """As `select`, on the device of `scores` (overwritten in part).

    `torch.topk` picks freely among equal scores, so one more than k is asked for: a row whose k-th
    and next score are equal is sorted whole.
    """
    scores = _masked(scores, seen, allowed)
    best, ids = scores.topk(min(k + 1, scores.shape[1]), dim=1)
    faults = int(best.isnan().any(dim=1).sum())
    if faults:
        raise DataError(_not_a_number(faults))
    tied = best[:, -1] == best[:, k - 1] if best.shape[1] > k else best[:, 0] != best[:, 0]
    ids, order = ids[:, :k].sort(dim=1)
    best, order = best[:, :k].gather(1, order).sort(dim=1, descending=True, stable=True)
    ids = ids.gather(1, order)
    rows = (tied & best[:, -1].ne(-torch.inf)).nonzero()[:, 0]
    if len(rows):
        ids[rows] = scores[rows].sort(dim=1, descending=True, stable=True).indices[:, :k]
    return _padded(ids, best)


def _not_a_number(rows: int) -> str:
    return (
        f"scores of {rows} rows are not a number: vectors hold NaN or infinity; "
        "train with a lower learning rate or a higher temperature"
    )


def _masked(scores: Tensor, seen: Sequence[Seen], allowed: Array | None) -> Tensor:
    for indptr, indices in seen:
        rows = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
        at = torch.from_numpy(rows), torch.from_numpy(indices.astype(np.int64))
        scores[at[0].to(scores.device), at[1].to(scores.device)] = -torch.inf
    if allowed is not None:
        scores.masked_fill_(torch.from_numpy(~allowed).to(scores.device), -torch.inf)
    return scores


def _padded(ids: Tensor, best: Tensor) -> tuple[Tensor, Tensor]:
    return ids.int().masked_fill(best == -torch.inf, -1), best


@njit(nogil=True, cache=True)
def _hide(
    scores: Array, indptr: Array, indices: Array, first: int
) -> None:  # pragma: no cover - compiled
    for row in range(len(indptr) - 1):
        for at in range(indptr[row], indptr[row + 1]):
            item = indices[at] - first
            if 0 <= item < scores.shape[1]:
                scores[row, item] = _LOWEST


@parallel
def _select(
    scores: Array, allowed: Array, first: int, ids: Array, best: Array
) -> int:  # pragma: no cover - compiled
    """Update `ids` and `best`; returns the number of rows with a score that is not a number."""
    faults = 0
    for row in prange(scores.shape[0]):
        faults += _select_row(scores[row], allowed, first, ids[row], best[row])
    return faults


@njit(nogil=True, cache=True)
def _select_row(
    scores: Array, allowed: Array, first: int, ids: Array, best: Array
) -> int:  # pragma: no cover - compiled
    """A list is best first; once an item enters it, it is a heap with the worst on top until the end."""
    fault, heap, worst = 0, False, best[-1]
    for start in range(0, len(scores), STRIP):
        strip = scores[start : start + STRIP]
        if not _any_above(strip, worst):
            continue
        for at in range(len(strip)):
            score, item = strip[at], start + at
            if score <= worst or (len(allowed) > 0 and not allowed[item]):
                continue
            if np.isnan(score):
                fault = 1
                continue
            if not heap:
                ids[:], best[:], heap = ids[::-1].copy(), best[::-1].copy(), True
            best[0], ids[0] = score, first + item
            _sift(best, ids, len(best))
            worst = best[0]
    for size in range(len(best) - 1 if heap else 0, 0, -1):
        best[0], best[size] = best[size], best[0]
        ids[0], ids[size] = ids[size], ids[0]
        _sift(best, ids, size)
    return fault


@njit(nogil=True, cache=True, fastmath={"reassoc", "nsz"})
def _any_above(strip: Array, threshold: float) -> bool:  # pragma: no cover - compiled
    """Whether any score beats the threshold or is NaN.

    Counted in float32, in any order and without an exit, which is what lets it vectorise.
    """
    found = np.float32(0)
    for at in range(len(strip)):
        found += np.float32(not (strip[at] <= threshold))
    return bool(found > 0)


@njit(nogil=True, cache=True)
def _sift(best: Array, ids: Array, size: int) -> None:  # pragma: no cover - compiled
    """Restore the heap (worst on top: lowest score, then highest index) after its top changed."""
    top = 0
    while 2 * top + 1 < size:
        child = 2 * top + 1
        if child + 1 < size and _worse(best, ids, child + 1, child):
            child += 1
        if not _worse(best, ids, child, top):
            break
        best[top], best[child] = best[child], best[top]
        ids[top], ids[child] = ids[child], ids[top]
        top = child


@njit(nogil=True, cache=True)
def _worse(best: Array, ids: Array, one: int, other: int) -> bool:  # pragma: no cover - compiled
    if best[one] == best[other]:
        return ids[one] > ids[other]
    return best[one] < best[other]
