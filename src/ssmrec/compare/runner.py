"""Runs what is missing of a plan; finished runs are reused, an interrupted one goes on."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssmrec.compare.attempt import Attempt
from ssmrec.compare.crew import crew
from ssmrec.compare.methods import Job, Method, run_of, trials
from ssmrec.compare.plan import Plan
from ssmrec.compare.store import Outcome, Store
from ssmrec.errors import ConfigError
from ssmrec.training import Listener


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
    at_a_time: int = 1,
    start: Callable[[], None] | None = None,
) -> list[Failure]:
    """Train and measure all that has no result yet.

    All methods get their first seed before any gets its second, so a table is fair at any time.

    Args:
        plan: the plan; methods: what `expand` made of it.
        out: folder of the comparison.
        watcher: hears of progress.
        only: regular expression that titles of runs must match somewhere.
        at_a_time: trainings that go on at the same time, each in a process of its own where there are
            several; results are the same. The processes share the CPU's threads, and a GPU.
        start: called first in each of those processes, as to register parts of one's own; it is pickled.

    Returns:
        The jobs that failed.

    Raises:
        ConfigError: no valid expression, or nothing matches.
        RunError: a result is damaged, `out` cannot be written, or a process was killed.
        KeyboardInterrupt: Ctrl-C; finished runs and the checkpoints of those that go on are kept.
    """
    wanted = chosen(plan, methods, only)
    store = Store(out)
    store.prepare()
    watcher = watcher or Watcher()
    work = _Work(plan, store, watcher, wanted, at_a_time)
    with crew(plan, store, watcher, work.at_a_time, start) as hands:
        while True:
            while len(work.going) < work.at_a_time and (job := work.next()) is not None:
                work.begin(job)
                hands.begin(job)
            if not work.going:
                return work.failures
            for job, attempt in hands.ended():
                work.end(job, attempt)


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
    """The state of `run_plan`: what is still to be done, in order, and what came of the rest."""

    def __init__(
        self,
        plan: Plan,
        store: Store,
        watcher: Watcher,
        wanted: Sequence[tuple[Method, int]],
        at_a_time: int,
    ) -> None:
        self.plan, self.store, self.watcher = plan, store, watcher
        self.failures: list[Failure] = []
        self.trials = {id(method): trials(plan, method) for method, _ in wanted}
        self.choices: dict[int, Mapping[str, Any] | None] = {}
        # Jobs by title: those of a method that is tuned have no key yet.
        self.runs = {run_of(method, seed, {}).title: (method, seed) for method, seed in wanted}
        self.pending: dict[str, Method] = {}
        for title, (method, _) in self.runs.items():
            for trial in self.trials[id(method)]:
                self.pending[trial.title] = method
            self.pending[title] = method
        self.total = len(self.pending)
        self.at_a_time = min(at_a_time, self.total)
        self.going: set[str] = set()
        """Keys of the jobs that go on: two jobs of one key are one training."""
        self.took: list[tuple[Method, float]] = []

    def next(self) -> Job | None:
        """The first job that can begin; None if all are done, or wait for some that go on."""
        for title, (method, seed) in self.runs.items():
            if title in self.pending and (job := self._first(method, seed)) is not None:
                return job
        return None

    def begin(self, job: Job) -> None:
        """What `next` gave goes on."""
        done = self.total - len(self.pending)
        self.watcher.begin(job, done + len(self.going), self.total, self._left())
        self.going.add(job.key)

    def end(self, job: Job, attempt: Attempt) -> None:
        """A job that went on has come to its end."""
        self.going.remove(job.key)
        if attempt.outcome is None:
            self._fail(job, attempt.reason)
            return
        self._count(job, attempt.outcome)
        if attempt.reason:
            self.watcher.failed(job, attempt.reason)
        else:
            self.watcher.end(job, attempt.outcome)

    def _first(self, method: Method, seed: int) -> Job | None:
        """What can begin of a run: one of the trials it waits for, or itself."""
        waits = [trial for trial in self.trials[id(method)] if trial.title in self.pending]
        for trial in waits:
            if self._may_begin(trial):
                return trial
        if any(trial.title in self.pending for trial in waits):
            return None
        tuned = self._tuned(method)
        job = run_of(method, seed, tuned or {})
        if tuned is None:
            self._fail(job, self._untuned(method))
            return None
        return job if self._may_begin(job) else None

    def _may_begin(self, job: Job) -> bool:
        """Whether a job neither goes on nor has a result; what has one counts as done."""
        if job.key in self.going:
            return False
        metrics = self.plan.metrics if job.trial is None else (self.plan.metric,)
        outcome = self.store.load(job, metrics)
        if outcome is not None:
            self._count(job, outcome)
        return outcome is None

    def _tuned(self, method: Method) -> Mapping[str, Any] | None:
        """The best settings of the trials, all of which are through; None if there are none."""
        if id(method) not in self.choices:
            self.choices[id(method)] = tuned_settings(self.plan, method, self.store)
        return self.choices[id(method)]

    def _untuned(self, method: Method) -> str:
        """Why a method has no tuned settings: trials that lost are there, others are not."""
        tried = [self.store.load(job, (self.plan.metric,)) for job in self.trials[id(method)]]
        if None in tried:
            return f"{tried.count(None)} of the {len(tried)} trials of its tuning could not be done"
        return "no trial of its tuning gave a result"

    def _count(self, job: Job, outcome: Outcome) -> None:
        """Note that a job has a result, and how long it took."""
        self.pending.pop(job.title, None)
        if not outcome.record.get("failed"):
            seconds = outcome.record["seconds"]
            self.took.append((job.method, seconds["train"] + seconds["eval"]))

    def _fail(self, job: Job, reason: str) -> None:
        """Note that a job gives no result."""
        self.pending.pop(job.title, None)
        self.failures.append(Failure(job, reason))
        self.watcher.failed(job, reason)

    def _left(self) -> float | None:
        """Seconds for all pending jobs, each taken to last as those most like it did."""
        if not self.took:
            return None
        each = [_likely(method, self.took) for method in self.pending.values()]
        return max(sum(each) / self.at_a_time, max(each, default=0.0))


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
