"""What everybody takes, lately or ever: the same list for all, and a part of a blend."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from pydantic import Field

from ssmrec.config import Config
from ssmrec.data.split import day_of
from ssmrec.errors import ConfigError
from ssmrec.models.closed import SolvedVectors


class PopularConfig(Config):
    """Attributes:
    half_life: days after which a pair counts half, from the latest training pair back; none: all pairs
        count alike. Needs timestamps.
    """

    half_life: float | None = Field(default=None, gt=0)


class Popular(SolvedVectors):
    """score(u, i) = log(1 + sum over the pairs of i of 2^(-age / half_life)), age in days.

    The reference that every personal list must beat; in a blend it adds as much popularity as validation
    wants. Days are counted in the unit that the timestamps seem to have.
    """

    Config = PopularConfig
    timed = True
    alike = False

    @classmethod
    def width(cls, config: Any) -> int:
        return 1

    def solve(self) -> None:
        """Fill the vectors: 1 for users, the logarithm for items.

        Raises:
            ConfigError: a half-life, and no timestamps.
        """
        train, half_life = self.train_pairs, self.config.half_life
        weights = np.ones(len(train))
        if half_life is not None:
            if train.timestamps is None:
                raise ConfigError(
                    f"model.half_life={half_life:g}: the training pairs have no timestamps; name their "
                    "column with data.timestamp, or leave the half-life out"
                )
            ages = (train.timestamps.max() - train.timestamps) / day_of(train.timestamps)
            weights = np.exp2(-ages / half_life)
        counts = np.bincount(train.indices, weights, minlength=train.n_items)
        self.users.fill_(1.0)
        self.items.copy_(torch.from_numpy(np.log1p(counts))[:, None])
