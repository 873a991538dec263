"""Softmax cross-entropy of a positive against shared candidates: forward and backward in place.

For row b with positive logit p_b = <u_b, v_b> and candidate logits l_bj = <u_b, w_j> - log q_j
(minus infinity where masked),

    loss_b = log( e^{p_b} + sum_j e^{l_bj} ) - p_b,

which is the sampled softmax loss (Eq 5 of Wu et al. 2024), and full softmax when the candidates are
all items but the positive. One buffer of at most `KEEP` numbers holds the exponentials between the
forward and the backward pass; a larger problem goes through in blocks of candidates that the backward
pass computes again, so logits for all rows and all items never exist at once.
"""

from __future__ import annotations

import numpy as np
import torch
from numba import float32, njit, prange
from torch import Tensor

from ssmrec.kernels.compiled import has_triton
from ssmrec.kernels.products import times, times_transposed
from ssmrec.kernels.threads import parallel

KEEP = 16 * 2**20
"""Logits kept between the passes (64 MiB); above it they are computed twice, block by block."""
_BLOCK = 2 * 2**20
"""Logits in one block of the two-pass form (8 MiB)."""
_LANES = 64
"""Partial sums of a row, a power of two: number j goes to that of j modulo this; halves are added up."""
WIDEST = 512
"""Longest vectors the kernel for a GPU takes, where its shared memory holds them (`widest`)."""
TILES = 4
"""Tiles that the kernel for a GPU has in shared memory at once, at most."""
LEAST_ROWS = 16
"""Rows of its smallest tile."""


@njit(inline="always")
def _exp(x):  # pragma: no cover - compiled
    """e^x for x <= 0 in float32, relative error below 3e-7; e^-87.5 below -87.5. Vectorises, unlike libm's."""
    lowest = float32(-87.5)
    x = lowest if x < lowest else x
    n = np.floor(x * float32(1.44269504) + float32(0.5))
    r = x - n * float32(0.693359375) - n * float32(-2.12194440e-4)
    p = float32(1.9875691e-4)
    p = p * r + float32(1.3981999e-3)
    p = p * r + float32(8.3334519e-3)
    p = p * r + float32(4.1665795e-2)
    p = p * r + float32(1.6666665e-1)
    p = p * r + float32(5.0000001e-1)
    p = p * r * r + r + float32(1)
    return p * np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)


# No fastmath here, nor in any other kernel. numba optimises a parallel loop anew each time it links it, and
# the process that compiles runs an earlier copy than a process that loads the kernel from disk. Where the
# optimiser may reorder or fuse, these copies differ in the last bits. So the source fixes the order of the
# sums, by lanes: one that takes vector instructions.


@njit(cache=True, nogil=True)
def _largest(row, top, lanes):  # pragma: no cover - compiled
    """The largest of `top` and the numbers of `row` (n,); overwrites `lanes` (_LANES,)."""
    lanes[:] = top
    for start in range(0, len(row), _LANES):
        part = row[start : start + _LANES]
        for j in range(len(part)):
            lanes[j] = part[j] if part[j] > lanes[j] else lanes[j]
    half = _LANES // 2
    while half:
        for j in range(half):
            lanes[j] = lanes[j + half] if lanes[j + half] > lanes[j] else lanes[j]
        half //= 2
    return lanes[0]


@njit(cache=True, nogil=True)
def _exponentiate(row, top, floor, lanes):  # pragma: no cover - compiled
    """e^(x - top) in place of each x of `row` (n,), 0 for x up to `floor`; their sum. As `_largest`."""
    lanes[:] = 0
    for start in range(0, len(row), _LANES):
        part = row[start : start + _LANES]
        for j in range(len(part)):
            e = _exp(part[j] - top)
            e = float32(0) if part[j] <= floor else e
            part[j] = e
            lanes[j] += e
    half = _LANES // 2
    while half:
        for j in range(half):
            lanes[j] += lanes[j + half]
        half //= 2
    return lanes[0]


@parallel
def exp_rows(  # pragma: no cover - compiled
    logits, log_q, offset, in_batch, starts, columns, peak, total
):
    """In place, for the candidates from `offset` on: correct, mask, exponentiate against the peak so far.

    logits (B, n); log_q (n,) or (0,); in_batch: candidate b is row b's own positive; starts (B + 1,)
    and columns: masked candidates of each row, counted from the first of all; peak, total (B,): largest
    logit and sum of e^(logit - peak) of each row, brought up to date.
    """
    floor = float32(-3e38)
    for b in prange(logits.shape[0]):
        row, lanes = logits[b], np.empty(_LANES, np.float32)
        if len(log_q):
            for j in range(len(row)):
                row[j] -= log_q[j]
        for p in range(starts[b], starts[b + 1]):
            if offset <= columns[p] < offset + len(row):
                row[columns[p] - offset] = floor
        if in_batch and offset <= b < offset + len(row):
            row[b - offset] = floor
        top = _largest(row, peak[b], lanes)
        out = _exponentiate(row, top, floor, lanes)
        total[b] = total[b] * _exp(peak[b] - top) + out
        peak[b] = top


