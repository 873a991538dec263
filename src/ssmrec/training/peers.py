"""The processes that train one model together: what training asks of them, and the answers of one alone.

`ssmrec.distributed` knows how processes talk to each other; training knows only this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from ssmrec.config import Config
from ssmrec.data import Interactions, Split
from ssmrec.evaluation.protocol import Spread
from ssmrec.losses import Similarity
from ssmrec.models import Backbone
from ssmrec.negatives import Batch, Negatives
from ssmrec.ranking.topk import ItemBlocks, UserLookup
from ssmrec.ranking.vectors import ranking_vectors
from ssmrec.storage.tensors import Slices, Stored

if TYPE_CHECKING:
    from ssmrec.training.config import RunConfig
    from ssmrec.training.step import Places


class DistributedConfig(Config):
    """How several processes share a model (docs/howto/several-machines.md). One alone does not use it.

    Attributes:
        tables: `replicated`: every process holds the whole table. `sharded`: each holds its part of the
            rows, by TorchRec, for `mf` with `train.optimizer=adam`. `auto`: sharded, where that can be,
            when whole tables, with what is held of them to train and to evaluate, would take more than
            half the memory.
        propagation: who computes whole layers of a graph backbone, on a CPU. `whole`: every process all
            rows. `rows`, and `auto`: each its part of the rows, which are then exchanged.
    """

    tables: Literal["auto", "replicated", "sharded"] = "auto"
    propagation: Literal["auto", "whole", "rows"] = "auto"


class Peers:
    """One process alone.

    Attributes:
        rank: number of this process; the one numbered 0 writes and tells.
        size: how many there are.
        local: how many there are on this machine.
        restarted: whether they go on after one of them was lost.
        threads: CPU threads of each where `train.threads` is open; None for all.
        spread: how evaluations of whole vectors are shared; None: they are not.
    """

    rank: int = 0
    size: int = 1
    local: int = 1
    restarted: bool = False
    threads: int | None = None
    spread: Spread | None = None

    @property
    def alone(self) -> bool:
        return self.size == 1

    def admit(self, config: RunConfig) -> None:
        """Raise a `ConfigError` where several processes cannot train what `config` asks for."""

    def prepared(self, make: Callable[[], Split]) -> Split:
        """What `make` gives, called where the processes of a machine do not have it yet."""
        return make()

    def shuffled(self, count: int, shuffle: Callable[[np.ndarray], object]) -> np.ndarray:
        """0 to count - 1 as `shuffle` orders them, int32 where that will do; good until the next call."""
        order = numbers(count)
        shuffle(order)
        return order

    def meet(self) -> None:
        """Wait until all are here."""

    def same(self, **facts: Any) -> None:
        """Raise a `RunError` that names the first of `facts`, as JSON has them, in which they differ."""

    def backbone(
        self,
        config: RunConfig,
        train: Interactions,
        generator: torch.Generator,
        device: torch.device,
    ) -> Backbone:
        """The backbone of resolved settings, with its initial weights, on a device."""
        from ssmrec.training.config import make_model

        return make_model(config, train, generator).to(device)

    def share(self, config: RunConfig, n_users: int, n_items: int) -> float:
        """The part of the tables that this process will hold."""
        return 1.0

    def divided(self, model: Backbone) -> bool:
        """Whether no process holds all of the model."""
        return False

    def ranking(
        self, model: Backbone, similarity: Similarity
    ) -> tuple[Tensor | UserLookup, Tensor | ItemBlocks, Spread | None]:
        """Vectors of users and items that rank (`ranking_vectors`), and how their evaluation is shared."""
        return (*ranking_vectors(model, similarity), self.spread)

    def stored(self, model: Backbone, tensor: Tensor) -> Stored:
        """A tensor of the model or its optimiser as files hold it: whole, though it may be divided."""
        return tensor

    def held(self, model: Backbone, table: Slices) -> Tensor | None:
        """What this process holds of a table in a file; None: all of it."""
        return None

    def align(self, model: Backbone) -> None:
        """Give all processes the parameters of process 0; called after each epoch."""

    def due(self, step: int, waited: float, every: float) -> bool:
        """Whether to read the loss after `step` (from 0), `waited` seconds after the last time."""
        return waited > every

    def any(self, found: bool) -> bool:
        """Whether any process has found something."""
        return found

    def first(self, value: float) -> float:
        """The value that process 0 has."""
        return value

    def total(self, value: Tensor) -> Tensor:
        """The sum of `value` over the processes, without gradient."""
        return value

    def summing(self, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """The same numbers; the gradient that flows back is the sum over the processes."""
        return users, items

    def part(
        self, batch: Batch, negatives: Negatives, places: Places
    ) -> tuple[tuple[Batch, Negatives, Places], float]:
        """The rows of a batch whose loss this process computes, and their share of all rows."""
        return (batch, negatives, places), 1.0


def numbers(count: int) -> np.ndarray:
    """0 to count - 1, int32 where that will do."""
    return np.arange(count, dtype=np.int32 if count < 1 << 31 else np.int64)


_PEERS: list[Peers] = [Peers()]


def current() -> Peers:
    """The processes this one trains with."""
    return _PEERS[-1]


@contextmanager
def joined(peers: Peers) -> Iterator[Peers]:
    """Train together with `peers` inside the block."""
    _PEERS.append(peers)
    try:
        yield peers
    finally:
        _PEERS.remove(peers)
