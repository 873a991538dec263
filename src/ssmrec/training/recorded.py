"""A training step recorded once as a CUDA graph and replayed with the rows of other batches.

A step is some hundred small kernels, which take a CPU several times longer to launch than a GPU to run.
A replay launches them all at once. It needs steps of one shape: the rows of a batch lie in buffers of
fixed size, filled up with rows that nothing reads, whose gradient is exactly zero.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ssmrec.kernels.softmax import has_kernel
from ssmrec.losses import Loss
from ssmrec.models import Backbone
from ssmrec.negatives import Batch, Negatives, Sampler
from ssmrec.training.device import Products, sent
from ssmrec.training.step import Places, objective_at

logger = logging.getLogger("ssmrec")

_WARM = 3
"""Steps taken one by one first, so that every kernel is compiled and every library has started."""
_ROOM = 4096
"""Masked pairs are given room in multiples of this."""


@dataclass(frozen=True)
class Shape:
    """What two steps must share for one recording to serve both."""

    batch: int
    shared: int | None
    corrected: bool
    room: int

    @classmethod
    def of(cls, batch: Batch, negatives: Negatives) -> Shape:
        """That of a batch with shared or in-batch negatives, with half as much room again for masks."""
        pairs = 0 if negatives.masked is None else negatives.masked.shape[1]
        return cls(
            len(batch), None if negatives.ids is None else len(negatives.ids),
            negatives.log_q is not None, -(-pairs * 3 // 2 // _ROOM) * _ROOM,
        )  # fmt: skip

    def holds(self, other: Shape, pairs: int) -> bool:
        """Whether a step of the other shape with so many masked pairs fits into this one."""
        mine = (self.batch, self.shared, self.corrected)
        return mine == (other.batch, other.shared, other.corrected) and pairs <= self.room


def _recordable(part: Backbone | Loss, method: str) -> bool:
    """Whether the class that defines the method says so: one that overrides it must say it again."""
    owner = next((cls for cls in type(part).__mro__ if method in vars(cls)), object)
    return bool(vars(owner).get("recordable"))


class Recorder:
    """Loss and gradient of a step on a GPU by a recording, for the steps that allow it.

    Args:
        model, loss, sampler: of the training, on a CUDA device.
        products: the arithmetic of the steps. l2: as in `objective`.
    """

    def __init__(
        self, model: Backbone, loss: Loss, sampler: Sampler, products: Products, l2: float
    ) -> None:
        self.model, self.loss, self.sampler = model, loss, sampler
        self.products, self.l2 = products, l2
        self.suits = (
            products.device.type == "cuda"
            and _recordable(model, "vectors")
            and not model.sparse
            and type(model).for_training is Backbone.for_training
            and _recordable(loss, "fused")
            and has_kernel(next(model.parameters()))  # else the loss builds its mask anew
            and not (sampler.chooses or sampler.mixes)
        )
        self.warm = 0
        self.shape: Shape | None = None

    def step(self, batch: Batch, negatives: Negatives) -> Tensor | None:
        """Mean loss of the batch, its gradients left in the parameters; None if it cannot be recorded."""
        if not self.suits or (negatives.ids is not None and negatives.ids.dim() != 1):
            return None
        shape = Shape.of(batch, negatives)
        pairs = 0 if negatives.masked is None else negatives.masked.shape[1]
        if self.shape is None or not self.shape.holds(shape, pairs):
            if len(batch) < self._largest():  # the rest of an epoch is not worth a recording
                return None
            self.warm += 1
            if self.warm <= _WARM:
                return None
            self._record(shape, batch, negatives)
        self._fill(batch, negatives)
        self.graph.replay()
        for parameter, gradient in zip(self.model.parameters(), self.gradients, strict=True):
            parameter.grad = gradient
        return self.mean

    def _largest(self) -> int:
        return 0 if self.shape is None else self.shape.batch

    def _record(self, shape: Shape, batch: Batch, negatives: Negatives) -> None:
        self.shape = shape
        size, extra = shape.batch, shape.shared or 0
        self.sizes = [size, size + extra, size, size + extra, size, size + extra, 2 * shape.room]
        self.numbers = torch.zeros(sum(self.sizes), dtype=torch.int64, device=self.products.device)
        self.log_q = torch.zeros(extra or size, device=self.products.device)
        self._fill(batch, negatives)
        users, items, user_at, item_at, user_counts, item_counts, masked = self.numbers.split(
            self.sizes
        )
        places = Places(users, items, user_at, item_at, item_at[:0], user_counts, item_counts)
        given = Negatives(
            None if shape.shared is None else item_at[size:],
            self.log_q if shape.corrected else None,
            masked.view(2, -1) if shape.room else None,
        )
        # So that the recording makes its own gradients, which each replay writes anew.
        for parameter in self.model.parameters():
            parameter.grad = None
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph), self.products.step():
            with self.products.forward():
                self.mean, added = objective_at(
                    self.model, self.loss, self.sampler, batch, given, places, self.l2
                )
            (self.mean + added).backward()
        self.mean = self.mean.detach()
        self.gradients = [parameter.grad for parameter in self.model.parameters()]
        logger.debug("recorded a step of %s", shape)

    def _fill(self, batch: Batch, negatives: Negatives) -> None:
        """Send a batch to where the recording reads it."""
        assert self.shape is not None
        places = Places.of(batch, negatives, regularised=self.sampler.regularised)
        found = [
            places.users, places.items, places.user_at, places.item_at, places.user_counts,
            places.item_counts,
        ]  # fmt: skip
        parts = [
            F.pad(part.long(), (0, size - len(part)))
            for part, size in zip(found, self.sizes[:-1], strict=True)
        ]
        if self.shape.room:
            pairs = negatives.masked if negatives.masked is not None else torch.zeros(2, 0).long()
            # Row B does not exist: such a pair hides nothing.
            filled = F.pad(pairs, (0, self.shape.room - pairs.shape[1]), value=len(batch))
            parts.append(filled.reshape(-1))
        self.numbers.copy_(sent(torch.cat(parts), self.numbers.device))
        if negatives.log_q is not None:
            self.log_q.copy_(sent(negatives.log_q, self.log_q.device))
