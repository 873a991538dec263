"""A training step recorded once as a CUDA graph and replayed with the rows of other batches.

A step is some hundred small kernels, which take a CPU several times longer to launch than a GPU to run.
A replay launches them all at once. It needs steps of one shape: the rows of a batch lie in buffers of
fixed size, filled up with rows that nothing reads, whose gradient is exactly zero.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

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
    ids: tuple[int, ...] | None
    corrected: bool
    known: bool
    more: tuple[int, ...] | None
    room: int

    @classmethod
    def of(cls, batch: Batch, negatives: Negatives, more: Tensor | None = None) -> Shape:
        """That of a step, with half as much room again for masked pairs."""
        return cls(
            len(batch), None if negatives.ids is None else tuple(negatives.ids.shape),
            negatives.log_q is not None, negatives.known is not None,
            None if more is None else tuple(more.shape),
            -(-_pairs(negatives) * 3 // 2 // _ROOM) * _ROOM,
        )  # fmt: skip

    def holds(self, other: Shape, pairs: int) -> bool:
        """Whether a step of the other shape with so many masked pairs fits into this one."""
        return self == replace(other, room=self.room) and pairs <= self.room

    @property
    def drawn(self) -> int:
        """Number of negatives that are named."""
        return 0 if self.ids is None else math.prod(self.ids)

    @property
    def sizes(self) -> list[int]:
        """Room for users, items, their places, the places of what the loss asks for, counts and masks."""
        own = self.batch + self.drawn
        more = 0 if self.more is None else math.prod(self.more)
        return [
            self.batch,
            own + more,
            self.batch,
            own,
            more,
            self.batch,
            own + more,
            2 * self.room,
        ]


def _pairs(negatives: Negatives) -> int:
    return 0 if negatives.masked is None else negatives.masked.shape[1]


def recordable(part: Backbone | Loss) -> bool:
    """Whether the part says so, and again where a class overrides what is recorded."""
    methods = ("vectors",) if isinstance(part, Backbone) else ("forward", "fused", "from_vectors")
    owner = next(cls for cls in type(part).__mro__ if any(name in vars(cls) for name in methods))
    return "recordable" in vars(owner) and part.recordable


class Recorder:
    """Loss and gradient of a step on a GPU by a recording, for the steps that allow it.

    Args:
        model, loss, sampler: of the training, on a CUDA device.
        products: the arithmetic of the steps. l2: as in `objective`.
    """

    mean: Tensor
    gradients: list[Tensor | None]
    replay: Callable[[], None]

    def __init__(
        self, model: Backbone, loss: Loss, sampler: Sampler, products: Products, l2: float
    ) -> None:
        self.model, self.loss, self.sampler = model, loss, sampler
        self.products, self.l2 = products, l2
        self.suits = (
            products.device.type == "cuda"
            and recordable(model)
            and not model.sparse
            and type(model).for_training is Backbone.for_training
            and recordable(loss)
            and not (sampler.chooses or sampler.mixes)
        )
        self.parameters = [*model.parameters(), *loss.parameters()]
        self.warm = 0
        self.shape: Shape | None = None

    def step(self, batch: Batch, negatives: Negatives, more: Tensor | None = None) -> Tensor | None:
        """Mean loss of the batch, its gradients left in the parameters; None if it cannot be recorded."""
        if not self.suits:
            return None
        shape = Shape.of(batch, negatives, more)
        if self.shape is None or not self.shape.holds(shape, _pairs(negatives)):
            if len(batch) < self._largest():  # the rest of an epoch is not worth a recording
                return None
            self.warm += 1
            if self.warm <= _WARM:
                return None
            if not self._recorded(shape, batch, negatives, more):
                return None
        self._fill(batch, negatives, more)
        self.replay()
        for parameter, gradient in zip(self.parameters, self.gradients, strict=True):
            parameter.grad = gradient
        return self.mean

    def _largest(self) -> int:
        return 0 if self.shape is None else self.shape.batch

    def _recorded(
        self, shape: Shape, batch: Batch, negatives: Negatives, more: Tensor | None
    ) -> bool:
        """Record a step; False, and no recording from then on, if a part does what none can hold."""
        stream = torch.cuda.current_stream() if self.products.device.type == "cuda" else None
        try:
            self._record(shape, batch, negatives, more)
        except RuntimeError as error:
            if stream is not None:
                torch.cuda.set_stream(stream)  # a recording that fails leaves its own behind
            logger.warning("steps are taken one by one, since they cannot be recorded: %s", error)
            self.suits = False
        return self.suits

    def _record(
        self, shape: Shape, batch: Batch, negatives: Negatives, more: Tensor | None
    ) -> None:
        self.shape, device = shape, self.products.device
        self.numbers = torch.zeros(sum(shape.sizes), dtype=torch.int64, device=device)
        self.log_q = torch.zeros(shape.ids or (shape.batch,), device=device)
        self._fill(batch, negatives, more)
        users, items, user_at, item_at, extra_at, user_counts, item_counts, masked = (
            self.numbers.split(shape.sizes)
        )
        places = Places(
            users, items, user_at, item_at, item_at[:0], user_counts, item_counts,
            None if shape.more is None else extra_at.view(shape.more),
        )  # fmt: skip
        given = Negatives(
            None if shape.ids is None else item_at[shape.batch :].view(shape.ids),
            self.log_q if shape.corrected else None,
            masked.view(2, -1) if shape.room else None,
            known=negatives.known,
        )

        def work() -> None:
            # A recording makes its own gradients, which each replay writes anew.
            for parameter in self.parameters:
                parameter.grad = None
            with self.products.step():
                with self.products.forward():
                    mean, added = objective_at(
                        self.model, self.loss, self.sampler, batch, given, places, self.l2
                    )
                (mean + added).backward()
            self.mean = mean.detach()
            self.gradients = [parameter.grad for parameter in self.parameters]

        if device.type != "cuda":  # a CPU does the work again: a test of what lies in the buffers
            self.replay = work
            return
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            work()
        self.replay = graph.replay
        logger.debug("recorded a step of %s", shape)

    def _fill(self, batch: Batch, negatives: Negatives, more: Tensor | None) -> None:
        """Send a batch to where the recording reads it."""
        assert self.shape is not None
        places = Places.of(batch, negatives, more, self.sampler.regularised)
        extra_at = places.user_at[:0] if more is None else places.extra_at.reshape(-1)  # type: ignore[union-attr]
        found = [
            places.users, places.items, places.user_at, places.item_at, extra_at, places.user_counts,
            places.item_counts,
        ]  # fmt: skip
        parts = [
            F.pad(part.long(), (0, size - len(part)))
            for part, size in zip(found, self.shape.sizes[:-1], strict=True)
        ]
        if self.shape.room:
            pairs = negatives.masked if negatives.masked is not None else torch.zeros(2, 0).long()
            # Row B does not exist: such a pair hides nothing.
            left = (0, self.shape.room - pairs.shape[1])
            parts += [F.pad(pairs[0], left, value=len(batch)), F.pad(pairs[1], left)]
        self.numbers.copy_(sent(torch.cat(parts), self.numbers.device))
        if negatives.log_q is not None:
            self.log_q.copy_(sent(negatives.log_q, self.log_q.device))
