"""LightGCN++: message passing on unit vectors, with free exponents and a weight of layer 0."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ssmrec.data import Interactions
from ssmrec.models.base import Backbone, Vectors
from ssmrec.models.graph import Exponent, Graph
from ssmrec.models.lightgcn import LightGCNConfig
from ssmrec.models.start import initial_table


class LightGCNppConfig(LightGCNConfig):
    """Attributes:
    layers: number of propagation layers K.
    alpha: exponents of the degree of (the receiving node, its neighbour); the neighbour's is near 0.
    gamma: weight of layer 0; the other layers share 1 - gamma.
    """

    alpha: tuple[Exponent, Exponent] = (0.6, -0.1)
    gamma: float = Field(default=0.2, ge=0, le=1)


class LightGCNpp(Backbone):
    """LightGCN++ (Lee et al., RecSys 2024).

    With N bringing rows to unit length, E_k = D^-a0 A D^-a1 N(E_{k-1}), and the output is
    gamma E_0 + (1 - gamma) mean(E_1 ... E_K).
    """

    Config = LightGCNppConfig
    message_passing = True

    def __init__(self, config: Any, train: Interactions, generator: torch.Generator) -> None:
        super().__init__(config, train, generator)
        self.graph = Graph(train, config.alpha)
        self.table = nn.Parameter(initial_table(train, config.dim, config.init, generator))

    def vectors(self, users: Tensor | None = None, items: Tensor | None = None) -> Vectors:
        rows, cut = self._nodes(users, items)
        x, layers = self.table, []
        for _ in range(self.config.layers - 1):
            x = self.graph.neighbours(F.normalize(x, dim=1))
            layers.append(F.embedding(rows, x))
        # Above the last layer nothing is read but the rows asked for.
        layers.append(self.graph.rows(F.normalize(x, dim=1), (0.0, 1.0), rows)[0])
        ego, gamma = F.embedding(rows, self.table), self.config.gamma
        out = gamma * ego + (1 - gamma) * torch.stack(layers).mean(0)
        return Vectors(out[:cut], out[cut:], ego[:cut], ego[cut:])
