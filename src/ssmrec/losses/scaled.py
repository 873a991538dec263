"""Losses that make up for sampling by a constant: SCE and gBCE."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from ssmrec.data import Interactions
from ssmrec.losses.base import DotLossConfig, Loss, corrected, live, widened
from ssmrec.losses.ssm import SampledSoftmax


class SCEConfig(DotLossConfig):
    """Attributes:
    alpha: how many items each negative stands for; 1 is sampled softmax.
    """

    alpha: float = Field(default=100.0, gt=0)


class SCE(SampledSoftmax):
    """Scaled cross-entropy (Xu et al., 2024).

    loss = -log( e^{l+} / ( e^{l+} + alpha * sum_j e^{l_j} ) ) with K uniform negatives, alpha 100,
    K 500 (Beauty) or 100 (Yelp) as published, on inner products. alpha = n_items / K is the log-q
    correction of uniform sampling.
    """

    Config = SCEConfig
    default_negatives: ClassVar[dict[str, Any] | None] = {"name": "uniform", "n": 500}
    recordable = True

    def forward(
        self,
        pos_logits: Tensor,
        neg_logits: Tensor,
        log_q: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        return super().forward(pos_logits, neg_logits, self._scaled(log_q, neg_logits), mask)

    def fused(  # type: ignore[override]
        self,
        u: Tensor,
        pos: Tensor,
        neg: Tensor,
        log_q: Tensor | None,
        masked: Tensor | None,
        in_batch: bool,
    ) -> Tensor:
        """The same from vectors (already divided by temperature), by the kernel of the device."""
        return SampledSoftmax.fused(u, pos, neg, self._scaled(log_q, neg.T), masked, in_batch)

    def _scaled(self, log_q: Tensor | None, columns: Tensor) -> Tensor:
        """log q - log alpha, (N,) or (B, N); `columns` (., N) says how many when there is no log q."""
        shift = -math.log(self.config.alpha)
        if log_q is not None:
            return log_q + shift
        return torch.full((columns.shape[1],), shift, device=columns.device)


class GBCEConfig(DotLossConfig):
    """Attributes:
    calibration: t; 0 is BCE, 1 makes up for the sampling in full.
    """

    calibration: float = Field(default=0.75, ge=0, le=1)


class GBCE(Loss):
    """Generalised binary cross-entropy of gSASRec (Petrov & Macdonald, RecSys 2023).

    loss = ( beta * softplus(-l+) + sum_j softplus(l_j) ) / (k + 1), beta = 1 - t * (1 - alpha), and
    alpha = k / (n_items - 1) the sampling rate (at most 1) with k negatives that count. This beta is
    the authors' alpha * ( t * (1 - 1/alpha) + 1/alpha ), and sigma(l)^beta never leaves the logarithm.
    """

    Config = GBCEConfig
    recordable = True
    row_by_row = True
    default_negatives: ClassVar[dict[str, Any] | None] = {"name": "uniform", "n": 256}

    def attach(self, train: Interactions, generator: torch.Generator) -> None:
        self.others = max(train.n_items - 1, 1)

    def forward(
        self,
        pos_logits: Tensor,
        neg_logits: Tensor,
        log_q: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        negatives = corrected(neg_logits, log_q, mask)
        count = live(negatives, mask)
        beta = 1 - self.config.calibration * (1 - (count / self.others).clamp_max(1))
        positive = beta * F.softplus(-widened(pos_logits))
        return (positive + F.softplus(negatives).sum(1)) / (1 + count)
