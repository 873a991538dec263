"""Seconds to train and no model named: EASE and SVD first, LightGCN in the time left, validation chooses."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from statistics import median
from typing import Any

import numpy as np
import torch

from ssmrec.data import Interactions, Split, synthetic
from ssmrec.errors import RunError
from ssmrec.models.start import singular_factors
from ssmrec.training.ahead import without_start
from ssmrec.training.checkpoint import Checkpoint
from ssmrec.training.config import RankingConfig, RunConfig, label, resolve
from ssmrec.training.diverged import DivergedError
from ssmrec.training.listener import Listener
from ssmrec.training.loop import Trainer
from ssmrec.training.protocols import Trained, tested, train_run
from ssmrec.training.seeds import numpy_generator

SVD_DIMS = (32, 64, 128, 256, 512)
EASE_L2 = (100.0, 300.0, 1000.0)
LIGHTGCN_DIMS = (256, 128, 64)

_MATRIX = 2**30
"""Most bytes of an item-item matrix, which is also what a run folder with EASE takes: 16,384 items."""

_SHARE = 0.5
"""Most of the time left that one solution of EASE may take."""

_PAIR = 2e-9
"""Seconds to count one pair of items in a history, on one thread."""

_DOUBLING = 3.0
"""What twice the dimensions cost: between 2 for the products with the graph and 4 for the bases."""

_EPOCHS = 2
"""LightGCN passes its spectral start within them; with less time it is not worth beginning."""

_STEPS = 6


def train_best(
    config: RunConfig,
    split: Split,
    listener: Listener | None = None,
    checkpoint: Checkpoint | None = None,
) -> Trained:
    """As `train_run`; with `train.choose_model`, of the best model that the budget has time for.

    Where items are few, EASE is solved with l2 = 100, 300, ... while its validation metric rises and there
    is time; then SVD with 32, 64, ... dimensions likewise. LightGCN then trains from the spectral
    start for the seconds left, if two epochs fit into them.
    The best by `train.metric` on validation is returned; `metrics["candidates"]` tells of all.
    Test is looked at for that one only. Ctrl-C ends the search: the best so far is returned.
    """
    if not config.train.choose_model or config.train.budget is None:
        return train_run(config, split, listener, checkpoint)
    search = _Search(config, replace(split, test=None), listener or Listener())
    try:
        search.solve_ease()
        search.solve_svd()
        search.train(checkpoint)
    except KeyboardInterrupt:
        if search.found is None:
            raise
        search.interrupted = True
    return tested(search.best(), split.test)


class _Search:
    """The models tried within one budget. `split` has no test part."""

    def __init__(self, config: RunConfig, split: Split, listener: Listener) -> None:
        self.config, self.split, self.listener = config, split, listener
        self.left = config.train.budget or 0.0
        self.found: Trained | None = None
        self.candidates: list[dict[str, Any]] = []
        self.seconds = {"train": 0.0, "eval": 0.0}
        self.interrupted = False
        self.dim = SVD_DIMS[0]  # of the best SVD

    def solve_ease(self) -> None:
        """EASE with ever larger l2, where one solution is cheap."""
        train, last = self.split.train, -math.inf
        if 4 * train.n_items**2 > _MATRIX:
            return self.listener.note(
                f"ease is left out: {train.n_items:,} items are too many for it"
            )
        start = time.perf_counter()
        needed = _solution_seconds(train)
        self.left -= time.perf_counter() - start
        if needed > _SHARE * self.left:
            return self.listener.note(
                f"ease is left out: it would take some {needed:.1f} s, and {max(self.left, 0.0):.1f} s of "
                "the budget are left"
            )
        for l2 in EASE_L2:
            trained = self._solved({"name": "ease", "l2": l2})
            if trained is None or self._value(trained) <= last:
                return None
            last = self._value(trained)
            if trained.metrics["seconds"]["train"] > _SHARE * self.left:
                return None
        return None

    def solve_svd(self) -> None:
        """SVD with ever more dimensions, at least one."""
        start, last = time.perf_counter(), -math.inf
        singular_factors(synthetic(50, 40, 400), 8, torch.Generator())  # loads compiled code
        self.left -= time.perf_counter() - start
        for dim in SVD_DIMS:
            trained = self._solved({"name": "svd", "dim": dim}, last == -math.inf)
            if trained is None or self._value(trained) <= last:
                return
            last, self.dim = self._value(trained), dim
            took = trained.metrics["seconds"]["train"]
            full = dim >= min(self.split.train.n_users, self.split.train.n_items)
            if full or _DOUBLING * took > self.left:
                return

    def _solved(self, model: dict[str, Any], needed: bool = False) -> Trained | None:
        """The closed form, which has become one of the candidates; None where memory ran out.

        Raises:
            RunError: it did, nothing was solved before, and this one is `needed`.
        """
        try:  # a budget would only be warned of: a closed form cannot stop half-way
            trained = train_run(self._with(model, budget=None), self.split)
        except RunError as error:
            if needed and self.found is None:
                raise
            return self._give_up(error)
        self._keep(replace(trained, config=self._with(model)))
        return trained

    def train(self, checkpoint: Checkpoint | None) -> None:
        """LightGCN in the time left, if there is enough; a checkpoint's goes on with its settings."""
        try:
            begun = (checkpoint and checkpoint.model) or self._affordable()
            if begun is None:
                return
            if checkpoint is not None:
                checkpoint.settings["model"] = begun
            config = self._with(begun, budget=max(self.left, 1e-3))
            trained = train_run(config, self.split, self.listener, checkpoint)
        except (DivergedError, MemoryError, torch.OutOfMemoryError) as error:
            return self._give_up(error)
        self.interrupted = trained.metrics["stopped"] == "interrupted"
        if trained.metrics["epochs"]:
            self._keep(trained)

    def _give_up(self, error: Exception) -> None:
        told = str(error).partition("\n")[0] or "out of memory"
        before = " with what was solved before" if self.found else ""
        self.listener.note(f"{told}; going on{before}")

    def best(self) -> Trained:
        """The best one, with the facts of all."""
        assert self.found is not None
        best, name, count = self.found, self.config.train.metric, len(self.candidates)
        self.listener.note(f"the best of {count} by {name} on validation: {_named(best)}")
        more: dict[str, Any] = {"candidates": self.candidates, "seconds": self.seconds}
        if self.interrupted:
            more["stopped"] = "interrupted"
        return replace(best, metrics={**best.metrics, **more})

    def _affordable(self) -> dict[str, Any] | None:
        """LightGCN with the most dimensions of which two epochs fit into the time left, if any do.

        No more dimensions than the best SVD has: where more did not help there, they do not here.
        """
        most = max(self.dim, LIGHTGCN_DIMS[-1])
        needed = 0.0
        for dim in (dim for dim in LIGHTGCN_DIMS if dim <= most):
            if self.left <= 0:  # to measure takes time as well
                break
            start = time.perf_counter()
            model = {"name": "lightgcn", "dim": dim, "init": "spectral"}
            needed = _EPOCHS * _epoch_seconds(self._with(model), self.split.train)
            self.left -= time.perf_counter() - start
            if needed <= self.left:
                return model
        told = f"{_EPOCHS} epochs would take {needed:.1f} s, and " if needed else ""
        self.listener.note(
            f"lightgcn is left out: {told}{max(self.left, 0.0):.1f} s of the budget are left"
        )
        return None

    def _keep(self, trained: Trained) -> None:
        name, value = self.config.train.metric, self._value(trained)
        for part in self.seconds:
            self.seconds[part] += trained.metrics["seconds"][part]
        took = trained.metrics["seconds"]["train"]
        self.left -= took
        key, tried = _tried(trained)
        self.candidates.append(
            {"model": label(trained.config), key: tried, f"valid {name}": value, "seconds": took}
        )  # fmt: skip
        if self.found is None or value > self._value(self.found):
            self.found = trained
        self.listener.note(f"{_named(trained)}: {name} {value:.4f} on validation, in {took:.1f} s")

    def _value(self, trained: Trained) -> float:
        return trained.metrics["valid"][self.config.train.metric]

    def _with(self, model: dict[str, Any], **train: Any) -> RunConfig:
        """The settings with a model, and values of training, of its own."""
        settings = self.config.train.model_copy(update={"choose_model": False, **train})
        changed = {"model": model, "train": settings, "ranking": RankingConfig()}
        return resolve(self.config.model_copy(update=changed))


