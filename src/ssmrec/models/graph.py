"""The bipartite graph of the training interactions, normalised by degree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from ssmrec.data import Interactions
from ssmrec.kernels.compiled import has_triton
from ssmrec.kernels.propagate import (
    PropagateRows,
    gather_inverted,
    gather_rows,
    invert_rows,
    propagate_reference,
)

if TYPE_CHECKING:
    from ssmrec.kernels.propagate_triton import Edges

Array = np.ndarray
Side = Literal["user", "item", "both"]
Exponent = Annotated[float, Field(ge=-2, le=2)]
"""Of a degree; published are -0.1 to 1. Powers of a degree of ten millions stay far within float32."""

_DENSE_REACH = 0.6
"""Above this share of all edges a layer is computed whole: choosing rows would cost more."""


class Graph:
    """Users are nodes 0..M-1, items M..M+N-1; node r receives degree(r)^-a0 * degree(n)^-a1 of n.

    Args:
        train: the interactions that make the edges.
        alpha: (a0, a1), exponents of the receiving node and of its neighbour (Eq 17 and 30 of Wu
            et al. 2024). (.5, .5) is LightGCN's symmetric normalisation.
        side: which side receives messages: SVD++ is `user` or `item`, LightGCN is `both`.
        dtype: numpy type of the weights.
    """

    def __init__(
        self,
        train: Interactions,
        alpha: tuple[float, float] = (0.5, 0.5),
        side: Side = "both",
        dtype: type = np.float32,
    ) -> None:
        self.n_users, self.n_items = train.n_users, train.n_items
        self.n_nodes = self.n_users + self.n_items
        by_item = np.argsort(train.indices, kind="stable")
        degrees = np.concatenate([train.user_degrees, train.item_degrees])
        self.degrees = degrees
        self.indptr = np.concatenate([[0], np.cumsum(degrees)]).astype(np.int64)
        pairs = len(train)
        self.indices = np.empty(2 * pairs, dtype=np.int32)
        np.add(train.indices, self.n_users, out=self.indices[:pairs], casting="unsafe")
        np.take(train.rows, by_item, out=self.indices[pairs:], mode="clip")  # "raise" would copy
        safe = np.maximum(degrees, 1).astype(np.float64)
        live = degrees > 0
        receives = np.zeros(self.n_nodes, dtype=bool)
        receives[: self.n_users] = side in ("user", "both")
        receives[self.n_users :] = side in ("item", "both")
        self.receive = np.where(live & receives, safe ** -alpha[0], 0).astype(dtype)
        self.send = np.where(live, safe ** -alpha[1], 0).astype(dtype)
        self._all = np.arange(self.n_nodes)
        self._on: dict[torch.device, Any] = {}

    def rows(
        self, table: Tensor, weights: tuple[float, ...], rows: Array | Tensor
    ) -> tuple[Tensor, Tensor]:
        """(sum over layers weighted, layer 0) at distinct `rows`; exact, gradients to all of `table`."""
        if table.device.type == "cpu":
            index = rows.numpy() if isinstance(rows, Tensor) else rows
            return PropagateRows.apply(table, self, weights, index)  # type: ignore[return-value]
        at = rows if isinstance(rows, Tensor) else torch.from_numpy(rows)
        at = at.to(table.device, torch.int64)
        if not has_triton():
            return self.full(table, weights)[at], table[at]
        from ssmrec.kernels.propagate_triton import PropagateOnDevice

        return PropagateOnDevice.apply(table, self.on(table.device), weights, at)  # type: ignore[return-value]

    def full(self, table: Tensor, weights: tuple[float, ...]) -> Tensor:
        """The weighted layer sum for all nodes, (n_nodes, d)."""
        if table.device.type != "cpu" and not has_triton():
            return propagate_reference(self._sparse(table), table, weights)
        if table.requires_grad and torch.is_grad_enabled():
            return self.rows(table, weights, self._all)[0]
        if table.device.type != "cpu":
            return self._full_on_device(table.detach(), weights)
        x = table.detach().numpy()
        out = weights[0] * x
        for weight in weights[1:]:
            x = self.layer(x, None)
            out += weight * x
        return torch.from_numpy(out)

    def _full_on_device(self, table: Tensor, weights: tuple[float, ...]) -> Tensor:
        edges, x, out = self.on(table.device), table, weights[0] * table
        for weight in weights[1:]:
            x = edges.layer(x)
            out.add_(x, alpha=weight)
        return out

    def neighbours(self, x: Tensor) -> Tensor:
        """One layer at all nodes, (n_nodes, d), differentiable in `x`."""
        if x.device.type != "cpu" and not has_triton():
            return self._sparse(x) @ x
        return _WholeLayer.apply(x, self)  # type: ignore[return-value]

    def on(self, device: torch.device) -> Edges:
        """The edges on a device that Triton compiles for; sent there once."""
        from ssmrec.kernels.propagate_triton import Edges

        if device not in self._on:
            by_degree = np.argsort(-self.degrees, kind="stable").astype(np.int32)
            arrays = (self.indptr, self.indices, self.receive, self.send, by_degree)
            self._on[device] = Edges(*(torch.from_numpy(a).to(device) for a in arrays))
        return self._on[device]

    def _sparse(self, like: Tensor) -> Tensor:
        """The adjacency on the device of `like`, made once: for a GPU without Triton."""
        if like.device not in self._on:
            self._on[like.device] = self.adjacency(like.device, like.dtype)
        return self._on[like.device]

    def adjacency(
        self, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """The weighted adjacency (n_nodes, n_nodes) as sparse CSR."""
        rows = np.repeat(np.arange(self.n_nodes), self.degrees)
        values = self.receive[rows] * self.send[self.indices]
        return torch.sparse_csr_tensor(
            torch.from_numpy(self.indptr),
            torch.from_numpy(self.indices.astype(np.int64)),
            torch.from_numpy(values).to(dtype),
            size=(self.n_nodes, self.n_nodes),
            check_invariants=False,
        ).to(device)

    def layer(self, x: Array, rows: Array | None) -> Array:
        """One layer at `rows` (all when None), stored at full height; other rows are not set."""
        if rows is None:
            return self.layer_rows(x, self._all)
        out = np.empty_like(x)
        out[rows] = self.layer_rows(x, rows)
        return out

    def layer_rows(self, x: Array, rows: Array) -> Array:
        """One layer at `rows`, (len(rows), d)."""
        out = np.empty((len(rows), x.shape[1]), dtype=x.dtype)
        gather_rows(self.indptr, self.indices, self.receive, self.send, x, rows, out)
        return out

    def layer_transposed(self, g: Array) -> Array:
        """The transpose of one whole layer applied to `g` (n_nodes, d)."""
        out = np.empty_like(g)
        gather_rows(self.indptr, self.indices, self.send, self.receive, g, self._all, out)
        return out

    def layer_rows_transposed(self, g: Array, rows: Array) -> Array:
        """The transpose of `layer_rows` applied to `g` (len(rows), d): (n_nodes, d)."""
        start = np.empty(self.n_nodes + 1, dtype=np.int64)
        source = np.empty(int(self.degrees[rows].sum()), dtype=np.int32)
        invert_rows(self.indptr, self.indices, rows, start, source)
        out = np.empty((self.n_nodes, g.shape[1]), dtype=g.dtype)
        scaled = self.receive[rows][:, None] * g
        gather_inverted(start, source, self.send, scaled, out)
        return out

    def reach(self, rows: Array, layers: int) -> list[Array | None]:
        """For each layer the nodes whose value the layers above read; None where nearly all are."""
        needed: list[Array | None] = [rows] * (layers + 1)
        for layer in range(layers - 1, 0, -1):
            above = needed[layer + 1]
            needed[layer] = None if above is None else self._neighbourhood(above)
        return needed

    def _neighbourhood(self, rows: Array) -> Array | None:
        starts, lengths = self.indptr[rows], self.degrees[rows]
        if lengths.sum() > _DENSE_REACH * len(self.indices):
            return None
        offsets = np.repeat(starts - np.concatenate([[0], np.cumsum(lengths)[:-1]]), lengths)
        mark = np.zeros(self.n_nodes, dtype=bool)
        mark[self.indices[offsets + np.arange(lengths.sum())]] = True
        mark[rows] = True
        found = np.flatnonzero(mark)
        return None if self.degrees[found].sum() > _DENSE_REACH * len(self.indices) else found


class _WholeLayer(torch.autograd.Function):
    """`Graph.neighbours` by the kernels, and its transpose for the gradient."""

    @staticmethod
    def forward(ctx, x, graph):  # type: ignore[override]
        ctx.graph = graph
        if x.device.type != "cpu":
            return graph.on(x.device).layer(x.detach())
        return torch.from_numpy(graph.layer(x.detach().contiguous().numpy(), None))

    @staticmethod
    def backward(ctx, *grads):  # type: ignore[override]
        g = grads[0].contiguous()
        if g.device.type != "cpu":
            return ctx.graph.on(g.device).layer(g, transposed=True), None
        return torch.from_numpy(ctx.graph.layer_transposed(g.numpy())), None
