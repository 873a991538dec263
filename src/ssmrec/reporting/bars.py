"""Two bars, one of the work as a whole and one of the training that goes on, with lines above them."""

from __future__ import annotations

from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from ssmrec.training import Listener


class TwoBars(Listener):
    """The terminal of a work of many trainings; `outer` names what is counted, such as runs."""

    def __init__(self, outer: str, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self.bars = Progress(
            TextColumn("{task.description}", markup=False), BarColumn(bar_width=24),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f}"), TextColumn("{task.fields[facts]}"),
            console=self.console, transient=True,
        )  # fmt: skip
        self.outer = self.bars.add_task(outer, total=1, facts="")
        self.inner = self.bars.add_task("epochs", total=1, facts="")

    def __enter__(self) -> Self:
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()

    def note(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)
