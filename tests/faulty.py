"""`ssmrec`, with a fault in process 1: `torchrun tests/faulty.py FAULT train ...`."""

from __future__ import annotations

import os
import sys
from dataclasses import replace

from ssmrec.cli import main, train
from ssmrec.errors import DataError, RunError
from ssmrec.training import Trainer


def bad_row(*_: object) -> None:
    raise DataError("clicks.csv: row 7 cannot be read")


def others_rows(config, seed):  # type: ignore[no-untyped-def]
    return replace(prepare(config, seed), test=None)


def failing(self, batch, draws):  # type: ignore[no-untyped-def]
    if self.state.epoch == 1:
        raise RunError("a fault in a step")
    return step(self, batch, draws)


fault = sys.argv.pop(1)
prepare, step = train.prepare, Trainer.step
if os.environ["RANK"] == "1":
    if fault == "step":
        Trainer.step = failing  # type: ignore[method-assign]
    else:
        train.prepare = {"data": bad_row, "other": others_rows}[fault]
main()
