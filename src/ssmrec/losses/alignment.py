"""Alignment of pairs and uniformity of the batch, on unit vectors and without negatives."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ssmrec.data import Interactions
from ssmrec.losses.base import Context, Loss, PlainLossConfig, picked, widened

_EDGE = 1e-6
"""Distance kept from cosines of -1 and 1, where the arc cosine has no finite slope."""


class UnitConfig(PlainLossConfig):
    """Attributes:
    similarity: cosine; alignment and uniformity are defined on unit vectors.
    """

    similarity: Literal["cosine"] = "cosine"  # type: ignore[assignment]


class DirectAUConfig(UnitConfig):
    """Attributes:
    gamma: weight of uniformity; published 0.5 (Beauty), 1 (Yelp), 5 (Gowalla).
    """

    gamma: float = Field(default=1.0, ge=0)


class DirectAU(Loss):
    """Direct alignment and uniformity (Wang et al., KDD 2022).

    loss = |u - i|^2 + gamma / 2 * (U(users) + U(items)), U(X) = log mean over pairs of e^{-2 |x - x'|^2}
    of the batch rows as they come, repeated ones included; U is 0 for a batch of one.
    """

    Config = DirectAUConfig
    recordable = True
    on_vectors = True
    default_negatives: ClassVar[dict[str, Any] | None] = {"name": "in_batch"}

    def from_vectors(self, users: Tensor, items: Tensor, context: Context) -> Tensor:
        users, items = widened(users), widened(items)
        spread = uniformity(users) + uniformity(items)
        return (users - items).pow(2).sum(1) + 0.5 * self.config.gamma * spread


class MAWUConfig(UnitConfig):
    """Attributes:
    gamma_users: weight of the users' uniformity; published 0.8 (Yelp), 1 (Beauty), 2.6 (Gowalla).
    gamma_items: weight of the items' uniformity; published 0.6 (Yelp), 0.1 (Beauty), 1.4 (Gowalla).
    """

    gamma_users: float = Field(default=1.0, ge=0)
    gamma_items: float = Field(default=0.6, ge=0)


class MAWU(Loss):
    """Margin-aware alignment and weighted uniformity (Park et al., CIKM 2023).

    loss = -cos( min(theta + M, pi) ) + gamma_users * U(users) + gamma_items * U(items), theta the angle
    of the pair, M = 1 - sigmoid(m_u + m_i) with a learned m in [0, 1] for each user and item, and
    U as in DirectAU. m starts at 0 (not published).

    U is the mean over pairs, as the paper has it. The authors' code averages over the whole B x B matrix
    with half of it a constant e^{-4}; with k the mean of e^{-2 |x - x'|^2}, its gradient is smaller by
    k / (k + e^{-4}). The published gammas were found with that code, so they are strong here.
    """

    Config = MAWUConfig
    recordable = True
    on_vectors = True
    default_negatives: ClassVar[dict[str, Any] | None] = {"name": "in_batch"}

    def attach(self, train: Interactions, generator: torch.Generator) -> None:
        self.user_margin = nn.Parameter(torch.zeros(train.n_users))
        self.item_margin = nn.Parameter(torch.zeros(train.n_items))

    def after_step(self) -> None:
        self.user_margin.clamp_(0, 1)
        self.item_margin.clamp_(0, 1)

    def from_vectors(self, users: Tensor, items: Tensor, context: Context) -> Tensor:
        users, items = widened(users), widened(items)
        sizes = picked(self.user_margin, context.users) + picked(self.item_margin, context.items)
        aligned = margined((users * items).sum(1), 1 - torch.sigmoid(sizes))
        spread = self.config.gamma_users * uniformity(users)
        return spread + self.config.gamma_items * uniformity(items) - aligned


def uniformity(rows: Tensor) -> Tensor:
    """log of the mean over pairs of rows (B, d) of e^{-2 |x - x'|^2}, a scalar; 0 for one row."""
    size = len(rows)
    if size < 2:
        return rows.new_zeros(())
    # -2 |x - x'|^2 = <(4x, -2|x|^2, 1), (x', 1, -2|x'|^2)>: one product, and every pair twice
    length, ones = -2 * rows.pow(2).sum(1, keepdim=True), rows.new_ones(size, 1)
    both = torch.cat([4 * rows, length, ones], 1) @ torch.cat([rows, ones, length], 1).T
    both.diagonal().fill_(-torch.inf)
    return torch.logsumexp(both, dim=(0, 1)) - math.log(size * (size - 1))


def margined(cosine: Tensor, margin: Tensor) -> Tensor:
    """cos( min(angle + margin, pi) ) of pairs with these cosines; margin in radians, not negative."""
    angle = torch.acos(cosine.clamp(-1 + _EDGE, 1 - _EDGE))
    return torch.cos((angle + margin).clamp_max(math.pi))
