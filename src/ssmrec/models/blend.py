"""Several trained models as one: their scores, made comparable, in a weighted sum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ssmrec.config import Config, settings_of
from ssmrec.data import Interactions
from ssmrec.errors import ConfigError
from ssmrec.models.base import Backbone, Vectors
from ssmrec.models.history import HistoryRows, Scaled, ScoringRows, SummedRows

MADE_OF_RUNS = (
    "a blend is made of finished runs, it is not trained: ssmrec blend RUN RUN --out FOLDER"
)


_ROWS = 1024
"""Users whose scores are held at once to measure their spread."""

_NOISE = 1e-6
"""Scores of a user that spread by less than this part of their size are alike but for rounding."""

Rows = Tensor | Scaled | SummedRows


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
        noise = _NOISE * rows.norm(dim=1) * self.length * self.weight**0.5
        factor = torch.where(spread > noise, self.weight * self.length / spread, 0.0)
        return (rows * factor[:, None]).to(x.dtype)

    def items(self, y: Tensor) -> Tensor:
        """Scaled item vectors (n, d)."""
        return (y / self.length.to(y.dtype)) if self.length > 0 else torch.zeros_like(y)


@dataclass(frozen=True)
class ScoreScale:
    """Makes weight * s / sd(s) of the scores s that rows of users give by themselves.

    Args:
        table: the item vectors of the part; known: bool (n,), which items have training pairs.
    """

    weight: float
    table: Tensor
    known: Tensor

    def of(self, rows: ScoringRows) -> Tensor:
        """sd(s) of each row of users over the known items, (m,); 0 where it is rounding only."""
        found = [torch.zeros(0)]
        for start in range(0, len(rows), _ROWS):
            scores = rows[start : start + _ROWS].scores(self.table)[:, self.known]
            sd = scores.std(1, correction=0)
            found.append(torch.where(sd > _NOISE * scores.abs().amax(1), sd, 0.0))
        return torch.cat(found)

    def users(self, rows: ScoringRows, spread: Tensor | None = None) -> Scaled | SummedRows:
        """Scaled rows, by `spread` where it is known; zero where all scores are alike."""
        sd = self.of(rows) if spread is None else spread
        factors = torch.where(sd > 0, self.weight / sd, 0.0)
        if not isinstance(rows, SummedRows):
            return Scaled(rows, self.table, factors)
        beside = [replace(part, factors=part.factors * factors) for part in rows.beside]
        return SummedRows(rows.vectors * (factors * self.length)[:, None], beside)

    @cached_property
    def length(self) -> Tensor:
        """As of `Scale`, for a blend's item vectors; 1 where there are none."""
        found = (self.table[self.known].square().sum(1).mean() / self.weight).sqrt()
        return torch.where(found > 0, found, 1.0)

    def items(self, y: Tensor) -> Tensor:
        """Scaled item vectors (n, d) of a blend."""
        return y / self.length


@dataclass(frozen=True)
class Side:
    """How one part ranks: rows of users (m, d) and vectors of items (n, d), and what makes its scores
    comparable; of rows that score by themselves also the `spread` of their scores (m,).
    """

    users: Tensor | ScoringRows
    items: Tensor
    scale: Scale | ScoreScale
    spread: Tensor | None = None

    @classmethod
    def of(cls, users: Tensor | ScoringRows, items: Tensor, known: Tensor, weight: float) -> Side:
        """The side of a part that ranks by `users` and `items`; its spread is not yet measured."""
        if isinstance(users, ScoringRows):
            return cls(users, items, ScoreScale(weight, items, known))
        return cls(users, items, Scale.of(items, known, weight))

    def measured(self) -> Side:
        """With the spread, where there is need of it."""
        found = self.scale.of(self.users) if isinstance(self.scale, ScoreScale) else None  # type: ignore[arg-type]
        return replace(self, spread=found)

    def rows(self, users: Tensor | None = None) -> Rows:
        """Scaled rows of some users, or of all."""
        rows = self.users if users is None else self.users[users]
        if isinstance(self.scale, Scale):
            return self.scale.users(rows)  # type: ignore[arg-type]
        spread = self.spread if users is None or self.spread is None else self.spread[users]
        return self.scale.users(rows, spread)  # type: ignore[arg-type]


