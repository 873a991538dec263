"""Losses that look at several positives of the row's user: DPL and MSCL."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from ssmrec.data import Interactions
from ssmrec.losses.base import (
    Context,
    DotLossConfig,
    Loss,
    LossConfig,
    corrected,
    or_zero,
    shares,
    widened,
)
from ssmrec.losses.ssm import sampled_softmax
from ssmrec.negatives import Batch


class OtherPositives(Loss):
    """Base: draws `n_positives` other train items of each row's user, with replacement."""

    needs_context = True
    alone: Tensor

    def attach(self, train: Interactions, generator: torch.Generator) -> None:
        self.train_pairs = train
        self.keys = train.rows.astype(np.int64) * train.n_items + train.indices
        self.register_buffer("alone", torch.from_numpy(train.user_degrees <= 1))

    def more_items(self, batch: Batch, generator: np.random.Generator) -> Tensor | None:
        """(B, M) items; the row's own positive where the user has no other (`alone`)."""
        count = self.config.n_positives
        if not count:
            return None
        train, users = self.train_pairs, batch.users.numpy()
        own = np.searchsorted(self.keys, users * train.n_items + batch.items.numpy())[:, None]
        start, others = train.indptr[users][:, None], (train.user_degrees[users] - 1)[:, None]
        drawn = start + (generator.random((len(batch), count)) * others).astype(np.int64)
        drawn = np.where(others > 0, drawn + (drawn >= own), own)
        return torch.from_numpy(train.indices[drawn].astype(np.int64))


class DPLConfig(DotLossConfig):
    """Attributes:
    positive_rate: tau+, the share of unlabelled items that are positives; published 0.01 to 0.07.
    n_positives: M, other positives of the user drawn for each row.
    least: lowest value under the logarithm; below it a row has no gradient.
    """

    positive_rate: float = Field(default=0.01, ge=0, lt=1)
    n_positives: int = Field(default=5, ge=0)
    least: float = Field(default=1e-2, gt=0, lt=1)


class DPL(OtherPositives):
    """Debiased pairwise loss (Liu et al., 2023): BPR corrected for false negatives.

    loss = -log max( mean_j sigma(l+ - l_j) - tau+ * mean_m sigma(l+ - l'_m), least ), l'_m the logits of M
    other positives of the user (none: that mean is 0). As in the authors' code, without the paper's
    division by 1 - tau+. 0 when no negative is left. tau+ = 0 and one negative is BPR.
    """

    Config = DPLConfig
    recordable = True
    row_by_row = True
    default_negatives: ClassVar[dict[str, Any] | None] = {
        "name": "uniform",
        "n": 5,
        "shared": False,
    }

    def forward(
        self,
        pos_logits: Tensor,
        neg_logits: Tensor,
        log_q: Tensor | None = None,
        mask: Tensor | None = None,
        context: Context | None = None,
    ) -> Tensor:
        context = self.told(context)
        positives = widened(pos_logits)[:, None]
        wins = torch.sigmoid(positives - widened(neg_logits))
        right = (shares(neg_logits, log_q, mask) * wins).sum(1)
        if context.extra is not None:
            among = torch.sigmoid(positives - widened(context.extra)).mean(1)
            among = among.masked_fill(self.alone[context.users], 0.0)
            right = right - self.config.positive_rate * among
        return or_zero(-right.clamp_min(self.config.least).log(), neg_logits, mask)


class MSCLConfig(LossConfig):
    """Attributes:
    alpha: weight of the positives; published 0.45 to 0.6.
    n_positives: other positives of the user that are averaged with the row's own; 0 for none.
    """

    alpha: float = Field(default=0.5, gt=0, lt=1)
    n_positives: int = Field(default=0, ge=0)


class MSCL(OtherPositives):
    """Multi-sample contrastive loss (Tang et al., 2022), with the importance of positives set apart.

    loss = -alpha * (mean of the positives' s/tau) + (1 - alpha) * log( e^{s+/tau} + sum_j e^{s_j/tau} ).
    alpha 0.5 and no further positives is half of sampled softmax. 0 when no negative is left.
    """

    Config = MSCLConfig
    recordable = True
    row_by_row = True
    default_negatives: ClassVar[dict[str, Any] | None] = {"name": "in_batch"}

    def forward(
        self,
        pos_logits: Tensor,
        neg_logits: Tensor,
        log_q: Tensor | None = None,
        mask: Tensor | None = None,
        context: Context | None = None,
    ) -> Tensor:
        context = self.told(context)
        own = widened(pos_logits)[:, None]
        every = own if context.extra is None else torch.cat([own, widened(context.extra)], dim=1)
        alpha, own = self.config.alpha, own[:, 0]
        among = sampled_softmax(own, corrected(neg_logits, log_q, mask)) + own
        value = (1 - alpha) * among - alpha * every.mean(1)
        return or_zero(value, neg_logits, mask)
