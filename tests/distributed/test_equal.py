"""Several processes compute what one computes: losses, gradients, tables, metrics."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from processes import CASES, SMALL, Processes, one_step, plain_steps, same, whole_run
from ssmrec.config import merged


def check(processes: Processes, asked: dict[str, Any], count: int = 101) -> None:
    """In float32 by the kernels, and in float64, where nothing but the sum of the parts is rounded."""
    for exact, rtol, atol in ((False, 1e-5, 1e-7), (True, 1e-11, 1e-13)):
        loss, gradients, after = one_step(asked, count, exact)
        for theirs in processes.run(one_step, asked, count, exact):
            assert theirs[0] == pytest.approx(loss, rel=rtol)
            same(gradients, theirs[1], rtol, atol)
            if exact:
                same(after, theirs[2], 1e-6, 1e-9)


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
        # Adam divides by the size of the gradient: where that is near zero, its last digits count.
        same(tables, theirs[2], 1e-5, 5e-5)
    for table, other in zip(mine[2], others[2], strict=True):
        np.testing.assert_array_equal(table, other)


@pytest.mark.parametrize("name", ["lightgcn ssm", "ngcf"])
def test_steps_of_plain_descent_agree_to_the_last_digits(pair, name):
    """Where no optimiser divides by the size of a gradient, nothing makes the last digits grow."""
    asked = merged(SMALL, CASES[name])
    alone = plain_steps(asked, 20, 0.5)
    for theirs in pair.run(plain_steps, asked, 20, 0.5):
        same(alone, theirs, 1e-10, 1e-12)


@pytest.mark.slow
def test_a_training_of_four(four):
    asked = merged(SMALL, CASES["lightgcn ssm"], {"train": {"batch_size": 257}})
    losses, metrics, _ = whole_run(asked)
    for theirs in four.run(whole_run, asked):
        np.testing.assert_allclose(theirs[0], losses, rtol=1e-5)
        assert theirs[1] == metrics
