"""Updates: a run goes on with new pairs, users and items."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ssmrec.blending.blend import blend
from ssmrec.errors import ConfigError, RunError
from ssmrec.models import Blend
from ssmrec.training.ahead import without_start
from ssmrec.training.config import RunConfig, closed_form, completed
from ssmrec.training.diverged import DivergedError
from ssmrec.training.listener import Listener
from ssmrec.training.protocols import Trained, train_run
from ssmrec.updating.grown import Grown
from ssmrec.updating.warm import WarmStart

SHARE = 4
"""An update trains for this part of the epochs that a training afresh had: 1 / SHARE."""


def update_run(
    old: Trained,
    data: Grown,
    config: RunConfig,
    source: Mapping[str, Any],
    listener: Listener | None = None,
    checkpoint: WarmStart | None = None,
) -> Trained:
    """Train on from a run under its protocol; a model in closed form is solved again, a blend's models are
    updated one after the other, and its weights stay.

    Where validation should choose the epoch, and the new pairs are too few to hold any out, it trains
    for `train.epochs` epochs instead, and `metrics["protocol"]` is `fixed`. The settings stay, so that a
    later update chooses again.

    Losses with a state of their own, and Adam, start afresh.

    Args:
        config: resolved settings with the run's model.
        source: what `metrics["update"]`, and `metrics["warm_start"]` of a trained model, tell of the run and
            the new data, such as their folders.
        checkpoint: of the folder of the new run; None keeps none, and neither do blends.

    Raises:
        ConfigError: the protocol needs a part that the data lack; settings that a blend does not have.
        RunError: a model of a blend diverged.
        KeyboardInterrupt: the update of a blend was interrupted.
    """
    if isinstance(old.model, Blend):
        return _blend_updated(old, data, config, source, listener or Listener())
    counts = {"update": data.counts}
    asked, config = config, _possible(config, data, listener or Listener())
    if closed_form(config):
        trained = train_run(config, data.split, listener)
        return replace(trained, config=asked, metrics=_told(trained.metrics, counts, source))
    with ExitStack() as stack:
        if checkpoint is None:
            folder = Path(stack.enter_context(TemporaryDirectory()))
            checkpoint = WarmStart(old, folder, "", {}, resume=False)
        trained = train_run(without_start(config), data.split, listener, checkpoint)
    metrics = _told(trained.metrics, counts, source)
    metrics["seconds"]["eval"] += checkpoint.seconds
    metrics["warm_start"] = {
        **source,
        "epochs_afresh": old.epochs_afresh,
        "valid": checkpoint.values.get("select"),
    }
    return replace(trained, config=asked, metrics=metrics)


def _possible(config: RunConfig, data: Grown, listener: Listener) -> RunConfig:
    """The settings, with a fixed number of epochs where no new pair can be held out to choose it."""
    if config.train.protocol not in ("valid", "refit") or data.split.valid is not None:
        return config
    if not closed_form(config):
        listener.note(
            f"the new pairs are too few to choose the epoch on (they have {data.counts['pairs_new']}): "
            f"{config.train.epochs} epochs, fixed"
        )
    fixed = config.train.model_copy(update={"protocol": "fixed"})
    return config.model_copy(update={"train": fixed})


def _told(
    metrics: dict[str, Any], counts: dict[str, Any], source: Mapping[str, Any]
) -> dict[str, Any]:
    more = {"counts": metrics["counts"] | counts, "seconds": dict(metrics["seconds"])}
    return {**metrics, **more, "update": dict(source)}


def fewer_epochs(run: Trained) -> int:
    """How long an update trains if nobody says: a quarter of a training afresh, at least 1."""
    return max(1, math.ceil(run.epochs_afresh / SHARE))


def single(run: Trained) -> Iterator[Trained]:
    """The models of a blend, those of blends in it in their place; of another run itself."""
    if not isinstance(run.model, Blend):
        yield run
        return
    for part in parts_of(run):
        yield from single(part)


def parts_of(run: Trained) -> Iterator[Trained]:
    """The models of a blend as runs over its pairs; of what they measured only their epochs are known."""
    assert isinstance(run.model, Blend)
    models: list[Any] = [*run.model.parts]
    for part, model in zip(run.config.model["parts"], models, strict=True):
        config = completed(part["settings"])  # its warnings were told when it was trained
        yield Trained(config, model, run.train, run.seen, [], {"best_epoch": part["epochs"]})


def _trains(run: Trained) -> bool:
    """Whether it, or a model in it, is trained and not solved."""
    return not all(closed_form(one.config) for one in single(run))


def refuse_changes(old: RunConfig, config: RunConfig) -> None:
    """Refuse what an update cannot change.

    Raises:
        ConfigError: another model; another loss, sampler or ranking of a blend.
    """
    if config.model != old.model:
        raise ConfigError(
            "a warm start goes on with the model of the run: leave --set model.* out, or train "
            "afresh with ssmrec train"
        )
    for part in ("loss", "negatives", "ranking"):
        if "parts" in old.model and getattr(config, part) != getattr(old, part):
            raise ConfigError(
                f"{part}: each model of a blend has its own; update the runs, and blend them again"
            )


def _blend_updated(
    old: Trained, data: Grown, config: RunConfig, source: Mapping[str, Any], listener: Listener
) -> Trained:
    """The blend, with the same weights, of its models updated one after the other."""
    refuse_changes(old.config, config)
    before, now = old.config.train.model_dump(), config.train.model_dump()
    changed = {key: value for key, value in now.items() if value != before[key]}
    changed |= {key: now[key] for key in ("protocol", "epochs", "budget")}
    alone = replace(
        data.split, test=data.split.test if config.train.protocol == "published" else None
    )
    left, runs, parts = config.train.budget, [], [*parts_of(old)]
    to_train = sum(map(_trains, parts))
    for number, part in enumerate(parts):
        name = config.model["parts"][number]["name"]
        listener.note(f"part {number + 1} of {len(parts)}: {name}")
        if left is not None and _trains(part):  # each has a like share of the time
            changed["budget"] = max(left, 1e-3) / to_train
            to_train -= 1
        own = part.config.train.model_copy(update=changed)
        settings = part.config.model_copy(update={"train": own, "data": config.data})
        try:
            run = update_run(part, replace(data, split=alone), settings, source, listener)
        except DivergedError as error:
            raise RunError(f"{name}: {error}") from None
        if run.metrics["stopped"] == "interrupted":
            raise KeyboardInterrupt
        if left is not None:
            left -= run.metrics["seconds"]["train"]
        runs.append(run)
    weights = [part["weight"] for part in config.model["parts"]]
    both = blend(runs, data.split, weights)
    metrics = _told(both.metrics, {"update": data.counts}, source)
    metrics["protocol"] = runs[0].metrics["protocol"]
    if begun := [run.metrics["warm_start"] for run in runs if "warm_start" in run.metrics]:
        metrics["warm_start"] = {**source, "epochs_afresh": max(x["epochs_afresh"] for x in begun)}
    return replace(both, metrics=metrics)
