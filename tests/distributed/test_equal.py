"""Several processes compute what one computes: losses, gradients, tables, metrics."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from processes import Processes, one_step, whole_run
from ssmrec.config import merged

SMALL = {
    "model": {"name": "mf", "dim": 8},
    "train": {
        "epochs": 3,
        "batch_size": 100,
        "lr": 0.02,
        "metric": "ndcg@5",
        "threads": 1,
        "l2": 1e-3,
    },
    "evaluation": {"metrics": ["recall", "ndcg"], "ks": [5]},
}
IN_BATCH = {"name": "in_batch", "log_q": True, "exclude_known": True}
CASES: dict[str, dict[str, Any]] = {
    "mf in-batch": {"negatives": IN_BATCH},
    "mf in-batch, plain": {"negatives": {"name": "in_batch", "log_q": False}},
    "mf uniform shared": {"negatives": {"name": "uniform", "n": 12}},
    "mf uniform own": {"negatives": {"name": "uniform", "n": 5, "shared": False, "log_q": True}},
    "mf lazy": {"negatives": IN_BATCH, "train": {"optimizer": "lazy_adam"}},
    "mf mixed": {"negatives": {"name": "mixed", "n": 9}},
    "mf chosen": {"negatives": {"name": "tron", "n": 3, "pool": 15}},
    "mf prefixes": {"negatives": IN_BATCH, "loss": {"name": "ssm", "prefixes": [4, 8]}},
    "mf spectrum": {"negatives": IN_BATCH, "train": {"stable_rank": 0.1, "resn": 0.01}},
    "mf context": {"loss": {"name": "mscl"}},
    "lightgcn ssm": {"model": {"name": "lightgcn"}, "negatives": IN_BATCH},
    "lightgcn bpr": {"model": {"name": "lightgcn"}, "loss": {"name": "bpr"}},
    "simgcl": {"model": {"name": "simgcl"}, "negatives": IN_BATCH},
}


def same(one: list[np.ndarray], other: list[np.ndarray]) -> None:
    assert len(one) == len(other) > 0
    for mine, theirs in zip(one, other, strict=True):
        np.testing.assert_allclose(theirs, mine, rtol=1e-5, atol=2e-6)


def check(processes: Processes, asked: dict[str, Any], count: int = 101) -> None:
    loss, gradients, after = one_step(asked, count)
    for theirs in processes.run(one_step, asked, count):
        assert theirs[0] == pytest.approx(loss, rel=1e-5)
        same(gradients, theirs[1])
        same(after, theirs[2])


@pytest.mark.parametrize("name", CASES)
def test_a_step_is_that_of_one_process(pair, name):
    """An odd number of rows: the two processes have parts of different size."""
    check(pair, merged(SMALL, CASES[name]))


@pytest.mark.parametrize("name", ["mf in-batch", "mf uniform own", "mf chosen", "lightgcn bpr"])
def test_a_batch_of_one_row(pair, name):
    """Fewer rows than processes: one has none, and none waits for it."""
    check(pair, merged(SMALL, CASES[name]), count=1)


@pytest.mark.slow
@pytest.mark.parametrize("count", [3, 101])
@pytest.mark.parametrize("name", ["mf in-batch", "mf uniform own", "mf chosen", "lightgcn ssm"])
def test_a_step_of_four(four, name, count):
    check(four, merged(SMALL, CASES[name]), count)


@pytest.mark.parametrize(
    "name", ["mf in-batch", "mf uniform shared", "mf lazy", "lightgcn ssm", "lightgcn bpr"]
)
def test_a_training_is_that_of_one_process(pair, name):
    """1,029 pairs in batches of 257: the last batch has one row, and one process none of it."""
    asked = merged(SMALL, CASES[name], {"train": {"batch_size": 257}})
    losses, metrics, tables = whole_run(asked)
    mine, others = pair.run(whole_run, asked)
    for theirs in (mine, others):
        np.testing.assert_allclose(theirs[0], losses, rtol=1e-5)
        assert theirs[1] == metrics
        same(tables, theirs[2])
    for table, other in zip(mine[2], others[2], strict=True):
        np.testing.assert_array_equal(table, other)


@pytest.mark.slow
def test_a_training_of_four(four):
    asked = merged(SMALL, CASES["lightgcn ssm"], {"train": {"batch_size": 257}})
    losses, metrics, _ = whole_run(asked)
    for theirs in four.run(whole_run, asked):
        np.testing.assert_allclose(theirs[0], losses, rtol=1e-5)
        assert theirs[1] == metrics
