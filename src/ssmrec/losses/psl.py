"""Pairwise softmax losses: PSL with its surrogates, and SL@K."""

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
    LossConfig,
    corrected,
    log_sum,
    or_zero,
    prepare,
    widened,
)
from ssmrec.models import Vectors
from ssmrec.negatives import Batch
from ssmrec.negatives.base import known_mask

_LEAST = 1e-6
"""Least value of a surrogate under the logarithm; only `relu` and unbounded scores reach it."""
_GATHERED = 2**23
"""Numbers of item vectors held at once for the users' own items (32 MiB)."""


class PSLConfig(LossConfig):
    """Attributes:
    surrogate: what stands for the exponential of the score difference: `tanh`, `atan`, `relu`;
        `exp` is SL at twice the temperature.
    """

    temperature: float = Field(0.05, gt=0)
    surrogate: Literal["tanh", "atan", "relu", "exp"] = "tanh"


class PSL(Loss):
    """Pairwise softmax loss (Yang et al., NeurIPS 2024).

    loss = log sum_j sigma(d_j)^{1/tau}, d_j = (s_j - s+) / 2, which cosine keeps in -1 to 1;
    sigma(d) = tanh(d) + 1, arctan(d) + 1, relu(d + 1) or e^d. 0 when no negative is left.
    Best published temperatures: 0.025 (Amazon-Book), 0.05 (Gowalla), 0.1 (Amazon-Electronic).
    """

    Config = PSLConfig
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
        tau = self.config.temperature
        half = 0.5 * tau * (widened(neg_logits) - widened(pos_logits)[:, None])
        terms = log_surrogate(half, self.config.surrogate) / tau
        return or_zero(log_sum(corrected(terms, log_q, mask)), neg_logits, mask)


def log_surrogate(d: Tensor, name: str) -> Tensor:
    """log sigma(d) of a PSL surrogate, elementwise."""
    if name == "exp":
        return d
    if name == "tanh":  # 1 + tanh d = 2 / (1 + e^{-2d})
        return math.log(2) + F.logsigmoid(2 * d)
    return (1 + (torch.atan(d) if name == "atan" else d)).clamp_min(_LEAST).log()


class SLatKConfig(LossConfig):
    """Attributes:
    k: length of the list that counts.
    quantile_temperature: tau_beta; the smaller, the sharper the weight falls off outside the list.
    refresh: epochs between estimates of the users' thresholds.
    sampled: items drawn to estimate them.
    """

    temperature: float = Field(0.1, gt=0)
    k: int = Field(default=20, ge=1)
    quantile_temperature: float = Field(default=1.0, gt=0)
    refresh: int = Field(default=5, ge=1)
    sampled: int = Field(default=1000, ge=1)


class SLatK(Loss):
    """SL@K: softmax loss weighted to the top of the list (Yang et al., KDD 2025).

    loss = sigmoid( (s+ - beta_u) / tau_beta ) * log sum_j e^{(s_j - s+)/tau}, s the similarity. beta_u
    is the user's K-th largest similarity among training items (at most the 90th percentile of
    history lengths, the first ones) and `sampled` uniform items, taken every `refresh` epochs. The
    weight has no gradient: with one, positives far below the list would be pushed further down, as
    that lowers their weight. 0 when no negative is left.
    """

    Config = SLatKConfig
    recordable = True
    row_by_row = True
    needs_context = True
    holds_factors = True
    default_negatives: ClassVar[dict[str, Any] | None] = {"name": "uniform", "n": 1024}
    threshold: Tensor

    def attach(self, train: Interactions, generator: torch.Generator) -> None:
        self.train_pairs = train
        self.seed = int(torch.randint(2**31, (1,), generator=generator))
        self.register_buffer("threshold", torch.zeros(train.n_users))

    def before_epoch(self, epoch: int, vectors: Callable[[], Vectors]) -> None:
        if (epoch - 1) % self.config.refresh == 0:
            found = vectors()
            users, items = (prepare(x, self.config.similarity) for x in (found.users, found.items))
            drawn = np.random.default_rng([self.seed, epoch]).integers(
                self.train_pairs.n_items, size=self.config.sampled
            )
            self.threshold.copy_(kth_largest(users, items, self.train_pairs, drawn, self.config.k))

    def forward(
        self,
        pos_logits: Tensor,
        neg_logits: Tensor,
        log_q: Tensor | None = None,
        mask: Tensor | None = None,
        context: Context | None = None,
    ) -> Tensor:
        context = self.told(context)
        positives = widened(pos_logits)
        above = self.config.temperature * positives.detach() - self.threshold[context.users]
        weight = torch.sigmoid(above / self.config.quantile_temperature)
        value = weight * (log_sum(corrected(neg_logits, log_q, mask)) - positives)
        return or_zero(value, neg_logits, mask)


def kth_largest(
    users: Tensor, items: Tensor, train: Interactions, drawn: np.ndarray, k: int
) -> Tensor:
    """K-th largest score of each user, (n_users,), among own items and the `drawn` ones.

    users (n_users, d) and items (n_items, d) are prepared. Drawn items that the user has are left out.
    Of a history longer than the 90th percentile the first items count. With fewer than `k` scores it
    is the smallest one; without any, 0.
    """
    active = train.user_degrees[train.user_degrees > 0]
    width = int(np.quantile(active, 0.9)) if len(active) else 0
    block = max(1, min(1024, _GATHERED // max(width * users.shape[1], 1)))
    result = users.new_zeros(len(users))
    candidates = torch.from_numpy(np.unique(drawn))
    others = items[candidates.to(items.device)]
    for start in range(0, len(users), block):
        ids = np.arange(start, min(start + block, len(users)))
        at = train.indptr[ids][:, None] + np.arange(width)
        valid = torch.from_numpy(at < train.indptr[ids + 1][:, None]).to(users.device)
        own = train.indices[np.minimum(at, max(len(train) - 1, 0))].astype(np.int64)
        rows = users[start : start + len(ids)]
        scores = torch.bmm(items[torch.from_numpy(own).to(items.device)], rows[:, :, None])[:, :, 0]
        scores = scores.masked_fill(~valid, -torch.inf)
        sampled = rows @ others.T
        known = known_mask(train, Batch(torch.from_numpy(ids), torch.from_numpy(ids)), candidates)
        sampled[known[0].to(users.device), known[1].to(users.device)] = -torch.inf
        both = torch.cat([scores, sampled], dim=1)
        found = both.topk(min(k, both.shape[1]), dim=1).values
        last = (found.isfinite().sum(1) - 1).clamp_min(0)
        result[start : start + len(ids)] = found.gather(1, last[:, None])[:, 0]
    return result.nan_to_num(neginf=0.0)
