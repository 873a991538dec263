"""Sampled softmax corrected for false negatives and weighted to hard ones: DCL, HCL, IHN."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from ssmrec.losses.base import (
    DotLossConfig,
    Loss,
    LossConfig,
    corrected,
    log_mass,
    log_sum,
    or_zero,
    shares,
    widened,
)


class DCLConfig(LossConfig):
    """Attributes:
    positive_rate: tau+, the share of negatives that are positives in truth.
    """

    temperature: float = Field(0.1, gt=0)
    positive_rate: float = Field(default=0.07, ge=0, lt=1)


class DCL(Loss):
    """Debiased contrastive loss (Chuang et al., NeurIPS 2020).

    loss = -log( e^{s+/tau} / ( e^{s+/tau} + G ) ),
    G = max( ( sum_j e^{s_j/tau} - tau+ N e^{s+/tau} ) / (1 - tau+), N e^{-1/tau} ), N the number of
    negatives, or with log q the number of items that they stand for. 0 when no negative is left.
    tau+ = 0 is sampled softmax.
    """

    Config: ClassVar[type[Any]] = DCLConfig
    recordable = True
    row_by_row = True
    default_negatives: ClassVar[dict[str, Any] | None] = {"name": "in_batch"}
    hardness = 0.0
    """beta of the subclasses: negatives are weighted by e^{beta * logit}, with mean 1 in a row."""

    def forward(
        self,
        pos_logits: Tensor,
        neg_logits: Tensor,
        log_q: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        positives, negatives = widened(pos_logits), widened(neg_logits)
        terms = corrected(negatives, log_q, mask)
        if self.hardness:
            share = shares(negatives, log_q, mask)
            weights = corrected(
                self.hardness * negatives + (share + (share == 0)).log(), None, mask
            )
            mean = log_sum(weights)[:, None].clamp_min(-1e4)
            terms = corrected((1 + self.hardness) * negatives - mean, log_q, mask)
        total, mass = log_sum(terms), log_mass(neg_logits, log_q, mask)
        return or_zero(self.value(positives, total, mass), neg_logits, mask)

    def value(self, positives: Tensor, total: Tensor, mass: Tensor) -> Tensor:
        """Loss from the logs (B,) of e^{s+/tau}, of the negatives' sum and of their number."""
        rate = self.config.positive_rate
        lowest = -1 / self.config.temperature
        peak = torch.maximum(positives, total).clamp_min(lowest).detach()
        own, count = (positives - peak).exp(), mass.exp()
        true = ((total - peak).exp() - rate * count * own) / (1 - rate)
        least = count * (lowest - peak).exp()
        both = own + torch.maximum(true, least)
        return both.clamp_min(torch.finfo(both.dtype).tiny).log() + peak - positives


class HCLConfig(DCLConfig):
    """Attributes:
    hardness: beta; 0 is DCL.
    """

    hardness: float = Field(default=0.5, ge=0)


class HCL(DCL):
    """Hard contrastive loss (Robinson et al., ICLR 2021).

    DCL with sum_j w_j e^{s_j/tau} for the sum, w_j = e^{beta s_j/tau} divided by its mean in the row.
    """

    Config: ClassVar[type[Any]] = HCLConfig

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.hardness = config.hardness


class IHNConfig(DotLossConfig):
    """Attributes:
    hardness: beta; published 10 (Book), 1 (Gowalla), 0.1 (RocketRetail); 0 is sampled softmax.
    """

    hardness: float = Field(default=1.0, ge=0)


class IHN(HCL):
    """Interest-aware hard negatives of REMI (Xie et al., RecSys 2023), the loss alone.

    loss = -log( e^{l+} / ( e^{l+} + sum_j w_j e^{l_j} ) ), w_j = e^{beta l_j} divided by its mean in the
    row, on inner products: HCL without its correction for false negatives.
    """

    Config: ClassVar[type[Any]] = IHNConfig
    default_negatives: ClassVar[dict[str, Any] | None] = {
        "name": "uniform",
        "n": 1280,
        "log_q": True,
    }

    def value(self, positives: Tensor, total: Tensor, mass: Tensor) -> Tensor:
        return torch.logaddexp(positives, total) - positives
