"""Message passing on a GPU: one program sums the neighbours of one node, in the order of their list.

The mathematics is that of `kernels/propagate.py`, and `propagate_reference` there defines it. No edge
weights are stored and nothing is added atomically, so equal inputs give equal bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

_TILE = 2048
"""Numbers of neighbour rows that one program holds at once."""


@triton.jit
def _gather(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    indptr, indices, receive, send, x, rows, out, d,
    AT_ROW: tl.constexpr, E: tl.constexpr, D: tl.constexpr,
):  # fmt: skip
    """out[k], or out[r] (AT_ROW), for node r = rows[k]: receive[r] * sum of send[n] * x[n].

    A row of x whose sender has weight 0 is not read.
    """
    k = tl.program_id(0).to(tl.int64)
    r = tl.load(rows + k).to(tl.int64)
    w = tl.load(receive + r).to(x.dtype.element_ty)
    start, stop = tl.load(indptr + r), tl.load(indptr + r + 1)
    stop = tl.where(w != 0, stop, start)
    c = tl.arange(0, D)
    total = tl.zeros((E, D), x.dtype.element_ty)
    for p in range(start, stop, E):
        at = p + tl.arange(0, E)
        live = at < stop
        n = tl.load(indices + at, mask=live, other=0).to(tl.int64)
        s = tl.load(send + n, mask=live, other=0.0).to(x.dtype.element_ty)
        inside = (s != 0)[:, None] & (c < d)[None, :]
        total += s[:, None] * tl.load(x + n[:, None] * d + c[None, :], mask=inside, other=0.0)
    where = r if AT_ROW else k
    tl.store(out + where * d + c, tl.sum(total, 0) * w, mask=c < d)


_GATHER: Any = _gather


@dataclass(frozen=True)
class Edges:
    """The edges of a graph and the weights of its nodes on a device.

    Args:
        indptr: int64 (n + 1,); indices: int32, neighbours of each node.
        receive, send: (n,) weights of a node as receiver and as sender.
        by_degree: int32 (n,) all nodes, the one with most neighbours first: the long sums start first.
    """

    indptr: Tensor
    indices: Tensor
    receive: Tensor
    send: Tensor
    by_degree: Tensor

    def layer(
        self,
        x: Tensor,
        rows: Tensor | None = None,
        transposed: bool = False,
        filled: Tensor | None = None,
    ) -> Tensor:
        """One layer of x (n, d) at `rows` (all when None), or its transpose: (len(rows), d).

        `filled` names the rows of x, int64, beyond which it is zero: no other one is read.
        """
        ends = (self.send, self.receive) if transposed else (self.receive, self.send)
        if filled is not None:
            some = torch.zeros_like(ends[1])
            ends = ends[0], some.index_copy_(0, filled, ends[1][filled])
        x, d = x.contiguous(), x.shape[1]
        whole = rows is None
        rows = self.by_degree if rows is None else rows
        out = x.new_empty(len(rows), d)
        width = triton.next_power_of_2(d)
        if len(rows):
            _GATHER[(len(rows),)](
                self.indptr, self.indices, *ends, x, rows, out, d,
                AT_ROW=whole, E=max(1, _TILE // width), D=width,
            )  # fmt: skip
        return out


class PropagateOnDevice(torch.autograd.Function):
    """`apply(table, edges, weights, rows)`: as `PropagateRows`, for tensors of the device of `edges`.

    Gives `(sum_l weights[l] A^l table)[rows]` and `table[rows]`, `rows` int64 and distinct; repeated ones
    may follow whose gradient is zero. Lower layers are computed whole: on a GPU choosing their rows
    costs more than it saves.
    """

    @staticmethod
    def forward(ctx, table, edges, weights, rows):  # type: ignore[override]
        x0 = table.detach()
        ctx.edges, ctx.weights, ctx.shape = edges, weights, x0.shape
        ctx.save_for_backward(rows)
        ego = x0[rows]
        out = weights[0] * ego
        x = x0
        for weight in weights[1:-1]:
            x = edges.layer(x)
            out.add_(x[rows], alpha=weight)
        out.add_(edges.layer(x, rows), alpha=weights[-1])
        return out, ego

    @staticmethod
    def backward(ctx, *grads):  # type: ignore[override]
        g, grad_ego = grads
        (rows,) = ctx.saved_tensors
        *lower, last = ctx.weights
        # Distinct rows: no two additions meet, so their order does not matter.
        total, filled = g.new_zeros(ctx.shape).index_add_(0, rows, g, alpha=last), rows
        for weight in reversed(lower):
            total = ctx.edges.layer(total, transposed=True, filled=filled)
            total.index_add_(0, rows, g, alpha=weight)
            filled = None
        if grad_ego is not None:
            total.index_add_(0, rows, grad_ego)
        return total, None, None, None
