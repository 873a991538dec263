"""The classic losses: BPR (pairs) and BCE (points)."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor
from torch.nn import functional as F

from ssmrec.losses.base import DotLossConfig, Loss, corrected, live


class BPR(Loss):
    """Bayesian personalised ranking (Rendle et al. 2009; Eq 26 of Wu et al. 2024).

    loss = mean over the row's negatives of softplus(l_j - l+); 0 when no negative is left.
    """

    Config = DotLossConfig
    recordable = True
    row_by_row = True
    default_negatives: ClassVar[dict[str, Any] | None] = {
        "name": "uniform",
        "n": 1,
        "shared": False,
    }

    def forward(
        self,
        pos_logits: Tensor,
        neg_logits: Tensor,
        log_q: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        negatives = corrected(neg_logits, log_q, mask)
        each = F.softplus(negatives - pos_logits[:, None].to(negatives.dtype))
        return each.sum(1) / live(negatives, mask).clamp_min(1)


class BCE(Loss):
    """Binary cross-entropy of the positive and its negatives (Eq 25 of Wu et al. 2024).

    loss = ( softplus(-l+) + sum_j softplus(l_j) ) / (1 + number of negatives).
    """

    Config = DotLossConfig
    recordable = True
    row_by_row = True
    default_negatives: ClassVar[dict[str, Any] | None] = {
        "name": "uniform",
        "n": 4,
        "shared": False,
    }

    def forward(
        self,
        pos_logits: Tensor,
        neg_logits: Tensor,
        log_q: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        negatives = corrected(neg_logits, log_q, mask)
        positive = F.softplus(-pos_logits.to(negatives.dtype))
        return (positive + F.softplus(negatives).sum(1)) / (1 + live(negatives, mask))
