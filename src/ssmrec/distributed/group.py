"""The processes of one training, and what they say to each other by torch.distributed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from ssmrec.config import settings_of
from ssmrec.data import Interactions, Split
from ssmrec.data.mapped import map_split, shared_folder, write_split
from ssmrec.distributed.fit import admit, divides, shards, tell_memory
from ssmrec.distributed.graph import DividedGraph
from ssmrec.distributed.place import Place, cores
from ssmrec.distributed.ranking import DividedItems, DividedUsers
from ssmrec.distributed.rows import Summing, bounds, rows_of
from ssmrec.distributed.sharded import ShardedMF
from ssmrec.errors import RunError
from ssmrec.evaluation.protocol import Judged, Spread
from ssmrec.kernels.products import PANEL
from ssmrec.losses import Similarity
from ssmrec.models import Backbone
from ssmrec.negatives import Batch, Negatives
from ssmrec.ranking.topk import ItemBlocks, UserLookup
from ssmrec.storage.tensors import Slices, Stored
from ssmrec.training import RunConfig
from ssmrec.training.peers import Peers, numbers
from ssmrec.training.step import Places

Held = TypeVar("Held")

_ORDER = "order.npy"
_READING = timedelta(days=1)
"""How long the others wait while one process of a machine reads: torch's limit for a message is minutes."""
_READ_EVERY = 16
"""Steps between two readings of the loss: by their number, so that all processes read at the same ones."""


class Together(Peers):
    """Every process computes the loss of some rows of a batch, and holds the whole model or a part of it.

    All draw the same batches, negatives and random views from the same seeds, and compute the vectors
    of the whole batch. The loss is split by rows, the gradient with respect to the vectors is summed,
    and the rest of the step is the same work on the same numbers everywhere.

    Attributes:
        bytes: what this process has given to sums and broadcasts so far.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self.rank, self.size, self.local = place.rank, place.size, place.local_size
        self.restarted = place.restarts > 0
        self.threads = max(1, cores() // place.local_size)
        self.spread = self._spread
        self.bytes = 0
        self._order = numbers(0)

    def admit(self, config: RunConfig) -> None:
        admit(config, self.place)

    def prepared(self, make: Callable[[], Split]) -> Split:
        """Made by the first process of a machine and mapped by all of it, so that it is held once there."""
        patient = dist.new_group(backend="gloo", timeout=_READING)

        def write() -> str:
            split = make()  # first: who is killed while reading leaves no folder
            return shared_folder(partial(write_split, split))

        return self._held_once(write, map_split, patient)

    def shuffled(self, count: int, shuffle: Callable[[np.ndarray], object]) -> np.ndarray:
        """By the first process of a machine, in memory that all of it see."""
        if len(self._order) != count:
            self._order = self._held_once(
                lambda: shared_folder(lambda folder: np.save(folder / _ORDER, numbers(count))),
                lambda folder: np.asarray(np.load(folder / _ORDER, mmap_mode="r+")),
            )
        self.meet()  # nobody reads the order of the last epoch any more
        if self.place.local_rank == 0:
            self._order[:] = numbers(count)
            shuffle(self._order)
        self.meet()
        return self._order

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
        share = self.share(config, train.n_users, train.n_items)
        tell_memory(config, train, self.place, share)
        if share < 1:
            settings = settings_of(ShardedMF, config.model, "model")
            return ShardedMF(settings, train, generator, self.place, device).to(device)
        model = super().backbone(config, train, generator, device)
        if divides(model, config):
            whole: Any = model.graph
            divided: Any = DividedGraph(whole, self.rank, self.size, self._exchange)
            model.graph = divided
        return model

    def share(self, config: RunConfig, n_users: int, n_items: int) -> float:
        divided = self.any(shards(config, n_users, n_items, self.place))
        return 1 / self.size if divided else 1.0

    def divided(self, model: Backbone) -> bool:
        return isinstance(model, ShardedMF)

    def ranking(
        self, model: Backbone, similarity: Similarity
    ) -> tuple[Tensor | UserLookup, Tensor | ItemBlocks, Spread | None]:
        if not isinstance(model, ShardedMF):
            return super().ranking(model, similarity)
        users = DividedUsers(model, similarity, self.any)
        items = DividedItems(model, similarity)
        return users, items, partial(self._spread, wait=partial(users.wait, items))

    def stored(self, model: Backbone, tensor: Tensor) -> Stored:
        return model.stored(tensor) if isinstance(model, ShardedMF) else tensor

    def held(self, model: Backbone, table: Slices) -> Tensor | None:
        return model.taken(table) if isinstance(model, ShardedMF) else None

    def any(self, found: bool) -> bool:
        return bool(self._sum(torch.tensor([float(found)])).item())

    def align(self, model: Backbone) -> None:
        if self.divided(model):  # no row is held twice
            return
        for tensor in model.state_dict().values():
            self.bytes += tensor.nbytes
            dist.broadcast(tensor, 0)

    def due(self, step: int, waited: float, every: float) -> bool:
        return step % _READ_EVERY == 0

    def first(self, value: float) -> float:
        told = torch.tensor([value], dtype=torch.float64)
        self.bytes += told.nbytes
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

    def _held_once(
        self, write: Callable[[], str], held: Callable[[Path], Held], group: Any = None
    ) -> Held:
        """What `held` maps of the folder that `write` makes in the first process of each machine."""
        folder = write() if self.place.local_rank == 0 else None
        try:
            folders = self._told(folder, group)
            found = held(Path(folders[self.rank - self.place.local_rank]))
            self.meet()
        finally:
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)
        return found

    def _sum(self, value: Tensor) -> Tensor:
        """The sum over the processes, in place; the same bits in all."""
        value = value.contiguous()
        self.bytes += value.nbytes
        dist.all_reduce(value)
        return value

    def _exchange(self, parts: list[Tensor]) -> None:
        """Give the part of this process to all, and take theirs."""
        self.bytes += parts[self.rank].nbytes
        works = [dist.broadcast(part, rank, async_op=True) for rank, part in enumerate(parts)]
        for work in works:
            work.wait()  # type: ignore[union-attr]

    def _spread(
        self,
        judge: Callable[[slice], Judged],
        count: int,
        wait: Callable[[], None] = lambda: None,
    ) -> Judged:
        """Each process judges whole panels of users; every number comes from one of them, unchanged.

        `wait` is called when those of this process are judged.
        """
        mine = bounds(count, self.rank, self.size, PANEL)
        per_user, without = judge(mine) if mine.stop > mine.start else ({}, 0)
        wait()
        names = max(self._told(list(per_user)), key=len)  # one without users does not know them
        table = torch.zeros(len(names) + 1, count + 1, dtype=torch.float64)
        for name, values in per_user.items():
            table[names.index(name), mine] = torch.from_numpy(values)
        table[-1, -1] = without
        table = self._sum(table).numpy()
        return {name: table[row, :count] for row, name in enumerate(names)}, int(table[-1, -1])

    def _told(self, mine: Any, group: Any = None) -> list[Any]:
        """What each process says, a small thing, in the order of the processes."""
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, mine, group=group)
        return found
