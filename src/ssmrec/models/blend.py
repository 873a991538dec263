"""Several trained models as one: their scores, made comparable, in a weighted sum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from ssmrec.config import Config
from ssmrec.errors import ConfigError
from ssmrec.models.closed import SolvedVectors

MADE_OF_RUNS = (
    "a blend is made of finished runs, it is not trained: ssmrec blend RUN RUN --out FOLDER"
)


class BlendPart(Config):
    """Attributes:
    name: the part in tables, as `lightgcn + ssm`.
    weight: of its standardised scores.
    settings: all settings of its run.
    """

    name: str
    weight: float = Field(gt=0)
    settings: dict[str, Any] = {}


class BlendConfig(Config):
    """Attributes:
    dim: numbers of a vector, all parts together.
    parts: what was blended, with the weights.
    """

    dim: int = Field(default=64, ge=1)
    parts: tuple[BlendPart, ...] = ()


class Blend(SolvedVectors):
    """score(u, i) = sum over parts p of w_p (x_pu . y_pi) / sd_pu, with w_p the weight and sd_pu the
    standard deviation of the scores that part p gives user u, over the items with training pairs.

    A user's scores of all parts thus spread alike, whatever their temperature or length of vectors. The
    blend is an inner product of vectors like any other model: those of the parts, scaled, side by side.
    """

    Config = BlendConfig

    @classmethod
    def check(cls) -> None:
        raise ConfigError(MADE_OF_RUNS)

    def solve(self) -> None:
        raise ConfigError(MADE_OF_RUNS)

    def fill(self, sides: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Take over the vectors of the parts.

        Args:
            sides: of each part its user (m, d_p) and item (n, d_p) vectors that rank.
        """
        known = torch.from_numpy(self.train_pairs.item_degrees > 0)
        weights = [part.weight for part in self.config.parts]
        scaled = [blended(*pair, known, w) for pair, w in zip(sides, weights, strict=True)]
        users, items = (torch.cat(side, dim=1) for side in zip(*scaled, strict=True))
        self.users.copy_(users)
        self.items.copy_(items)


def blended(users: Tensor, items: Tensor, known: Tensor, weight: float) -> tuple[Tensor, Tensor]:
    """Vectors of one part, scaled so that weight * (x . y) / sd(x . y) is their inner product.

    The mean square length of the item vectors becomes `weight`, so that in the cosine of two items, too,
    each part counts by its weight.

    Args:
        users: (m, d); items: (n, d); known: bool (n,), the items the deviation is taken over.
    """
    some = items[known].double()
    centred = some - some.mean(0)
    covariance = centred.T @ centred / max(len(some), 1)
    x = users.double()
    spread = ((x @ covariance) * x).sum(1).clamp_min(0).sqrt()
    length = (some.square().sum(1).mean() / weight).sqrt()
    factor = torch.where(spread > 0, weight * length / spread, 0.0)
    return (x * factor[:, None]).float(), (items.double() / length).float()
