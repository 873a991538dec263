"""Losses that take account of popularity: BC loss and PopDCL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ssmrec.data import Interactions
from ssmrec.losses.alignment import margined
from ssmrec.losses.base import (
    Context,
    Loss,
    LossConfig,
    corrected,
    or_zero,
    prepare,
    products,
    shares,
    widened,
)
from ssmrec.losses.ssm import sampled_softmax
from ssmrec.models import Vectors

_STEEPEST = 60.0
"""Most that an exponent of PopDCL's correction may be: e^60 already drives its term to zero."""


class BCConfig(LossConfig):
    """Attributes:
    similarity: cosine; the margin is one of angles.
    bias_temperature: of the popularity branch.
    bias_dim: width of its vectors.
    bias_epochs: epochs at the start in which only that branch is trained; then it is frozen.
    """

    similarity: Literal["cosine"] = "cosine"  # type: ignore[assignment]
    temperature: float = Field(0.07, gt=0)
    bias_temperature: float = Field(default=0.1, gt=0)
    bias_dim: int = Field(default=64, ge=1, le=4096)
    bias_epochs: int = Field(default=5, ge=0)


class BCLoss(Loss):
    """Bias-aware contrastive loss (Zhang et al., NeurIPS 2022).

    Sampled softmax with the positive logit cos( min(theta + M, pi) ) / tau, in numerator and
    denominator; theta is the angle of the pair, M = 1 - sigmoid(<p_u, p_i>) from a popularity branch
    with one vector for each distinct degree of users and of items. In the first `bias_epochs` the
    branch alone is trained, by sampled softmax on cosines of its vectors; then it is frozen. Its
    loss is a constant from then on, so that the published weights of the two losses drop out. M = 0
    is sampled softmax. The vectors start from normal values of standard deviation 0.1 (ours).
    """

    Config = BCConfig
    recordable = True
    needs_context = True
    default_negatives: ClassVar[dict[str, Any] | None] = {"name": "in_batch"}
    user_level: Tensor
    item_level: Tensor

    def attach(self, train: Interactions, generator: torch.Generator) -> None:
        width = self.config.bias_dim
        for side, degrees in (("user", train.user_degrees), ("item", train.item_degrees)):
            values, level = np.unique(degrees, return_inverse=True)
            self.register_buffer(f"{side}_level", torch.from_numpy(level.astype(np.int64)))
            table = 0.1 * torch.randn(len(values), width, generator=generator)
            self.register_parameter(f"{side}_bias", nn.Parameter(table))

    def before_epoch(self, epoch: int, vectors: Callable[[], Vectors]) -> None:
        self.trains_model = epoch > self.config.bias_epochs

    def forward(
        self,
        pos_logits: Tensor,
        neg_logits: Tensor,
        log_q: Tensor | None = None,
        mask: Tensor | None = None,
        context: Context | None = None,
    ) -> Tensor:
        context = self.told(context)
        if not self.trains_model:
            positives, negatives = self.bias_logits(context)
            return sampled_softmax(positives, corrected(negatives, log_q, mask))
        tau = self.config.temperature
        positives = margined(tau * widened(pos_logits), self.margin(context)) / tau
        return sampled_softmax(positives, corrected(neg_logits, log_q, mask))

    @torch.no_grad()
    def margin(self, context: Context) -> Tensor:
        """M of each row, (B,), between 0 and 1 radian."""
        users = self.user_bias[self.user_level[context.users]]  # type: ignore[index]
        items = self.item_bias[self.item_level[context.items]]  # type: ignore[index]
        return 1 - torch.sigmoid((users * items).sum(1))

    def bias_logits(self, context: Context) -> tuple[Tensor, Tensor]:
        """Logits (B,) and (B, N) of the popularity branch."""
        of_user, of_item = (prepare(x, "cosine") for x in (self.user_bias, self.item_bias))  # type: ignore[arg-type]
        users = F.embedding(self.user_level[context.users], of_user) / self.config.bias_temperature
        items = F.embedding(self.item_level[context.items], of_item)
        others = F.embedding(self.item_level[context.negatives], of_item)
        return (users * items).sum(1), products(users, others)


class PopDCLConfig(LossConfig):
    """Attributes:
    similarity: cosine; the corrections are made for its range.
    """

    similarity: Literal["cosine"] = "cosine"  # type: ignore[assignment]
    temperature: float = Field(0.1, gt=0)


class PopDCL(Loss):
    """Popularity-aware debiased contrastive loss (Liu et al., CIKM 2023).

    loss = -log( e^{(s+ - M+)/tau} / ( e^{(s+ - M+)/tau} + sum_j e^{(s_j - M_j)/tau} ) ) with
    M+ = sigmoid( P * mean_j s_j ), P = pop_i / pop(u), and M_j = lambda e^{(s+ - s_j)/tau},
    lambda = omega / (1 - omega), omega = (pop(u) - 1) / (|D| - 1); pop_i is an item's number of train
    users, pop(u) the sum of it over the user's items. In the sum, s_j below 1e-7 are raised to it, as
    in the authors' code. 0 when no negative is left.
    """

    Config = PopDCLConfig
    recordable = True
    row_by_row = True
    needs_context = True
    default_negatives: ClassVar[dict[str, Any] | None] = {"name": "in_batch"}
    popularity: Tensor
    mass: Tensor

    def attach(self, train: Interactions, generator: torch.Generator) -> None:
        degree = train.item_degrees.astype(np.float64)
        mass = np.bincount(train.rows, degree[train.indices], minlength=train.n_users)
        self.size = len(train)
        self.register_buffer("popularity", torch.from_numpy(degree.astype(np.float32)))
        self.register_buffer("mass", torch.from_numpy(mass.astype(np.float32)))

    def forward(
        self,
        pos_logits: Tensor,
        neg_logits: Tensor,
        log_q: Tensor | None = None,
        mask: Tensor | None = None,
        context: Context | None = None,
    ) -> Tensor:
        context = self.told(context)
        tau = self.config.temperature
        positive, negative = tau * widened(pos_logits), tau * widened(neg_logits)
        mass = self.mass[context.users].clamp_min(1)
        omega = ((mass - 1) / max(self.size - 1, 1)).clamp_max(1 - 1e-6)
        exponent = ((positive[:, None] - negative) / tau).clamp_max(_STEEPEST)
        lower = (omega / (1 - omega))[:, None] * torch.exp(exponent)
        mean = (shares(negative, log_q, mask) * negative).sum(1)
        margin = torch.sigmoid(self.popularity[context.items] / mass * mean)
        others = corrected((negative.clamp_min(1e-7) - lower) / tau, log_q, mask)
        return or_zero(sampled_softmax((positive - margin) / tau, others), neg_logits, mask)
