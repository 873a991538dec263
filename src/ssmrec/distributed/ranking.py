"""Ranking by vectors that are divided among processes: each ranks for users of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ssmrec.distributed.sharded import ShardedMF
from ssmrec.losses import Similarity, prepare


class DividedUsers:
    """Vectors of users, looked up in the processes that hold them (`UserLookup`).

    Ranking goes in rounds: some users are looked up, then all items come by (`DividedItems`). A round
    takes all processes, also those that have no users left: these `wait`. So no process needs to know
    how many rounds another one makes of its users.

    Args:
        any: whether any process has found something.
    """

    def __init__(
        self, model: ShardedMF, similarity: Similarity, any: Callable[[bool], bool]
    ) -> None:
        self.model, self.any = model, any
        self.similarity: Similarity = similarity
        self.device = model.table.device

    def __len__(self) -> int:
        return self.model.n_users

    @torch.no_grad()
    def __getitem__(self, index: Tensor) -> Tensor:
        """Vectors (len(index), d); begins a round."""
        self.any(True)
        return prepare(self.model.looked_up(index), self.similarity)

    def wait(self, items: DividedItems) -> None:
        """Take part in the rounds of the others until none has users left."""
        while self.any(False):
            self.model.looked_up(torch.zeros(0, dtype=torch.int64, device=self.device))
            for _ in items:
                pass


class DividedItems:
    """Vectors of the items, all of which come by in blocks (`ItemBlocks`)."""

    def __init__(self, model: ShardedMF, similarity: Similarity) -> None:
        self.model = model
        self.similarity: Similarity = similarity
        self.shape = torch.Size((model.n_items, model.dim))

    def __len__(self) -> int:
        return self.model.n_items

    @torch.no_grad()
    def __iter__(self) -> Iterator[Tensor]:
        model, last = self.model, self.model.n_users + self.model.n_items
        for start in range(model.n_users, last, model.block):
            rows = model.rows(model.table, start, min(start + model.block, last))
            yield prepare(rows, self.similarity)
