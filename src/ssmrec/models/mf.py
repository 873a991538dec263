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
    recordable = True

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
            # One gather, so that the backward pass makes one dense gradient and not two.
            nodes = torch.cat([users, items + self.n_users])
            rows = distinct_rows(self.table, nodes, self.sparse)
            user_rows, item_rows = rows[: len(users)], rows[len(users) :]
        return Vectors(user_rows, item_rows, user_rows, item_rows)


class _DistinctRows(torch.autograd.Function):
    """table[rows] for distinct rows, whose gradients go where no other does: nothing is sorted."""

    @staticmethod
    def forward(ctx, table, rows):  # type: ignore[override]
        ctx.shape = table.shape
        ctx.save_for_backward(rows)
        return table.detach()[rows]

    @staticmethod
    def backward(ctx, *grads):  # type: ignore[override]
        (rows,) = ctx.saved_tensors
        return grads[0].new_zeros(ctx.shape).index_add_(0, rows, grads[0]), None


def distinct_rows(table: Tensor, rows: Tensor, sparse: bool = False) -> Tensor:
    """table[rows], (len(rows), d), of distinct rows; sparse: with a sparse gradient."""
    if table.device.type == "cpu" or sparse:  # on a CPU faster than the gradient of indexing
        return F.embedding(rows, table, sparse=sparse)
    return _DistinctRows.apply(table, rows)  # type: ignore[return-value]
