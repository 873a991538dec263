"""Several trained models as one: their scores, made comparable, in a weighted sum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ssmrec.config import Config, settings_of
from ssmrec.data import Interactions
from ssmrec.errors import ConfigError
from ssmrec.models.base import Backbone, Vectors

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
    settings: dict[str, Any]


class BlendConfig(Config):
    """Attributes:
    parts: what was blended; `ssmrec blend` fills it in.
    """

    parts: tuple[BlendPart, ...] = ()


@dataclass(frozen=True)
class Scale:
    """Makes weight * (x . y) / sd(x . y) the inner product of one part's scaled vectors.

    Args:
        covariance: (d, d) of the item vectors with training pairs: sd(x . y)^2 = x' covariance x.
        length: root of the mean square length of the item vectors over the root of the weight, so that
            in the cosine of two items, too, each part counts by its weight.
    """

    weight: float
    covariance: Tensor
    length: Tensor

    @classmethod
    def of(cls, items: Tensor, known: Tensor, weight: float) -> Scale:
        """From item vectors (n, d) and which of them have training pairs, bool (n,)."""
        some = items[known].double()
        centred = some - some.mean(0)
        covariance = centred.T @ centred / max(len(some), 1)
        return cls(weight, covariance, (some.square().sum(1).mean() / weight).sqrt())

    def users(self, x: Tensor) -> Tensor:
        """Scaled user vectors (m, d); zero where all scores are alike."""
        rows = x.double()
        spread = ((rows @ self.covariance) * rows).sum(1).clamp_min(0).sqrt()
        factor = torch.where(spread > 0, self.weight * self.length / spread, 0.0)
        return (rows * factor[:, None]).to(x.dtype)

    def items(self, y: Tensor) -> Tensor:
        """Scaled item vectors (n, d)."""
        return (y / self.length.to(y.dtype)) if self.length > 0 else torch.zeros_like(y)


class Blend(Backbone):
    """score(u, i) = sum over parts p of w_p (x_pu . y_pi) / sd_pu, with w_p the weight and sd_pu the
    standard deviation of the scores that part p gives user u, over the items with training pairs.

    A user's scores of all parts thus spread alike, whatever their temperature or length of vectors. The
    blend is an inner product of vectors like any other model: those of the parts, scaled, side by side.
    """

    Config = BlendConfig
    closed_form = True

    def __init__(self, config: Any, train: Interactions, generator: torch.Generator) -> None:
        super().__init__(config, train, generator)
        made = [_class_and_settings(part) for part in config.parts]
        self.parts = nn.ModuleList(cls(settings, train, generator) for cls, settings in made)
        self.known = torch.from_numpy(train.item_degrees > 0)

    @classmethod
    def width(cls, config: Any) -> int | None:
        widths = [part.width(settings) for part, settings in map(_class_and_settings, config.parts)]
        return None if None in widths else sum(width or 0 for width in widths)

    @classmethod
    def check(cls) -> None:
        raise ConfigError(MADE_OF_RUNS)

    def solve(self) -> None:
        raise ConfigError(MADE_OF_RUNS)

    def sides(self) -> list[tuple[Tensor, Tensor, Scale]]:
        """Of each part the user (m, d_p) and item (n, d_p) vectors that it ranks by, and their scale."""
        found = []
        models: list[Any] = [*self.parts]
        for model, part in zip(models, self.config.parts, strict=True):
            rows = model.vectors()
            pair = rows.users, rows.items
            if part.settings["ranking"]["similarity"] == "cosine":
                pair = tuple(F.normalize(side, dim=1, eps=1e-12) for side in pair)
            found.append((*pair, Scale.of(pair[1], self.known, part.weight)))
        return found

    def vectors(self, users: Tensor | None = None, items: Tensor | None = None) -> Vectors:
        sides = self.sides()
        rows = torch.cat(
            [scale.users(x if users is None else x[users]) for x, _, scale in sides], 1
        )
        columns = torch.cat([scale.items(y) for _, y, scale in sides], 1)
        columns = columns if items is None else columns[items]
        return Vectors(rows, columns, rows, columns)


def _class_and_settings(part: BlendPart) -> tuple[type[Backbone], Any]:
    """The backbone of a part and its settings, with a cheap start, as its weights are read."""
    from ssmrec.models import MODELS

    own = part.settings["model"]
    cls, cheap = MODELS[own["name"]], {"init": "xavier"} if "init" in own else {}
    return cls, settings_of(cls, {**own, **cheap}, "model")
