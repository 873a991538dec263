"""Softmax loss whose temperature follows the data and each user's loss: Adap-tau."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from ssmrec.data import Interactions
from ssmrec.losses.base import (
    Context,
    Loss,
    PlainLossConfig,
    corrected,
    live,
    log_sum,
    or_zero,
    widened,
)
from ssmrec.models import Vectors


class AdapTauConfig(PlainLossConfig):
    """Attributes:
    similarity: cosine; the temperature is derived from its range.
    per_user: whether each user has an own temperature, or all the common one.
    beta: how far the users' temperatures lie apart; the smaller, the farther (1 is a default of
        ours).
    quantile: users of lower degree than this quantile do not count in the common temperature.
    warm_epochs: epochs in which `gap` is used.
    gap: difference of the mean similarities of positives and of all items, before it is measured.
    """

    similarity: Literal["cosine"] = "cosine"  # type: ignore[assignment]
    per_user: bool = True
    beta: float = Field(default=1.0, gt=0)
    quantile: float = Field(default=0.2, ge=0, lt=1)
    warm_epochs: int = Field(default=100, ge=0)
    gap: float = Field(default=0.7, gt=0, le=2)


class AdapTau(Loss):
    """Adap-tau: adaptive temperature (Chen et al., WWW 2023).

    loss = -w0 s+ + log sum_j e^{w_u s_j}, s the cosine; 0 when no negative is left. No gradient goes
    through w0 and w_u, which are set once an epoch:

    w0 = log( m n / (2 |D|) ) / gap: m users of at least the `quantile` degree with |D| positives, n
    items; gap = the positives' mean cosine minus these users' mean cosine with all items, at least
    0.01, and the setting `gap` for the first `warm_epochs`. w0 is at least 1 (ours, for data so
    dense that the logarithm is not positive).
    w_u = w0 * exp( -W( (l_u - mean l) / beta ) ), the argument clipped to -1/e to 1000: l_u is the
    user's mean loss at temperature 1 in the epoch before (w_u = w0 until there is one), W Lambert's.
    """

    Config = AdapTauConfig
    recordable = True
    needs_context = True
    default_negatives: ClassVar[dict[str, Any] | None] = {"name": "uniform", "n": 1024}
    w0: Tensor
    weight: Tensor
    total: Tensor
    count: Tensor

    def attach(self, train: Interactions, generator: torch.Generator) -> None:
        degree = train.user_degrees
        active = np.flatnonzero(degree > 0)
        chosen = active[degree[active] >= np.quantile(degree[active], self.config.quantile)]
        pairs = np.flatnonzero(np.isin(train.rows, chosen))
        self.chosen = torch.from_numpy(chosen)
        self.pairs = torch.from_numpy(np.stack([train.rows[pairs], train.indices[pairs]])).long()
        self.log_ratio = math.log(len(chosen) * train.n_items / (2 * len(pairs)))
        self.register_buffer("w0", torch.tensor(max(self.log_ratio / self.config.gap, 1.0)))
        self.register_buffer("weight", self.w0.repeat(train.n_users))
        self.register_buffer("total", torch.zeros(train.n_users))
        self.register_buffer("count", torch.zeros(train.n_users))

    def before_epoch(self, epoch: int, vectors: Callable[[], Vectors]) -> None:
        gap = self.config.gap if epoch <= self.config.warm_epochs else self.measured_gap(vectors())
        self.w0.fill_(max(self.log_ratio / gap, 1.0))
        ratio = torch.ones_like(self.weight)
        seen = self.count > 0
        if self.config.per_user and bool(seen.any()):
            mean = self.total[seen] / self.count[seen]
            excess = ((mean - mean.mean()) / self.config.beta).clamp(-1 / math.e, 1000)
            ratio[seen] = torch.exp(-lambert_w(excess.double())).to(ratio.dtype)
        self.weight.copy_(self.w0 * ratio)
        self.total.zero_()
        self.count.zero_()

    def measured_gap(self, vectors: Vectors, block: int = 2**16) -> float:
        """Mean cosine of the chosen users' positives minus their mean cosine with all items."""
        users, items = (F.normalize(x.float(), dim=1) for x in (vectors.users, vectors.items))
        near = 0.0
        for part in self.pairs.to(users.device).split(block, dim=1):
            near += (users[part[0]] * items[part[1]]).sum().item()
        far = (users[self.chosen.to(users.device)] @ items.mean(0)).mean().item()
        return max(near / self.pairs.shape[1] - far, 0.01)

    def forward(
        self,
        pos_logits: Tensor,
        neg_logits: Tensor,
        log_q: Tensor | None = None,
        mask: Tensor | None = None,
        context: Context | None = None,
    ) -> Tensor:
        context = self.told(context)
        positives, negatives = widened(pos_logits), widened(neg_logits)
        self._note(positives, corrected(negatives, log_q, mask), mask, context.users)
        scaled = corrected(self.weight[context.users][:, None] * negatives, log_q, mask)
        return or_zero(log_sum(scaled) - self.w0 * positives, neg_logits, mask)

    @torch.no_grad()
    def _note(
        self, positives: Tensor, negatives: Tensor, mask: Tensor | None, users: Tensor
    ) -> None:
        """Add the losses at temperature 1 of rows with negatives to the users' sums."""
        value = or_zero(log_sum(negatives) - positives, negatives, mask).to(self.total.dtype)
        self.total.index_add_(0, users, value)
        self.count.index_add_(0, users, (live(negatives, mask) > 0).to(value))


def lambert_w(x: Tensor, rounds: int = 30) -> Tensor:
    """Principal branch of Lambert's W, W e^W = x, for float64 x >= -1/e, by Halley's iteration.

    Within 1e-12 of the value away from the branch point -1/e, within 1e-7 at it.
    """
    root = torch.sqrt((2 * (math.e * x + 1)).clamp_min(0))
    w = torch.where(x < 1, -1 + root - root.pow(2) / 3, torch.log1p(x.clamp_min(0)))
    for _ in range(rounds):
        e = torch.exp(w)
        miss = w * e - x
        slope = e * (w + 1) - (w + 2) * miss / (2 * w + 2)
        step = miss / slope
        w = torch.where(step.isfinite(), w - step, w)
    return w.clamp_min(-1)
