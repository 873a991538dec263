"""Several trained models as one: their scores, made comparable, in a weighted sum."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Generic, TypeVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ssmrec.config import Config, settings_of
from ssmrec.data import Interactions
from ssmrec.errors import ConfigError
from ssmrec.models.base import Backbone, Vectors
from ssmrec.models.history import Scaled, ScoringRows, SummedRows

MADE_OF_RUNS = (
    "a blend is made of finished runs, it is not trained: ssmrec blend RUN RUN --out FOLDER"
)


_ROWS = 1024
"""Users whose scores are held at once to measure their spread."""

_NOISE = 1e-6
"""Scores of a user that spread by less than this part of their size are alike but for rounding."""

Rows = Tensor | Scaled | SummedRows
R = TypeVar("R", Tensor, ScoringRows)


class BlendPart(Config):
    """Attributes:
    name: the part in tables, as `lightgcn + ssm`.
    weight: of its standardised scores.
    settings: all settings of its run.
    epochs: of its training, the best one's number; 0 where it has none, and in older folders.
    """

    name: str
    weight: float = Field(gt=0)
    settings: dict[str, Any]
    epochs: int = Field(default=0, ge=0)


class BlendConfig(Config):
    """Attributes:
    parts: what was blended; `ssmrec blend` fills it in.
    """

    parts: tuple[BlendPart, ...] = ()


@dataclass(frozen=True)
class Scale(ABC, Generic[R]):
    """Makes weight * s / sd(s) of the scores s of one part, sd over the items with training pairs."""

    weight: float

    @abstractmethod
    def spread(self, rows: R) -> Tensor:
        """sd(s) of each row of users, (m,); 0 where it is rounding only."""

    @abstractmethod
    def scaled(self, rows: R, spread: Tensor) -> Rows:
        """The rows by their `spread`; zero where all scores are alike."""

    @abstractmethod
    def items(self, y: Tensor) -> Tensor:
        """Scaled item vectors (n, d)."""

    def users(self, rows: R) -> Rows:
        """Scaled rows (m) of users."""
        return self.scaled(rows, self.spread(rows))


@dataclass(frozen=True, eq=False)
class VectorScale(Scale[Tensor]):
    """Of a part with vectors: the inner products of the scaled ones are its scaled scores.

    Args:
        covariance: (d, d) of the item vectors with training pairs: sd(x . y)^2 = x' covariance x.
        size: root of the mean square length of these item vectors.
    """

    covariance: Tensor
    size: Tensor

    @classmethod
    def of(cls, items: Tensor, known: Tensor, weight: float) -> VectorScale:
        """From item vectors (n, d) and which of them have training pairs, bool (n,)."""
        some = items[known].double()
        centred = some - some.mean(0)
        covariance = centred.T @ centred / max(len(some), 1)
        return cls(weight, covariance, some.square().sum(1).mean().sqrt())

    @property
    def length(self) -> Tensor:
        """What item vectors are divided by, so that in the cosine of two items, too, each part counts
        by its weight."""
        return self.size / self.weight**0.5

    def spread(self, rows: Tensor) -> Tensor:
        x = rows.double()
        sd = ((x @ self.covariance) * x).sum(1).clamp_min(0).sqrt()
        return torch.where(sd > _NOISE * x.norm(dim=1) * self.size, sd, 0.0)

    def scaled(self, rows: Tensor, spread: Tensor) -> Tensor:
        factors = torch.where(spread > 0, self.weight * self.length / spread, 0.0)
        return (rows.double() * factors[:, None]).to(rows.dtype)

    def items(self, y: Tensor) -> Tensor:
        return (y / self.length.to(y.dtype)) if self.size > 0 else torch.zeros_like(y)


@dataclass(frozen=True, eq=False)
class ScoreScale(Scale[ScoringRows]):
    """Of a part whose rows of users score by themselves.

    Args:
        table: the item vectors of the part; known: bool (n,), which items have training pairs.
    """

    table: Tensor
    known: Tensor

    def spread(self, rows: ScoringRows) -> Tensor:
        found = [torch.zeros(0)]
        for start in range(0, len(rows), _ROWS):
            scores = rows[start : start + _ROWS].scores(self.table)[:, self.known]
            sd = scores.std(1, correction=0)
            found.append(torch.where(sd > _NOISE * scores.abs().amax(1), sd, 0.0))
        return torch.cat(found)

    def scaled(self, rows: ScoringRows, spread: Tensor) -> Scaled | SummedRows:
        factors = torch.where(spread > 0, self.weight / spread, 0.0)
        if not isinstance(rows, SummedRows):
            return Scaled(rows, self.table, factors)
        beside = [replace(part, factors=part.factors * factors) for part in rows.beside]
        return SummedRows(rows.vectors * (factors * self.length)[:, None], beside)

    @cached_property
    def length(self) -> Tensor:
        """As of `VectorScale`, for a blend's item vectors; 1 where there are none."""
        found = (self.table[self.known].square().sum(1).mean() / self.weight).sqrt()
        return torch.where(found > 0, found, 1.0)

    def items(self, y: Tensor) -> Tensor:
        return y / self.length


