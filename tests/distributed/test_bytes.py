"""What processes give to each other is what the table of docs/scaling.md says."""

from __future__ import annotations

from typing import Any

import pytest

from processes import CASES, SMALL, bytes_of_a_step, bytes_of_an_epoch
from ssmrec.config import merged

NODES, DIM = 100, 8


@pytest.mark.parametrize(
    ("name", "width", "layers"),
    [
        ("mf in-batch", DIM, 0),
        ("mf uniform own", DIM, 0),
        ("mf chosen", DIM, 0),
        ("lightgcn ssm", DIM, 3),
        ("ngcf", 4 * DIM, 3),
    ],
)
def test_a_step(pair, name: str, width: int, layers: int):
    asked = merged(SMALL, CASES[name])
    if layers:
        asked = merged(asked, {"model": {"layers": layers}})
    found = pair.run(bytes_of_a_step, asked)
    users, items = found[0][1:]
    each = 4 * (users + items) * width + 4  # the gradient and the loss
    if name == "mf chosen":
        each += 4 * items  # how often each is chosen, for L2
    exchanged = 8 * max(layers - 1, 0) * NODES * DIM  # by all together: whole layers, and back
    assert sum(given for given, _, _ in found) == 2 * each + exchanged
    if not layers:
        assert [given for given, _, _ in found] == [each, each]


def test_without_l2_nobody_tells_which_are_chosen(pair):
    asked = merged(SMALL, CASES["mf chosen"], {"train": {"l2": 0}})
    for given, users, items in pair.run(bytes_of_a_step, asked):
        assert given == 4 * (users + items) * DIM + 4


@pytest.mark.parametrize(
    ("train", "each"), [({"budget": 900}, 8), ({"budget": 900, "lr_decay": "linear"}, 16)]
)
def test_a_budget_is_read_by_the_clock_of_process_0(pair, train: dict[str, Any], each: int):
    asked = merged(SMALL, CASES["mf in-batch"])
    plain = pair.run(bytes_of_an_epoch, asked)
    budget = pair.run(bytes_of_an_epoch, merged(asked, {"train": train}))
    for (without, steps), (given, _) in zip(plain, budget, strict=True):
        assert given - without == each * steps
