"""Which weights blend runs best, by validation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssmrec.data import Interactions, Split
from ssmrec.evaluation import evaluate
from ssmrec.kernels.memory import fitting
from ssmrec.models.blend import Side, added, columns, side_of
from ssmrec.models.history import ScoringRows
from ssmrec.ranking.vectors import ranking_vectors
from ssmrec.training.listener import Listener
from ssmrec.training.protocols import Trained

Array = np.ndarray

STEP = 0.1
"""Between the weights that are tried for a part: all from 0.1 to 0.9, then half a step around the best."""

GAIN = 1.001
"""What the metric must grow by, as a factor, for a part to come in."""

Weights = dict[int, float]
"""Weight of each run that is in, by its number, in the order they came in; they add up to 1."""


def choose_weights(
    runs: Sequence[Trained], split: Split, listener: Listener, names: Sequence[str]
) -> Weights:
    """The weights of `runs` that are best by `train.metric` on the validation pairs of `split`.

    The best run comes first; then, as long as one makes it better, the run that makes it best, with the
    weight that does. Runs that are of no use are not among them.
    """
    assert split.valid is not None
    valid, metric = split.valid, runs[0].config.train.metric
    known = torch.from_numpy(split.train.item_degrees > 0)
    sides = [_side(run, known, valid) for run in runs]

    def value(shares: Weights) -> float:
        used = [
            replace(sides[n], scale=replace(sides[n].scale, weight=w)) for n, w in shares.items()
        ]
        found = evaluate(
            added([side.rows() for side in used]), columns(used), valid, [split.train], [metric],
            allowed=known.numpy(), progress=listener.evaluating,
        )  # fmt: skip
        return found.values[metric]

    alone = {number: value({number: 1.0}) for number in range(len(runs))}
    for number, found in alone.items():
        listener.note(f"{names[number]}: {metric} {found:.4f}")
    first = max(alone, key=lambda number: alone[number])
    shares, best, left = {first: 1.0}, alone[first], set(alone) - {first}
    while left:
        tried = {n: _best_share(partial(_beside, shares, n), value) for n in sorted(left)}
        number = max(tried, key=lambda n: tried[n][1])
        share, found = tried[number]
        if found <= GAIN * best:
            break
        shares, best = _beside(shares, number, share), found
        left.remove(number)
        listener.note(f"with {share:.2f} of {names[number]}: {metric} {best:.4f}")
    for number in sorted(left):
        listener.note(f"{names[number]} adds nothing: left out")
    return shares


def _beside(shares: Weights, number: int, share: float) -> Weights:
    """The shares with one more run that has `share` of all."""
    return {**{run: weight * (1 - share) for run, weight in shares.items()}, number: share}


def _best_share(
    shares: Callable[[float], Weights], value: Callable[[Weights], float]
) -> tuple[float, float]:
    """The share whose weights have the highest value, and that value."""
    tried = {share: value(shares(share)) for share in (n * STEP for n in range(1, 10))}
    top = max(tried, key=lambda share: tried[share])
    tried |= {share: value(shares(share)) for share in (top - STEP / 2, top + STEP / 2)}
    top = max(tried, key=lambda share: tried[share])
    return top, tried[top]


def _side(run: Trained, known: Tensor, valid: Interactions) -> Side[Any]:
    """How the run ranks, with weight 1; what scores by itself has done so where memory holds it."""
    similarity: Any = run.config.ranking.similarity
    side = side_of(*ranking_vectors(run.model, similarity), known, 1.0).measured()
    users = np.flatnonzero(valid.user_degrees)
    if isinstance(side.users, ScoringRows) and fitting(len(users), 4 * len(known)) == len(users):
        return replace(side, users=_Scored.of(side.users, side.items, users))
    return side


@dataclass(frozen=True, eq=False)
class _Scored(ScoringRows):
    """Rows of some users whose scores are at hand: every weight that is tried adds the same ones up.

    Args:
        table: scores (some, n); places: int64 (m,), the row of each user in it.
    """

    table: Tensor
    places: Tensor

    @classmethod
    def of(cls, rows: ScoringRows, items: Tensor, users: Array) -> _Scored:
        """Of the `users` among `rows`; the others must not be asked for."""
        places = torch.full((len(rows),), -1)
        places[torch.from_numpy(users)] = torch.arange(len(users))
        return cls(rows[users].scores(items), places)

    def __len__(self) -> int:
        return len(self.places)

    @property
    def shape(self) -> torch.Size:
        return torch.Size((len(self), self.table.shape[1]))

    def __getitem__(self, rows: slice | Tensor | Array) -> _Scored:
        return replace(self, places=self.places[rows])

    def scores(self, items: Tensor) -> Tensor:
        return self.table[self.places]

    def scores_of(self, items: Tensor, some: Tensor) -> Tensor:
        return self.scores(items)[:, some]
