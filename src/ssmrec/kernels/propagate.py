"""Message passing on the bipartite graph: numba kernels, and the plain-torch form that defines them.

With receiver weights a, sender weights b and neighbours N(r), one layer is

    out[r] = a[r] * sum over n in N(r) of b[n] * x[n],

that is, out = diag(a) A diag(b) x. Its transpose swaps a and b. No edge weights are stored, and each
output row is a plain sum over its neighbours, so there are no atomics and the result does not depend
on the number of threads. Nor may the compiler reorder or fuse (no fastmath: see `kernels.softmax`).
"""

from __future__ import annotations

import numpy as np
import torch
from llvmlite import ir
from numba import njit, prange, types
from numba.core import cgutils
from numba.extending import intrinsic
from torch import Tensor

from ssmrec.kernels.threads import parallel

Array = np.ndarray

_AHEAD = 8
"""Neighbours between the one that is summed and the one whose row is fetched into the cache."""


@intrinsic
def prefetch(typing_context, array, index):  # type: ignore[no-untyped-def]
    """Ask the processor to bring flat `array[index]` into its cache; changes no result."""

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, word, word, word])
        call = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        pointer = builder.bitcast(builder.gep(data, [args[1]]), byte)
        builder.call(call, [pointer, word(0), word(3), word(1)])
        return context.get_dummy_value()

    return types.void(array, types.int64), generate


@parallel
def gather_rows(indptr, indices, receive, send, x, rows, out):  # pragma: no cover - compiled
    """out[k] for node rows[k]. Neighbour rows lie all over memory: each is fetched ahead of use."""
    d, flat, last = x.shape[1], x.reshape(-1), len(indices) - 1
    for k in prange(len(rows)):
        r = rows[k]
        total = np.zeros(d, x.dtype)
        if receive[r] != 0:
            for p in range(indptr[r], indptr[r + 1]):
                ahead = np.int64(indices[min(p + _AHEAD, last)]) * d
                for c in range(0, d, 16):
                    prefetch(flat, ahead + c)  # type: ignore[call-arg]
                row, w = x[indices[p]], send[indices[p]]
                for c in range(d):
                    total[c] += w * row[c]
        w = receive[r]
        for c in range(d):
            out[k, c] = w * total[c]


@njit(cache=True, nogil=True)
def invert_rows(indptr, indices, rows, start, source):  # pragma: no cover - compiled
    """The edges of `rows` by neighbour: node n is reached by rows source[start[n] : start[n + 1]]."""
    start[:] = 0
    for k in range(len(rows)):
        for p in range(indptr[rows[k]], indptr[rows[k] + 1]):
            start[indices[p] + 1] += 1
    for n in range(1, len(start)):
        start[n] += start[n - 1]
    for k in range(len(rows)):
        for p in range(indptr[rows[k]], indptr[rows[k] + 1]):
            n = indices[p]
            source[start[n]] = k
            start[n] += 1
    for n in range(len(start) - 1, 0, -1):  # filling moved every bound one node ahead
        start[n] = start[n - 1]
    start[0] = 0


@parallel
def gather_inverted(start, source, receive, g, out):  # pragma: no cover - compiled
    """out[n] = receive[n] * sum of g over the rows that reach node n: `gather_rows` transposed."""
    d = g.shape[1]
    for n in prange(len(receive)):
        total = np.zeros(d, g.dtype)
        for p in range(start[n], start[n + 1]):
            row = g[source[p]]
            for c in range(d):
                total[c] += row[c]
        w = receive[n]
        for c in range(d):
            out[n, c] = w * total[c]


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
        reach = graph.reach(rows, layers)
        x = x0
        for layer in range(1, layers):
            x = graph.layer(x, reach[layer])
            out += weights[layer] * x[rows]
        out += weights[layers] * graph.layer_rows(x, rows)
        return torch.from_numpy(out), torch.from_numpy(ego)

    @staticmethod
    def backward(ctx, *grads):  # type: ignore[override]
        grad_out, grad_ego = grads
        graph, weights, rows = ctx.graph, ctx.weights, ctx.rows
        g = np.ascontiguousarray(grad_out.numpy())
        layers = len(weights) - 1
        # Walking down from the last layer: the gradient of layer l-1 is A' times that of layer l,
        # plus the direct share of layer l-1 in the output.
        total = graph.layer_rows_transposed(weights[layers] * g, rows)
        for layer in range(layers - 1, 0, -1):
            total[rows] += weights[layer] * g
            total = graph.layer_transposed(total)
        direct = weights[0] * g
        total[rows] += direct if grad_ego is None else direct + grad_ego.numpy()
        return torch.from_numpy(total), None, None, None
