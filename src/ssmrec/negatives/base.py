"""What every sampler offers: negatives for a batch, with their log expected counts and mask."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ssmrec.config import Config
from ssmrec.data import Interactions
from ssmrec.kernels.sampling import known_pairs


@dataclass(frozen=True)
class Batch:
    """Positive pairs: `users` (B,) and `items` (B,), int64 indices."""

    users: Tensor
    items: Tensor

    def __len__(self) -> int:
        return len(self.users)


@dataclass(frozen=True)
class Negatives:
    """Candidates that are contrasted with the positives of a batch.

    Args:
        ids: int64, (N,) shared by all rows, or (B, N) own ones per row. None: the items of the
            batch itself (in-batch), column j being the positive of row j; the diagonal is then
            never a negative, without being listed in `masked`.
        log_q: float32, log of the expected count of each candidate among the N draws, same shape as
            `ids` ((B,) for in-batch); None when no correction is wanted.
        masked: int64 (2, M), sorted by row, the (row, column) pairs that are not negatives and must not count:
            the row's own positive, known positives, failed draws. None: nothing masked.
        of_batch: how many of the first shared `ids` are the positives of the batch, whose rows L2 counts as
            such and not again.
    """

    ids: Tensor | None
    log_q: Tensor | None = None
    masked: Tensor | None = None
    of_batch: int = 0

    def mask(self, shape: tuple[int, int]) -> Tensor | None:
        """`masked` as a boolean (B, N), True where a candidate is dropped."""
        if self.masked is None and self.ids is not None:
            return None
        dense = torch.zeros(shape, dtype=torch.bool)
        if self.masked is not None:
            dense[self.masked[0], self.masked[1]] = True
        if self.ids is None:
            dense.fill_diagonal_(True)
        return dense


class Sampler(ABC):
    """Draws negatives. Built as `Sampler(config, train)`; `train` is the only data it may see.

    A sampler owns the expected counts and the known-positive mask: a loss never guesses either.
    """

    Config: ClassVar[type[Config]]
    regularised: ClassVar[bool] = True
    """Whether L2 also acts on the rows of the negatives (not when they are the whole catalogue)."""
    chooses: ClassVar[bool] = False
    """Whether `draw` gives a pool, of which `choose` keeps some by their current scores."""

    mixes: ClassVar[bool] = False
    """Whether a negative is a vector that `mix` makes of a row's positive and its own draws."""

    def __init__(self, config: Any, train: Interactions) -> None:
        self.config = config
        self.train = train

    @classmethod
    def is_debiased(cls, config: Any) -> bool:
        """Whether the expected gradient is free of popularity: uniform draws, or log q subtracted."""
        return bool(getattr(config, "log_q", False))

    @classmethod
    def check(cls, config: Any) -> None:
        """Raise a `ConfigError` or `DataError` for settings no sampler can be built with.

        It is asked before training data are read; `config` is of the class `Config`.
        """
        return

    @abstractmethod
    def draw(self, batch: Batch, generator: np.random.Generator) -> Negatives:
        """Negatives for `batch`; equal generator states give equal draws."""

    def choose(self, positive: Tensor, scores: Tensor) -> Tensor:
        """Which of the drawn candidates are kept, int64 (B, n) columns; of samplers that choose.

        Args:
            positive: (B,) similarity of the positives, before temperature. No gradient.
            scores: (B, N) similarity of the candidates; minus infinity where masked.
        """
        raise NotImplementedError(f"{type(self).__name__} does not choose among its draws")

    def mix(
        self,
        users: Tensor,
        positives: Tensor,
        draws: Tensor,
        mask: Tensor | None,
        generator: torch.Generator | None,
    ) -> Tensor:
        """Vectors of the negatives, (B, L, d), layer by layer; of samplers that mix.

        Args:
            users, positives: (B, L, d) vectors of each row's pair in each of L layers.
            draws: (B, N, L, d) those of its draws.
            mask: bool (B, N), True where a draw is none, or None.
            generator: source of randomness, on the CPU.
        """
        raise NotImplementedError(f"{type(self).__name__} does not mix vectors")


def kept(drawn: Negatives, columns: Tensor, mask: Tensor | None) -> Negatives:
    """The candidates `columns` (B, n) of each row as its own ones, without log q.

    Args:
        drawn: the pool, ids (N,) or (B, N).
        columns: int64 (B, n) positions in the pool. mask: bool (B, N) of the pool, or None.
    """
    assert drawn.ids is not None
    ids = drawn.ids[columns] if drawn.ids.dim() == 1 else drawn.ids.gather(1, columns)
    masked = None if mask is None else mask.gather(1, columns).nonzero().T
    return Negatives(ids, None, masked if masked is not None and masked.numel() else None)


def known_mask(train: Interactions, batch: Batch, candidates: Tensor) -> Tensor:
    """(row, column) pairs, int64 (2, M), where a shared candidate is a train item of the row's user."""
    pairs = known_pairs(batch.users.numpy(), train.indptr, train.indices, candidates.numpy())
    return torch.from_numpy(pairs)
