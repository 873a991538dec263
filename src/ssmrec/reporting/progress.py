"""Progress of a training on the terminal: two bars, and a line per evaluated epoch."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.progress import TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ssmrec.reporting.bars import Bars


class ProgressBars(Bars):
    """Shows epoch, loss, metric, examples per second and time left. Use as a context manager."""

    def __init__(self, console: Console | None = None) -> None:
        super().__init__(console, TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
        self.epochs = self.inner = None
        self.metric = ""

    def phase(self, name: str, epochs: int, device: str) -> None:
        for task in self.bars.task_ids:
            self.bars.remove_task(task)
        self.note(f"{name}: at most {epochs} epochs on {device}")
        self.epochs = self.bars.add_task("epochs", total=epochs, facts="")
        self.inner = self.bars.add_task("epoch", total=1, facts="")

    def step(self, epoch: int, done: int, total: int, loss: float) -> None:
        self._inner(f"epoch {epoch}", done, total, f"loss {loss:.4f}{self.metric}")

    def evaluating(self, done: int, total: int) -> None:
        self._inner("ranking", done, total, self.metric.strip())

    def epoch(self, record: dict[str, Any], best: bool) -> None:
        metrics = {name: value for name, value in record.items() if "@" in name}
        self.metric = "".join(f"  {name} {value:.4f}" for name, value in metrics.items())
        text = (
            f"epoch {record['epoch']:>3}  loss {record['loss']:.4f}{self.metric}"
            f"  {record['examples_per_second']:,.0f} examples/s  {record['train_seconds']:.1f} s"
        )
        self.note(text + ("  *" if best else ""))
        if self.epochs is not None:
            self.bars.update(self.epochs, completed=record["epoch"])

    def warning(self, text: str) -> None:
        self.note(f"warning: {text}")

    def _inner(self, name: str, done: int, total: int, facts: str) -> None:
        if self.inner is not None:
            self.bars.update(self.inner, description=name, completed=done, total=total, facts=facts)
