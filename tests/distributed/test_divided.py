"""Propagation and tables that are divided among processes."""

from __future__ import annotations

import numpy as np
import pytest

from processes import CASES, SMALL, divided_layers, held_rows, one_step, same, whole_run
from ssmrec.config import merged
from ssmrec.errors import ConfigError
from ssmrec.training import resolve, train_run

SHARDED = merged(SMALL, CASES["mf in-batch"], {"distributed": {"tables": "sharded"}})


def test_divided_layers_are_the_whole_ones_to_the_last_bit(pair):
    forward, transposed = divided_layers(divided=False)
    for theirs in pair.run(divided_layers, divided=True):
        np.testing.assert_array_equal(theirs[0], forward)
        np.testing.assert_array_equal(theirs[1], transposed)


@pytest.mark.parametrize("propagation", ["whole", "rows"])
def test_both_ways_of_propagation_train_alike(pair, propagation):
    asked = merged(SMALL, CASES["lightgcn ssm"], {"model": {"layers": 3}})
    loss, gradients, _ = one_step(asked, 101)
    for theirs in pair.run(
        one_step, merged(asked, {"distributed": {"propagation": propagation}}), 101
    ):
        assert theirs[0] == pytest.approx(loss, rel=1e-5)
        same(gradients, theirs[1], 1e-5, 1e-7)


def test_without_torchrec_one_line_says_what_to_install(pair):
    if pair.run(held_rows, SHARDED)[0] is None:
        with pytest.raises(AssertionError, match="needs TorchRec .* `make distributed-cpu`"):
            pair.run(whole_run, SHARDED)


def test_sharded_tables_train_as_replicated_ones(pair):
    """Every process holds half of the rows, and losses, metrics and vectors are those of one process."""
    pytest.importorskip("torchrec", reason="torchrec is not installed: make distributed-cpu")
    asked = merged(SMALL, CASES["mf in-batch"], {"train": {"batch_size": 257}})
    losses, metrics, tables = whole_run(asked)
    for theirs in pair.run(whole_run, merged(asked, {"distributed": {"tables": "sharded"}})):
        np.testing.assert_allclose(theirs[0], losses, rtol=1e-5)
        assert theirs[1] == metrics
        same(tables, theirs[2], 1e-5, 5e-5)
    assert pair.run(held_rows, SHARDED) == [50, 50]  # of 60 users and 40 items


@pytest.mark.slow
def test_sharded_over_four(four):
    pytest.importorskip("torchrec", reason="torchrec is not installed: make distributed-cpu")
    losses, metrics, _ = whole_run(SHARDED)
    for theirs in four.run(whole_run, SHARDED):
        np.testing.assert_allclose(theirs[0], losses, rtol=1e-5)
        assert theirs[1] == metrics
    assert four.run(held_rows, SHARDED) == [25, 25, 25, 25]


def test_one_process_does_not_shard(tastes):
    assert np.isfinite(train_run(resolve(SHARDED), tastes).history[-1]["loss"])


@pytest.mark.parametrize(
    "other",
    [
        {"model": {"name": "lightgcn"}},
        {"train": {"optimizer": "lazy_adam"}},
        {"loss": {"name": "sl_at_k"}},
    ],
)
def test_what_cannot_be_sharded_is_refused(other):
    from ssmrec.distributed import Place
    from ssmrec.distributed.fit import admit

    with pytest.raises(ConfigError, match="distributed.tables=sharded is for model=mf"):
        admit(resolve(merged(SHARDED, other)), Place(0, 2, 0, 2))
