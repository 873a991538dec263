"""Message passing whose rows are divided among processes, which exchange what the others read."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ssmrec.kernels.propagate import gather_rows
from ssmrec.models.graph import Graph

Array = np.ndarray
Exchange = Callable[[list[Tensor]], None]
"""Fills in a list of tensors, of which this process has computed the one at its own rank."""


class DividedGraph(Graph):
    """A graph whose whole layers are computed by all processes together, each its own rows.

    Rows are divided so that each process has about as many edges. A whole layer, forward or
    transposed, is then one exchange of (n_nodes, d) numbers: the graph of real data has neighbours
    everywhere, so all rows of a layer are read by all. Layers restricted to the rows of a batch are small,
    and computed by every process. The numbers are those of `Graph`, to the last bit.

    Args:
        graph: the whole graph, whose arrays are shared.
        rank, size: of this process. exchange: see `Exchange`.
    """

    def __init__(self, graph: Graph, rank: int, size: int, exchange: Exchange) -> None:
        self.__dict__.update(graph.__dict__)
        self.exchange, self.rank = exchange, rank
        edges = np.searchsorted(self.indptr, np.arange(size + 1) * self.indptr[-1] // size)
        self.cuts = [0, *(int(cut) for cut in edges[1:-1]), self.n_nodes]
        self.own = np.arange(self.cuts[rank], self.cuts[rank + 1])

    def layer(self, x: Array, rows: Array | None) -> Array:
        return (
            self._together(x, self.receive, self.send) if rows is None else super().layer(x, rows)
        )

    def layer_transposed(self, g: Array) -> Array:
        return self._together(g, self.send, self.receive)

    def _together(self, x: Array, receive: Array, send: Array) -> Array:
        out = np.empty_like(x)
        parts = [out[a:b] for a, b in zip(self.cuts[:-1], self.cuts[1:], strict=True)]
        gather_rows(self.indptr, self.indices, receive, send, x, self.own, parts[self.rank])
        self.exchange([torch.from_numpy(part) for part in parts])
        return out
