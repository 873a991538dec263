"""The processes of one training, and what they say to each other by torch.distributed."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ssmrec.data import Interactions
from ssmrec.distributed.fit import admit, divides, mf_settings, shards
from ssmrec.distributed.graph import DividedGraph
from ssmrec.distributed.place import Place
from ssmrec.distributed.rows import Summing, bounds, rows_of
from ssmrec.distributed.sharded import ShardedMF
from ssmrec.errors import RunError
from ssmrec.evaluation.protocol import Judged
from ssmrec.models import Backbone
from ssmrec.negatives import Batch, Negatives
from ssmrec.ranking.topk import PANEL
from ssmrec.training import RunConfig
from ssmrec.training.peers import Peers
from ssmrec.training.step import Places

_READ_EVERY = 16
"""Steps between two readings of the loss: by their number, so that all processes read at the same ones."""


_REASON = re.compile("connection (closed|reset) by peer|timed out", re.IGNORECASE)
"""What gloo and NCCL say, among much else, when a process is gone."""


class LostError(RunError):
    """Another process has ended, so that no message comes from it any more."""


class Together(Peers):
    """Replicated tables: every process holds the whole model and computes the loss of some rows.

    All draw the same batches, negatives and random views from the same seeds, and compute the vectors
    of the whole batch. The loss is split by rows, the gradient with respect to the vectors is summed,
    and the rest of the step is the same work on the same numbers everywhere.

    Attributes:
        bytes: what this process has given to sums and broadcasts so far.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self.rank, self.size = place.rank, place.size
        self.restarted = place.restarts > 0
        self.threads = max(1, (os.cpu_count() or 1) // place.local_size)
        self.spread = self._spread
        self.bytes = 0

    def admit(self, config: RunConfig) -> None:
        admit(config, self.place)

    def meet(self) -> None:
        self._sum(torch.zeros(1))

    def same(self, **facts: Any) -> None:
        texts = {name: json.dumps(fact) for name, fact in facts.items()}
        for rank, theirs in enumerate(found := self._told(texts)):
            for name, mine in found[0].items():
                if theirs.get(name) != mine:
                    raise RunError(
                        f"process {rank} has another {name} than process 0: start all with the same "
                        "command, data and version"
                    )

    def backbone(
        self,
        config: RunConfig,
        train: Interactions,
        generator: torch.Generator,
        device: torch.device,
    ) -> Backbone:
        if shards(config, train, self.place, device):
            return ShardedMF(mf_settings(config), train, generator, self.place, device).to(device)
        model = super().backbone(config, train, generator, device)
        if divides(model, config):
            whole: Any = model.graph
            divided: Any = DividedGraph(whole, self.rank, self.size, self._exchange)
            model.graph = divided
        return model

    def divided(self, model: Backbone) -> bool:
        return isinstance(model, ShardedMF)

    def whole(self, model: Backbone, train: Interactions) -> Backbone:
        return model.whole(train) if isinstance(model, ShardedMF) else model

    def any(self, found: bool) -> bool:
        return bool(self._sum(torch.tensor([float(found)])).item())

    def align(self, model: Backbone) -> None:
        if self.divided(model):  # no row is held twice
            return
        for tensor in model.state_dict().values():
            self.bytes += tensor.nbytes
            with _talking():
                dist.broadcast(tensor, 0)

    def due(self, step: int, waited: float, every: float) -> bool:
        return step % _READ_EVERY == 0

    def first(self, value: float) -> float:
        told = torch.tensor([value], dtype=torch.float64)
        with _talking():
            dist.broadcast(told, 0)
        return told.item()

    def total(self, value: Tensor) -> Tensor:
        return self._sum(value)

    def summing(self, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        return Summing.apply(users, items, self._sum)  # type: ignore[return-value]

    def part(
        self, batch: Batch, negatives: Negatives, places: Places
    ) -> tuple[tuple[Batch, Negatives, Places], float]:
        rows = bounds(len(batch), self.rank, self.size)
        share = (rows.stop - rows.start) / len(batch)
        if not share:  # a batch smaller than the group: a row that does not count
            rows = slice(0, 1)
        return rows_of(batch, negatives, places, rows), share

    def _sum(self, value: Tensor) -> Tensor:
        """The sum over the processes, in place; the same bits in all."""
        value = value.contiguous()
        self.bytes += value.nbytes
        with _talking():
            dist.all_reduce(value)
        return value

    def _exchange(self, parts: list[Tensor]) -> None:
        """Give the part of this process to all, and take theirs."""
        self.bytes += parts[self.rank].nbytes
        with _talking():
            works = [dist.broadcast(part, rank, async_op=True) for rank, part in enumerate(parts)]
            for work in works:
                work.wait()  # type: ignore[union-attr]

    def _spread(self, judge: Callable[[slice], Judged], count: int) -> Judged:
        """Each process judges whole panels of users; every number comes from one of them, unchanged."""
        mine = bounds(count, self.rank, self.size, PANEL)
        per_user, without = judge(mine) if mine.stop > mine.start else ({}, 0)
        names = max(self._told(list(per_user)), key=len)  # one without users does not know them
        table = torch.zeros(len(names) + 1, count + 1, dtype=torch.float64)
        for name, values in per_user.items():
            table[names.index(name), mine] = torch.from_numpy(values)
        table[-1, -1] = without
        table = self._sum(table).numpy()
        return {name: table[row, :count] for row, name in enumerate(names)}, int(table[-1, -1])

    def _told(self, mine: Any) -> list[Any]:
        """What each process says, a small thing, in the order of the processes."""
        found: list[Any] = [None] * self.size
        with _talking():
            dist.all_gather_object(found, mine)
        return found


@contextmanager
def _talking() -> Iterator[None]:
    """What fails while processes talk becomes one line; the cause is told by the one that failed."""
    try:
        yield
    except RuntimeError as error:
        reason = _REASON.search(str(error))
        told = f" ({reason[0].lower()})" if reason else f": {str(error).splitlines()[0][:100]}"
        raise LostError(
            f"another process of this training has ended{told}; repeat the command with --resume to "
            "go on from the last checkpoint"
        ) from None
