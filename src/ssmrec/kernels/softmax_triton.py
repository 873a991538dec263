"""Softmax cross-entropy against shared candidates on a GPU: logits live in tiles and are never stored.

The mathematics is that of `kernels/softmax.py`, and `shared_softmax_reference` there defines it. The
forward pass keeps one log-sum-exp per row; the backward pass computes each tile of logits again, once
for the rows and once for the candidates, so memory is that of the vectors alone.

A program owns one block of rows (or of candidates) and one part of the other side: a batch has too few
blocks to fill a GPU. The parts are added afterwards in a fixed order, so equal inputs give equal bits.
Masked pairs are sorted by the tile they fall in, so that a tile looks at its own pairs only; a whole mask
is read tile by tile.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ssmrec.kernels.softmax import LEAST_ROWS, TILES, shared_memory

_PROGRAMS = 4
"""Programs wanted for each multiprocessor."""
_TILE_BYTES = 32 * 2**10
"""Most that the vectors of one side of a tile take in shared memory."""
_PAIRS, _WHOLE = 1, 2
"""How candidates are masked, `MASKED` of the kernels: by sorted pairs, or by bytes (B, N); 0 is not."""


@triton.jit
def _tile(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    ub, vb, rm, cn, m, n, log_q, starts, hit_rows, hit_columns, tile,
    HAS_Q: tl.constexpr, MASKED: tl.constexpr, DIAGONAL: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Logits of one tile, minus infinity where a pair does not count."""
    logits = tl.dot(ub, tl.trans(vb), input_precision=PRECISION)
    if HAS_Q:
        logits -= tl.load(log_q + cn, mask=cn < n, other=0.0)[None, :]
    keep = (cn < n)[None, :] & (rm < m)[:, None]
    if DIAGONAL:
        keep = keep & (rm[:, None] != cn[None, :])
    if MASKED == 2:
        at = rm.to(tl.int64)[:, None] * n + cn[None, :]
        keep = keep & (tl.load(hit_rows + at, mask=keep, other=1) == 0)
    if MASKED == 1:
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
    u, v, log_q, starts, hit_rows, hit_columns, lse, m, n, d, each,
    HAS_Q: tl.constexpr, MASKED: tl.constexpr, DIAGONAL: tl.constexpr, PRECISION: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, D: tl.constexpr,
):  # fmt: skip
    """lse[part, b]: log-sum-exp of row b over the tiles of one part, without the positive."""
    block, part = tl.program_id(0), tl.program_id(1)
    rm = block * BM + tl.arange(0, BM)
    ub = _rows(u, rm, m, d, D)
    top, total = tl.full((BM,), -3e38, tl.float32), tl.zeros((BM,), tl.float32)
    tiles = tl.cdiv(n, BN)
    for j in range(part * each, tl.minimum(part * each + each, tiles)):
        cn = j * BN + tl.arange(0, BN)
        logits = _tile(
            ub, _rows(v, cn, n, d, D), rm, cn, m, n, log_q, starts, hit_rows, hit_columns,
            block * tiles + j, HAS_Q, MASKED, DIAGONAL, PRECISION,
        )  # fmt: skip
        higher = tl.maximum(top, tl.max(logits, 1))
        total = total * tl.exp(top - higher) + tl.sum(tl.exp(logits - higher[:, None]), 1)
        top = higher
    tl.store(lse + part.to(tl.int64) * m + rm, top + tl.log(total), mask=rm < m)


@triton.jit
def _together(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    u, p, found, loss, own, lse, m, d, parts, BM: tl.constexpr, D: tl.constexpr
):  # fmt: skip
    """loss[b], own[b] = <u_b, p_b>, and lse[b] over the parts and the positive."""
    rm = tl.program_id(0) * BM + tl.arange(0, BM)
    inside = rm < m
    mine = tl.sum(_rows(u, rm, m, d, D).to(tl.float32) * _rows(p, rm, m, d, D).to(tl.float32), 1)
    top, total = mine, tl.zeros((BM,), tl.float32) + 1.0
    for part in range(parts):
        each = tl.load(found + tl.cast(part, tl.int64) * m + rm, mask=inside, other=0.0)
        higher = tl.maximum(top, each)
        total = total * tl.exp(top - higher) + tl.exp(each - higher)
        top = higher
    whole = top + tl.log(total)
    tl.store(own + rm, mine, mask=inside)
    tl.store(lse + rm, whole, mask=inside)
    tl.store(loss + rm, whole - mine, mask=inside)  # type: ignore[operator]


