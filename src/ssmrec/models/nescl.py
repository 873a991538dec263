"""NESCL: LightGCN with a supervised contrast, in which neighbours of a node are positives too."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from ssmrec.data import Interactions
from ssmrec.kernels.history import most_alike
from ssmrec.models.base import Vectors
from ssmrec.models.contrastive import SGL, SGLConfig, nodes

Array = np.ndarray


class NESCLConfig(SGLConfig):
    """Attributes:
    neighbours: number k of nearest users of a user, and items of an item, one of which is drawn.
    mean: `in`: mean of the three positives' -log shares; `out`: -log of their mean share.
    """

    drop: float = Field(default=0.3, ge=0, lt=1)
    ssl_temperature: float = Field(default=0.1, gt=0)
    neighbours: int = Field(default=10, ge=1)
    mean: Literal["in", "out"] = "in"


class NESCL(SGL):
    """Neighbourhood-enhanced supervised contrastive learning (Sun et al., TKDE 2024).

    A node of the batch, in one graph with dropped edges, has three positives in the other: itself, a
    node it interacted with, and one of its k nearest neighbours of its own side. Each one's share is
    e^{cos/tau} over the sum of that over all distinct users and positives of the batch. Nearest is by
    cosine of the training columns; interacted and near nodes are drawn anew in each batch.
    """

    Config = NESCLConfig
    near: Array | None = None

    def before_epoch(self, epoch: int, generator: torch.Generator) -> None:
        super().before_epoch(epoch, generator)
        if self.near is None:
            sides = [nearest(self.pairs, side, self.config.neighbours) for side in ("user", "item")]
            self.near = np.concatenate(
                [sides[0], np.where(sides[1] < 0, -1, sides[1] + self.n_users)]
            )

    def for_training(
        self, users: Tensor, items: Tensor, positives: Tensor, generator: torch.Generator
    ) -> tuple[Vectors, Tensor | None]:
        if self.near is None:
            self.before_epoch(0, generator)
        anchors = nodes(users, items[positives], self.n_users)
        drawn = [self._interacted(anchors, generator), self._near(anchors, generator)]
        rows, at = np.unique(np.concatenate([anchors, *drawn]), return_inverse=True)
        one = self.views[0].rows(self.table, self.layer_weights, anchors)[0]
        other = self.views[1].rows(self.table, self.layer_weights, rows)[0]
        one = F.normalize(one, dim=1) / self.config.ssl_temperature
        other = F.normalize(other, dim=1)
        places = torch.from_numpy(at).to(one.device).view(3, -1)
        positive = F.embedding(places, other)  # (3, n, d)
        total = (one @ positive[0].T).logsumexp(1)
        shares = (one * positive).sum(2) - total
        each = -shares.mean(0) if self.config.mean == "in" else math.log(3) - shares.logsumexp(0)
        m = len(users)
        term = self.config.ssl_weight * (each[:m].mean() + each[m:].mean())
        return self.vectors(users, items), term

    def _interacted(self, anchors: Array, generator: torch.Generator) -> Array:
        """A random neighbour of each node in the whole graph; itself where it has none."""
        degrees = self.graph.degrees[anchors]
        at = self.graph.indptr[anchors] + _pick(degrees, generator)
        found = self.graph.indices[np.minimum(at, len(self.graph.indices) - 1)]
        return np.where(degrees > 0, found, anchors)

    def _near(self, anchors: Array, generator: torch.Generator) -> Array:
        """A random one of the nearest nodes; itself where there is none."""
        assert self.near is not None
        table = self.near[anchors]
        counts = (table >= 0).sum(1)
        found = table[np.arange(len(table)), _pick(counts, generator)]
        return np.where(counts > 0, found, anchors)


def _pick(counts: Array, generator: torch.Generator) -> Array:
    """A uniform number from 0 to count - 1 for each count; 0 for a count of 0."""
    uniform = torch.rand(len(counts), generator=generator, dtype=torch.float64).numpy()
    return np.minimum((uniform * counts).astype(np.int64), np.maximum(counts - 1, 0))


def nearest(train: Interactions, side: Literal["user", "item"], k: int) -> Array:
    """The k nodes of one side with the highest cosine of their binary columns, int64 (size, k).

    Only nodes that share a pair count; -1 fills up. Of equal ones the lower index comes first. Takes
    the sum of squared degrees of the other side in steps, and no similarity matrix.
    """
    by_item = np.argsort(train.indices, kind="stable")
    users = (train.indptr, train.indices)
    starts = np.concatenate([[0], np.cumsum(train.item_degrees)])
    items = (starts, train.rows[by_item])
    own, others = (users, items) if side == "user" else (items, users)
    found = np.empty((len(own[0]) - 1, k), dtype=np.int64)
    most_alike(*own, *others, found)
    return found
