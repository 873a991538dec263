"""The trials of a search as plain values, and the files made from them."""

from __future__ import annotations

import csv
import io
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from ssmrec.errors import RunError
from ssmrec.storage.files import assert_inside, ready, spare
from ssmrec.training import label
from ssmrec.training.run import write_text
from ssmrec.tuning.task import Task, recipe

NAME = "ssmrec"
"""Of the study in `study.db`."""
RECIPE, TABLE, PICTURE, STUDY = "recipe.yaml", "trials.csv", "search.html", "study.db"


@dataclass(frozen=True)
class Done:
    """A trial that has ended.

    Args:
        number: from 1.
        state: `complete`; `pruned`: given up early; `failed`: diverged, or could not be done.
        params: dotted key to value, those of the space.
        value: of the metric on validation at the chosen epoch; None unless complete.
        curve: epoch to the metric on validation, for the epochs that were measured.
        epoch: the chosen epoch; 0 for a model in closed form.
        epochs: how many were trained.
        seconds: that it took, evaluation included.
        reason: why it failed.
    """

    number: int
    state: Literal["complete", "pruned", "failed"]
    params: dict[str, Any]
    value: float | None = None
    curve: dict[int, float] = field(default_factory=dict)
    epoch: int = 0
    epochs: int = 0
    seconds: float = 0.0
    reason: str = ""

    @property
    def reached(self) -> float | None:
        """Its value; for a trial that was given up, the best one until then."""
        return max(self.curve.values(), default=None) if self.value is None else self.value


def best_of(trials: Iterable[Done]) -> Done | None:
    """The complete trial with the highest value, the first of equals."""
    whole = [trial for trial in trials if trial.value is not None]
    return max(whole, key=lambda trial: (trial.value, -trial.number), default=None)


def counts(trials: Sequence[Done]) -> str:
    """Such as `12 trials (8 complete, 3 given up early, 1 failed)`."""
    words = {"complete": "complete", "pruned": "given up early", "failed": "failed"}
    numbers = {state: sum(t.state == state for t in trials) for state in words}
    parts = ", ".join(f"{n} {words[state]}" for state, n in numbers.items() if n)
    return f"{len(trials)} trial{'s' if len(trials) != 1 else ''} ({parts})"


def prepare_folder(folder: Path) -> None:
    """Make the folder of a search.

    Raises:
        RunError: it cannot be written, holds files of others by the names of ours, or links that lead out
            of it in the place of `study.db` and what SQLite keeps beside it.
    """
    remedy, study = "choose another --out, or delete it", folder / STUDY
    for end in ("", "-journal", "-wal", "-shm"):
        assert_inside(folder, folder / f"{STUDY}{end}")
    if not study.exists():
        spare((folder / name for name in (RECIPE, TABLE, PICTURE)), "a search", remedy)
    elif _of_others(study):
        spare([study], "a search", remedy)
    ready(folder)


def _of_others(study: Path) -> bool:
    """Whether a database has tables, but neither our study nor room left for it by a killed process."""
    try:
        with closing(sqlite3.connect(f"{study.absolute().as_uri()}?mode=ro", uri=True)) as database:
            tables = [name for (name,) in database.execute("select name from sqlite_master")]
            if "studies" not in tables:
                return bool(tables)
            names = [name for (name,) in database.execute("select study_name from studies")]
    except sqlite3.Error:  # Optuna will tell what is wrong with it
        return False
    return bool(names) and NAME not in names


def write_files(folder: Path, task: Task, trials: Sequence[Done]) -> None:
    """Write `trials.csv` and, once a trial is complete, `recipe.yaml`; each whole or not at all.

    Raises:
        RunError: the folder cannot be written.
    """
    _write(folder / TABLE, _table(task, trials))
    best = best_of(trials)
    if best is not None:
        _write(folder / RECIPE, _recipe(task, trials, best))


def _table(task: Task, trials: Sequence[Done]) -> str:
    """A line a trial: all digits, empty where there is no value."""
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    facts = ("trial", "state", task.metric, "epoch", "epochs", "seconds")
    rows.writerow([*facts, *task.space, "reason"])
    for trial in trials:
        told = (trial.number, trial.state, trial.reached, trial.epoch, trial.epochs)
        params = [trial.params.get(key) for key in task.space]
        rows.writerow([*told, round(trial.seconds, 2), *params, trial.reason])
    return out.getvalue()


def _recipe(task: Task, trials: Sequence[Done], best: Done) -> str:
    run = task.best(best.params, best.epoch)
    at = f" in epoch {best.epoch}" if best.epoch else ""
    source = " ".join(run.data.source.split())
    head = (
        f"# {source}: {label(run)}, trial {best.number}, the best of {counts(trials)} of ssmrec tune\n"
        f"# validation {task.metric} {best.value:.4f}{at}: the highest of many, so a little too good\n"
    )
    return head + yaml.safe_dump(recipe(run), sort_keys=False, allow_unicode=True)


def _write(path: Path, text: str) -> None:
    try:
        write_text(path, text)
    except OSError as error:
        raise RunError(
            f"{path}: cannot be written ({error.strerror or error}); the trials are kept in {STUDY}: make room "
            "on the disk, and the same command goes on"
        ) from None
