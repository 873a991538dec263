"""In-batch negatives: the positives of the other rows."""

from __future__ import annotations

import numpy as np
import torch

from ssmrec.config import Config
from ssmrec.negatives.base import Batch, Negatives, Sampler


class InBatchConfig(Config):
    """Attributes:
    exclude_known: drop candidates that the row's user has in train, and repeats of its own positive.
    log_q: subtract the log expected count, (B - 1) * degree / interactions, from negative logits.
    """

    exclude_known: bool = False
    log_q: bool = False


class InBatch(Sampler):
    """The items of the other rows, drawn in proportion to popularity in expectation, at no cost."""

    Config = InBatchConfig

    def draw(self, batch: Batch, generator: np.random.Generator) -> Negatives:
        log_q = None
        if self.config.log_q:
            share = self.train.item_degrees[batch.items.numpy()] / max(len(self.train), 1)
            log_q = torch.from_numpy(np.log(max(len(batch) - 1, 1) * share).astype(np.float32))
        if self.config.exclude_known:
            return self.without_known(batch, None, log_q)
        return Negatives(None, log_q)
