"""Progress of a comparison on the terminal: a line for each finished run, two bars, time left."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console

from ssmrec.compare.methods import Job
from ssmrec.compare.runner import Watcher
from ssmrec.compare.store import Outcome
from ssmrec.reporting.bars import TwoBars

_SLICE = 0.5
"""Seconds between updates of the time left."""


class CompareBars(TwoBars, Watcher):
    """Shows run by run what is done, what goes on, and about how long it will take."""

    def __init__(self, console: Console | None = None) -> None:
        super().__init__("runs", console)
        self.started = self.told = 0.0
        self.left: float | None = None
        self.position, self.last = "", False
        self.best = ""

    def begin(self, job: Job, done: int, total: int, left: float | None) -> None:
        self.started, self.left, self.position = time.monotonic(), left, f"[{done + 1}/{total}]"
        self.last = done + 1 == total
        self.bars.update(self.outer, completed=done, total=total, facts=self._until(left))
        self.bars.update(self.inner, description=job.title, completed=0, total=1, facts="")

    def end(self, job: Job, outcome: Outcome) -> None:
        took = time.monotonic() - self.started
        values = "  ".join(f"{k} {v:.4f}" for k, v in outcome.record["metrics"].items())
        part = "" if job.trial is None else "validation "
        left = 0.0 if self.left is None else self.left - took
        until = f", {self._until(left)}" if left >= 1 and not self.last else ""
        self.note(f"{self.position} {job.title}: {part}{values}  ({duration(took)}{until})")

    def failed(self, job: Job, reason: str) -> None:
        self.note(f"{self.position} {job.title}: FAILED, {reason}")

    def phase(self, name: str, epochs: int, device: str) -> None:
        self.best = ""
        self.bars.update(self.inner, completed=0, total=max(epochs, 1), facts=name)

    def step(self, epoch: int, done: int, total: int, loss: float) -> None:
        now = time.monotonic()
        self.bars.update(
            self.inner, completed=epoch - 1 + done / total, facts=f"loss {loss:.4f}{self.best}"
        )
        if self.left is not None and now - self.told > _SLICE:
            self.told = now
            left = max(0.0, self.left - (now - self.started))
            self.bars.update(self.outer, facts=self._until(left))

    def epoch(self, record: dict[str, Any], best: bool) -> None:
        values = {name: value for name, value in record.items() if "@" in name}
        if best:
            self.best = "".join(f"  best {name} {value:.4f}" for name, value in values.items())
        self.bars.update(self.inner, completed=record["epoch"])

    def warning(self, text: str) -> None:
        self.note(f"{self.position} warning: {text}")

    def _until(self, left: float | None) -> str:
        return "" if left is None else f"about {duration(left)} left"


def duration(seconds: float) -> str:
    """Such as 12 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