@triton.jit
def _of_pairs(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    u, p, found, weight, own, lse, grad_u, grad_p, m, d, parts, BM: tl.constexpr, D: tl.constexpr
):  # fmt: skip
    """Gradients of u, its parts added up, and of the positives: g_b (e^(own - lse) - 1) times the other."""
    rm, k = tl.program_id(0) * BM + tl.arange(0, BM), tl.arange(0, D)
    inside = rm < m
    apart = tl.load(own + rm, mask=inside, other=0.0)
    apart -= tl.load(lse + rm, mask=inside, other=0.0)
    pull = (tl.load(weight + rm, mask=inside, other=0.0) * (tl.exp(apart) - 1))[:, None]
    within = inside[:, None] & (k < d)[None, :]
    at = rm.to(tl.int64)[:, None] * d + k[None, :]
    total = pull * _rows(p, rm, m, d, D).to(tl.float32)
    for part in range(parts):
        total += tl.load(found + tl.cast(part, tl.int64) * m * d + at, mask=within, other=0.0)
    tl.store(grad_u + at, total, mask=within)
    tl.store(grad_p + at, pull * _rows(u, rm, m, d, D).to(tl.float32), mask=within)


@triton.jit
def _backward(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    u, v, weight, log_q, starts, hit_rows, hit_columns, lse, out, m, n, d, each,
    OF_ROWS: tl.constexpr, HAS_Q: tl.constexpr, MASKED: tl.constexpr, DIAGONAL: tl.constexpr,
    PRECISION: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, D: tl.constexpr,
):  # fmt: skip
    """Over one part: sum_j w_bj v_j (OF_ROWS) or sum_b w_bj u_b, where w_bj = g_b exp(l_bj - lse_b)."""
    mine, part, tiles = tl.program_id(0), tl.program_id(1), tl.cdiv(n, BN)
    others = tiles if OF_ROWS else tl.cdiv(m, BM)
    index = mine * (BM if OF_ROWS else BN) + tl.arange(0, BM if OF_ROWS else BN)
    limit = m if OF_ROWS else n
    own = _rows(u if OF_ROWS else v, index, limit, d, D)
    total = tl.zeros((BM if OF_ROWS else BN, D), tl.float32)
    for other in range(part * each, tl.minimum(part * each + each, others)):
        i, j = (mine, other) if OF_ROWS else (other, mine)
        rm, cn = i * BM + tl.arange(0, BM), j * BN + tl.arange(0, BN)
        ub = own if OF_ROWS else _rows(u, rm, m, d, D)
        vb = _rows(v, cn, n, d, D) if OF_ROWS else own
        logits = _tile(
            ub, vb, rm, cn, m, n, log_q, starts, hit_rows, hit_columns,
            i * tiles + j, HAS_Q, MASKED, DIAGONAL, PRECISION,
        )  # fmt: skip
        peak = tl.load(lse + rm, mask=rm < m, other=0.0)
        w = tl.exp(logits - peak[:, None]) * tl.load(weight + rm, mask=rm < m, other=0.0)[:, None]
        if OF_ROWS:
            total += tl.dot(w.to(vb.dtype), vb, input_precision=PRECISION)
        else:
            total += tl.dot(tl.trans(w).to(ub.dtype), ub, input_precision=PRECISION)
    k = tl.arange(0, D)
    inside = (index < limit)[:, None] & (k < d)[None, :]
    at = (part.to(tl.int64) * limit + index)[:, None] * d + k[None, :]
    tl.store(out + at, total, mask=inside)


_FORWARD: Any = _forward
_TOGETHER: Any = _together
_OF_PAIRS: Any = _of_pairs
_BACKWARD: Any = _backward


class TiledSoftmax(torch.autograd.Function):
    """`apply(u, pos, neg, log_q, masked, in_batch)` -> loss (B,) float32; see `SharedSoftmax`.

    u, pos (B, d), neg (N, d) of one float type, bfloat16 and float16 included, d at most
    `softmax.WIDEST`; sums are in float32.
    """

    @staticmethod
    def forward(ctx, u, pos, neg, log_q, masked, in_batch):  # type: ignore[override]
        u, pos, neg = u.contiguous(), pos.contiguous(), neg.contiguous()
        (m, d), n = u.shape, len(neg)
        how = 0 if masked is None else _WHOLE if masked.dtype == torch.bool else _PAIRS
        ctx.options = options(u, log_q is not None, how, in_batch)
        size, across = ctx.options["BM"], ctx.options["BN"]
        ctx.pairs = _by_tile(masked, m, n, size, across, u.device)
        loss, own, lse = torch.empty(3, m, device=u.device)
        ctx.log_q = own if log_q is None else log_q.to(u.device, torch.float32)
        if m:
            blocks, tiles = triton.cdiv(m, size), triton.cdiv(n, across)
            parts, each = _parts(blocks, tiles, u.device)
            found = torch.empty(parts, m, device=u.device)
            _FORWARD[(blocks, parts)](
                u, neg, ctx.log_q, *ctx.pairs, found, m, n, d, each, **ctx.options
            )
            _TOGETHER[(blocks,)](u, pos, found, loss, own, lse, m, d, parts, **_of_rows(ctx))
        ctx.save_for_backward(u, pos, neg, own, lse)
        return loss

    @staticmethod
    def backward(ctx, *grads):  # type: ignore[override]
        u, pos, neg, own, lse = ctx.saved_tensors
        weight = grads[0].float().contiguous()
        of_u = _gradient(ctx, True, u, neg, weight, lse)
        of_neg = _gradient(ctx, False, u, neg, weight, lse)
        grad_u, grad_pos = torch.empty_like(u), torch.empty_like(pos)
        (m, d), parts = u.shape, len(of_u)
        if m:
            _OF_PAIRS[(triton.cdiv(m, ctx.options["BM"]),)](
                u, pos, of_u, weight, own, lse, grad_u, grad_pos, m, d, parts, **_of_rows(ctx)
            )
        grad_neg = of_neg[0] if len(of_neg) == 1 else of_neg.sum(0)
        return grad_u, grad_pos, grad_neg.to(neg), None, None, None


