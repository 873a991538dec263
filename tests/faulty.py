"""Faults in process 1, to call before the command."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from ssmrec.errors import DataError, RunError


def bad_row() -> None:
    """Its copy of the data cannot be read."""

    def prepare(*_: Any) -> Any:
        raise DataError("clicks.csv: row 7 cannot be read")

    _prepare(lambda _: prepare)


def other_data() -> None:
    """It reads other data than process 0."""
    _prepare(lambda prepare: lambda config, seed: replace(prepare(config, seed), test=None))


def bad_step() -> None:
    """It fails in the second epoch."""
    from ssmrec.training import Trainer

    step = Trainer.step

    def failing(self: Any, batch: Any, *more: Any) -> Any:
        if self.state.epoch == 1:
            raise RunError("a fault in a step")
        return step(self, batch, *more)

    if os.environ["RANK"] == "1":
        Trainer.step = failing  # type: ignore[method-assign]


def _prepare(other: Any) -> None:
    from ssmrec.cli import train

    if os.environ["RANK"] == "1":
        os.environ["LOCAL_RANK"] = "0"  # as on a machine of its own, which reads for itself
        train.prepare = other(train.prepare)
