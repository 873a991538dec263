"""The memory of a search: Optuna draws settings and gives trials up; SQLite keeps what was seen."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from ssmrec.errors import ConfigError, RunError
from ssmrec.training.seeds import numpy_generator
from ssmrec.tuning.record import NAME, STUDY, Done
from ssmrec.tuning.spaces import Part, Range
from ssmrec.tuning.task import Task

_TASK, _TOLD, _ASKED = "task", "told", "asked"
_FACTS = ("epoch", "epochs", "seconds", "reason")
_STARTUP = 5
"""Complete trials before the first may be given up."""
_LOST = 3
"""A trial whose process died as often is drawn anew: it may be what kills the process."""
_WARMUP = 2, 10
"""The first epoch in which a trial may be given up is a fifth of all, within these bounds."""
_ENDED = ("COMPLETE", "PRUNED")
"""Optuna's states of trials that ended by themselves; `FAIL` is one that was broken off."""


def load_optuna() -> Any:
    """The library.

    Raises:
        ConfigError: it is not installed; the message names the extra.
    """
    try:
        import optuna
    except ImportError:
        raise ConfigError("tuning needs the library optuna: pip install 'ssmrec[tune]'") from None
    return optuna


class StudyError(RunError):
    """The memory of a search cannot be read or written: no fault of the trial that runs."""


