"""Batches made ahead are those made on demand, in the same order, and faults come through."""

from __future__ import annotations

import threading
import time
from itertools import islice

import pytest
import torch

from ssmrec.training import Trainer, resolve
from ssmrec.training.feed import fed


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_all_parts_in_order(ahead, count):
    assert list(fed(range(count), lambda part: part * part, ahead)) == [n * n for n in range(count)]


def test_one_is_made_while_the_one_before_is_read():
    made = []
    found = fed(range(9), made.append, True)
    for wanted in (2, 3, 4):
        next(found)
        deadline = time.monotonic() + 5
        while len(made) < wanted and time.monotonic() < deadline:
            time.sleep(0.001)
        assert made == list(range(wanted))
    made.clear()
    next(fed(range(9), made.append, False))
    assert made == [0]


def test_a_fault_comes_when_its_part_is_due_and_a_reader_may_stop():
    before = threading.active_count()

    def make(part):
        if part == 3:
            raise ValueError("part 3")
        return part

    found = fed(range(9), make, True)
    assert list(islice(found, 3)) == [0, 1, 2]
    with pytest.raises(ValueError, match="part 3"):
        next(found)
    stopped = fed(range(9), abs, True)
    next(stopped)
    stopped.close()
    assert threading.active_count() == before


def test_a_training_is_the_same_either_way(tastes):
    tables = []
    for ahead in (False, True):
        config = resolve({
            "model": {"name": "lightgcn", "dim": 8},
            "negatives": {"name": "in_batch", "exclude_known": True, "log_q": True},
            "train": {"protocol": "fixed", "batch_size": 64, "threads": 1, "device": "cpu"},
        })  # fmt: skip
        trainer = Trainer(config, tastes.train, epochs=2)
        assert not trainer.ahead
        trainer.ahead = ahead
        history = trainer.run().history
        tables.append((trainer.model.table.detach(), history[-1]["loss"]))
    assert torch.equal(tables[0][0], tables[1][0]) and tables[0][1] == tables[1][1]
