"""The protocols: who chooses the epoch, what the final model has seen, when test is looked at."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ssmrec.data import Interactions, Split
from ssmrec.errors import ConfigError
from ssmrec.evaluation import METRIC_VERSION, best_possible, evaluate, most_popular
from ssmrec.kernels.compiled import cold
from ssmrec.models import Backbone
from ssmrec.ranking import Progress
from ssmrec.training.ahead import NO_TEST, no_validation
from ssmrec.training.checkpoint import Checkpoint
from ssmrec.training.closed import Solution, solve
from ssmrec.training.config import RunConfig, closed_form
from ssmrec.training.device import device_name, pick_device
from ssmrec.training.judges import judges, told_judges
from ssmrec.training.listener import Listener
from ssmrec.training.loop import BROKEN_OFF, State, Trainer, Watch
from ssmrec.training.peers import current
from ssmrec.training.room import moves_all, too_little, too_often

SELECTED_ON = {
    "valid": "valid",
    "refit": "valid",
    "fixed": "nothing (fixed number of epochs)",
    "published": "test",
    "closed": "nothing (closed form)",
}


_MANY = 100_000
"""Test users from which on it is told that they are ranked, which then takes its time."""


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

    @property
    def epochs_afresh(self) -> int:
        """Epochs of the model when it was last trained from no other run; the most of a blend's models."""
        start = self.metrics.get("warm_start") or {}
        own = int(start.get("epochs_afresh", self.metrics["best_epoch"]))
        return max([own, *(part["epochs"] for part in self.config.model.get("parts", ()))])


def train_run(
    config: RunConfig,
    split: Split,
    listener: Listener | None = None,
    checkpoint: Checkpoint | None = None,
    selected: Trained | None = None,
) -> Trained:
    """Train under `config.train.protocol`, then look at test once.

    Args:
        selected: a finished training under `valid` of settings and pairs that are the same otherwise: its
            choice is taken, and not made again.

    Raises:
        ConfigError: the protocol needs a part that the split lacks.
    """
    protocol = config.train.protocol
    _check_parts(protocol, split)
    listener = listener or Listener()
    everything = split.known
    _tell(config, everything, listener)
    phases = _Phases(config, listener, checkpoint)
    choosing = _judges(config, split.valid, listener if selected is None else Listener())
    if selected is None:
        first = last = phases.first(replace(split, valid=choosing), everything)
    else:
        first = last = phases.taken(selected, split.train)
    valid = None
    if protocol in ("valid", "refit"):
        valid = measure(config, first.model, split.train, choosing, [split.train])
    if protocol == "refit" and first.state.stopped not in BROKEN_OFF:
        last = phases.run("refit", everything, first.state.best_epoch, None)
    metrics = {
        "test": None,
        "valid": valid and valid["values"],
        **summary(config, first.state, last.state, phases.history),
        "counts": {"data": dict(split.counts), "test": None, "valid": valid and valid["counts"]},
        "reference": None,
    }
    metrics["seconds"]["eval"] += valid["seconds"] if valid else 0
    trained = Trained(config, last.model, last.train, everything, phases.history, metrics)
    return tested(trained, split.test, listener)


def tested(trained: Trained, test: Interactions | None, listener: Listener) -> Trained:
    """`trained` with what it and the reference rankers reach on `test`; as it is without one."""
    seen = [trained.train, trained.seen]
    if test is not None and (users := int((test.user_degrees > 0).sum())) >= _MANY:
        listener.note(f"test: ranking for {users:,} users")
    found = measure(trained.config, trained.model, trained.train, test, seen, listener.evaluating)
    if found is None:
        return trained
    metrics = trained.metrics
    seconds = metrics["seconds"] | {"eval": metrics["seconds"]["eval"] + found["seconds"]}
    return replace(
        trained,
        metrics={
            **metrics,
            "test": found["values"],
            "counts": metrics["counts"] | {"test": found["counts"]},
            "reference": _reference(trained.config, trained.train, test, seen),
            "seconds": seconds,
        },
    )


def _tell(config: RunConfig, pairs: Interactions, listener: Listener) -> None:
    """What the user should know before it begins."""
    if cold():
        listener.note("first use on this machine: compiling, once, which may take a minute")
    if short := too_little(config, pairs.n_users, pairs.n_items, len(pairs)):
        listener.warning(short)
    if closed_form(config):
        return
    if often := too_often(config, pairs.n_items):
        listener.warning(often)
    if told := moves_all(config, pairs.n_users, pairs.n_items):
        listener.note(told)
    if config.train.protocol == "published":
        listener.note("the epoch is chosen on TEST (train.protocol=published): too good to be true")
    if config.train.epochs == 0:
        listener.note("train.epochs=0: nothing is learned, the model stays at its start")


