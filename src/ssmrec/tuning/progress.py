"""Progress of a search on the terminal: a line for each trial, two bars, the best so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from ssmrec.reporting.bars import TwoBars
from ssmrec.tuning.record import Done, best_of, counts
from ssmrec.tuning.runner import Watcher
from ssmrec.tuning.spaces import labels
from ssmrec.tuning.task import Task


class SearchBars(TwoBars, Watcher):
    """Shows trial by trial what was tried, what came of it, and the best value so far."""

    def __init__(self, task: Task, console: Console | None = None) -> None:
        self.task, self.names = task, labels(task.space)
        super().__init__("trials", console)
        self.number, self.total, self.best = 0, 1, ""

    def resumed(self, trials: Sequence[Done]) -> None:
        best = best_of(trials)
        told = "" if best is None else f"; best {best.value:.4f}, trial {best.number}"
        self.note(f"{counts(trials)} were made before{told}")

    def begin(self, number: int, total: int, params: Mapping[str, Any]) -> None:
        self.number, self.total, self.best = number, total, ""
        self.bars.update(self.outer, completed=number - 1, total=total)
        self.bars.update(self.inner, description=f"trial {number}", completed=0, total=1, facts="")

    def end(self, trial: Done, best: Done | None) -> None:
        so_far = "" if best is None else f", best {best.value:.4f} in trial {best.number}"
        self.bars.update(self.outer, completed=trial.number, facts=so_far.lstrip(", "))
        self.note(
            f"[{trial.number}/{self.total}] {self._came(trial)}  {settings(trial.params, self.names)}"
            f"  ({trial.seconds:.0f} s{so_far})"
        )

    def out_of_time(self, number: int) -> None:
        self.note(f"[{number}/{self.total}] out of time: this trial is broken off")

    def phase(self, name: str, epochs: int, device: str) -> None:
        self.bars.update(self.inner, completed=0, total=max(epochs, 1))

    def step(self, epoch: int, done: int, total: int, loss: float) -> None:
        facts = f"loss {loss:.4f}{self.best}"
        self.bars.update(self.inner, completed=epoch - 1 + done / total, facts=facts)

    def epoch(self, record: dict[str, Any], best: bool) -> None:
        if best:
            self.best = f"  {self.task.metric} {record[self.task.metric]:.4f}"
        self.bars.update(self.inner, completed=record["epoch"])

    def warning(self, text: str) -> None:
        self.note(f"[{self.number}/{self.total}] warning: {text}")

    def _came(self, trial: Done) -> str:
        if trial.state == "failed":
            return f"FAILED, {trial.reason}:"
        if trial.state == "pruned":
            return f"given up in epoch {trial.epochs} with {self.task.metric} {trial.reached:.4f}"
        at = f" in epoch {trial.epoch} of {trial.epochs}" if trial.epochs else ""
        return f"{self.task.metric} {trial.value:.4f}{at}"


def settings(params: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """`temperature=0.12 lr=0.001`."""
    return " ".join(f"{names[key]}={value}" for key, value in params.items())
