"""NGCF: message passing with weights and a product term between a node and its neighbours."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ssmrec.data import Interactions
from ssmrec.models.base import Backbone, Vectors
from ssmrec.models.graph import Graph
from ssmrec.models.mf import MFConfig
from ssmrec.models.start import initial_table

_SLOPE = 0.2
"""Slope of LeakyReLU below 0."""


class NGCFConfig(MFConfig):
    """Attributes:
    layers: number of propagation layers K; the output has (K + 1) * dim numbers.
    dropout: share of each layer's numbers set to 0 in training (message dropout).
    """

    layers: int = Field(default=3, ge=1, le=16)
    dropout: float = Field(default=0.0, ge=0, lt=1)


class NGCF(Backbone):
    """Neural graph collaborative filtering (Wang et al., SIGIR 2019, Eq 7 and 9).

    With L the symmetrically normalised adjacency and * element by element,

        E_k = LeakyReLU( (L E_{k-1} + E_{k-1}) W1_k + (L E_{k-1} * E_{k-1}) W2_k ),

    and a node's vector is E_0 to E_K side by side. As in the paper there is no bias, and layers are
    not brought to unit length (the published code does both).
    """

    Config = NGCFConfig

    @classmethod
    def width(cls, config: Any) -> int | None:
        return (config.layers + 1) * config.dim

    message_passing = True
    recordable = True
    drawn: Tensor

    def __init__(self, config: Any, train: Interactions, generator: torch.Generator) -> None:
        super().__init__(config, train, generator)
        self.recordable = config.dropout == 0  # its masks are drawn anew
        self.graph = Graph(train)
        self.table = nn.Parameter(initial_table(train, config.dim, config.init, generator))
        shape = (config.layers, config.dim, config.dim)
        bound = (3 / config.dim) ** 0.5  # Xavier for a square matrix
        self.sums, self.products = (
            nn.Parameter(torch.empty(shape).uniform_(-bound, bound, generator=generator))
            for _ in range(2)
        )
        # Seed and count of the dropout masks: kept with the weights, so that a resumed training
        # draws what an unbroken one would.
        start = torch.randint(2**31, (), generator=generator)
        self.register_buffer("drawn", torch.stack([start, torch.zeros_like(start)]))

    def vectors(self, users: Tensor | None = None, items: Tensor | None = None) -> Vectors:
        rows, cut = self._nodes(users, items)
        masks = self._masks()
        x, parts = self.table, [F.embedding(rows, self.table)]
        for layer in range(self.config.layers - 1):
            x = self._dropped(self._layer(layer, self.graph.neighbours(x), x), masks)
            parts.append(F.embedding(rows, x))
        # Above the last layer nothing is read but the rows asked for.
        received, own = self.graph.rows(x, (0.0, 1.0), rows)
        parts.append(self._dropped(self._layer(self.config.layers - 1, received, own), masks))
        out, ego = torch.cat(parts, dim=1), parts[0]
        return Vectors(out[:cut], out[cut:], ego[:cut], ego[cut:])

    def _layer(self, layer: int, received: Tensor, own: Tensor) -> Tensor:
        """One layer at some nodes from what they receive and what they hold, both (m, d)."""
        mixed = (received + own) @ self.sums[layer] + (received * own) @ self.products[layer]
        return F.leaky_relu(mixed, _SLOPE).to(own)  # autocast rounds the products alone

    def _masks(self) -> torch.Generator | None:
        """The generator of this call's dropout; None where nothing is dropped."""
        if not (self.config.dropout and self.training and torch.is_grad_enabled()):
            return None
        seed, count = self.drawn.tolist()
        self.drawn[1] += 1
        return torch.Generator(self.table.device).manual_seed(seed + (count << 31))

    def _dropped(self, x: Tensor, masks: torch.Generator | None) -> Tensor:
        """`x` with a share of its numbers set to 0 and the others scaled up."""
        if masks is None:
            return x
        kept = 1 - self.config.dropout
        return x * torch.empty_like(x).bernoulli_(kept, generator=masks) / kept
