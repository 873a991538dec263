"""Softmax cross-entropy against shared candidates on a GPU: logits live in tiles and are never stored.

The mathematics is that of `kernels/softmax.py`, and `shared_softmax_reference` there defines it. The
forward pass keeps one log-sum-exp per row; the backward pass computes each tile of logits again, once
for the rows and once for the candidates, so memory is that of the vectors alone.

Masked pairs are sorted by the tile they fall in, so that a tile looks at its own pairs only.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

ROWS, COLUMNS = 64, 64
"""Rows and candidates of one tile."""


@triton.jit
def _tile(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    ub, vb, rm, cn, m, n, log_q, starts, hit_rows, hit_columns, tile,
    HAS_Q: tl.constexpr, DIAGONAL: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Logits of one tile, minus infinity where a pair does not count."""
    logits = tl.dot(ub, tl.trans(vb), input_precision=PRECISION)
    if HAS_Q:
        logits -= tl.load(log_q + cn, mask=cn < n, other=0.0)[None, :]
    keep = (cn < n)[None, :] & (rm < m)[:, None]
    if DIAGONAL:
        keep = keep & (rm[:, None] != cn[None, :])
    for at in range(tl.load(starts + tile), tl.load(starts + tile + 1)):
        row, column = tl.load(hit_rows + at), tl.load(hit_columns + at)
        keep = keep & ((rm[:, None] != row) | (cn[None, :] != column))
    return tl.where(keep, logits, float("-inf"))


