"""LightGCN and SVD++: one notion, message passing on the normalised bipartite graph."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ssmrec.data import Interactions
from ssmrec.models.base import Backbone, Vectors
from ssmrec.models.graph import Exponent, Graph, Side
from ssmrec.models.mf import MFConfig
from ssmrec.models.start import initial_table


class PropagatedBackbone(Backbone):
    """Vectors are a weighted sum of the embedding table's propagated layers."""

    message_passing = True
    recordable = True

    def __init__(
        self,
        config: Any,
        train: Interactions,
        generator: torch.Generator,
        layer_weights: tuple[float, ...],
        side: Side = "both",
    ) -> None:
        super().__init__(config, train, generator)
        self.layer_weights = layer_weights
        self.graph = Graph(train, config.alpha, side)
        self.table = nn.Parameter(initial_table(train, config.dim, config.init, generator))

    def vectors(self, users: Tensor | None = None, items: Tensor | None = None) -> Vectors:
        m = self.n_users
        if users is None and items is None:
            out = self.graph.full(self.table, self.layer_weights)
            return Vectors(out[:m], out[m:], self.table[:m], self.table[m:])
        rows, cut = self._nodes(users, items)
        out, ego = self.graph.rows(self.table, self.layer_weights, rows)
        return Vectors(out[:cut], out[cut:], ego[:cut], ego[cut:])

    def layers(self, users: Tensor, items: Tensor) -> Vectors:
        rows, cut = self._nodes(users, items)
        x, found = self.table, []
        for k, weight in enumerate(self.layer_weights):
            x = self.graph.neighbours(x) if k else x
            found.append(weight * F.embedding(rows, x))
        out, ego = torch.stack(found, 1), F.embedding(rows, self.table)
        return Vectors(out[:cut], out[cut:], ego[:cut], ego[cut:])


class LightGCNConfig(MFConfig):
    """Attributes:
    layers: number of propagation layers K; the output is the mean of layers 0 to K.
    alpha: exponents of the degree of (the receiving node, its neighbour).
    """

    layers: int = Field(default=2, ge=1, le=16)
    alpha: tuple[Exponent, Exponent] = (0.5, 0.5)


class LightGCN(PropagatedBackbone):
    """Mean of K propagated layers (He et al., SIGIR 2020)."""

    Config = LightGCNConfig

    def __init__(self, config: Any, train: Interactions, generator: torch.Generator) -> None:
        weights = (1 / (config.layers + 1),) * (config.layers + 1)
        super().__init__(config, train, generator, weights)


class SVDppConfig(MFConfig):
    """Attributes:
    side: which side adds the weighted sum of its neighbours' rows; `user` is classic SVD++.
    alpha: exponents of the degree of (the receiving node, its neighbour).
    """

    side: Side = "user"
    alpha: tuple[Exponent, Exponent] = (1.0, 0.0)


class SVDpp(PropagatedBackbone):
    """Own row plus the weighted sum of the neighbours' rows (Eq 30 of Wu et al. 2024).

    Like the authors' code, one table serves both roles of an item. Side `user` with alpha (1, 0) is
    the SVD++ of their Table 2; side `item` with (.5, .5) is the best of their Table 5.
    """

    Config = SVDppConfig

    def __init__(self, config: Any, train: Interactions, generator: torch.Generator) -> None:
        super().__init__(config, train, generator, (1.0, 1.0), config.side)
