"""In-batch and uniform candidates together, and the hardest of such a shared pool."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from ssmrec.config import Config
from ssmrec.negatives.base import Batch, Negatives, Sampler


class MixedConfig(Config):
    """Attributes:
    n: number of uniform candidates, shared by the batch, beside the items of the other rows.
    exclude_known: never count an item that the row's user has in train.
    log_q: subtract the log expected count of each candidate in both parts together.
    """

    n: int = Field(default=1024, ge=1)
    exclude_known: bool = True
    log_q: bool = True


class Mixed(Sampler):
    """Mixed negative sampling (Yang et al., WWW 2020 companion): in-batch and uniform, shared.

    Item j is expected (B - 1) * degree_j / interactions + n / items times, whichever part it came
    from; with log q subtracted the sum over both parts estimates the sum over all items.
    """

    Config = MixedConfig

    def draw(self, batch: Batch, generator: np.random.Generator) -> Negatives:
        train, n = self.train, self.config.n
        uniform = torch.from_numpy(generator.integers(0, train.n_items, n))
        ids = torch.cat([batch.items, uniform])
        log_q = None
        if self.config.log_q:
            share = train.item_degrees[ids.numpy()] / max(len(train), 1)
            count = (len(batch) - 1) * share + n / train.n_items
            log_q = torch.from_numpy(np.log(count).astype(np.float32))
        if self.config.exclude_known:
            return self.without_known(batch, ids, log_q, len(batch))
        own = torch.arange(len(batch)).expand(2, -1).clone()  # a row's own positive
        return Negatives(ids, log_q, own, len(batch))


class TRONConfig(Config):
    """Attributes:
    n: number of candidates that each row keeps, those with its highest scores.
    pool: number of uniform candidates, shared by the batch.
    in_batch: add the items of the other rows to the pool.
    exclude_known: never count an item that the row's user has in train.
    """

    n: int = Field(default=100, ge=1)
    pool: int = Field(default=4096, ge=1)
    in_batch: bool = True
    exclude_known: bool = True


class TRON(Sampler):
    """The top n of a large shared pool, by the current scores (Wilm et al., RecSys 2023).

    The pool is 16,384 uniform items and 127 in-batch ones in the paper's settings, n is 100.
    """

    Config = TRONConfig
    chooses = True

    @classmethod
    def is_debiased(cls, config: Any) -> bool:
        return not config.in_batch

    def draw(self, batch: Batch, generator: np.random.Generator) -> Negatives:
        ids = torch.from_numpy(generator.integers(0, self.train.n_items, self.config.pool))
        if self.config.in_batch:
            ids = torch.cat([batch.items, ids])
        if self.config.exclude_known:
            return self.without_known(batch, ids, None)
        own = torch.arange(len(batch)).expand(2, -1).clone() if self.config.in_batch else None
        return Negatives(ids, None, own)

    def choose(self, positive: Tensor, scores: Tensor) -> Tensor:
        return scores.topk(min(self.config.n, scores.shape[1]), dim=1).indices
