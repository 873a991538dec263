"""Seconds to train and no model named: SVD first, LightGCN in the time left, validation chooses."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from statistics import median
from typing import Any

import numpy as np
import torch

from ssmrec.data import Interactions, Split, synthetic
from ssmrec.models.start import singular_factors
from ssmrec.negatives import Batch
from ssmrec.training.checkpoint import Checkpoint
from ssmrec.training.config import RankingConfig, RunConfig, label, resolve
from ssmrec.training.listener import Listener
from ssmrec.training.loop import DivergedError, Trainer
from ssmrec.training.protocols import Trained, tested, train_run
from ssmrec.training.seeds import numpy_generator

SVD_DIMS = (32, 64, 128, 256, 512)
LIGHTGCN_DIMS = (256, 128, 64)

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

    SVD is solved with 32, 64, ... dimensions while its validation metric rises and there is time.
    LightGCN then trains from the spectral start for the seconds left, if two epochs fit into them.
    The better by `train.metric` on validation is returned; `metrics["candidates"]` tells of all.
    Test is looked at for that one only. Ctrl-C ends the search: the best so far is returned.
    """
    if not config.train.choose_model or config.train.budget is None:
        return train_run(config, split, listener, checkpoint)
    search = _Search(config, replace(split, test=None), listener or Listener())
    try:
        search.solve()
        search.train(checkpoint)
    except KeyboardInterrupt:
        if not search.tried:
            raise
        search.interrupted = True
    return tested(search.best(), split.test)


class _Search:
    """The models tried within one budget. `split` has no test part."""

    def __init__(self, config: RunConfig, split: Split, listener: Listener) -> None:
        self.config, self.split, self.listener = config, split, listener
        self.left = config.train.budget or 0.0
        self.tried: list[Trained] = []
        self.interrupted = False

    def solve(self) -> None:
        """SVD with ever more dimensions, at least one."""
        start, last = time.perf_counter(), -math.inf
        singular_factors(synthetic(50, 40, 400), 8, torch.Generator())  # loads compiled code
        self.left -= time.perf_counter() - start
        for dim in SVD_DIMS:
            trained = train_run(self._with({"name": "svd", "dim": dim}), self.split)
            took = self._keep(trained)
            full = dim >= min(self.split.train.n_users, self.split.train.n_items)
            if full or self._value(trained) <= last or _DOUBLING * took > self.left:
                return
            last = self._value(trained)

    def train(self, checkpoint: Checkpoint | None) -> None:
        """LightGCN in the time left, if there is enough; a checkpoint's goes on with its settings."""
        begun = None if checkpoint is None else checkpoint.model
        if begun is None:
            begun = self._affordable()
        if begun is None:
            return
        if checkpoint is not None:
            checkpoint.settings["model"] = begun
        budget = self.config.train.budget if checkpoint and checkpoint.phases else self.left
        config = self._with(begun, budget=max(budget or 0.0, 1e-3))
        try:
            trained = train_run(config, self.split, self.listener, checkpoint)
        except DivergedError as error:
            self.listener.note(f"{error}; going on with what was solved before")
            return
        self.interrupted = trained.metrics["stopped"] == "interrupted"
        if trained.metrics["epochs"]:
            self._keep(trained)

    def best(self) -> Trained:
        """The best one, with the facts of all."""
        name, best = self.config.train.metric, max(self.tried, key=self._value)
        self.listener.note(f"the best of {len(self.tried)} by {name} on validation: {_named(best)}")
        candidates = [
            {"model": label(one.config), "dim": one.config.model["dim"],
             f"valid {name}": self._value(one), "seconds": one.metrics["seconds"]["train"]}
            for one in self.tried
        ]  # fmt: skip
        sums = {
            part: sum(one.metrics["seconds"][part] for one in self.tried)
            for part in ("train", "eval")
        }
        more = {"candidates": candidates, "seconds": sums}
        if self.interrupted:
            more["stopped"] = "interrupted"
        return replace(best, metrics={**best.metrics, **more})

    def _affordable(self) -> dict[str, Any] | None:
        """LightGCN with the most dimensions of which two epochs fit into the time left, if any do.

        No more dimensions than the best SVD has: where more did not help there, they do not here.
        """
        most = max(max(self.tried, key=self._value).config.model["dim"], LIGHTGCN_DIMS[-1])
        needed = 0.0
        for dim in (dim for dim in LIGHTGCN_DIMS if dim <= most):
            start = time.perf_counter()
            model = {"name": "lightgcn", "dim": dim, "init": "spectral"}
            needed = _EPOCHS * _epoch_seconds(self._with(model), self.split.train)
            self.left -= time.perf_counter() - start
            if needed <= self.left:
                return model
        self.listener.note(
            f"lightgcn is left out: {_EPOCHS} epochs would take {needed:.1f} s, and "
            f"{max(self.left, 0.0):.1f} s of the budget are left"
        )
        return None

    def _keep(self, trained: Trained) -> float:
        took = trained.metrics["seconds"]["train"]
        self.left -= took
        self.tried.append(trained)
        self.listener.note(
            f"{_named(trained)}: {self.config.train.metric} {self._value(trained):.4f} on "
            f"validation, in {took:.1f} s"
        )
        return took

    def _value(self, trained: Trained) -> float:
        return trained.metrics["valid"][self.config.train.metric]

    def _with(self, model: dict[str, Any], **train: Any) -> RunConfig:
        """The settings with a model, and values of training, of its own."""
        settings = self.config.train.model_copy(update={"choose_model": False, **train})
        changed = {"model": model, "train": settings, "ranking": RankingConfig()}
        return resolve(self.config.model_copy(update=changed))


def _named(trained: Trained) -> str:
    return f"{trained.config.model['name']} with {trained.config.model['dim']} dimensions"


def _epoch_seconds(config: RunConfig, train: Interactions) -> float:
    """An epoch's time by the median of a few steps; compilation and Adam's first step left out."""
    cheap = config.model_copy(update={"model": {**config.model, "init": "xavier"}})
    trainer, size = Trainer(cheap, train, 1), config.train.batch_size
    draws = numpy_generator(config.seed, "budget")
    took = []
    for _ in range(_STEPS):
        chosen = draws.integers(len(train), size=min(size, len(train)))
        pairs = train.rows[chosen], train.indices[chosen]
        batch = Batch(*(torch.from_numpy(side.astype(np.int64)) for side in pairs))
        start = time.perf_counter()
        trainer.step(batch, draws).item()  # waits for a GPU to be done with the step
        took.append(time.perf_counter() - start)
    return median(took[1:]) * math.ceil(len(train) / size)