def _of_rows(ctx: Any) -> dict[str, Any]:
    """The constants of the kernels that go through the rows alone."""
    return {name: ctx.options[name] for name in ("BM", "D", "num_warps")}


def _gradient(
    ctx: Any, of_rows: bool, u: Tensor, neg: Tensor, weight: Tensor, lse: Tensor
) -> Tensor:
    """What flows through the candidates' logits to rows, (parts, B, d), or candidates, (parts, N, d)."""
    (m, d), n = u.shape, len(neg)
    count, size = (m, ctx.options["BM"]) if of_rows else (n, ctx.options["BN"])
    others = triton.cdiv(n, ctx.options["BN"]) if of_rows else triton.cdiv(m, ctx.options["BM"])
    if not count or not others:
        return torch.zeros(1, count, d, device=u.device)
    blocks = triton.cdiv(count, size)
    parts, each = _parts(blocks, others, u.device)
    out = torch.empty(parts, count, d, device=u.device)
    _BACKWARD[(blocks, parts)](
        u, neg, weight, ctx.log_q, *ctx.pairs, lse, out, m, n, d, each, OF_ROWS=of_rows, **ctx.options
    )  # fmt: skip
    return out


def options(u: Tensor, corrected: bool, masked: int, in_batch: bool) -> dict[str, Any]:
    """Constants the kernels are compiled for: sizes of a tile, precision, and what there is to do."""
    width = max(16, triton.next_power_of_2(u.shape[1]))
    exact = torch.get_float32_matmul_precision() == "highest"
    memory = shared_memory(u.device) if u.device.type == "cuda" else TILES * _TILE_BYTES
    size = tile_rows(memory, width * u.element_size())
    return {
        "HAS_Q": corrected, "MASKED": masked, "DIAGONAL": in_batch,
        "PRECISION": "tf32x3" if exact else "tf32",
        "BM": size, "BN": size, "D": width, "num_warps": 4, "num_stages": 2 if width <= 256 else 1,
    }  # fmt: skip


def tile_rows(memory: int, row_bytes: int) -> int:
    """Rows of a tile, a power of two, for so many bytes of shared memory and of a row."""
    fit = min(_TILE_BYTES, memory // TILES) // row_bytes
    return 1 << min(64, max(LEAST_ROWS, fit)).bit_length() - 1


def _parts(blocks: int, others: int, device: torch.device) -> tuple[int, int]:
    """Into how many parts the other side of a grid of `blocks` is cut, and the tiles of each."""
    wanted = 8
    if device.type == "cuda":
        wanted = _PROGRAMS * torch.cuda.get_device_properties(device).multi_processor_count
    parts = max(1, min(others, wanted // max(blocks, 1)))
    each = triton.cdiv(others, parts)
    return max(1, triton.cdiv(others, max(each, 1))), each


def _by_tile(
    masked: Tensor | None, m: int, n: int, size: int, across: int, device: torch.device
) -> tuple[Tensor, ...]:
    """Masked pairs (2, M) as (starts of each tile, rows, columns), sorted by tile; row m is no row.

    A whole mask, bool (m, n), as bytes in place of each.
    """
    if masked is None:
        return (torch.empty(1, dtype=torch.int32, device=device),) * 3  # not read
    if masked.dtype == torch.bool:
        return (masked.to(device).contiguous().view(torch.uint8),) * 3
    columns = triton.cdiv(n, across)
    tiles = triton.cdiv(m, size) * columns
    rows, at = masked.to(device)
    tile = torch.where(rows < m, rows // size * columns + at // across, tiles)
    tile, order = torch.sort(tile, stable=True)
    starts = torch.searchsorted(tile, torch.arange(tiles + 1, device=device))
    return starts.int(), rows[order].int(), at[order].int()
