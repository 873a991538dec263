"""Softmax losses: sampled softmax (SSM), and softmax over all items."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from ssmrec.kernels.softmax import shared_softmax
from ssmrec.losses.base import Loss, corrected


def sampled_softmax(positives: Tensor, negatives: Tensor) -> Tensor:
    """log( e^{p} + sum_j e^{n_j} ) - p of each row, for p (B,) and corrected negatives (B, N)."""
    positives = positives.to(negatives.dtype)
    both = torch.cat([positives[:, None], negatives], dim=1)
    return torch.logsumexp(both, dim=1) - positives


class SampledSoftmax(Loss):
    """Sampled softmax (SSM), Eq 5 of Wu et al. (TOIS 2024).

    loss = -log( e^{s+/tau} / ( e^{s+/tau} + sum_j e^{s_j/tau} ) ), the sum over the sampled negatives.
    With log q subtracted from the negatives it estimates full softmax: every sampled term then
    stands for 1 / (expected count) items, while the positive, always present, stands for itself.
    """

    recordable = True
    row_by_row = True

    def forward(
        self,
        pos_logits: Tensor,
        neg_logits: Tensor,
        log_q: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        return sampled_softmax(pos_logits, corrected(neg_logits, log_q, mask))

    @staticmethod
    def fused(
        u: Tensor,
        pos: Tensor,
        neg: Tensor,
        log_q: Tensor | None,
        masked: Tensor | None,
        in_batch: bool,
    ) -> Tensor:
        """The same from vectors (already divided by temperature), by the kernel of the device."""
        return shared_softmax(u, pos, neg, log_q, masked, in_batch)


class Softmax(SampledSoftmax):
    """Softmax over the whole catalogue (SM, Eq 27 of Wu et al. 2024): SSM with all items as negatives."""

    default_negatives: ClassVar[dict[str, Any] | None] = {"name": "all"}
