"""The training loop: epochs over the positives, evaluation, early stopping, the best state kept."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssmrec.data import Interactions
from ssmrec.errors import ConfigError
from ssmrec.evaluation import evaluate
from ssmrec.losses import Loss
from ssmrec.models import Backbone
from ssmrec.negatives import Batch, Negatives, Sampler
from ssmrec.training.config import RunConfig, make_loss, make_sampler
from ssmrec.training.device import Products, pick_device, use_threads
from ssmrec.training.diverged import assert_finite, finite
from ssmrec.training.feed import fed
from ssmrec.training.learning import LearningCheck
from ssmrec.training.listener import Listener
from ssmrec.training.optimizers import make_optimizer
from ssmrec.training.peers import current
from ssmrec.training.recorded import Recorder
from ssmrec.training.regularise import Regulariser, regulariser
from ssmrec.training.rows import pair_weights
from ssmrec.training.seeds import numpy_generator, torch_generator
from ssmrec.training.step import objective

logger = logging.getLogger("ssmrec")

_REPORT_EVERY = 0.2
"""Seconds between progress reports: reading the loss of every step would cost time."""


BROKEN_OFF = ("interrupted", "diverged")
"""How a training stops whose model is the best one until then."""


@dataclass(frozen=True)
class Watch:
    """Held-out pairs that choose the epoch, and what is masked while ranking for them."""

    held_out: Interactions
    seen: Sequence[Interactions]


@dataclass(eq=False)
class State:
    """Where a training stands after a whole epoch: all that is needed to go on from there.

    Attributes:
        epoch: epochs done.
        history: one record per epoch.
        best: parameters of the best epoch so far; empty while nothing was evaluated.
        best_epoch, best_value: that epoch and its metric.
        stopped: why it ended: `epochs`, `patience`, `budget`, `interrupted`; empty while going on.
    """

    epoch: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    best_epoch: int = 0
    best_value: float = -math.inf
    stopped: str = ""


class Trainer:
    """One training of one model: `run()` goes on from `state` to the end.

    Args:
        config: resolved settings.
        train: the pairs to learn from; graph, popularity and negatives come from them alone.
        epochs: passes over `train`, at most.
        watch: what chooses the epoch; None keeps the last one.
        listener: hears of progress.
    """

    def __init__(
        self,
        config: RunConfig,
        train: Interactions,
        epochs: int,
        watch: Watch | None = None,
        listener: Listener | None = None,
    ) -> None:
        if not len(train):
            raise ConfigError("no training pairs are left: nothing to learn from")
        self.peers = current()
        use_threads(config.train.threads or self.peers.threads)
        self.start = time.perf_counter()
        self.config, self.train, self.epochs, self.watch = config, train, epochs, watch
        self.listener = listener or Listener()
        self.weights = pair_weights(train, config.train.weight_power)
        self.device = pick_device(config.train.device)
        self.products = Products(config.train.precision, self.device)
        start = torch_generator(config.seed, "init")
        self.model: Backbone = self.peers.backbone(config, train, start, self.device)
        self.loss: Loss = make_loss(config)
        self.loss.attach(train, torch_generator(config.seed, "loss"))
        self.loss.to(self.device)
        self.sampler: Sampler = make_sampler(config, train)
        if self.device.type == "cuda" and self.peers.alone:
            # By its number: batches are made in another thread, which has a current GPU of its own.
            self.sampler.device = next(self.model.parameters()).device
        # A loss that draws too takes turns with the sampler; on a CPU a step leaves no core idle.
        own_draws = type(self.loss).more_items is not Loss.more_items
        self.ahead = self.device.type == "cuda" and not own_draws
        groups = [{"params": list(self.model.parameters())}, *self.loss.parameter_groups()]
        self.optimizer = make_optimizer(config.train.optimizer, self.model, groups, config.train.lr)
        steady = config.train.optimizer == "adam" and config.train.lr_decay == "none"
        self.recorder = Recorder(
            self.model, self.loss, self.sampler, self.products, config.train.l2,
            self.optimizer if steady else None,
        )  # fmt: skip
        self.rates = [group["lr"] for group in self.optimizer.param_groups]
        self.state = State()
        self.views = torch_generator(config.seed, "views")
        self.regulariser: Regulariser | None = None
        self.learning = LearningCheck()

    def run(self, after_epoch: Callable[[Trainer], None] | None = None) -> State:
        """Train until the epochs are through, patience is out, or Ctrl-C; the best state is loaded.

        Raises:
            DivergedError: loss or model are no longer finite; the model then holds the best state.
        """
        try:
            while not self._finished():
                self._one_epoch()
                if after_epoch is not None:
                    after_epoch(self)
        except KeyboardInterrupt:
            self.state.stopped = "interrupted"
        finally:
            self.optimizer.zero_grad(set_to_none=True)  # as large as the model, which stays
            if self.state.best:
                self.model.load_state_dict(self.state.best)
        if not self.state.best:
            self.state.best_epoch = self.state.epoch
        return self.state

    def _finished(self) -> bool:
        state, settings = self.state, self.config.train
        if state.stopped:
            return True
        if state.best and len(self.stale) >= settings.patience:
            state.stopped = "patience"
        elif state.epoch >= self.epochs:
            state.stopped = "epochs"
        return bool(state.stopped)

    @property
    def stale(self) -> list[int]:
        """Epochs since the best one that were evaluated, and could have made a better one."""
        metric, best = self.config.train.metric, self.state.best_epoch
        return [
            record["epoch"]
            for record in self.state.history[best:]
            if metric in record and not record.get("idle")
        ]

    def _one_epoch(self) -> None:
        state = self.state
        start = time.perf_counter()
        loss, share = self._pass(state.epoch + 1)
        self.peers.align(self.model)
        assert_finite(self.model, self.optimizer, state.epoch + 1, self.config)
        state.epoch += 1
        took = time.perf_counter() - start
        record: dict[str, Any] = {"epoch": state.epoch, "loss": loss, "train_seconds": took}
        record["examples_per_second"] = share * len(self.train) / took
        if share < 1:
            record["share"] = share
        if not self.loss.trains_model:
            record["idle"] = True
        best = self._evaluate(record)
        state.history.append(record)
        self.listener.epoch(record, best)
        self.learning(self)
        self.start += time.perf_counter() - start - took  # evaluations do not count

    def _evaluate(self, record: dict[str, Any]) -> bool:
        """Add the watched metric to `record` when it is due; keep the state if it is the best."""
        settings, state = self.config.train, self.state
        last = state.epoch == self.epochs or state.stopped
        due = last or state.epoch % settings.eval_every == 0
        if self.watch is None or not due:
            return False
        similarity: Any = self.config.ranking.similarity
        users, items, spread = self.peers.ranking(self.model, similarity)
        result = evaluate(
            users, items, self.watch.held_out, self.watch.seen, [settings.metric],
            allowed=self.train.item_degrees > 0, progress=self.listener.evaluating,
            spread=spread,
        )  # fmt: skip
        value = result.values[settings.metric]
        record |= {settings.metric: value, "eval_seconds": result.seconds}
        if value <= state.best_value:
            return False
        state.best_value, state.best_epoch = value, state.epoch
        state.best = {
            name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()
        }
        return True

    def _pass(self, epoch: int) -> tuple[float, float]:
        """One pass over the pairs in a new order: mean loss of its batches, and the share done."""
        seed, settings = self.config.seed, self.config.train
        shuffle = numpy_generator(seed, "shuffle", epoch).shuffle
        order = self.peers.shuffled(len(self.train), shuffle)
        draws = numpy_generator(seed, "negatives", epoch)
        steps = math.ceil(len(order) / settings.batch_size)
        self.views = torch_generator(seed, "views", epoch)
        self.model.before_epoch(epoch, self.views)
        self.regulariser = regulariser(settings, epoch)
        with torch.no_grad():
            self.loss.before_epoch(epoch, self.model.vectors)
        # In float64: a float32 sum of 50,000 losses is wrong in its fourth digit.
        total, reported, done = torch.zeros((), dtype=torch.float64, device=self.device), 0.0, 0

        def made(step: int) -> tuple[Batch, Negatives]:
            start = step * settings.batch_size
            batch = self.batch_at(order[start : start + settings.batch_size])
            return batch, self.sampler.draw(batch, draws)

        for step, (batch, negatives) in enumerate(fed(range(steps), made, self.ahead)):
            self._set_rate(((epoch - 1) * steps + step) / (self.epochs * steps))
            total += self.step(batch, draws, negatives)
            done += len(batch)
            if self.peers.due(step, time.perf_counter() - reported, _REPORT_EVERY):
                reported = time.perf_counter()
                mean = finite(total.item() / (step + 1), epoch, self.config)
                self.listener.step(epoch, done, len(order), mean)
            if settings.budget is not None and self._spent() >= settings.budget:
                self.state.stopped = "budget"
                break
        batches = math.ceil(done / settings.batch_size)
        return finite(total.item() / batches, epoch, self.config), done / len(order)

    def batch_at(self, places: np.ndarray) -> Batch:
        """The pairs at `places` (B,) of the training pairs."""
        users, items = (
            torch.from_numpy(side[places].astype(np.int64))
            for side in (self.train.rows, self.train.indices)
        )
        weights = None if self.weights is None else torch.from_numpy(self.weights[places])
        return Batch(users, items, weights)

    def _spent(self) -> float:
        """Seconds since this trainer began to be built, evaluations left out."""
        return self.peers.first(time.perf_counter() - self.start)

    def step(
        self, batch: Batch, draws: np.random.Generator, negatives: Negatives | None = None
    ) -> Tensor:
        """One step of the optimiser on a batch, with negatives drawn for it or drawn here; its mean loss."""
        negatives = self.sampler.draw(batch, draws) if negatives is None else negatives
        more = self.loss.more_items(batch, draws)
        l2 = self.config.train.l2 if self.loss.trains_model else 0.0
        views = self.views if self.loss.trains_model else None
        added = self.regulariser if self.loss.trains_model else None
        mean = None
        if self.peers.alone and added is None and self.loss.trains_model:
            mean = self.recorder.step(batch, negatives, more)
        stepped = mean is not None and self.recorder.optimizer is not None
        if mean is None:
            mean = self._gradient(batch, negatives, l2, more, views, added)
        if not stepped:
            self.optimizer.step()
        with torch.no_grad():
            self.loss.after_step()
        return mean

    def _gradient(
        self,
        batch: Batch,
        negatives: Negatives,
        l2: float,
        more: Tensor | None,
        views: torch.Generator | None,
        added: Regulariser | None,
    ) -> Tensor:
        """Mean loss of the batch; its gradients are left in the parameters."""
        with self.products.step():
            with self.products.forward():
                loss, penalty = objective(
                    self.model, self.loss, self.sampler, batch, negatives, l2, more, views, added
                )
            self.optimizer.zero_grad(set_to_none=True)
            (loss + penalty).backward()
        return self.peers.total(loss.detach())

    def _set_rate(self, progress: float) -> None:
        """Lower the learning rate by the share of the epochs, or of the budget, that is through."""
        settings = self.config.train
        if settings.lr_decay == "linear":
            if settings.budget is not None:
                progress = max(progress, min(1.0, self._spent() / settings.budget))
            for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
                group["lr"] = rate * (1 - progress)
