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
    """Shows run by run what is done, what goes on, and about how long it will take.

    Of several trainings `at_a_time` it shows how many go on, not how far each is.
    """

    def __init__(self, console: Console | None = None, at_a_time: int = 1) -> None:
        super().__init__("runs", console)
        self.bars.update(self.inner, visible=at_a_time == 1)
        self.several = at_a_time > 1
        self.begun: dict[str, tuple[float, int]] = {}
        """When each of those that go on began, and its number."""
        self.started = self.told = 0.0
        self.total = self.pending = 1
        self.left: float | None = None
        self.best = ""

    def begin(self, job: Job, done: int, total: int, left: float | None) -> None:
        self.started, self.left, self.total = time.monotonic(), left, total
        self.begun[job.title] = self.started, done + 1
        self.pending = total - done - 1
        self._show()
        self.bars.update(self.inner, description=job.title, completed=0, total=1, facts="")

    def end(self, job: Job, outcome: Outcome) -> None:
        started, position = self.begun.pop(job.title)
        took = time.monotonic() - started
        values = "  ".join(f"{k} {v:.4f}" for k, v in outcome.record["metrics"].items())
        part = "" if job.trial is None else "validation "
        left = self._left()
        until = f", {self._until(left)}" if left is not None and left >= 1 else ""
        place = f"[{position}/{self.total}]"
        self.note(f"{place} {job.title}: {part}{values}  ({duration(took)}{until})")
        self._show()

    def failed(self, job: Job, reason: str) -> None:
        _, position = self.begun.pop(job.title, (0.0, 0))
        place = f"[{position}/{self.total}] " if position else ""
        self.note(f"{place}{job.title}: FAILED, {reason}")
        self._show()

    def _left(self) -> float | None:
        """Seconds left now; None where that is not known, or nothing is left to do."""
        if self.left is None or not (self.pending or self.begun):
            return None
        return max(0.0, self.left - (time.monotonic() - self.started))

    def _show(self) -> None:
        done = self.total - self.pending - len(self.begun)
        going = f"{len(self.begun)} go on  " if self.several else ""
        facts = going + self._until(self._left())
        self.bars.update(self.outer, completed=done, total=self.total, facts=facts)

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
            self._show()

    def epoch(self, record: dict[str, Any], best: bool) -> None:
        values = {name: value for name, value in record.items() if "@" in name}
        if best:
            self.best = "".join(f"  best {name} {value:.4f}" for name, value in values.items())
        self.bars.update(self.inner, completed=record["epoch"])

    def warning(self, text: str) -> None:
        place = "" if self.several else f"[{self.total - self.pending}/{self.total}] "
        self.note(f"{place}warning: {text}")

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