@dataclass(frozen=True, eq=False)
class Side(Generic[R]):
    """How one part ranks: rows of users (m, d) and vectors of items (n, d), and what makes its scores
    comparable; with the `spread` of the users' scores (m,) where it is known.
    """

    users: R
    items: Tensor
    scale: Scale[R]
    spread: Tensor | None = None

    def measured(self) -> Side[R]:
        """With the spread."""
        return replace(self, spread=self.scale.spread(self.users))

    def rows(self, users: Tensor | None = None) -> Rows:
        """Scaled rows of some users, or of all."""
        rows = self.users if users is None else self.users[users]
        if self.spread is None:
            return self.scale.users(rows)
        return self.scale.scaled(rows, self.spread if users is None else self.spread[users])


def side_of(users: Tensor | ScoringRows, items: Tensor, known: Tensor, weight: float) -> Side[Any]:
    """The side of a part that ranks by `users` and `items`; its spread is not yet measured."""
    if isinstance(users, ScoringRows):
        return Side(users, items, ScoreScale(weight, items, known))
    return Side(users, items, VectorScale.of(items, known, weight))


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


def columns(sides: Sequence[Side[Any]]) -> Tensor:
    """Scaled item vectors (n, d) of the parts that have vectors, side by side; d is 0 without any."""
    found = [s.scale.items(s.items) for s in sides if isinstance(s.users, Tensor | SummedRows)]
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
        self.timed = any(part.timed for part in self.parts)
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
            if side.spread is not None:
                side.spread.copy_(side.scale.spread(side.users))

    def sides(self) -> list[Side[Any]]:
        """How each part ranks."""
        found = []
        models: list[Any] = [*self.parts]
        for number, (model, part) in enumerate(zip(models, self.config.parts, strict=True)):
            rows = model.vectors()
            x, y = rows.users, rows.items
            if part.settings["ranking"]["similarity"] == "cosine":
                x, y = (F.normalize(rows, dim=1, eps=1e-12) for rows in (x, y))
            side = side_of(x, y, self.known, part.weight)
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


def alike_columns(model: Backbone) -> Tensor | None:
    """bool (d,): the columns of the item vectors that tell which items are alike; None: all of them."""
    if not isinstance(model, Blend):
        return None if model.alike else torch.zeros(1, dtype=torch.bool)
    found, models = [], [*model.parts]
    for part, side in zip(models, model.sides(), strict=True):
        if isinstance(side.users, Tensor | SummedRows):
            own: Any = alike_columns(part)  # type: ignore[arg-type]
            found.append(torch.ones(side.items.shape[1]).bool() if own is None else own)
    columns = torch.cat(found or [torch.ones(0).bool()])
    return None if columns.all() else columns


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
