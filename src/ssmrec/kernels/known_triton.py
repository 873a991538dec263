"""Known items looked up on a GPU: a program answers for a tile of users and items."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

_TILE = 64
"""Users, and items, of a tile."""


@triton.jit
def _look_up(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    table, users, items, out, m, n, width, TILE: tl.constexpr
):  # fmt: skip
    """out[b, j] = whether the bit of items[j] is set in the words of users[b]."""
    b = tl.program_id(0) * TILE + tl.arange(0, TILE)
    j = tl.program_id(1) * TILE + tl.arange(0, TILE)
    user = tl.load(users + b, mask=b < m, other=0).to(tl.int64)
    item = tl.load(items + j, mask=j < n, other=0).to(tl.int32)
    word = tl.load(table + user[:, None] * width + (item // 32)[None, :])
    known = (word >> (item % 32)[None, :]) & 1
    inside = (b < m)[:, None] & (j < n)[None, :]
    tl.store(out + b.to(tl.int64)[:, None] * n + j[None, :], known.to(tl.uint8), mask=inside)


_LOOK_UP: Any = _look_up


def look_up(table: Tensor, users: Tensor, items: Tensor) -> Tensor:
    """bool (B, N) from the words (n_users, width) of a `KnownItems`; users (B,), items (N,) int64."""
    m, n = len(users), len(items)
    out = torch.empty(m, n, dtype=torch.uint8, device=users.device)
    if m and n:
        grid = triton.cdiv(m, _TILE), triton.cdiv(n, _TILE)
        _LOOK_UP[grid](table, users, items, out, m, n, table.shape[1], TILE=_TILE)
    return out.view(torch.bool)