def _judges(
    config: RunConfig, valid: Interactions | None, listener: Listener
) -> Interactions | None:
    """The validation pairs that choose, where the protocol wants them to."""
    if valid is None or config.train.protocol not in ("valid", "refit"):
        return valid
    if told := told_judges(config, valid):
        listener.note(told)
    return judges(config, valid)


def _check_parts(protocol: str, split: Split) -> None:
    if protocol in ("valid", "refit") and split.valid is None:
        raise ConfigError(no_validation(protocol))
    if protocol == "published" and split.test is None:
        raise ConfigError(NO_TEST)


class _Phases:
    """The trainings of one run, one after the other; `history` grows by their epochs."""

    def __init__(
        self, config: RunConfig, listener: Listener, checkpoint: Checkpoint | None
    ) -> None:
        self.config, self.listener, self.checkpoint = config, listener, checkpoint
        self.history: list[dict[str, Any]] = []

    def first(self, split: Split, everything: Interactions) -> Solution:
        """The training that every protocol begins with."""
        protocol, epochs = self.config.train.protocol, self.config.train.epochs
        if protocol in ("valid", "refit"):
            assert split.valid is not None
            return self.run("select", split.train, epochs, Watch(split.valid, [split.train]))
        watch = None
        if protocol == "published":
            assert split.test is not None
            watch = Watch(split.test, [everything])
        return self.run("train", everything, epochs, watch)

    def taken(self, selected: Trained, train: Interactions) -> Solution:
        """The training that `valid` and `refit` begin with, as it ended in another run."""
        facts = selected.metrics
        state = State(facts["epochs"], best_epoch=facts["best_epoch"], stopped=facts["stopped"])
        self.history.extend({**record, "phase": "select"} for record in selected.history)
        return Solution(selected.model, train, state)

    def run(self, name: str, train: Interactions, epochs: int, watch: Watch | None) -> Solution:
        """One training from its start, or from the checkpoint of this phase, to its end."""
        if closed_form(self.config):
            solved = solve(self.config, train, self.listener)
            self.history.extend({"phase": name, **record} for record in solved.state.history)
            return solved
        trainer = Trainer(self.config, train, epochs, watch, self.listener)
        self.listener.phase(name, epochs, str(trainer.device))
        if self.checkpoint is None:
            trainer.run()
        else:
            self.checkpoint.run(name, trainer)
        self.history.extend({"phase": name, **record} for record in trainer.state.history)
        # Without its optimiser and a recording, which would lie beside those of the next one.
        return Solution(trainer.model, train, trainer.state)


def summary(
    config: RunConfig, chosen: State, last: State, history: list[dict[str, Any]]
) -> dict[str, Any]:
    solved = closed_form(config)
    return {
        "protocol": config.train.protocol,
        "selected_on": SELECTED_ON["closed" if solved else config.train.protocol],
        "best_epoch": chosen.best_epoch,
        "epochs": last.epoch,
        "stopped": last.stopped,
        "similarity": {
            "train": None if solved else config.loss["similarity"],
            "rank": config.ranking.similarity,
        },
        "metric_version": METRIC_VERSION,
        "device": "cpu" if solved else device_name(pick_device(config.train.device)),
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


def measure(
    config: RunConfig,
    model: Backbone,
    train: Interactions,
    held_out: Interactions | None,
    seen: list[Interactions],
    progress: Progress | None = None,
) -> dict[str, Any] | None:
    if held_out is None:
        return None
    similarity: Any = config.ranking.similarity
    users, items, spread = current().ranking(model, similarity)
    names = config.evaluation.names
    result = evaluate(
        users, items, held_out, seen, names, allowed=train.item_degrees > 0,
        progress=progress, spread=spread,
    )  # fmt: skip
    return {"values": result.values, "counts": result.counts, "seconds": result.seconds}


def _reference(
    config: RunConfig, train: Interactions, test: Interactions | None, seen: list[Interactions]
) -> dict[str, Any] | None:
    """Most-popular, and the best any ranker could reach, on the same test pairs."""
    if test is None:
        return None
    names = config.evaluation.names
    allowed = np.asarray(train.item_degrees > 0)
    popular = evaluate(
        *most_popular(train), test, seen, names, allowed=allowed, spread=current().spread
    )
    return {
        "most_popular": popular.values,
        "best_possible": best_possible(test, seen, names, allowed),
    }
