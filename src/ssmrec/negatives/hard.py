"""Hard negatives: a pool of uniform candidates per row, of which the current scores choose."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from ssmrec.config import Config
from ssmrec.data import Interactions
from ssmrec.negatives.base import Batch, Negatives, Sampler
from ssmrec.negatives.drawn import Uniform, UniformConfig

_SMALLEST = 1e-6
"""Least value of score + alpha in AHNS: below it the target would change its sign."""


class PoolConfig(Config):
    """Attributes:
    pool: number of uniform candidates of each row.
    exclude_known: never draw an item that the row's user has in train.
    full_users: what to do with a user who has every item: `error`, or `skip` (no negatives).
    """

    pool: int = Field(default=16, ge=1)
    exclude_known: bool = True
    full_users: Literal["error", "skip"] = "error"


class Pool(Sampler):
    """Draws a pool of uniform candidates for each row; a subclass says what becomes of it."""

    def __init__(self, config: Any, train: Interactions) -> None:
        super().__init__(config, train)
        drawn = UniformConfig(
            n=config.pool, shared=False, exclude_known=config.exclude_known,
            full_users=config.full_users,
        )  # fmt: skip
        self.uniform = Uniform(drawn, train)

    @classmethod
    def is_debiased(cls, config: Any) -> bool:
        return True

    def draw(self, batch: Batch, generator: np.random.Generator) -> Negatives:
        return self.uniform.draw(batch, generator)


class DNSConfig(PoolConfig):
    """Attributes:
    n: number of candidates that each row keeps; all, when the pool holds fewer.
    """

    n: int = Field(default=1, ge=1)


class DNS(Pool):
    """Dynamic negative sampling: the n highest scores of a pool (Zhang et al., SIGIR 2013)."""

    Config = DNSConfig
    chooses = True

    def choose(self, positive: Tensor, scores: Tensor) -> Tensor:
        return scores.topk(min(self.config.n, scores.shape[1]), dim=1).indices


class AHNSConfig(DNSConfig):
    """Attributes:
    alpha: added to the positive's score.
    beta: scale of the target score.
    p: exponent; the target falls with the positive's score when it is below -1.
    """

    alpha: float = Field(default=1.0, ge=0)
    beta: float = Field(default=0.1, gt=0)
    p: float = -2.0


class AHNS(DNS):
    """Adaptive hardness: the candidate with the score nearest to beta (s+ + alpha)^(p + 1).

    Lai et al., AAAI 2024. With p = -2 a low positive gets harder negatives than a high one; a
    positive at or below -alpha gets the hardest.
    """

    Config = AHNSConfig

    def choose(self, positive: Tensor, scores: Tensor) -> Tensor:
        config = self.config
        base = (positive + config.alpha).clamp_min(_SMALLEST)
        # No target above all scores: so far off, rounding would make them alike.
        target = torch.minimum(config.beta * base ** (config.p + 1), scores.amax(1))
        far = (scores - target[:, None]).abs()
        return far.topk(min(config.n, scores.shape[1]), dim=1, largest=False).indices