@triton.jit
def _rows(x, index, limit, d, D: tl.constexpr):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Rows `index` of x (limit, d), zero beyond its end."""
    k = tl.arange(0, D)
    inside = (index < limit)[:, None] & (k < d)[None, :]
    return tl.load(x + index.to(tl.int64)[:, None] * d + k[None, :], mask=inside, other=0.0)


@triton.jit
def _forward(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    u, v, pos, log_q, starts, hit_rows, hit_columns, lse, m, n, d,
    HAS_Q: tl.constexpr, DIAGONAL: tl.constexpr, PRECISION: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, D: tl.constexpr,
):  # fmt: skip
    block = tl.program_id(0)
    rm = block * BM + tl.arange(0, BM)
    ub = _rows(u, rm, m, d, D)
    top = tl.load(pos + rm, mask=rm < m, other=0.0)
    total = tl.full((BM,), 1.0, tl.float32)  # the positive's own term
    tiles = tl.cdiv(n, BN)
    for j in range(tiles):
        cn = j * BN + tl.arange(0, BN)
        logits = _tile(
            ub, _rows(v, cn, n, d, D), rm, cn, m, n, log_q, starts, hit_rows, hit_columns,
            block * tiles + j, HAS_Q, DIAGONAL, PRECISION,
        )  # fmt: skip
        higher = tl.maximum(top, tl.max(logits, 1))
        total = total * tl.exp(top - higher) + tl.sum(tl.exp(logits - higher[:, None]), 1)
        top = higher
    tl.store(lse + rm, top + tl.log(total), mask=rm < m)


@triton.jit
def _backward(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    u, v, weight, log_q, starts, hit_rows, hit_columns, lse, out, m, n, d,
    OF_ROWS: tl.constexpr, HAS_Q: tl.constexpr, DIAGONAL: tl.constexpr, PRECISION: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, D: tl.constexpr,
):  # fmt: skip
    """sum_j w_bj v_j for each row (OF_ROWS), or sum_b w_bj u_b for each candidate; w = g exp(l - lse)."""
    mine, tiles = tl.program_id(0), tl.cdiv(n, BN)
    others = tiles if OF_ROWS else tl.cdiv(m, BM)
    total = tl.zeros((BM if OF_ROWS else BN, D), tl.float32)
    for other in range(others):
        i, j = (mine, other) if OF_ROWS else (other, mine)
        rm, cn = i * BM + tl.arange(0, BM), j * BN + tl.arange(0, BN)
        ub, vb = _rows(u, rm, m, d, D), _rows(v, cn, n, d, D)
        logits = _tile(
            ub, vb, rm, cn, m, n, log_q, starts, hit_rows, hit_columns,
            i * tiles + j, HAS_Q, DIAGONAL, PRECISION,
        )  # fmt: skip
        peak = tl.load(lse + rm, mask=rm < m, other=0.0)
        w = tl.exp(logits - peak[:, None]) * tl.load(weight + rm, mask=rm < m, other=0.0)[:, None]
        if OF_ROWS:
            total += tl.dot(w.to(vb.dtype), vb, input_precision=PRECISION)
        else:
            total += tl.dot(tl.trans(w).to(ub.dtype), ub, input_precision=PRECISION)
    index, limit = (
        (mine * BM + tl.arange(0, BM), m) if OF_ROWS else (mine * BN + tl.arange(0, BN), n)
    )
    k = tl.arange(0, D)
    inside = (index < limit)[:, None] & (k < d)[None, :]
    tl.store(out + index.to(tl.int64)[:, None] * d + k[None, :], total, mask=inside)


_FORWARD: Any = _forward
_BACKWARD: Any = _backward


class TiledSoftmax(torch.autograd.Function):
    """`apply(u, pos, neg, log_q, masked, in_batch)` -> loss (B,) float32; see `SharedSoftmax`.

    u, pos (B, d), neg (N, d) of one float type, bfloat16 and float16 included; sums are in float32.
    """

    @staticmethod
    def forward(ctx, u, pos, neg, log_q, masked, in_batch):  # type: ignore[override]
        u, neg = u.contiguous(), neg.contiguous()
        (m, d), n = u.shape, len(neg)
        pos_logits = (u.float() * pos.float()).sum(1)
        ctx.pairs = _by_tile(masked, m, n, u.device)
        exact = torch.get_float32_matmul_precision() == "highest"
        ctx.options = {
            "HAS_Q": log_q is not None, "DIAGONAL": in_batch,
            "PRECISION": "ieee" if exact else "tf32",
            "BM": ROWS, "BN": COLUMNS, "D": max(16, triton.next_power_of_2(d)),
        }  # fmt: skip
        ctx.log_q = pos_logits if log_q is None else log_q.to(u.device, torch.float32)
        lse = torch.empty_like(pos_logits)
        if m:
            _FORWARD[(triton.cdiv(m, ROWS),)](
                u, neg, pos_logits, ctx.log_q, *ctx.pairs, lse, m, n, d, **ctx.options
            )
        ctx.save_for_backward(u, pos, neg, pos_logits, lse)
        return lse - pos_logits

    @staticmethod
    def backward(ctx, *grads):  # type: ignore[override]
        u, pos, neg, pos_logits, lse = ctx.saved_tensors
        (m, d), n = u.shape, len(neg)
        weight = grads[0].float().contiguous()
        pull = (weight * (torch.exp(pos_logits - lse) - 1))[:, None]
        found = []
        for of_rows, count, size in ((True, m, ROWS), (False, n, COLUMNS)):
            out = torch.zeros(count, d, device=u.device)
            if count and n:
                _BACKWARD[(triton.cdiv(count, size),)](
                    u, neg, weight, ctx.log_q, *ctx.pairs, lse, out, m, n, d,
                    OF_ROWS=of_rows, **ctx.options,
                )  # fmt: skip
            found.append(out)
        grad_u = found[0] + pos.float() * pull
        return grad_u.to(u), (u.float() * pull).to(pos), found[1].to(neg), None, None, None


def _by_tile(masked: Tensor | None, m: int, n: int, device: torch.device) -> tuple[Tensor, ...]:
    """Masked pairs (2, M) as (starts of each tile, rows, columns), sorted by tile."""
    across = triton.cdiv(n, COLUMNS)
    tiles = triton.cdiv(m, ROWS) * across
    if masked is None:
        masked = torch.zeros(2, 0, dtype=torch.int64)
    rows, columns = masked.to(device)
    tile = rows // ROWS * across + columns // COLUMNS
    order = torch.argsort(tile, stable=True)
    counts = torch.bincount(tile, minlength=max(tiles, 1))
    starts = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    return starts.int(), rows[order].int(), columns[order].int()