def _tried(trained: Trained) -> tuple[str, Any]:
    """The setting that is tried, and its value: dimensions, or l2 of EASE."""
    key = "dim" if "dim" in trained.config.model else "l2"
    return key, trained.config.model[key]


def _named(trained: Trained) -> str:
    key, value = _tried(trained)
    said = f"{value} dimensions" if key == "dim" else f"{key} {value:g}"
    return f"{trained.config.model['name']} with {said}"


def _solution_seconds(train: Interactions) -> float:
    """Of EASE, by the time of a product of matrices and the number of pairs of items in histories."""
    size, took = 2048, []
    matrix = torch.ones(size, size)
    for _ in range(3):  # the first one starts threads, others may be disturbed
        start = time.perf_counter()
        torch.mm(matrix, matrix)
        took.append(time.perf_counter() - start)
    # A product takes 2 size^3 steps, an inverse n^3, which are done a little slower.
    inverse = 0.6 * min(took) * (train.n_items / size) ** 3
    pairs = float(np.square(train.user_degrees.astype(np.float64)).sum())
    return inverse + _PAIR * pairs


def _epoch_seconds(config: RunConfig, train: Interactions) -> float:
    """An epoch's time by the median of a few steps; compilation and Adam's first step left out."""
    trainer, size = Trainer(without_start(config), train, 1), config.train.batch_size
    draws = numpy_generator(config.seed, "budget")
    took = []
    for _ in range(_STEPS):
        chosen = draws.integers(len(train), size=min(size, len(train)))
        batch = trainer.batch_at(chosen)
        start = time.perf_counter()
        trainer.step(batch, draws).item()  # waits for a GPU to be done with the step
        took.append(time.perf_counter() - start)
    return median(took[1:]) * math.ceil(len(train) / size)
