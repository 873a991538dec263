"""`ssmrec.tune`: the best settings of a model on some data, from Python."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ssmrec.config import as_part, merged
from ssmrec.data import DataConfig, Interactions, Split, prepare
from ssmrec.data import split as split_pairs
from ssmrec.data.read import Source
from ssmrec.errors import ConfigError
from ssmrec.training.given import flat
from ssmrec.training.python import own_settings
from ssmrec.tuning.progress import SearchBars
from ssmrec.tuning.record import Done, best_of
from ssmrec.tuning.runner import search
from ssmrec.tuning.study import load_optuna
from ssmrec.tuning.task import make_task, recipe


@dataclass(frozen=True)
class Best:
    """What a search found.

    Args:
        settings: keyword arguments of `ssmrec.Recommender`.
        params: the settings that were searched, by dotted key.
        value: the metric on validation, 0 to 1: the highest of many, so a little too good.
        metric: its name. epoch: where it was reached; 0 for a model in closed form.
        trials: all trials.
    """

    settings: dict[str, Any]
    params: dict[str, Any]
    value: float
    metric: str
    epoch: int
    trials: list[Done]


def tune(
    data: Split | Interactions | DataConfig | Source,
    model: str | Mapping[str, Any] = "lightgcn",
    loss: str | Mapping[str, Any] = "ssm",
    negatives: str | Mapping[str, Any] = "auto",
    *,
    trials: int = 20,
    timeout: float | None = None,
    space: Mapping[str, Any] | None = None,
    pruner: str = "median",
    ranking: Mapping[str, Any] | None = None,
    train: Mapping[str, Any] | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    progress: bool = True,
) -> Best:
    """Search for the settings with the best validation metric; test is not looked at.

    `best = ssmrec.tune(split, "mf", "bpr")`, then
    `ssmrec.Recommender(**best.settings).fit(split.train, split.valid)`.

    Args:
        data: a split with a validation part, pairs to be split, or what `ssmrec.prepare` reads.
        model, loss, negatives, ranking, train: as for `ssmrec.Recommender`; what they set is fixed.
            `train["metric"]` is what is tuned for.
        trials: how many trainings, at least 1, those of earlier calls with the same `out` included.
        timeout: seconds after which no more is begun, and what runs is broken off.
        space: dotted key to `"0.05..0.5"`, `"0.05..0.5:log"` or a list of values, in the place of or
            beside what is shipped: `{"loss.temperature": "0.05..0.5:log", "model.dim": [32, 64]}`.
        pruner: `median`, `hyperband` or `none`: when a trial is given up early.
        seed: decides all randomness: same seed, same trials.
        out: a folder for `study.db`, `trials.csv` and `recipe.yaml`, from which a later call goes on.
        progress: whether to show it on the terminal.

    Raises:
        ConfigError: a setting or `trials` does not fit, or optuna is not installed.
        RunError: no trial gave a result, or `out` holds another search.
    """
    load_optuna()  # told before data are read
    if not isinstance(trials, (int, np.integer)) or isinstance(trials, bool) or trials < 1:
        raise ConfigError(f"trials must be a whole number of at least 1, not {trials!r}")
    split = _split(data, seed)
    parts = {
        "model": model,
        "loss": loss,
        "negatives": negatives,
        "ranking": ranking,
        "train": train,
    }
    given = {name: as_part(part, name) for name, part in parts.items() if part is not None}
    fixed = [key for key in flat(given) if not key.endswith(".name")]
    source = {"data": {"source": _source(data)}, "seed": seed}
    task = make_task(merged(given, source), space, fixed, pruner)
    folder = None if out is None else Path(out)
    with own_settings(), SearchBars(task) if progress else nullcontext() as bars:
        found = search(task, split, int(trials), folder, timeout, bars)
    best = best_of(found)
    assert best is not None and best.value is not None
    settings = recipe(task.best(best.params, best.epoch))
    settings.pop("data", None)
    settings.get("train", {}).pop("protocol", None)  # `fit` decides it by what it is given
    return Best(settings, best.params, best.value, task.metric, best.epoch, found)


def _split(data: Any, seed: int) -> Split:
    if isinstance(data, Split):
        return data
    if isinstance(data, Interactions):
        return split_pairs(data, seed=seed)
    return prepare(data, seed)


def _source(data: Any) -> str:
    """What the recipe names as its data."""
    if isinstance(data, DataConfig):
        return data.source
    return str(data) if isinstance(data, (str, Path)) else "<python>"
