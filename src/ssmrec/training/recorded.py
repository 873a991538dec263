"""A training step recorded once as a CUDA graph and replayed with the rows of other batches.

A step is some hundred small kernels, which take a CPU several times longer to launch than a GPU to run.
A replay launches them all at once. It needs steps of one shape: the rows of a batch lie in buffers of
fixed size, filled up with rows that nothing reads, whose gradient is exactly zero.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ssmrec.losses import Loss
from ssmrec.models import Backbone
from ssmrec.negatives import Batch, Negatives, Sampler
from ssmrec.training.device import Products
from ssmrec.training.step import Places, objective_at

logger = logging.getLogger("ssmrec")

Array = np.ndarray

_WARM = 3
"""Steps taken one by one first, so that every kernel is compiled and every library has started."""
_ROOM = 4096
"""Masked pairs are given room in multiples of this."""
_MOST = 32
"""Recordings of one training: where no two steps have one shape, each would serve one of them."""
_AHEAD = 4
"""Batches that may be on their way to the device."""
_NONE = np.empty(0, dtype=np.int64)
_OF_BACKBONE = ("vectors", "before_epoch")
_OF_LOSS = ("forward", "fused", "from_vectors", "before_epoch", "after_step")
"""What is recorded, and what may change numbers of Python's that it reads, which a recording keeps."""


