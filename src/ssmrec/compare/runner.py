"""Runs what is missing of a plan; finished runs are reused, an interrupted one goes on."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ssmrec.compare.measure import head, measured
from ssmrec.compare.methods import Job, Method, run_of, trials
from ssmrec.compare.plan import Plan
from ssmrec.compare.store import Outcome, Store
from ssmrec.data import Split, prepare
from ssmrec.errors import ConfigError, RunError, SsmrecError
from ssmrec.training import (
    Checkpoint,
    DivergedError,
    Listener,
    Trained,
    load_run,
    save_run,
    train_run,
)
from ssmrec.training.ahead import refuse_early
from ssmrec.training.files import assert_inside


class Watcher(Listener):
    """Hears of a comparison as well as of the training that goes on."""

    def begin(self, job: Job, done: int, total: int, left: float | None) -> None:
        """A job starts after `done` of `total`; `left` is the seconds they may take, if known."""

    def end(self, job: Job, outcome: Outcome) -> None:
        """A job was trained and measured."""

    def failed(self, job: Job, reason: str) -> None:
        """A job could not be done; the comparison goes on without it."""


@dataclass(frozen=True)
class Failure:
    """A job without a result, and why."""

    job: Job
    reason: str


def run_plan(
    plan: Plan,
    methods: Sequence[Method],
    out: Path,
    watcher: Watcher | None = None,
    only: str = "",
) -> list[Failure]:
    """Train and measure all that has no result yet.

    All methods get their first seed before any gets its second, so a table is fair at any time.

    Args:
        plan: the plan; methods: what `expand` made of it.
        out: folder of the comparison.
        watcher: hears of progress.
        only: regular expression that titles of runs must match somewhere.

    Returns:
        The jobs that failed.

    Raises:
        ConfigError: no valid expression, or nothing matches.
        RunError: a result is damaged, or `out` cannot be written.
        KeyboardInterrupt: Ctrl-C; finished runs and the checkpoint of this one are kept.
    """
    wanted = chosen(plan, methods, only)
    store = Store(out)
    store.prepare()
    work = _Work(plan, store, watcher or Watcher(), wanted)
    for method, seed in wanted:
        tuned = work.tuned(method)
        job = run_of(method, seed, tuned or {})
        if tuned is None:
            work.fail(job, work.untuned(method))
        else:
            work.do(job)
    return work.failures


def chosen(plan: Plan, methods: Sequence[Method], only: str = "") -> list[tuple[Method, int]]:
    """The runs of the table, in the order they are done; `only` as in `run_plan`."""
    try:
        pattern = re.compile(f"{only}|{re.escape(only)}")  # a label as it is printed has a plus
    except re.error as error:
        raise ConfigError(f"--only {only}: no regular expression ({error})") from None
    found = [
        (method, seed)
        for data in dict.fromkeys(method.data for method in methods)
        for seed in plan.seeds
        for method in methods
        if method.data == data and pattern.search(f"{data}: {method.label}, seed {seed}")
    ]
    if not found:
        raise ConfigError(f"--only {only}: matches no run; list them with --dry-run")
    return found


def tuned_settings(plan: Plan, method: Method, store: Store) -> Mapping[str, Any] | None:
    """The settings whose trial was best on validation; None while trials are missing or all failed."""
    best: tuple[float, Mapping[str, Any]] | None = None
    for job in trials(plan, method):
        outcome = store.load(job, (plan.metric,))
        if outcome is None:
            return None
        value = outcome.record["metrics"].get(plan.metric)
        if value is not None and (best is None or value > best[0]):
            best = value, job.trial or {}
    if not method.grid:
        return {}
    return None if best is None else best[1]


class _Work:
    """The state of `run_plan`."""

    def __init__(
        self, plan: Plan, store: Store, watcher: Watcher, wanted: Sequence[tuple[Method, int]]
    ) -> None:
        self.plan, self.store, self.watcher = plan, store, watcher
        self.failures: list[Failure] = []
        self.choices: dict[str, Mapping[str, Any] | None] = {}
        self.split: tuple[str, Split | SsmrecError] | None = None
        # Jobs by title: those of a method that is tuned have no key yet.
        self.pending: dict[str, Method] = {}
        for method, seed in wanted:
            for job in trials(plan, method):
                self.pending[job.title] = method
            self.pending[run_of(method, seed, {}).title] = method
        self.total = len(self.pending)
        self.took: list[tuple[Method, float]] = []

    def tuned(self, method: Method) -> Mapping[str, Any] | None:
        """Run the trials that are missing; the best settings, or None if there are none."""
        name = f"{method.data}: {method.label}"
        if name not in self.choices:
            for job in trials(self.plan, method):
                self.do(job)
            self.choices[name] = tuned_settings(self.plan, method, self.store)
        return self.choices[name]

    def untuned(self, method: Method) -> str:
        """Why a method has no tuned settings: trials that lost are there, others are not."""
        tried = [self.store.load(job, (self.plan.metric,)) for job in trials(self.plan, method)]
        if None in tried:
            return f"{tried.count(None)} of the {len(tried)} trials of its tuning could not be done"
        return "no trial of its tuning gave a result"

    def do(self, job: Job) -> None:
        """Train and measure a job, unless it has a result."""
        metrics = self.plan.metrics if job.trial is None else (self.plan.metric,)
        outcome = self.store.load(job, metrics)
        if outcome is None:
            done = self.total - len(self.pending)
            self.watcher.begin(job, done, self.total, self._left())
            outcome = self._attempt(job)
        self.pending.pop(job.title, None)
        if outcome is not None and not outcome.record.get("failed"):
            seconds = outcome.record["seconds"]
            self.took.append((job.method, seconds["train"] + seconds["eval"]))

    def fail(self, job: Job, reason: str) -> None:
        """Note that a job gives no result."""
        self.pending.pop(job.title, None)
        self.failures.append(Failure(job, reason))
        self.watcher.failed(job, reason)

    def _attempt(self, job: Job) -> Outcome | None:
        try:
            trained, fingerprint, split = self._trained(job)
            outcome = measured(self.plan, job, trained, fingerprint, split)
        except (SsmrecError, torch.OutOfMemoryError, MemoryError) as error:
            reason = str(error) or "out of memory"
            if job.trial is None or not isinstance(error, DivergedError):
                self.fail(job, reason)
                return None
            # A trial that diverged is a trial that lost: the others decide.
            self.watcher.failed(job, reason)
            outcome = Outcome({**head(job), "metrics": {}, "failed": reason})
            self.store.save(job, outcome)
            return outcome
        self.store.save(job, outcome)
        self.watcher.end(job, outcome)
        return outcome

    def _trained(self, job: Job) -> tuple[Trained, str, Split]:
        folder = self.store.folder(job)
        if not (folder / "metrics.json").exists():
            refuse_early(job.config)
        split = self._data(job)
        if (folder / "metrics.json").exists():
            trained, fingerprint = load_run(folder)
            then = trained.config.model_dump(mode="json")
            if same := fingerprint == split.fingerprint:
                then["data"]["split"].pop("ties")  # of an older run it is not what was asked for
            differs = job.difference(then)
            if not (same or differs):
                differs = f"other data than {job.config.data.source} holds now"
            if differs:
                raise RunError(
                    f"{folder}: was trained with {differs}; delete it, or compare into another folder"
                )
            return trained, fingerprint, split
        assert_inside(self.store.out, folder)
        folder.mkdir(parents=True, exist_ok=True)
        settings = job.config.model_dump(mode="json")
        checkpoint = Checkpoint(folder, split.fingerprint, settings, resume=True)
        selected = self._selected(job)
        trained = train_run(job.config, split, self.watcher, checkpoint, selected)
        if trained.metrics["stopped"] == "interrupted":
            raise KeyboardInterrupt
        save_run(folder, trained, split.fingerprint)
        checkpoint.remove()
        return trained, split.fingerprint, split

    def _selected(self, job: Job) -> Trained | None:
        """The trial that was the training `job` begins with, where its run folder is still there."""
        if job.trial is not None or job.config.train.protocol not in ("valid", "refit"):
            return None
        train = job.config.train.model_copy(update={"protocol": "valid"})
        same = job.config.model_copy(update={"train": train})
        for trial in trials(self.plan, job.method):
            folder = self.store.folder(trial)
            if trial.config == same and (folder / "metrics.json").exists():
                trained, fingerprint = load_run(folder)
                return trained if fingerprint == self._data(trial).fingerprint else None
        return None

    def _data(self, job: Job) -> Split:
        """The split of a job, the last one kept; a trial gets no test pairs."""
        name = job.config.data.model_dump_json() + str(job.config.seed)
        if self.split is None or self.split[0] != name:
            try:
                self.split = name, prepare(job.config.data, job.config.seed)
            except SsmrecError as error:
                self.split = name, error
        split = self.split[1]
        if isinstance(split, SsmrecError):
            raise split
        if job.trial is not None:
            return Split(split.train, split.valid, None, split.strategy, split.counts)
        if split.test is None:
            raise ConfigError(f"{job.config.data.source} has no test pairs to compare on")
        return split

    def _left(self) -> float | None:
        """Seconds for all pending jobs, each taken to last as those most like it did."""
        if not self.took:
            return None
        return sum(_likely(method, self.took) for method in self.pending.values())


def _likely(method: Method, took: Sequence[tuple[Method, float]]) -> float:
    alike = (
        lambda other: other is method,
        lambda other: (other.data, other.model) == (method.data, method.model),
        lambda other: other.data == method.data,
        lambda other: True,
    )
    for like in alike:
        seconds = [time for other, time in took if like(other)]
        if seconds:
            return sum(seconds) / len(seconds)
    return 0.0
