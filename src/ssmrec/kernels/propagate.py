"""Message passing on the bipartite graph: numba kernels, and the plain-torch form that defines them.

With receiver weights a, sender weights b and neighbours N(r), one layer is

    out[r] = a[r] * sum over n in N(r) of b[n] * x[n],

that is, out = diag(a) A diag(b) x. Its transpose swaps a and b. No edge weights are stored, and each
output row is a plain sum over its neighbours, so there are no atomics and the result does not depend
on the number of threads.
"""

from __future__ import annotations

import numpy as np
import torch
from numba import njit, prange
from torch import Tensor

Array = np.ndarray


@njit(parallel=True, cache=True, nogil=True)
def gather_all(indptr, indices, receive, send, x, out):  # pragma: no cover - compiled
    """out[r] for every node r."""
    d = x.shape[1]
    for r in prange(len(receive)):
        for c in range(d):
            out[r, c] = 0
        if receive[r] != 0:
            for p in range(indptr[r], indptr[r + 1]):
                n = indices[p]
                w = receive[r] * send[n]
                for c in range(d):
                    out[r, c] += w * x[n, c]


@njit(parallel=True, cache=True, nogil=True)
def gather_rows(indptr, indices, receive, send, x, rows, out):  # pragma: no cover - compiled
    """out[k] for node rows[k]."""
    d = x.shape[1]
    for k in prange(len(rows)):
        r = rows[k]
        for c in range(d):
            out[k, c] = 0
        if receive[r] != 0:
            for p in range(indptr[r], indptr[r + 1]):
                n = indices[p]
                w = receive[r] * send[n]
                for c in range(d):
                    out[k, c] += w * x[n, c]


@njit(parallel=True, cache=True, nogil=True)
def gather_from_rows(  # pragma: no cover - compiled
    indptr, indices, receive, send, g, slot, scale, own, out
):
    """out[n] = scale * receive[n] * sum send[r] g[slot[r]] + own * g[slot[n]], nodes in `slot` only.

    The transpose of `gather_rows`: every node looks for its neighbours among the few rows that hold
    a gradient (slot >= 0) instead of those rows scattering to their neighbours.
    """
    d = g.shape[1]
    for n in prange(len(receive)):
        k = slot[n]
        for c in range(d):
            out[n, c] = own * g[k, c] if k >= 0 else 0
        if receive[n] != 0:
            w_n = scale * receive[n]
            for p in range(indptr[n], indptr[n + 1]):
                r = indices[p]
                k = slot[r]
                if k >= 0:
                    w = w_n * send[r]
                    for c in range(d):
                        out[n, c] += w * g[k, c]


def propagate_reference(adjacency: Tensor, x: Tensor, weights: tuple[float, ...]) -> Tensor:
    """The definition: sum over layers l of weights[l] * adjacency^l x, by plain matrix products.

    Args:
        adjacency: (n, n) weighted adjacency, dense or sparse CSR.
        x: (n, d) layer-0 rows.
        weights: weight of each layer, layer 0 first.

    Returns:
        (n, d), differentiable in `x`.
    """
    out = weights[0] * x
    for weight in weights[1:]:
        x = adjacency @ x
        out = out + weight * x
    return out


class PropagateRows(torch.autograd.Function):
    """Rows of the weighted layer sum, and of layer 0, computing only what these rows need.

    `apply(table, graph, weights, rows)` gives `(sum_l weights[l] A^l table)[rows]` and `table[rows]`,
    both (len(rows), d). `rows` are distinct node numbers. Only the last layer is restricted to
    `rows`, and a lower layer to the nodes the next one reads while those are few (`graph.reach`).
    `weights` has at least two entries: layer 0 and one or more layers.
    """

    @staticmethod
    def forward(ctx, table, graph, weights, rows):  # type: ignore[override]
        x0 = table.detach().numpy()
        ctx.graph, ctx.weights, ctx.rows, ctx.shape = graph, weights, rows, x0.shape
        ego = x0[rows]
        out = weights[0] * ego
        layers = len(weights) - 1
        x = x0
        ctx.reach = graph.reach(rows, layers)
        for layer in range(1, layers + 1):
            if layer == layers:
                last = np.empty_like(ego)
                gather_rows(
                    graph.indptr, graph.indices, graph.receive, graph.send, x, rows, last
                )
                out += weights[layer] * last
            else:
                x = graph.layer(x, ctx.reach[layer])
                out += weights[layer] * x[rows]
        return torch.from_numpy(out), torch.from_numpy(ego)

    @staticmethod
    def backward(ctx, *grads):  # type: ignore[override]
        grad_out, grad_ego = grads
        graph, weights, rows = ctx.graph, ctx.weights, ctx.rows
        g = np.ascontiguousarray(grad_out.numpy())
        layers = len(weights) - 1
        total = np.empty(ctx.shape, dtype=g.dtype)
        slot = graph.slots(rows)
        # Walking down from the last layer: the gradient of layer l-1 is A' times that of layer l,
        # plus the direct share of layer l-1 in the output.
        gather_from_rows(
            graph.indptr, graph.indices, graph.send, graph.receive, g, slot,
            weights[layers], weights[layers - 1], total,
        )  # fmt: skip
        for layer in range(layers - 2, -1, -1):
            total = graph.layer_transposed(total)
            total[rows] += weights[layer] * g
        if grad_ego is not None:
            total[rows] += grad_ego.numpy()
        return torch.from_numpy(total), None, None, None
