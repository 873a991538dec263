"""SimpleX: a user is his own vector and the transformed mean of the items he has."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from ssmrec.data import Interactions
from ssmrec.models.base import Backbone, Vectors
from ssmrec.models.graph import Graph
from ssmrec.models.mf import MFConfig
from ssmrec.models.start import initial_table


class SimpleXConfig(MFConfig):
    """Attributes:
    gamma: share of the user's own vector; the rest comes from the items he has.
    """

    gamma: float = Field(default=0.5, ge=0, le=1)


class SimpleX(Backbone):
    """h_u = gamma e_u + (1 - gamma) V mean of e_i over the items i of u (Mao et al., CIKM 2021, Eq 7-8).

    Average pooling over the whole history; items keep their rows. V (d, d) starts as the identity.
    The paper trains it with the loss `ccl`.
    """

    Config = SimpleXConfig
    message_passing = True

    def __init__(self, config: Any, train: Interactions, generator: torch.Generator) -> None:
        super().__init__(config, train, generator)
        self.graph = Graph(train, (1.0, 0.0), "user")
        self.table = nn.Parameter(initial_table(train, config.dim, config.init, generator))
        self.turn = nn.Parameter(torch.eye(config.dim))

    def vectors(self, users: Tensor | None = None, items: Tensor | None = None) -> Vectors:
        rows, cut = self._nodes(users, items)
        received, ego = self.graph.rows(self.table, (0.0, 1.0), rows)
        gamma = self.config.gamma
        out = gamma * ego[:cut] + (1 - gamma) * received[:cut] @ self.turn.T
        return Vectors(out, ego[cut:], ego[:cut], ego[cut:])
