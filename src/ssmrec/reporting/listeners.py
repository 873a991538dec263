"""Several listeners as one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from typing import Any, Self

from ssmrec.reporting.trackers import Tracker
from ssmrec.training import Listener, RunConfig


class Listeners(Listener):
    """Several listeners as one: each hears everything, in their order."""

    def __init__(self, members: Iterable[Listener]) -> None:
        self.members = list(members)
        self._open = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for member in self.members:
                stack.enter_context(member)
            self._open = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._open.__exit__(*error)

    def begin(self, config: RunConfig) -> None:
        """Tell the trackers the resolved settings, before training."""
        for tracker in self._trackers():
            tracker.begin(config)

    def finish(self, metrics: Mapping[str, Any]) -> None:
        """Tell the trackers what `metrics.json` holds, after training."""
        for tracker in self._trackers():
            tracker.finish(metrics)

    def _trackers(self) -> list[Tracker]:
        return [member for member in self.members if isinstance(member, Tracker)]

    def phase(self, name: str, epochs: int, device: str) -> None:
        for member in self.members:
            member.phase(name, epochs, device)

    def step(self, epoch: int, done: int, total: int, loss: float) -> None:
        for member in self.members:
            member.step(epoch, done, total, loss)

    def epoch(self, record: dict[str, Any], best: bool) -> None:
        for member in self.members:
            member.epoch(record, best)

    def evaluating(self, done: int, total: int) -> None:
        for member in self.members:
            member.evaluating(done, total)

    def note(self, text: str) -> None:
        for member in self.members:
            member.note(text)

    def warning(self, text: str) -> None:
        """Shown by the members that show warnings; logged, once, where there are none."""
        showing = [m for m in self.members if type(m).warning is not Listener.warning]
        for member in showing:
            member.warning(text)
        if not showing:
            super().warning(text)
