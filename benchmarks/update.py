"""Update against training afresh: time and quality, on pairs that came later.

Pairs are ordered by time: the first 90 % are what a run has learned, the next 5 % are new, the last 5 % are
to be found. All trainings choose their epoch on the same validation pairs, a tenth of the new ones, and
none of them learns these. What the run before them saw is never among those. Compilation is not counted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.harness import Settings, timed
from ssmrec.config import merged
from ssmrec.data import Interactions, Split, SplitConfig, load, synthetic
from ssmrec.data.split import carve
from ssmrec.training import RunConfig, Trained, resolve, train_run
from ssmrec.updating.grown import Grown, grown
from ssmrec.updating.update import fewer_epochs, update_run

KNOWN, NEW = 0.90, 0.95
"""Shares of the time-ordered pairs at which the new ones, and those to be found, begin."""

MODELS: dict[str, dict[str, Any]] = {
    "mf": {"model": {"name": "mf"}, "loss": {"name": "ssm", "temperature": 0.15}},
    "lightgcn": {
        "model": {"name": "lightgcn", "layers": 2},
        "loss": {"name": "ssm", "temperature": 0.15},
    },
}
TRAIN = {
    "protocol": "valid", "epochs": 100, "batch_size": 1024, "lr": 1e-3, "l2": 1e-5, "patience": 5,
}  # fmt: skip
METRICS = ("ndcg@20", "recall@20")


def run(settings: Settings, *source: str) -> dict[str, Any]:
    """Seconds, epochs and test metrics of each way, for every model."""
    name = "online-retail" if settings.small else "-".join(source)
    pairs = load(name)
    small = {"model": {"dim": 8}, "train": {"epochs": 4, "lr": 1e-2}} if settings.small else {}
    known, new, test = parts(pairs.take(pairs.rows < 400) if settings.small else pairs)
    models = {}
    for model, own in MODELS.items():
        base = {"train": TRAIN, "evaluation": {"metrics": ["ndcg", "recall"], "ks": [20]}}
        values = merged(base, own, small, {"seed": settings.seed})
        models[model] = ways(resolve(values), known, new, test)
    return {
        "data": name, "known": len(known), "new": len(new), "test": len(test),
        "train": {**TRAIN, **small.get("train", {})}, "models": models,
    }  # fmt: skip


def parts(pairs: Interactions) -> tuple[Interactions, Interactions, Interactions]:
    """Pairs of the earliest time, of the next, and of the last; equal times stay together."""
    times = pairs.timestamps
    assert times is not None
    order = np.sort(times)
    bounds = [order[int(share * len(order))] for share in (KNOWN, NEW)]
    stage = np.searchsorted(bounds, times, side="right")
    known, new, test = (pairs.take(stage == number) for number in range(3))
    return known, new, test


def ways(
    config: RunConfig, known: Interactions, new: Interactions, test: Interactions
) -> dict[str, Any]:
    """The run before, left as it is; updates of a tenth, a quarter and a half of its epochs; afresh."""
    _compile(config)
    generator = np.random.default_rng(config.seed)
    train, valid = carve(known, "temporal", SplitConfig(), generator, {})
    old, seconds = timed(lambda: train_run(config, Split(train, valid, None, "temporal")))
    data = grown(old, new, config, test=test)
    found = {
        "before": {"seconds": seconds, "epochs": old.metrics["best_epoch"], **_left(old, data)}
    }
    quarter, best = fewer_epochs(old), old.metrics["best_epoch"]
    for name, epochs in {
        "update, a tenth": max(1, round(best / 10)),
        "update": quarter,
        "update, half": max(1, best // 2),
    }.items():
        limited = config.model_copy(
            update={"train": config.train.model_copy(update={"epochs": epochs})}
        )
        found[name] = _way(lambda limited=limited: update_run(old, data, limited, {}))
    found["afresh"] = _way(lambda: train_run(config, data.split))
    return {"ways": found, "counts": data.counts}


def _way(train: Callable[[], Trained]) -> dict[str, Any]:
    trained, seconds = timed(train)
    return {
        "seconds": seconds,
        "train_seconds": trained.metrics["seconds"]["train"],
        "epochs": trained.metrics["epochs"],
        "best_epoch": trained.metrics["best_epoch"],
        **{name: trained.metrics["test"][name] for name in METRICS},
    }


def _left(old: Trained, data: Grown) -> dict[str, Any]:
    """What the run before gets on the test pairs: an update without an epoch."""
    settings = old.config.train.model_copy(update={"epochs": 0, "protocol": "fixed"})
    config = old.config.model_copy(update={"train": settings})
    trained, seconds = timed(lambda: update_run(old, data, config, {}))
    values = {name: trained.metrics["test"][name] for name in METRICS}
    return {"start_seconds": seconds, **values}


def _compile(config: RunConfig) -> None:
    """One epoch on made-up data, so that the kernels are there."""
    once = config.model_copy(
        update={"train": config.train.model_copy(update={"epochs": 1, "protocol": "fixed"})}
    )
    train_run(once, Split(synthetic(200, 100, 2000), None, None, "given"))
