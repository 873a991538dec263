"""Seconds to train and no model named: SVD first, LightGCN in the time left, validation chooses."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import replace
from statistics import median
from typing import Any

import numpy as np
import torch

from ssmrec.data import Interactions, Split
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
    Test is looked at for that one only.
    """
    if not config.train.choose_model or config.train.budget is None:
        return train_run(config, split, listener, checkpoint)
    listener = listener or Listener()
    blind = replace(split, test=None)
    tried = list(_solved(config, blind, listener))
    begun = _begun(config, split.train, tried)
    if begun is not None:
        try:
            tried.append(train_run(begun, blind, listener, checkpoint))
        except DivergedError as error:
            listener.note(f"{error}; going on with what was solved before")
        if tried[-1].metrics["stopped"] == "interrupted":
            return tested(tried[-1], split.test)
    best = max(tried, key=_value)
    name = config.train.metric
    listener.note(
        f"the best of {len(tried)} models by {name} on validation: {label(best.config)} "
        f"with {best.config.model['dim']} dimensions"
    )
    candidates = [
        {
            "model": label(one.config),
            "dim": one.config.model["dim"],
            f"valid {name}": _value(one),
            "seconds": one.metrics["seconds"]["train"],
        }
        for one in tried
    ]
    best = replace(best, metrics={**best.metrics, "candidates": candidates})
    return tested(best, split.test)


def _value(trained: Trained) -> float:
    return trained.metrics["valid"][trained.config.train.metric]


def _spent(tried: list[Trained]) -> float:
    return sum(one.metrics["seconds"]["train"] for one in tried)


def _solved(config: RunConfig, split: Split, listener: Listener) -> Iterator[Trained]:
    """SVD with ever more dimensions, at least one."""
    left, last = config.train.budget or 0.0, -math.inf
    for dim in SVD_DIMS:
        settings = {"name": "svd", "dim": dim}
        trained = train_run(_with(config, settings), split)
        took = trained.metrics["seconds"]["train"]
        listener.note(
            f"svd with {dim} dimensions: {config.train.metric} {_value(trained):.4f} on validation "
            f"after {took:.1f} s"
        )
        yield trained
        left -= took
        full = dim >= min(split.train.n_users, split.train.n_items)
        if full or _value(trained) <= last or _DOUBLING * took > left:
            return
        last = _value(trained)


def _begun(config: RunConfig, train: Interactions, tried: list[Trained]) -> RunConfig | None:
    """LightGCN with the most dimensions of which two epochs fit into the time left, if any do.

    No more dimensions than the best SVD has: where more did not help there, they do not here.
    """
    start = time.perf_counter()
    most = max(tried, key=_value).config.model["dim"]
    for dim in LIGHTGCN_DIMS:
        if dim > max(most, LIGHTGCN_DIMS[-1]):
            continue
        model = {"name": "lightgcn", "dim": dim, "init": "spectral"}
        begun = _with(config, model)
        trained = _epoch_seconds(begun, train)
        left = (config.train.budget or 0.0) - _spent(tried) - (time.perf_counter() - start)
        if _EPOCHS * trained <= left:
            return _with(config, model, budget=left)
    return None


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
        trainer.step(batch, draws)
        took.append(time.perf_counter() - start)
    return median(took[1:]) * math.ceil(len(train) / size)


def _with(config: RunConfig, model: dict[str, Any], **train: Any) -> RunConfig:
    """`config` with a model, and settings of training, of its own."""
    settings = config.train.model_copy(update={"choose_model": False, **train})
    changed = {"model": model, "train": settings, "ranking": RankingConfig()}
    return resolve(config.model_copy(update=changed))
