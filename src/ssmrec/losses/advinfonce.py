"""Sampled softmax with learned, adversarial weights of the negatives: AdvInfoNCE."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ssmrec.data import Interactions
from ssmrec.losses.base import (
    Context,
    Loss,
    LossConfig,
    corrected,
    live,
    or_zero,
    products,
    widened,
)
from ssmrec.losses.ssm import sampled_softmax
from ssmrec.models import Vectors


class AdvInfoNCEConfig(LossConfig):
    """Attributes:
    k_neg: weight of the negatives' sum.
    hardness_dim: width of the tables that give the weights.
    adv_lr: learning rate of those tables.
    adv_every: epochs from one adversarial epoch to the next.
    adv_epochs: adversarial epochs at most.
    """

    temperature: float = Field(0.1, gt=0)
    k_neg: float = Field(default=64.0, gt=0)
    hardness_dim: int = Field(default=64, ge=1, le=4096)
    adv_lr: float = Field(default=5e-5, gt=0)
    adv_every: int = Field(default=5, ge=1)
    adv_epochs: int = Field(default=7, ge=0)


class AdvInfoNCE(Loss):
    """Adversarial InfoNCE (Zhang et al., NeurIPS 2023).

    loss = -log( e^{s+/tau} / ( e^{s+/tau} + k_neg * N * sum_j p_j e^{s_j/tau} ) ), p = softmax over the
    row's N negatives of <a_u, b_j>, a and b own tables. The model descends. In every `adv_every`-th
    epoch, `adv_epochs` times at most, the model stands still instead and the tables ascend the same
    loss. Uniform p with k_neg 1 is sampled softmax. The tables start from normal values of
    standard deviation 0.1 (ours). Published temperatures lie between 0.09 and 2.
    """

    Config = AdvInfoNCEConfig
    recordable = True
    needs_context = True
    default_negatives: ClassVar[dict[str, Any] | None] = {"name": "uniform", "n": 128}

    def attach(self, train: Interactions, generator: torch.Generator) -> None:
        width = self.config.hardness_dim
        self.hard_users = nn.Parameter(0.1 * torch.randn(train.n_users, width, generator=generator))
        self.hard_items = nn.Parameter(0.1 * torch.randn(train.n_items, width, generator=generator))

    def parameter_groups(self) -> list[dict[str, Any]]:
        return [{"params": list(self.parameters()), "lr": self.config.adv_lr}]

    def before_epoch(self, epoch: int, vectors: Callable[[], Vectors]) -> None:
        every = self.config.adv_every
        adversarial = epoch % every == 0 and epoch // every <= self.config.adv_epochs
        self.trains_model = not adversarial

    def forward(
        self,
        pos_logits: Tensor,
        neg_logits: Tensor,
        log_q: Tensor | None = None,
        mask: Tensor | None = None,
        context: Context | None = None,
    ) -> Tensor:
        context = self.told(context)
        log_p = self.log_weights(context, mask)
        if self.trains_model:
            log_p = log_p.detach()
        else:
            log_p = _Reverse.apply(log_p)
            pos_logits, neg_logits = pos_logits.detach(), neg_logits.detach()
        scale = (self.config.k_neg * live(log_p, mask).clamp_min(1)).log()[:, None]
        negatives = corrected(widened(neg_logits) + scale + log_p, log_q, mask)
        return or_zero(sampled_softmax(pos_logits, negatives), neg_logits, mask)

    def log_weights(self, context: Context, mask: Tensor | None) -> Tensor:
        """log p, (B, N); finite, and without meaning where masked."""
        users = F.embedding(context.users, self.hard_users)
        items = F.embedding(context.negatives, self.hard_items)
        hardness = products(users, items)
        if mask is not None:
            hardness = hardness.masked_fill(mask, -1e4)
        return torch.log_softmax(hardness, dim=1)


class _Reverse(torch.autograd.Function):
    """The value as it is, its gradient with the sign turned: a descent that ascends."""

    @staticmethod
    def forward(ctx, value):  # type: ignore[override]
        return value.view_as(value)

    @staticmethod
    def backward(ctx, *grads):  # type: ignore[override]
        return -grads[0]
