"""The protocols: who chooses the epoch, what the final model has seen, when test is looked at."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np

from ssmrec.data import Interactions, Split, merge
from ssmrec.errors import ConfigError
from ssmrec.evaluation import METRIC_VERSION, best_possible, evaluate, most_popular
from ssmrec.models import Backbone
from ssmrec.ranking.vectors import ranking_vectors
from ssmrec.training.checkpoint import Checkpoint
from ssmrec.training.config import RunConfig
from ssmrec.training.listener import Listener
from ssmrec.training.loop import State, Trainer, Watch

SELECTED_ON = {
    "valid": "valid",
    "refit": "valid",
    "fixed": "nothing (fixed number of epochs)",
    "published": "test",
}


@dataclass(frozen=True)
class Trained:
    """A trained model with all that later use needs.

    Args:
        config: the resolved settings.
        model: the backbone at the chosen epoch.
        train: what it learned from.
        seen: all pairs known at training time (train and validation), masked when recommending.
        history: one record per epoch, with its `phase`.
        metrics: what `metrics.json` holds.
    """

    config: RunConfig
    model: Backbone
    train: Interactions
    seen: Interactions
    history: list[dict[str, Any]]
    metrics: dict[str, Any]


def train_run(
    config: RunConfig,
    split: Split,
    listener: Listener | None = None,
    checkpoint: Checkpoint | None = None,
) -> Trained:
    """Train under `config.train.protocol`, then look at test once.

    Raises:
        ConfigError: the protocol needs a part that the split lacks.
    """
    protocol = config.train.protocol
    listener = listener or Listener()
    everything = split.train if split.valid is None else merge(split.train, split.valid)
    if protocol in ("valid", "refit") and split.valid is None:
        raise ConfigError(
            f"train.protocol={protocol} chooses the epoch on validation pairs, and there are none: "
            "set data.split.valid=0.1, or train.protocol=fixed with a number of epochs"
        )
    if protocol == "published" and split.test is None:
        raise ConfigError("train.protocol=published chooses the epoch on test, and there is none")
    if protocol == "published":
        listener.note("the epoch is chosen on TEST (train.protocol=published): too good to be true")
    epochs = config.train.epochs
    history: list[dict[str, Any]] = []

    def phase(name: str, train: Interactions, limit: int, watch: Watch | None) -> Trainer:
        trainer = Trainer(config, train, limit, watch, listener)
        listener.phase(name, limit, str(trainer.device))
        if checkpoint is None:
            trainer.run()
        else:
            checkpoint.run(name, trainer)
        history.extend({"phase": name, **record} for record in trainer.state.history)
        return trainer

    if protocol in ("valid", "refit"):
        assert split.valid is not None
        last = phase("select", split.train, epochs, Watch(split.valid, [split.train]))
    elif protocol == "published":
        assert split.test is not None
        last = phase("train", everything, epochs, Watch(split.test, [everything]))
    else:
        last = phase("train", everything, epochs, None)
    valid = (
        _measure(config, last.model, split.train, split.valid, [split.train])
        if (protocol in ("valid", "refit"))
        else None
    )
    chosen = last.state
    if protocol == "refit" and chosen.stopped != "interrupted":
        last = phase("refit", everything, chosen.best_epoch, None)
    summary = _summary(config, chosen, last.state, history)
    test = _measure(config, last.model, last.train, split.test, [last.train, everything])
    metrics = {
        "test": test and test["values"],
        "valid": valid and valid["values"],
        **summary,
        "counts": {
            "data": dict(split.counts),
            "test": test and test["counts"],
            "valid": valid and valid["counts"],
        },
        "reference": _reference(config, last.train, split.test, [last.train, everything]),
    }
    metrics["seconds"]["eval"] += sum(part["seconds"] for part in (test, valid) if part)
    return Trained(config, last.model, last.train, everything, history, metrics)


def _summary(
    config: RunConfig, chosen: State, last: State, history: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "protocol": config.train.protocol,
        "selected_on": SELECTED_ON[config.train.protocol],
        "best_epoch": chosen.best_epoch,
        "epochs": last.epoch,
        "stopped": last.stopped,
        "similarity": {
            "train": config.loss["similarity"],
            "rank": config.ranking.similarity,
        },
        "metric_version": METRIC_VERSION,
        "peak_memory_bytes": _peak_memory(),
        "seconds": {
            "train": sum(record["train_seconds"] for record in history),
            "eval": sum(record.get("eval_seconds", 0.0) for record in history),
        },
    }


def _peak_memory() -> int | None:
    """The most memory this process has held, in bytes; None where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


def _measure(
    config: RunConfig,
    model: Backbone,
    train: Interactions,
    held_out: Interactions | None,
    seen: list[Interactions],
) -> dict[str, Any] | None:
    if held_out is None:
        return None
    users, items = ranking_vectors(model, config.ranking.similarity)  # type: ignore[arg-type]
    names = config.evaluation.names
    result = evaluate(users, items, held_out, seen, names, allowed=train.item_degrees > 0)
    return {"values": result.values, "counts": result.counts, "seconds": result.seconds}


def _reference(
    config: RunConfig, train: Interactions, test: Interactions | None, seen: list[Interactions]
) -> dict[str, Any] | None:
    """Most-popular, and the best any ranker could reach, on the same test pairs."""
    if test is None:
        return None
    names = config.evaluation.names
    allowed = np.asarray(train.item_degrees > 0)
    popular = evaluate(*most_popular(train), test, seen, names, allowed=allowed)
    return {
        "most_popular": popular.values,
        "best_possible": best_possible(test, seen, names, allowed),
    }
