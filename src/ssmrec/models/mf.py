"""Matrix factorisation: one free vector per user and item."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ssmrec.config import Config
from ssmrec.data import Interactions
from ssmrec.models.base import Backbone, Vectors
from ssmrec.models.start import Init, initial_table


class MFConfig(Config):
    """Attributes:
    dim: length of the vectors.
    init: `xavier` (random) or `spectral` (SVD of the normalised training matrix).
    """

    dim: int = Field(default=64, ge=1, le=4096)
    init: Init = "xavier"


class MF(Backbone):
    """Vectors are the embedding rows themselves. Lengths do not follow degree by themselves, so with
    cosine training use a debiased sampler and rank by cosine (section 3.2 of Wu et al. 2024).
    """

    Config = MFConfig
    row_gradients = True

    def __init__(self, config: Any, train: Interactions, generator: torch.Generator) -> None:
        super().__init__(config, train, generator)
        self.table = nn.Parameter(initial_table(train, config.dim, config.init, generator))

    def vectors(self, users: Tensor | None = None, items: Tensor | None = None) -> Vectors:
        if users is None or items is None:
            user_rows = self.table[: self.n_users] if users is None else self.table[users]
            item_rows = (
                self.table[self.n_users :] if items is None else self.table[items + self.n_users]
            )
        else:
            # One gather, so that the backward pass makes one dense gradient and not two. On a CPU the
            # backward pass of `embedding` takes half the time of that of indexing.
            rows = F.embedding(
                torch.cat([users, items + self.n_users]), self.table, sparse=self.sparse
            )
            user_rows, item_rows = rows[: len(users)], rows[len(users) :]
        return Vectors(user_rows, item_rows, user_rows, item_rows)
