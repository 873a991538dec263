"""Exact top-K lists from vectors: one scoring path for evaluation, recommendation and serving."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ssmrec.data import Interactions
from ssmrec.errors import ConfigError, DataError
from ssmrec.kernels.memory import fitting, keep_freed
from ssmrec.kernels.products import PANEL, in_panels
from ssmrec.kernels.topk import Seen, select, select_more, select_torch
from ssmrec.models import ScoringRows

Array = np.ndarray
Progress = Callable[[int, int], None]
"""Called with (rows done, rows in all) after each block."""

TILE_BYTES = 8 * 2**20
"""Most that a tile of scores takes, float32: it stays in the cache between product and choice."""
TILE_BYTES_ON_GPU = 512 * 2**20
"""The same on a GPU, where a tile must be large enough to keep it busy."""
TILE_USERS = 256
"""Users of a tile on a CPU, where there are more items than fit: few make a product slow."""


@dataclass(frozen=True, eq=False)
class TopK:
    """Ranked lists, best first.

    Args:
        ids: int32 (m, k) item indices; -1 pads a list with fewer than k items.
        scores: float32 (m, k); minus infinity where padded.
    """

    ids: Array
    scores: Array

    @classmethod
    def empty(cls, m: int, k: int) -> TopK:
        """Lists of nothing."""
        return cls(np.full((m, k), -1, np.int32), np.full((m, k), -np.inf, np.float32))

    def put(
        self, part: slice, first: int, tile: Tensor, seen: Sequence[Seen], allowed: Array | None
    ) -> None:
        """Take the scores of a block of items, numbered from `first`, into the lists of some rows.

        Blocks come in the order of their items, so that equal scores keep the lower item first.
        """
        ids, scores, last = self.ids[part], self.scores[part], first + tile.shape[1]
        allowed = allowed if allowed is None else allowed[first:last]
        if tile.device.type == "cpu":
            select_more(ids, scores, first, tile.numpy(), seen, allowed)
            return
        hidden = [_within(known, first, last) for known in seen]
        found, best = select_torch(tile, min(ids.shape[1], tile.shape[1]), hidden, allowed)
        found, best = found.cpu().numpy(), best.cpu().numpy()
        if first == 0:
            ids[:, : found.shape[1]], scores[:, : found.shape[1]] = found, best
            return
        both = np.concatenate([ids, np.where(found < 0, found, found + first)], axis=1)
        at, scores[:] = select(np.concatenate([scores, best], axis=1), ids.shape[1])
        ids[:] = np.where(at < 0, at, np.take_along_axis(both, np.maximum(at, 0), axis=1))


@dataclass(frozen=True, eq=False)
class ItemRows:
    """Some items for each row, in CSR: interactions without ids.

    Args:
        indptr: int64 (m + 1,); indices: int32, distinct within a row.
        n_items: number of items there are.
    """

    indptr: Array
    indices: Array
    n_items: int

    @classmethod
    def of(cls, rows: Sequence[Array], n_items: int) -> ItemRows:
        """From one array of item indices a row."""
        indptr = np.concatenate(([0], np.cumsum([len(row) for row in rows]))).astype(np.int64)
        indices = np.concatenate([np.zeros(0, np.int32), *rows]).astype(np.int32)
        return cls(indptr, indices, n_items)

    @property
    def n_users(self) -> int:
        return len(self.indptr) - 1

    @cached_property
    def user_degrees(self) -> Array:
        return np.diff(self.indptr)


Pairs = Interactions | ItemRows


class UserLookup(Protocol):
    """Vectors (n_users, d) that are not held whole: `[index]` gives those of some users."""

    device: torch.device

    def __len__(self) -> int: ...

    def __getitem__(self, index: Tensor, /) -> Tensor | ScoringRows: ...


class ItemBlocks(Protocol):
    """Vectors (n, d) that are not held whole: each iteration gives all rows, in blocks, in order."""

    shape: torch.Size

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Tensor]: ...


def top_k(
    users: Tensor | ScoringRows,
    items: Tensor | ItemBlocks,
    k: int,
    *,
    seen: Sequence[Pairs] = (),
    user_index: Array | None = None,
    allowed: Array | None = None,
    only: Pairs | None = None,
    block: int | None = None,
    progress: Progress | None = None,
) -> TopK:
    """The k items with the highest dot product for each user; ties go to the lower item index.

    Exact: every score is computed, in float32, a block of users at a time. For cosine, pass vectors
    of unit length (`losses.base.prepare`). Blocks change memory and speed, not the lists.

    Args:
        users: (m, d) vectors of the users to rank for; or rows that score by themselves, as histories
            (m, n) do where items are scored by item-item weights.
        items: (n, d) vectors of all items, on the same device; those in blocks are gone through once.
        k: length of the lists, at least 1; min(k, n) columns are returned.
        seen: interactions whose items are left out of the user's list, such as train and valid.
        user_index: (m,) rows of `users` within each of `seen`, and in `only`; None means 0 to m - 1.
        allowed: bool (n,), items that may be listed; None allows all.
        only: candidates of each user, nothing else is listed; None for no such limit.
        block: users scored at once; None lets a tile of scores take 8 MB (512 MB on a GPU), or less
            where memory is short.
        progress: called after each block.

    Returns:
        Lists in the order of `users`, in main memory.

    Raises:
        ConfigError: `k` or `block` is below 1.
        DataError: shapes do not fit, `user_index` is out of range, or a score is not a number.
    """
    users, m, n = users.detach().float(), len(users), len(items)
    index = np.arange(m) if user_index is None else np.asarray(user_index)
    _check(users, items, k, block, [*seen, *([] if only is None else [only])], index, allowed)
    k = min(k, n)
    if only is None and isinstance(items, Tensor) and _alike(users, items):
        return _from_the_top(items, k, seen, index, allowed, block, progress)
    if users.device.type == "cpu":
        keep_freed()
    lists, first = TopK.empty(m, k), 0
    for rows in [items] if isinstance(items, Tensor) else items:
        rows = rows.detach().float()
        at_once, width = tile_shape(users, len(rows), block)
        for start in range(0, m, at_once):
            part = slice(start, min(start + at_once, m))
            some, hidden = users[part], [_rows(known, index[part]) for known in seen]
            candidates = None if only is None else _rows(only, index[part])
            for at in range(0, len(rows), width):
                tile = tile_scores(some, rows[at : at + width])
                begin = first + at
                if candidates is not None:
                    tile = _limited(tile, _within(candidates, begin, begin + tile.shape[1]))
                lists.put(part, begin, tile, hidden, allowed)
            if progress is not None:
                progress((m * first + part.stop * len(rows)) // n, m)
        first += len(rows)
    return lists


def _alike(users: Tensor | ScoringRows, items: Tensor) -> bool:
    """Whether all users score an item by its one number, as those of the most popular items do."""
    if isinstance(users, ScoringRows) or users.shape[1] != 1:
        return False
    return bool((users == 1).all()) and bool(items.isfinite().all())


def _from_the_top(
    items: Tensor,
    k: int,
    seen: Sequence[Pairs],
    index: Array,
    allowed: Array | None,
    block: int | None,
    progress: Progress | None,
) -> TopK:
    """As `top_k` where all score alike: who has seen h items finds the list among the first k + h of all."""
    values, m = items.detach().float()[:, 0], len(index)
    order = values.sort(descending=True, stable=True).indices.cpu().numpy()
    order = order if allowed is None else order[allowed[order]]
    hidden = sum((known.user_degrees[index] for known in seen), np.zeros(m, np.int64))
    width = min(k + int(hidden.max(initial=0)), len(order))
    at_once = block or _users_at_once(m, max(width, 1), items.device)
    lists = TopK.empty(m, k)
    for start in range(0, m if len(order) else 0, at_once):
        part = slice(start, min(start + at_once, m))
        # By their numbers, so that of equal scores the lower item comes first.
        top = np.sort(order[: k + hidden[part].max()])
        tile = values[torch.from_numpy(top).to(values.device)].repeat(part.stop - start, 1)
        lists.put(part, 0, tile, [_among(top, known, index[part]) for known in seen], None)
        ids = lists.ids[part]
        ids[:] = np.where(ids < 0, ids, top[ids])
        if progress is not None:
            progress(part.stop, m)
    return lists


def _among(top: Array, known: Pairs, index: Array) -> Seen:
    """CSR of the users `index`, and where their items are in `top`; those that are not are left out."""
    place = np.full(known.n_items, -1, dtype=np.int32)
    place[top] = np.arange(len(top), dtype=np.int32)
    indptr, items = _rows(known, index)
    found = place[items]
    return np.concatenate(([0], np.cumsum(found >= 0)))[indptr], found[found >= 0]


def tile_shape(users: Tensor | ScoringRows, n: int, block: int | None) -> tuple[int, int]:
    """Users and items of a tile of scores: fewer than all n items where those of few users are more."""
    width, device = max(n, 1), users.device
    if not isinstance(users, ScoringRows):
        least = min(TILE_USERS, len(users)) if device.type == "cpu" else PANEL
        width = min(width, _tile_bytes(device) // (4 * max(least, PANEL)))
    return block or _users_at_once(len(users), width, device), width


def _tile_bytes(device: torch.device) -> int:
    return TILE_BYTES if device.type == "cpu" else TILE_BYTES_ON_GPU


def _users_at_once(m: int, n: int, device: torch.device) -> int:
    """Whole panels of users: as many as make the best tile, fewer where memory is short."""
    panel = 4 * n * PANEL
    best = max(1, _tile_bytes(device) // panel)
    return PANEL * (fitting(best, panel, device) if m > PANEL and best > 1 else 1)


def tile_scores(users: Tensor | ScoringRows, items: Tensor) -> Tensor:
    """Scores of a block of users, (len(users), n)."""
    if isinstance(users, ScoringRows):
        return users.scores(items)
    return in_panels(users, items)


def _limited(tile: Tensor, candidates: Seen) -> Tensor:
    """The scores of the candidates, minus infinity elsewhere."""
    indptr, indices = candidates
    row = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    at = [torch.from_numpy(a.astype(np.int64)).to(tile.device) for a in (row, indices)]
    out = torch.full_like(tile, -torch.inf)
    out[at[0], at[1]] = tile[at[0], at[1]]
    return out


def _rows(known: Pairs, index: Array) -> Seen:
    """CSR of the users `index` (m,), in that order."""
    starts, counts = known.indptr[index], known.user_degrees[index]
    indptr = np.concatenate(([0], np.cumsum(counts)))
    within = np.arange(indptr[-1]) - np.repeat(indptr[:-1], counts)
    return indptr, known.indices[np.repeat(starts, counts) + within]


def _within(known: Seen, first: int, last: int) -> Seen:
    """The items `first` to `last` of rows, numbered from 0 on."""
    indptr, items = known
    inside = (items >= first) & (items < last)
    return np.concatenate(([0], np.cumsum(inside)))[indptr], items[inside] - np.int32(first)


def _check(
    users: Tensor | ScoringRows,
    items: Tensor | ItemBlocks,
    k: int,
    block: int | None,
    seen: Sequence[Pairs],
    index: Array,
    allowed: Array | None,
) -> None:
    if k < 1 or (block is not None and block < 1):
        raise ConfigError(f"k and block must be at least 1, not k={k}, block={block}")
    if users.ndim != 2 or len(items.shape) != 2 or users.shape[1] != items.shape[1]:
        raise DataError(
            f"user vectors {tuple(users.shape)} and item vectors {tuple(items.shape)} do not fit: "
            "both need two dimensions and the same number of columns"
        )
    if len(index) != len(users):
        raise DataError(f"user_index has {len(index)} rows, the user vectors have {len(users)}")
    for known in seen:
        if known.n_items != len(items):
            raise DataError(f"{len(items)} item vectors, but seen pairs have {known.n_items} items")
        if len(index) and not 0 <= index.min() <= index.max() < known.n_users:
            raise DataError(f"user_index must lie in 0 to {known.n_users - 1} (users of seen)")
    if allowed is not None and (allowed.shape != (len(items),) or allowed.dtype != np.bool_):
        raise DataError(f"allowed must be bool ({len(items)},), not {allowed.dtype}{allowed.shape}")
