"""Runs the trials of a search: each is one ordinary training that never sees the test part."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ssmrec.data import Interactions, Split
from ssmrec.errors import ConfigError, RunError, SsmrecError
from ssmrec.training import DivergedError, Listener, train_run
from ssmrec.training.judges import told_judges
from ssmrec.tuning.record import Done, best_of, prepare_folder, write_files
from ssmrec.tuning.study import Study, StudyError
from ssmrec.tuning.task import Task


class Watcher(Listener):
    """Hears of a search as well as of the training that goes on."""

    def resumed(self, trials: Sequence[Done]) -> None:
        """A search goes on that already has `trials`."""

    def begin(self, number: int, total: int, params: Mapping[str, Any]) -> None:
        """Trial `number` (from 1) of `total` starts."""

    def end(self, trial: Done, best: Done | None) -> None:
        """A trial ended; `best` is the best one so far, if any is complete."""

    def out_of_time(self, number: int) -> None:
        """The time ran out during trial `number`, which was broken off."""


class _GivenUpError(Exception):
    """The pruner sees no hope for this trial."""


class _OutOfTimeError(Exception):
    """The time for the search is over."""


def search(
    task: Task,
    split: Split,
    trials: int,
    folder: Path | None = None,
    seconds: float | None = None,
    watcher: Watcher | None = None,
) -> list[Done]:
    """Go on until the search has `trials` trials, those of earlier calls included.

    A trial that diverges counts as one; the others decide. Settings drawn again are not trained again.
    One that cannot be done (memory, data) ends the search while none has given a result, and else is one more.

    Args:
        task: what is searched.
        split: its test part is not given to the trials.
        trials: how many, at least 1.
        folder: where `study.db`, `trials.csv` and `recipe.yaml` lie; None keeps all in memory.
        seconds: after which the search stops; a trial that runs then is broken off.
        watcher: hears of progress.

    Returns:
        All trials that ended, in their order.

    Raises:
        ConfigError: no validation pairs, or settings that do not fit the data.
        RunError: `folder` holds another search or cannot be written, or no trial gave a result.
        MemoryError, torch.OutOfMemoryError: there is too little, and no trial has given a result.
        KeyboardInterrupt: Ctrl-C; all trials that ended are kept.
    """
    if trials < 1:
        raise ConfigError(f"trials: must be at least 1 (got {trials})")
    if split.valid is None:
        raise ConfigError(
            "tuning chooses on validation pairs, and there are none: set data.split.valid=0.1"
        )
    if folder is not None:
        prepare_folder(folder)
    blind = Split(split.train, split.valid, None, split.strategy, split.counts)
    study = Study(task, blind.fingerprint, task.asked().seed, folder)
    work = _Work(task, blind, study, watcher or Watcher(), seconds)
    work.tell_judges(split.valid)
    found = study.done()
    if found:
        work.watcher.resumed(found)
    while len(found) < trials and work.time_left():
        try:
            work.one(found, trials)
        except _OutOfTimeError:
            work.watcher.out_of_time(len(found) + 1)
            break
        found = study.done()
        if folder is not None:
            write_files(folder, task, found)
        work.watcher.end(found[-1], best_of(found))
    if best_of(found) is None:
        raise RunError(_why_none(found))
    if folder is not None:
        write_files(folder, task, found)
    return found


class _Work:
    """What all trials of a call share."""

    def __init__(
        self, task: Task, split: Split, study: Study, watcher: Watcher, seconds: float | None
    ) -> None:
        self.task, self.split, self.study, self.watcher = task, split, study, watcher
        self.until = math.inf if seconds is None else time.monotonic() + seconds

    def tell_judges(self, valid: Interactions) -> None:
        """Say so where trials look at some of the users only."""
        if told := told_judges(self.task.asked(), valid):
            logging.getLogger("ssmrec").info(told)

    def time_left(self) -> bool:
        """Whether another trial may start, or this one go on."""
        return time.monotonic() < self.until

    def one(self, found: Sequence[Done], total: int) -> None:
        """Draw a trial, train it, and keep how it ended; as one with the same settings did, if one did."""
        number = len(found) + 1
        trial, params = self.study.begin()
        self.watcher.begin(number, total, params)
        same = next((t for t in found if t.params == params and t.state != "pruned"), None)
        if same is not None:
            self.study.repeat(trial, replace(same, number=number, seconds=0.0))
            return
        start = time.monotonic()
        listener = _TrialListener(self, trial, number)
        try:
            state, facts = self._trained(params, listener)
        except StudyError:
            raise
        except (SsmrecError, torch.OutOfMemoryError, MemoryError) as error:
            if best_of(found) is None:  # most likely the same for all
                self.study.lose(trial)
                raise
            state, facts = "failed", {"reason": str(error) or "out of memory"}
        except (KeyboardInterrupt, _OutOfTimeError):
            self.study.lose(trial, asked=True)
            raise
        told = {**listener.facts(), "seconds": time.monotonic() - start, **facts}
        self.study.end(trial, Done(number, state, params, **told))

    def _trained(
        self, params: Mapping[str, Any], listener: _TrialListener
    ) -> tuple[Any, dict[str, Any]]:
        """State and facts of a trial with these settings."""
        try:
            trained = train_run(self.task.trial(params), self.split, listener)
        except _GivenUpError:
            return "pruned", {}
        except DivergedError as error:
            return "failed", {"reason": str(error)}
        metrics = trained.metrics
        if metrics["stopped"] == "interrupted":
            raise KeyboardInterrupt
        value = metrics["valid"][self.task.metric]
        if not math.isfinite(value):
            return "failed", {"reason": f"{self.task.metric} is {value}"}
        epochs = {"epoch": metrics["best_epoch"], "epochs": metrics["epochs"]}
        return "complete", {"value": value, **epochs}


class _TrialListener(Listener):
    """Tells the study of every measured epoch, and stops the training where that is of no use."""

    def __init__(self, work: _Work, trial: Any, number: int) -> None:
        self.work, self.trial, self.number = work, trial, number
        self.curve: dict[int, float] = {}
        self.epochs = 0

    def facts(self) -> dict[str, Any]:
        """What was seen, as fields of `Done`."""
        best = max(self.curve, key=lambda epoch: (self.curve[epoch], -epoch), default=0)
        return {"curve": self.curve, "epoch": best, "epochs": self.epochs}

    def phase(self, name: str, epochs: int, device: str) -> None:
        self.work.watcher.phase(name, epochs, device)

    def step(self, epoch: int, done: int, total: int, loss: float) -> None:
        self.work.watcher.step(epoch, done, total, loss)
        if not self.work.time_left():
            raise _OutOfTimeError

    def evaluating(self, done: int, total: int) -> None:
        self.work.watcher.evaluating(done, total)

    def warning(self, text: str) -> None:
        if self.number == 1:  # later ones try what may be of no use
            self.work.watcher.warning(text)

    def epoch(self, record: dict[str, Any], best: bool) -> None:
        self.work.watcher.epoch(record, best)
        self.epochs = record["epoch"]
        value = record.get(self.work.task.metric)
        if value is None:
            return
        self.curve[self.epochs] = value
        if self.work.study.report(self.trial, self.epochs, value):
            raise _GivenUpError
        if not self.work.time_left():
            raise _OutOfTimeError


def _why_none(found: Sequence[Done]) -> str:
    if not found:
        return "no trial ended in the time there was: allow more, or fewer epochs"
    return f"no trial of {len(found)} gave a result; the last one failed: {found[-1].reason}"
