"""Negatives drawn from the catalogue: uniform, by popularity, or all items."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field

from ssmrec.config import Config
from ssmrec.data import Interactions
from ssmrec.errors import DataError
from ssmrec.kernels.sampling import uniform_unknown, weighted_unknown
from ssmrec.negatives.base import Batch, Negatives, Sampler

_TRIES = 16
"""Redraws of an item the user knows before the draw is given up and masked."""
_NUMBERS = 1 << 21
"""Random numbers held at once (16 MB) while each row draws its own negatives with redraws."""


class UniformConfig(Config):
    """Attributes:
    n: number of negatives.
    shared: one set of negatives for the whole batch, or one per row.
    exclude_known: never count an item that the row's user has in train.
    log_q: subtract the log expected count of each draw.
    full_users: what to do with a user who has every item: `error`, or `skip` (no negatives).
    """

    n: int = Field(default=1024, ge=1)
    shared: bool = True
    exclude_known: bool = True
    log_q: bool = False
    full_users: Literal["error", "skip"] = "error"


class PopularityConfig(UniformConfig):
    """Attributes:
    beta: items are drawn in proportion to degree^beta; 0 is uniform, 1 like in-batch.
    """

    beta: float = Field(default=1.0, ge=0, le=4)


class Popularity(Sampler):
    """N items drawn with replacement in proportion to degree^beta."""

    Config = PopularityConfig
    tries: float = _TRIES

    def __init__(self, config: Any, train: Interactions) -> None:
        super().__init__(config, train)
        degree = train.item_degrees.astype(np.float64)
        weights = np.ones_like(degree) if self.beta == 0 else degree**self.beta
        self.probability = weights / weights.sum()
        self.cumulative = np.cumsum(self.probability)
        self.cumulative /= self.cumulative[-1]  # exactly 1: no draw may fall beyond the last item
        self.known_mass = np.zeros(train.n_users)
        if config.exclude_known:
            _check_full_users(config, train)
            self.known_mass = np.bincount(
                train.rows, self.probability[train.indices], minlength=train.n_users
            )

    @property
    def beta(self) -> float:
        return float(self.config.beta)

    def draw(self, batch: Batch, generator: np.random.Generator) -> Negatives:
        if self.config.shared:
            return self._shared(batch, generator)
        ids = self._own(batch, generator)
        failed = np.stack(np.nonzero(ids < 0)) if (ids < 0).any() else None
        ids = np.where(ids < 0, 0, ids)
        log_q = None
        if self.config.log_q:
            known = np.minimum(self.known_mass[batch.users.numpy()], 1 - 1e-9)[:, None]
            # A draw is made again while it is known, at most `tries` times: a geometric series.
            log_q = self._log_count(self.probability[ids] * (1 - known**self.tries) / (1 - known))
        return Negatives(
            torch.from_numpy(ids), log_q, None if failed is None else torch.from_numpy(failed)
        )

    def _shared(self, batch: Batch, generator: np.random.Generator) -> Negatives:
        ids = torch.from_numpy(self._pick(generator.random(self.config.n)))
        log_q = self._log_count(self.probability[ids.numpy()]) if self.config.log_q else None
        if self.config.exclude_known:
            return self.without_known(batch, ids, log_q)
        return Negatives(ids, log_q)

    def _own(self, batch: Batch, generator: np.random.Generator) -> np.ndarray:
        shape = (len(batch), self.config.n)
        if not self.config.exclude_known:
            return self._pick(generator.random(shape))
        ids = np.empty(shape, dtype=np.int64)
        users, rows = batch.users.numpy(), max(1, _NUMBERS // (self.config.n * _TRIES))
        for start in range(
            0, len(batch), rows
        ):  # random numbers in their order: any rows, same draws
            part = slice(start, start + rows)
            uniform = generator.random((len(users[part]), self.config.n, _TRIES))
            weighted_unknown(
                users[part],
                self.train.indptr,
                self.train.indices,
                self.cumulative,
                uniform,
                ids[part],
            )
        return ids

    def _pick(self, uniform: np.ndarray) -> np.ndarray:
        found = np.searchsorted(self.cumulative, uniform, side="right")
        return np.minimum(found, len(self.cumulative) - 1)

    def _log_count(self, probability: np.ndarray) -> torch.Tensor:
        smallest = np.finfo(np.float64).tiny  # a failed draw stands at an item that may have none
        count = self.config.n * np.maximum(probability, smallest)
        return torch.from_numpy(np.log(count).astype(np.float32))


class Uniform(Popularity):
    """N items drawn uniformly: free of popularity, so cosine ranking fits."""

    Config = UniformConfig
    beta = 0.0  # type: ignore[assignment]
    tries = float("inf")

    @classmethod
    def is_debiased(cls, config: Any) -> bool:
        return True

    def _own(self, batch: Batch, generator: np.random.Generator) -> np.ndarray:
        if not self.config.exclude_known:
            return super()._own(batch, generator)
        ids = np.empty((len(batch), self.config.n), dtype=np.int64)
        uniform_unknown(
            batch.users.numpy(), self.train.indptr, self.train.indices,
            self.train.n_items, generator.random(ids.shape), ids,
        )  # fmt: skip
        return ids


class AllItemsConfig(Config):
    """Attributes:
    exclude_known: drop the other train items of the row's user from the denominator.
    """

    exclude_known: bool = False


class AllItems(Sampler):
    """Every item of the catalogue but the row's own positive: sampled softmax becomes full softmax."""

    Config = AllItemsConfig
    regularised = False

    def __init__(self, config: Any, train: Interactions) -> None:
        super().__init__(config, train)
        self.ids = torch.arange(train.n_items)

    @classmethod
    def is_debiased(cls, config: Any) -> bool:
        return True

    def draw(self, batch: Batch, generator: np.random.Generator) -> Negatives:
        if self.config.exclude_known:
            return self.without_known(batch, self.ids, None)
        return Negatives(self.ids, None, torch.stack([torch.arange(len(batch)), batch.items]))


def _check_full_users(config: Any, train: Interactions) -> None:
    full = np.flatnonzero(train.user_degrees >= train.n_items)
    if len(full) and config.full_users == "error":
        names = ", ".join(str(name) for name in train.users.decode(full[:3]))
        raise DataError(
            f"{len(full)} user(s) have every item, so no negative is left for them: {names}; "
            "set negatives.full_users=skip, or negatives.exclude_known=false"
        )
