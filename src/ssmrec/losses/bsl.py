"""Softmax losses with the positive outside the denominator: SL and BSL."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from ssmrec.kernels.softmax import has_kernel, shared_softmax
from ssmrec.losses.base import (
    Context,
    Loss,
    LossConfig,
    corrected,
    log_mass,
    log_sum,
    or_zero,
    picked,
    widened,
)
from ssmrec.negatives import Negatives


class SLConfig(LossConfig):
    """The shared settings; the published runs have temperatures of 0.08 to 0.30."""

    temperature: float = Field(0.12, gt=0)


class SL(Loss):
    """Softmax loss without the positive in the denominator (Wu et al., BSL, ICDE 2024).

    loss = -s+/tau + log sum_j e^{s_j/tau}, the sum over the negatives; 0 when no negative is left.
    Unlike sampled softmax it has no lower bound: it goes on falling as the scores draw apart.
    """

    Config = SLConfig
    recordable = True
    row_by_row = True
    default_negatives: ClassVar[dict[str, Any] | None] = {"name": "uniform", "n": 1024}

    def forward(
        self,
        pos_logits: Tensor,
        neg_logits: Tensor,
        log_q: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        value = log_sum(corrected(neg_logits, log_q, mask)) - widened(pos_logits)
        return or_zero(value, neg_logits, mask)

    def fused(
        self,
        u: Tensor,
        pos: Tensor,
        neg: Tensor,
        log_q: Tensor | None,
        masked: Tensor | None,
        in_batch: bool,
    ) -> Tensor:
        """The same from vectors (already divided by temperature), by the kernel of the device."""
        return fused_contrast(u, pos, neg, log_q, masked, in_batch)


class BSLConfig(SLConfig):
    """Attributes:
    exponent: of the negatives' sum, t2 of the authors' code (no temperature); 1 is SL.
    mode: `reweight`: each positive for itself. `multi`: the positives of one user in the batch are
        averaged under the logarithm, and the negatives are a mean in place of a sum.
    """

    exponent: float = Field(default=1.1, gt=0)
    mode: Literal["reweight", "multi"] = "reweight"


class BSL(Loss):
    """Bilateral softmax loss (Wu et al., ICDE 2024).

    `reweight`: loss = -s+/tau + t2 * log sum_j e^{s_j/tau}.
    `multi`: loss = -log mean_{i of the user's rows} e^{s_i/tau} + t2 * log mean_j e^{s_j/tau}.
    0 when no negative is left. Published exponents t2 are 0.80 to 1.32.
    """

    Config = BSLConfig
    recordable = True
    needs_context = True
    default_negatives: ClassVar[dict[str, Any] | None] = {"name": "uniform", "n": 1024}

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        if config.mode == "reweight":
            self.fused = partial(fused_contrast, exponent=config.exponent)
        self.recordable = config.mode == "reweight"

    def forward(
        self,
        pos_logits: Tensor,
        neg_logits: Tensor,
        log_q: Tensor | None = None,
        mask: Tensor | None = None,
        context: Context | None = None,
    ) -> Tensor:
        negatives, positives = corrected(neg_logits, log_q, mask), widened(pos_logits)
        contrast = log_sum(negatives)
        if self.config.mode == "multi":
            context = self.told(context)
            positives = log_mean_by_user(positives, context.users)
            contrast = contrast - log_mass(neg_logits, log_q, mask)
        return or_zero(self.config.exponent * contrast - positives, neg_logits, mask)


def fused_contrast(
    u: Tensor,
    pos: Tensor,
    neg: Tensor,
    log_q: Tensor | None,
    masked: Tensor | None,
    in_batch: bool,
    exponent: float = 1.0,
) -> Tensor:
    """exponent * log sum_j e^{l_j} - l+ by the softmax kernel, (B,); 0 without negatives.

    The kernel has a positive in its sum. Here it gets one that is smaller than any term by e^30, by
    one more number in each vector, and the number is taken off again. It is a power of two, which
    the short floats of a GPU hold exactly. Vectors that are too long with it take plain torch.
    """
    rows = torch.cat([u, u.new_ones(len(u), 1)], dim=1)
    masked = None if masked is None else masked.to(u.device, non_blocking=True)
    if not has_kernel(rows):
        ids = None if in_batch else torch.arange(len(neg))
        mask = Negatives(ids, None, masked).mask((len(u), len(neg)), u.device)
        logits = corrected(u @ neg.T, log_q, mask)
        return or_zero(exponent * log_sum(logits) - (u * pos).sum(1), logits, mask)
    with torch.no_grad():
        bound = 30 + u.norm(dim=1).max() * (neg.norm(dim=1).max() if len(neg) else 0)
        bound = bound if log_q is None or not len(log_q) else bound + log_q.abs().max()
        bound = torch.exp2(torch.log2(bound).ceil())
        size = len(u)
        count = torch.full((size,), len(neg) - int(in_batch), device=u.device)
        if masked is not None:
            count -= _masked_in_rows(masked, size, in_batch)
    lowest = torch.cat([torch.zeros_like(u), (-bound).expand(size, 1)], dim=1)
    columns = torch.cat([neg, neg.new_zeros(len(neg), 1)], dim=1)
    total = shared_softmax(rows, lowest, columns, log_q, masked, in_batch) - bound
    return torch.where(count > 0, exponent * total - (u * pos).sum(1), 0.0)


def _masked_in_rows(masked: Tensor, size: int, in_batch: bool) -> Tensor:
    """How many candidates of each row are masked, int64 (B,); in a batch the row's own is not counted.

    Of pairs (2, M), one of row B is none; or of bool (B, N). Nothing here has a size that depends on values.
    """
    if masked.dtype == torch.bool:
        return masked.sum(1) - (masked.diagonal().long() if in_batch else 0)
    rows, columns = masked
    counts = (rows != columns).long() if in_batch else torch.ones_like(rows)
    return counts.new_zeros(size + 1).index_add_(0, rows, counts)[:size]


def log_mean_by_user(logits: Tensor, users: Tensor) -> Tensor:
    """log of the mean of e^l over the rows of the same user, (B,) for (B,) logits and users."""
    _, group = users.unique(return_inverse=True)
    peak = logits.new_full((len(users),), -torch.inf)
    peak = peak.scatter_reduce(0, group, logits.detach(), "amax")[group]
    total = torch.zeros_like(logits).index_add(0, group, (logits - peak).exp())
    count = torch.zeros_like(logits).index_add(0, group, torch.ones_like(logits))
    mean = (total / count.clamp_min(1)).clamp_min(torch.finfo(logits.dtype).tiny)
    return picked(mean.log(), group) + peak