def shared_softmax_reference(
    u: Tensor,
    pos: Tensor,
    neg: Tensor,
    log_q: Tensor | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """The definition in plain torch: u, pos (B, d), neg (N, d), log_q (N,), mask (B, N) -> (B,)."""
    pos_logits = (u * pos).sum(-1)
    neg_logits = u @ neg.T
    if log_q is not None:
        neg_logits = neg_logits - log_q
    if mask is not None:
        neg_logits = neg_logits.masked_fill(mask, -torch.inf)
    both = torch.cat([pos_logits[:, None], neg_logits], dim=1)
    return torch.logsumexp(both, dim=1) - pos_logits


def has_kernel(vectors: Tensor) -> bool:
    """Whether `shared_softmax` takes such vectors (n, d).

    On a CPU those of float32; on CUDA, where Triton is installed, any but float64, up to `widest`.
    """
    if vectors.device.type == "cuda":
        most = widest(shared_memory(vectors.device), vectors.element_size())
        return vectors.shape[1] <= most and vectors.dtype != torch.float64 and has_triton()
    return vectors.device.type == "cpu" and vectors.dtype == torch.float32


def shared_memory(device: torch.device) -> int:
    """Bytes that one program may have in the shared memory of a GPU: 64 KiB to 227 KiB."""
    told = torch.cuda.get_device_properties(device)
    return getattr(
        told, "shared_memory_per_block_optin", 2**16
    )  # AMD's tell nothing, and have that


def widest(memory: int, itemsize: int) -> int:
    """Longest vectors of which the smallest tiles fit into so many bytes; a power of two."""
    return min(WIDEST, 1 << (memory // (TILES * LEAST_ROWS * itemsize)).bit_length() - 1)


def shared_softmax(
    u: Tensor,
    pos: Tensor,
    neg: Tensor,
    log_q: Tensor | None,
    masked: Tensor | None,
    in_batch: bool,
) -> Tensor:
    """Loss (B,) by the kernel of the device; arguments as those of `SharedSoftmax`.

    `masked` may be bool (B, N) as well. Under autocast the vectors are rounded to its type, as those of
    any matrix product are.
    """
    if u.device.type == "cuda":
        from ssmrec.kernels.softmax_triton import TiledSoftmax as Kernel

        if torch.is_autocast_enabled("cuda"):
            u, pos, neg = (x.to(torch.get_autocast_dtype("cuda")) for x in (u, pos, neg))
    else:
        Kernel = SharedSoftmax
        if masked is not None and masked.dtype == torch.bool:
            masked = masked.nonzero().T
    return Kernel.apply(u, pos, neg, log_q, masked, in_batch)  # type: ignore[return-value]


class SharedSoftmax(torch.autograd.Function):
    """`apply(u, pos, neg, log_q, masked, in_batch)` -> loss (B,), CPU float32.

    u, pos (B, d); neg (N, d); log_q (N,) or None; masked int64 (2, M) sorted by row, or None;
    in_batch: neg is pos, and column b is row b's own positive. Equal to `shared_softmax_reference`.
    """

    @staticmethod
    def forward(ctx, u, pos, neg, log_q, masked, in_batch):  # type: ignore[override]
        n = len(u)
        ctx.in_batch = in_batch
        ctx.log_q = np.empty(0, np.float32) if log_q is None else log_q.numpy()
        rows = np.empty(0, np.int64) if masked is None else masked[0].numpy()
        ctx.columns = np.empty(0, np.int64) if masked is None else masked[1].numpy()
        ctx.starts = np.searchsorted(rows, np.arange(n + 1))
        pos_logits = (u * pos).sum(-1)
        peak, total = pos_logits.clone(), torch.ones(n)  # the positive's own term
        keep = n * len(neg) <= KEEP
        ctx.block = max(1, len(neg) if keep else _BLOCK // n)
        exps = torch.empty(n, 0)
        for start in range(0, len(neg), ctx.block):
            exps = _exponentials(ctx, start, u, neg, peak, total)
        ctx.exp = exps if keep else None
        ctx.save_for_backward(u, pos, neg, pos_logits, peak, total)
        return total.log() + peak - pos_logits

    @staticmethod
    def backward(ctx, *grads):  # type: ignore[override]
        u, pos, neg, pos_logits, peak, total = ctx.saved_tensors
        g = grads[0]
        weight = g / total
        scaled = u * weight[:, None]
        pull = (g * (torch.exp(pos_logits - peak) / total - 1))[:, None]
        if ctx.exp is not None:
            grad_u, grad_neg = times(ctx.exp, neg), times_transposed(scaled.T, ctx.exp.T).T
            ctx.exp = None
        else:
            grad_u, grad_neg = torch.zeros_like(u), torch.empty_like(neg)
            for start in range(0, len(neg), ctx.block):
                part = slice(start, start + ctx.block)
                e = _exponentials(ctx, start, u, neg, peak.clone(), total.clone())
                grad_u += times(e, neg[part])
                grad_neg[part] = times_transposed(scaled.T, e.T).T
        grad_u.mul_(weight[:, None]).addcmul_(pos, pull)
        return grad_u, u * pull, grad_neg, None, None, None


def _exponentials(ctx, start, u, neg, peak, total):  # type: ignore[no-untyped-def]
    """exp(logit - peak) (B, n) for the candidates from `start` on; brings `peak` and `total` up to date."""
    part = slice(start, start + ctx.block)
    block = times_transposed(u, neg[part])
    exp_rows(
        block.numpy(), ctx.log_q[part], start, ctx.in_batch, ctx.starts, ctx.columns,
        peak.numpy(), total.numpy(),
    )  # fmt: skip
    return block