@dataclass(frozen=True)
class Shape:
    """What two steps must share for one recording to serve both."""

    batch: int
    ids: tuple[int, ...] | None
    corrected: bool
    known: bool
    weighted: bool
    more: tuple[int, ...] | None
    room: int

    @classmethod
    def of(cls, batch: Batch, negatives: Negatives, more: Tensor | None = None) -> Shape:
        """That of a step, with half as much room again for masked pairs."""
        return cls(
            len(batch), None if negatives.ids is None else tuple(negatives.ids.shape),
            negatives.log_q is not None, negatives.known is not None,
            batch.weights is not None, None if more is None else tuple(more.shape),
            -(-_pairs(negatives) * 3 // 2 // _ROOM) * _ROOM,
        )  # fmt: skip

    def holds(self, other: Shape, pairs: int) -> bool:
        """Whether a step of the other shape with so many masked pairs fits into this one."""
        return self == replace(other, room=self.room) and pairs <= self.room

    @property
    def log_q(self) -> tuple[int, ...]:
        """The shape of log q."""
        return (self.ids or (self.batch,)) if self.corrected else (0,)

    @property
    def sizes(self) -> list[int]:
        """Room for users, items, their places, the places of what the loss asks for, counts, masked pairs,
        and log q and weights, two numbers to a place."""
        own = self.batch + (0 if self.ids is None else math.prod(self.ids))
        more = 0 if self.more is None else math.prod(self.more)
        return [
            self.batch, own + more, self.batch, own, more, self.batch, own + more,
            2 * self.room, -(-math.prod(self.log_q) // 2),
            -(-self.batch // 2) if self.weighted else 0,
        ]  # fmt: skip


def _pairs(negatives: Negatives) -> int:
    return 0 if negatives.masked is None else negatives.masked.shape[1]


def _in_pairs(numbers: Tensor | None) -> Tensor | None:
    """Float32 numbers, two to an int64."""
    if numbers is None:
        return None
    flat = numbers.float().reshape(-1)
    return F.pad(flat, (0, len(flat) % 2)).view(torch.int64)


def recordable(part: Backbone | Loss) -> bool:
    """Whether the part says so, and again where a class overrides what is recorded or changes it."""
    methods = _OF_BACKBONE if isinstance(part, Backbone) else _OF_LOSS
    owner = next(cls for cls in type(part).__mro__ if any(name in vars(cls) for name in methods))
    return "recordable" in vars(owner) and part.recordable


@contextmanager
def _capturable(optimizer: torch.optim.Adam | None) -> Iterator[None]:
    """While a step of fused Adam is recorded, which counts its steps on the device, let it."""
    groups = [] if optimizer is None else optimizer.param_groups
    for group in groups:
        group["capturable"] = True
    try:
        yield
    finally:
        for group in groups:
            group["capturable"] = False


class Sending:
    """Numbers on their way to a device, which reads one buffer while the CPU fills the next.

    Args:
        sizes: of the parts of a buffer, int64.
        device: where they go.
        spare: what the first parts are filled up with; the others with 0.
    """

    def __init__(
        self, sizes: Sequence[int], device: torch.device, spare: Sequence[int] = ()
    ) -> None:
        self.there = torch.zeros(sum(sizes), dtype=torch.int64, device=device)
        on_gpu = device.type == "cuda"
        self.here = [torch.zeros_like(self.there, device="cpu") for _ in range(_AHEAD)]
        if on_gpu:
            self.here = [buffer.pin_memory() for buffer in self.here]
        self.parts = [np.split(buffer.numpy(), np.cumsum(sizes)[:-1]) for buffer in self.here]
        self.spare = [*spare, *[0] * (len(sizes) - len(spare))]
        self.read = [torch.cuda.Event() for _ in self.here] if on_gpu else []
        self.turn = 0

    def send(self, parts: Sequence[Array]) -> None:
        """Send an array for each part; what is left of a part is filled up."""
        self.turn = (self.turn + 1) % len(self.here)
        if self.read:
            self.read[self.turn].synchronize()
        for room, part, rest in zip(self.parts[self.turn], parts, self.spare, strict=True):
            room[: len(part)] = part
            room[len(part) :] = rest
        self.there.copy_(self.here[self.turn], non_blocking=True)
        if self.read:
            self.read[self.turn].record()


class Recorder:
    """Steps on a GPU by a recording, those that allow it.

    Args:
        model, loss, sampler: of the training, on a CUDA device.
        products: the arithmetic of the steps. l2: as in `objective`.
        optimizer: takes its step as a part of the recording, at the rates it has then; None leaves that
            to the caller.
    """

    mean: Tensor
    gradients: list[Tensor | None]
    replay: Callable[[], None]

    def __init__(
        self,
        model: Backbone,
        loss: Loss,
        sampler: Sampler,
        products: Products,
        l2: float,
        optimizer: torch.optim.Adam | None = None,
    ) -> None:
        self.model, self.loss, self.sampler = model, loss, sampler
        self.products, self.l2, self.optimizer = products, l2, optimizer
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
        """Mean loss of the batch, its gradients left in the parameters; None if it cannot be recorded.

        With an optimiser the parameters have taken their step.
        """
        if not self.suits:
            return None
        shape = Shape.of(batch, negatives, more)
        if self.shape is None or not self.shape.holds(shape, _pairs(negatives)):
            if self.shape is not None and len(batch) < self.shape.batch:
                return None  # the rest of an epoch is not worth a recording
            self.warm += 1
            self.suits = self.warm <= _WARM + _MOST
            if self.warm <= _WARM or not self.suits:
                return None
            if not self._recorded(shape, batch, negatives, more):
                return None
        self._fill(batch, negatives, more)
        self.replay()
        for parameter, gradient in zip(self.parameters, self.gradients, strict=True):
            parameter.grad = gradient
        return self.mean

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
        self.shape = shape
        # Spare rows are computed as well, and those of few neighbours are soon done.
        train = self.sampler.train
        spare = int(train.user_degrees.argmin()), int(train.item_degrees.argmin())
        self.sending = Sending(shape.sizes, self.products.device, spare)
        self._fill(batch, negatives, more)
        given, places, weights = self._read(shape, negatives)
        batch = replace(batch, weights=weights)

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
            if self.optimizer is not None:
                self.optimizer.step()

        if self.products.device.type != "cuda":  # the work again: a test of what the buffers hold
            self.replay = work
            return
        graph = torch.cuda.CUDAGraph()
        with _capturable(self.optimizer), torch.cuda.graph(graph):
            work()
        self.replay = graph.replay
        logger.debug("recorded a step of %s", shape)

    def _read(self, shape: Shape, negatives: Negatives) -> tuple[Negatives, Places, Tensor | None]:
        """What the recording reads, as views of the buffer on the device."""
        parts = self.sending.there.split(shape.sizes)
        users, items, user_at, item_at, extra_at, of_users, of_items, masked, log_q, weights = parts
        extra = None if shape.more is None else extra_at.view(shape.more)
        places = Places(users, items, user_at, item_at, item_at[:0], of_users, of_items, extra)
        numbers = log_q.view(torch.float32)[: math.prod(shape.log_q)].view(shape.log_q)
        given = Negatives(
            None if shape.ids is None else item_at[shape.batch :].view(shape.ids),
            numbers if shape.corrected else None,
            masked.view(2, -1) if shape.room else None,
            known=negatives.known,
        )
        return given, places, weights.view(torch.float32)[: shape.batch] if shape.weighted else None

    def _fill(self, batch: Batch, negatives: Negatives, more: Tensor | None) -> None:
        """Send a batch to where the recording reads it."""
        assert self.shape is not None
        places = Places.of(batch, negatives, more, self.sampler.regularised)
        masked = np.zeros((2, self.shape.room), dtype=np.int64)
        masked[0] = len(batch)  # row B does not exist: such a pair hides nothing
        if negatives.masked is not None:
            masked[:, : _pairs(negatives)] = negatives.masked.numpy()
        extra_at = None if places.extra_at is None else places.extra_at.reshape(-1)
        parts = [
            places.users, places.items, places.user_at, places.item_at, extra_at,
            places.user_counts, places.item_counts, masked.reshape(-1),
            _in_pairs(negatives.log_q), _in_pairs(batch.weights),
        ]  # fmt: skip
        self.sending.send([_NONE if part is None else np.asarray(part) for part in parts])
