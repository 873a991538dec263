"""Regularisers of the spectrum of the vectors, computed on the distinct nodes of a batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ssmrec.losses.base import widened
from ssmrec.training.config import TrainConfig


@dataclass(frozen=True)
class Regulariser:
    """What is added to the loss of a batch.

    Args:
        stable_rank: weight gamma of the stable rank. resn: weight beta of ReSN.
    """

    stable_rank: float
    resn: float

    def __call__(self, users: Tensor, items: Tensor, positives: Tensor) -> Tensor:
        """A scalar.

        Args:
            users: (m, d), items: (n, d) vectors of the batch's distinct users and items.
            positives: int64 (p,) positions in `items` of the distinct positives.
        """
        total = users.new_zeros(())
        if self.stable_rank:
            both = stable_rank(users) + stable_rank(items[positives])
            total = total - self.stable_rank / 2 * both
        if self.resn:
            total = total + self.resn * resn(users, items)
        return total


def regulariser(settings: TrainConfig, epoch: int) -> Regulariser | None:
    """The one that acts in `epoch` (from 1), or None. Stable rank is a start, ReSN lasts."""
    first = settings.stable_rank if epoch <= settings.stable_rank_epochs else 0.0
    return Regulariser(first, settings.resn) if first or settings.resn else None


def stable_rank(vectors: Tensor) -> Tensor:
    """||X||_F^2 / (||X||_2^2 d) of the rows at unit length (Loveland et al., WWW 2025): 1 / d to 1.

    1 / d when all rows lie on one line, 1 when every direction has the same share.
    """
    rows = F.normalize(vectors, dim=1)
    largest = torch.linalg.eigvalsh(widened(rows.T @ rows))[-1]  # autocast rounds the product
    return rows.pow(2).sum() / (largest.clamp_min(1e-12) * rows.shape[1])


def resn(users: Tensor, items: Tensor) -> Tensor:
    """Mean over users of <y_u, q>^2 with Y = U V' and q = Y' 1 at unit length (Lin et al., WSDM 2025).

    q stands for the leading right singular vector of Y, which follows popularity; it gets no
    gradient. Y (m, n) is never formed: q is V (U' 1), and Y q is U (V' q). The columns are the items
    of the batch, positives and negatives, in the place of the whole catalogue; scores are inner
    products, without the sigmoid of the original.
    """
    with torch.no_grad():
        q = F.normalize(items @ users.sum(0), dim=0)
    return (users @ (items.T @ q)).pow(2).mean()
