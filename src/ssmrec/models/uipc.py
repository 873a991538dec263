"""UIPC-MF: users and items by their likeness to prototypes, which a free matrix connects."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ssmrec.data import Interactions
from ssmrec.models.base import Backbone, Vectors
from ssmrec.models.mf import MFConfig
from ssmrec.models.start import initial_table


class UIPCMFConfig(MFConfig):
    """Attributes:
    user_prototypes, item_prototypes: numbers of prototypes.
    l1: weight of the mean absolute value of the users' weights on item prototypes.
    """

    user_prototypes: int = Field(default=64, ge=1)
    item_prototypes: int = Field(default=64, ge=1)
    l1: float = Field(default=0.0, ge=0)


class UIPCMF(Backbone):
    """Score a_u' C b_i with a_uk = 1 + cos(e_u, p_k) and b_ik = 1 + cos(e_i, q_k) (Lien et al. 2023).

    A user's vector is C' a_u, his weights on the item prototypes; an item's is b_i. Scores are inner
    products: train with `loss.similarity=dot`. The authors' further terms never reach their weights
    (they are detached in the code) and are left out.
    """

    Config = UIPCMFConfig

    @classmethod
    def width(cls, config: Any) -> int | None:
        return config.item_prototypes

    def __init__(self, config: Any, train: Interactions, generator: torch.Generator) -> None:
        super().__init__(config, train, generator)
        self.table = nn.Parameter(initial_table(train, config.dim, config.init, generator))
        counts = config.user_prototypes, config.item_prototypes
        self.user_prototypes, self.item_prototypes = (
            nn.Parameter(torch.randn(count, config.dim, generator=generator)) for count in counts
        )
        bound = (6 / sum(counts)) ** 0.5  # Xavier
        self.links = nn.Parameter(torch.empty(counts).uniform_(-bound, bound, generator=generator))

    def vectors(self, users: Tensor | None = None, items: Tensor | None = None) -> Vectors:
        nodes, cut = self._nodes(users, items)
        rows = F.embedding(nodes, self.table)
        user_rows, item_rows = rows[:cut], rows[cut:]
        weights = (_likeness(user_rows, self.user_prototypes) @ self.links).to(rows)
        return Vectors(weights, _likeness(item_rows, self.item_prototypes), user_rows, item_rows)

    def for_training(
        self, users: Tensor, items: Tensor, positives: Tensor, generator: torch.Generator
    ) -> tuple[Vectors, Tensor | None]:
        found = self.vectors(users, items)
        return found, self.config.l1 * found.users.abs().mean() if self.config.l1 else None


def _likeness(rows: Tensor, prototypes: Tensor) -> Tensor:
    """1 + cosine of each row and prototype, 0 to 2, (len(rows), len(prototypes))."""
    cosine = F.normalize(rows, dim=1) @ F.normalize(prototypes, dim=1).T
    return 1 + cosine.to(rows)  # autocast rounds the products alone
