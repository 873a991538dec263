"""Bars on the terminal, with lines above them."""

from __future__ import annotations

from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn

from ssmrec.training.listener import Listener


class Bars(Listener):
    """A name, a bar, how much is done and a few facts a line; use as a context manager.

    `more` are further columns.
    """

    def __init__(self, console: Console | None = None, *more: ProgressColumn) -> None:
        self.console = console or Console(stderr=True)
        self.bars = Progress(
            TextColumn("{task.description}", markup=False), BarColumn(bar_width=24),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f}"), TextColumn("{task.fields[facts]}"),
            *more, console=self.console, transient=True,
        )  # fmt: skip

    def __enter__(self) -> Self:
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()

    def note(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)


class TwoBars(Bars):
    """The work of many trainings, and the one that goes on; `outer` names what is counted, such as runs."""

    def __init__(self, outer: str, console: Console | None = None) -> None:
        super().__init__(console)
        self.outer = self.bars.add_task(outer, total=1, facts="")
        self.inner = self.bars.add_task("epochs", total=1, facts="")
