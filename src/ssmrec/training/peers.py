"""The processes that train one model together: what training asks of them, and the answers of one alone.

`ssmrec.distributed` knows how processes talk to each other; training knows only this.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor, nn

from ssmrec.config import Config
from ssmrec.evaluation.protocol import Spread
from ssmrec.negatives import Batch, Negatives

if TYPE_CHECKING:
    from ssmrec.training.config import RunConfig
    from ssmrec.training.step import Places


class DistributedConfig(Config):
    """How several processes share a model (docs/howto/several-machines.md). One alone does not use it.

    Attributes:
        tables: `replicated`: every process holds the whole table. `sharded`: each holds its rows, by
            TorchRec, for `mf` with `train.optimizer=lazy_adam`. `auto`: replicated where it fits the
            memory of each process, sharded where it does not.
        propagation: who computes the layers of a graph backbone. `whole`: every process all rows.
            `rows`: each its own rows, which are then exchanged. `auto` takes the one measured as
            the faster.
    """

    tables: Literal["auto", "replicated", "sharded"] = "auto"
    propagation: Literal["auto", "whole", "rows"] = "auto"


class Peers:
    """One process alone.

    Attributes:
        rank: number of this process; the one numbered 0 writes and tells.
        size: how many there are.
        restarted: whether they go on after one of them was lost.
        threads: CPU threads of each where `train.threads` is open; None for all.
        spread: how evaluations are shared; None: they are not.
    """

    rank: int = 0
    size: int = 1
    restarted: bool = False
    threads: int | None = None
    spread: Spread | None = None

    @property
    def alone(self) -> bool:
        return self.size == 1

    def admit(self, config: RunConfig) -> None:
        """Raise a `ConfigError` where several processes cannot train what `config` asks for."""

    def meet(self) -> None:
        """Wait until all are here."""

    def same(self, **facts: Any) -> None:
        """Raise a `RunError` that names the first of `facts`, as JSON has them, in which they differ."""

    def adopt(self, model: nn.Module, config: RunConfig) -> None:
        """Called once with a new model on its device, before its first step."""

    def align(self, model: nn.Module) -> None:
        """Give all processes the parameters of process 0; called after each epoch."""

    def due(self, step: int, waited: float, every: float) -> bool:
        """Whether to read the loss after `step` (from 0), `waited` seconds after the last time."""
        return waited > every

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