class Study:
    """The trials of one search.

    A trial that was running when its process died, or was broken off, is as if it had never begun: the
    next one is drawn in its place, from the same random numbers (from others after its process died
    three times, as it may be what kills it). So a search that was broken off ends with the trials of an
    unbroken one (with `hyperband`, which goes by running numbers, with others).

    Args:
        task: what is searched.
        fingerprint: of the training and validation pairs.
        seed: decides what is drawn.
        folder: where `study.db` lies, or is begun; None keeps everything in memory.

    Raises:
        ConfigError: optuna is not installed.
        RunError: the folder holds another search (what differs is named).
        StudyError: it cannot be used; also from every method.
    """

    def __init__(self, task: Task, fingerprint: str, seed: int, folder: Path | None) -> None:
        self.optuna = load_optuna()
        self.task, self.seed = task, seed
        self.path = None if folder is None else folder / STUDY
        self.distributions = {key: self._distribution(part) for key, part in task.space.items()}
        with self._watched():
            self.study = self.optuna.create_study(
                storage=None if self.path is None else self._storage(self.path),
                study_name=NAME, direction="maximize", load_if_exists=True, pruner=self._pruner(),
            )  # fmt: skip
            self._claim(task.record(fingerprint))
            self._forget_lost()

    def done(self) -> list[Done]:
        """The trials that have ended, in their order."""
        with self._watched():
            found = self.study.get_trials(deepcopy=False)
        ended = [trial for trial in found if trial.state.name in _ENDED]
        return [self._done(number, trial) for number, trial in enumerate(ended, 1)]

    def begin(self) -> tuple[Any, dict[str, Any]]:
        """The next trial, and its settings by dotted key. The first has those of `task.start`."""
        number, lost = len(self.done()), self._lost()
        purpose = f"tuning {lost // _LOST}" if lost >= _LOST else "tuning"
        drawn = numpy_generator(self.seed, purpose, number).integers(2**32)
        with self._watched():
            self.study.sampler = self.optuna.samplers.TPESampler(seed=int(drawn))
            if number == 0 and lost < _LOST and self.task.start and not self._waiting():
                start = {k: self.task.space[k].named(v) for k, v in self.task.start.items()}
                self.study.enqueue_trial(start)
            trial = self.study.ask(self.distributions)
        return trial, self._params(trial.params)

    def report(self, trial: Any, epoch: int, value: float) -> bool:
        """Tell the metric of an epoch; whether the trial is to be given up."""
        with self._watched():
            trial.report(value, epoch)
            return trial.should_prune()

    def end(self, trial: Any, outcome: Done) -> None:
        """Keep how a trial ended. To Optuna a failed one is pruned, so that it keeps away from there."""
        states = self.optuna.trial.TrialState
        complete = outcome.state == "complete"
        with self._watched():
            trial.set_user_attr(_TOLD, {name: getattr(outcome, name) for name in _FACTS})
            self.study.tell(trial, outcome.value, states.COMPLETE if complete else states.PRUNED)

    def repeat(self, trial: Any, outcome: Done) -> None:
        """Keep a trial as one with the same settings ended."""
        with self._watched():
            for epoch, value in outcome.curve.items():
                trial.report(value, epoch)
        self.end(trial, outcome)

    def lose(self, trial: Any, asked: bool = False) -> None:
        """Forget a trial that was broken off; `asked` by the user, it is no sign of a trial that kills."""
        with self._watched():
            trial.set_user_attr(_ASKED, asked)
            self.study.tell(trial, state=self.optuna.trial.TrialState.FAIL)

    def _distribution(self, part: Part) -> Any:
        kinds = self.optuna.distributions
        if not isinstance(part, Range):
            return kinds.CategoricalDistribution(part.names)
        kind = kinds.IntDistribution if part.whole else kinds.FloatDistribution
        return kind(part.low, part.high, log=part.log)

    def _pruner(self) -> Any:
        kinds, epochs = self.optuna.pruners, self.task.epochs
        if self.task.pruner == "none" or epochs < 2:
            return kinds.NopPruner()
        if self.task.pruner == "hyperband":
            return kinds.HyperbandPruner(min_resource=1, max_resource=epochs)
        # A median of one or two trials that learn as long would say little.
        warmup = min(_WARMUP[1], max(_WARMUP[0], epochs // 5))
        return kinds.MedianPruner(_STARTUP, n_warmup_steps=warmup, n_min_trials=3)

    def _claim(self, mine: Mapping[str, Any]) -> None:
        """Write what a new study is about; an old one must be about the same."""
        text = self.study.user_attrs.get(_TASK)
        if text is None:
            self.study.set_user_attr(_TASK, json.dumps(mine))
            return
        theirs = json.loads(text)
        for key in dict.fromkeys([*theirs, *mine]):
            if theirs.get(key) == mine.get(key) or not _matters(key, theirs, mine):
                continue
            differs = f"{key} was {theirs.get(key, 'not there')}, is {mine.get(key, 'not there')}"
            if key == "data":
                differs = "its data were others than these"
            raise RunError(
                f"{self.path}: holds another search ({differs}): repeat the command that began it, or "
                "choose another --out"
            )

    def _forget_lost(self) -> None:
        """End trials that a killed process left running."""
        states = self.optuna.trial.TrialState
        for trial in self.study.get_trials(deepcopy=False, states=(states.RUNNING,)):
            self.study.tell(trial.number, state=states.FAIL)

    def _lost(self) -> int:
        """How many trials were broken off, without being asked to, since the last that ended."""
        with self._watched():
            trials = self.study.get_trials(deepcopy=False)
        since = max((n for n, trial in enumerate(trials) if trial.state.name in _ENDED), default=-1)
        lost = (trial for trial in trials[since + 1 :] if trial.state.name == "FAIL")
        return sum(not trial.user_attrs.get(_ASKED) for trial in lost)

    def _waiting(self) -> bool:
        waiting = (self.optuna.trial.TrialState.WAITING,)
        return bool(self.study.get_trials(deepcopy=False, states=waiting))

    def _done(self, number: int, trial: Any) -> Done:
        complete, told = trial.state.name == "COMPLETE", trial.user_attrs[_TOLD]
        curve = {int(epoch): value for epoch, value in sorted(trial.intermediate_values.items())}
        return Done(
            number, "complete" if complete else "failed" if told["reason"] else "pruned",
            self._params(trial.params), trial.value if complete else None, curve, **told,
        )  # fmt: skip

    def _params(self, drawn: Mapping[str, Any]) -> dict[str, Any]:
        """Settings from what Optuna keeps, in the order of the space."""
        return {key: part.value(drawn[key]) for key, part in self.task.space.items()}

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Keep Optuna quiet; whatever fails in its storage becomes one line."""
        logs = self.optuna.logging
        level = logs.get_verbosity()
        logs.set_verbosity(logs.ERROR)
        try:
            yield
        except self._faults() as error:
            raise StudyError(
                f"{self.path}: cannot be used as the memory of a search {_told(error)}"
            ) from None
        finally:
            logs.set_verbosity(level)

    def _storage(self, path: Path) -> Any:
        """A SQLite file, opened by its path: in an address, signs such as ? mean something else."""
        from sqlalchemy.pool import QueuePool

        opened = partial(sqlite3.connect, path, check_same_thread=False)
        return self.optuna.storages.RDBStorage(
            "sqlite://", engine_kwargs={"creator": opened, "poolclass": QueuePool}
        )

    def _faults(self) -> tuple[type[Exception], ...]:
        if self.path is None:
            return ()
        from sqlalchemy.exc import SQLAlchemyError

        # RuntimeError: a file of an Optuna with another layout. ValueError: no JSON, or a trial that
        # another command has ended.
        return (SQLAlchemyError, self.optuna.exceptions.OptunaError, RuntimeError, ValueError)


def _told(error: BaseException) -> str:
    """What was behind it, and what helps."""
    while error.__cause__ is not None:  # Optuna's own text guesses at the data
        error = error.__cause__
    reason = str(error).strip().partition("\n")[0]
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the rest says where
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        return f"({reason}); make room on the disk, and the same command goes on"
    return f"({reason}); choose another --out"


def _matters(key: str, theirs: Mapping[str, Any], mine: Mapping[str, Any]) -> bool:
    """A setting that only one of both knows is one that another version added."""
    return key.startswith("space ") or (key in theirs and key in mine)