def added(parts: Sequence[Rows]) -> Tensor | SummedRows:
    """Scaled rows of the same users whose scores are added up, as rows for the vectors of `columns`."""
    vectors = [
        p.vectors if isinstance(p, SummedRows) else p for p in parts if not isinstance(p, Scaled)
    ]
    beside = [part for part in parts if isinstance(part, Scaled)]
    for part in parts:
        beside += part.beside if isinstance(part, SummedRows) else []
    rows = torch.cat(vectors or [torch.zeros(len(beside[0].factors), 0)], dim=1)
    return SummedRows(rows, beside) if beside else rows


def columns(sides: Sequence[Side]) -> Tensor:
    """Scaled item vectors (n, d) of the parts that have vectors, side by side; d is 0 without any."""
    found = [s.scale.items(s.items) for s in sides if not isinstance(s.users, HistoryRows)]
    return torch.cat(found or [torch.zeros(len(sides[0].items), 0)], dim=1)


class Blend(Backbone):
    """score(u, i) = sum over parts p of w_p s_p(u, i) / sd_p(u), with w_p the weight, s_p the score of part
    p and sd_p(u) the standard deviation of the scores that it gives user u, over the items with training
    pairs.

    A user's scores of all parts thus spread alike, whatever their temperature or length of vectors. A
    blend of models with vectors is an inner product like any other: their vectors, scaled, side by side.
    Item-item models keep their scores, which are added to it (`SummedRows`).
    """

    Config = BlendConfig
    closed_form = True

    def __init__(self, config: Any, train: Interactions, generator: torch.Generator) -> None:
        super().__init__(config, train, generator)
        made = [_class_and_settings(part) for part in config.parts]
        self.parts = nn.ModuleList(cls(settings, train, generator) for cls, settings in made)
        self.known = torch.from_numpy(train.item_degrees > 0)
        for number, part in enumerate(self.parts):
            if scores_by_itself(part):
                self.register_buffer(f"spread_{number}", torch.zeros(train.n_users))

    @classmethod
    def width(cls, config: Any) -> int | None:
        widths = [part.width(settings) for part, settings in map(_class_and_settings, config.parts)]
        return None if None in widths else sum(width or 0 for width in widths)

    @classmethod
    def check(cls) -> None:
        raise ConfigError(MADE_OF_RUNS)

    def solve(self) -> None:
        raise ConfigError(MADE_OF_RUNS)

    def measure(self) -> None:
        """Fill the buffers, once the parts have their weights."""
        for side in self.sides():
            found = side.measured().spread
            if side.spread is not None and found is not None:
                side.spread.copy_(found)

    def sides(self) -> list[Side]:
        """How each part ranks."""
        found = []
        models: list[Any] = [*self.parts]
        for number, (model, part) in enumerate(zip(models, self.config.parts, strict=True)):
            rows = model.vectors()
            x, y = rows.users, rows.items
            if part.settings["ranking"]["similarity"] == "cosine":
                x, y = (F.normalize(rows, dim=1, eps=1e-12) for rows in (x, y))
            side = Side.of(x, y, self.known, part.weight)
            found.append(replace(side, spread=getattr(self, f"spread_{number}", None)))
        return found

    def vectors(self, users: Tensor | None = None, items: Tensor | None = None) -> Vectors:
        sides = self.sides()
        rows: Any = added([side.rows(users) for side in sides])
        table = columns(sides)
        if items is not None:
            table = table[items]
            if isinstance(rows, SummedRows):
                some = [replace(part, items=part.items[items]) for part in rows.beside]
                rows = replace(rows, beside=some)
        return Vectors(rows, table, rows, table)


def scores_by_itself(model: Any) -> bool:
    """Whether its rows of users are `ScoringRows`."""
    parts = model.parts if isinstance(model, Blend) else []
    return model.own_scores or any(map(scores_by_itself, parts))


def _class_and_settings(part: BlendPart) -> tuple[type[Backbone], Any]:
    """The backbone of a part and its settings, with a cheap start, as its weights are read."""
    from ssmrec.models import MODELS

    own = part.settings["model"]
    cls, cheap = MODELS[own["name"]], {"init": "xavier"} if "init" in own else {}
    return cls, settings_of(cls, {**own, **cheap}, "model")
