"""What every sampler offers: negatives for a batch, with their log expected counts and mask."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ssmrec.config import Config
from ssmrec.data import Interactions
from ssmrec.kernels.known import LARGEST, KnownItems, fits
from ssmrec.kernels.sampling import known_pairs


@dataclass(frozen=True, eq=False)
class Batch:
    """Positive pairs: `users` (B,) and `items` (B,), int64 indices.

    `weights` (B,), float32, say how much each counts in the mean of their losses; None: all alike.
    """

    users: Tensor
    items: Tensor
    weights: Tensor | None = None

    def __len__(self) -> int:
        return len(self.users)


@dataclass(frozen=True, eq=False)
class Negatives:
    """Candidates that are contrasted with the positives of a batch.

    Args:
        ids: int64, (N,) shared by all rows, or (B, N) own ones per row. None: the items of the
            batch itself (in-batch), column j being the positive of row j; the diagonal is then
            never a negative, without being listed in `masked`.
        log_q: float32, log of the expected count of each candidate among the N draws, same shape as
            `ids` ((B,) for in-batch); None when no correction is wanted.
        masked: int64 (2, M), sorted by row, the (row, column) pairs that are not negatives and must not count:
            the row's own positive, known positives, failed draws. None: nothing masked. Or bool (B, N) on
            the device of the scores, True where a candidate does not count (`looked_up`).
        of_batch: how many of the first shared `ids` are the positives of the batch, whose rows L2 counts as
            such and not again.
        known: what users have, to be asked in place of `masked` where the scores are; shared or in-batch
            candidates only.
    """

    ids: Tensor | None
    log_q: Tensor | None = None
    masked: Tensor | None = None
    of_batch: int = 0
    known: KnownItems | None = None

    def mask(self, shape: tuple[int, int], device: torch.device | None = None) -> Tensor | None:
        """`masked` as a boolean (B, N) on a device, True where a candidate is dropped.

        A pair of row B, which does not exist, names none.
        """
        if self.masked is None and self.ids is not None:
            return None
        if self.masked is not None and self.masked.dtype == torch.bool:
            dense = self.masked.to(device, copy=self.ids is None)
        else:
            dense = torch.zeros(shape[0] + 1, shape[1], dtype=torch.bool, device=device)
            if self.masked is not None:
                rows, columns = self.masked.to(dense.device, non_blocking=True)
                dense.index_put_((rows, columns), dense.new_ones(()))
            dense = dense[:-1]
        if self.ids is None:
            dense.fill_diagonal_(True)
        return dense

    def looked_up(self, users: Tensor, candidates: Tensor) -> Negatives:
        """With a mask in place of `known`, for users (B,) and candidates (N,), int64 on its device."""
        assert self.known is not None
        return replace(self, masked=self.known.mask(users, candidates), known=None)


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

    device: torch.device | None = None
    """Where the scores are, if known items are to be looked up there and not here."""

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

    def without_known(
        self, batch: Batch, ids: Tensor | None, log_q: Tensor | None, of_batch: int = 0
    ) -> Negatives:
        """Shared `ids` (N,), or in-batch for None, without the train items of each row's user."""
        candidates = batch.items if ids is None else ids
        known = self._known  # made at the first draw: while a GPU records it gives no memory
        if known is not None and len(batch) * len(candidates) <= LARGEST:
            return Negatives(ids, log_q, None, of_batch, known)
        return Negatives(ids, log_q, known_mask(self.train, batch, candidates), of_batch)

    @cached_property
    def _known(self) -> KnownItems | None:
        """The table on `device`, where it is asked for and fits."""
        if self.device is None or not fits(self.train, self.device):
            return None
        return KnownItems(self.train, self.device)


def kept(drawn: Negatives, columns: Tensor, mask: Tensor | None) -> Negatives:
    """The candidates `columns` (B, n) of each row as its own ones, without log q.

    Args:
        drawn: the pool, ids (N,) or (B, N).
        columns: int64 (B, n) positions in the pool. mask: bool (B, N) of the pool, or None; both on one device.
    """
    assert drawn.ids is not None
    at = columns.to(drawn.ids.device)
    ids = drawn.ids[at] if drawn.ids.dim() == 1 else drawn.ids.gather(1, at)
    masked = None if mask is None else mask.gather(1, columns).nonzero().T
    return Negatives(ids, None, masked if masked is not None and masked.numel() else None)


def known_mask(train: Interactions, batch: Batch, candidates: Tensor) -> Tensor:
    """(row, column) pairs, int64 (2, M), where a shared candidate is a train item of the row's user."""
    users, among = batch.users.numpy(), candidates.numpy()
    pairs = known_pairs(users, train.indptr, train.indices, among, train.n_items)
    return torch.from_numpy(pairs)
