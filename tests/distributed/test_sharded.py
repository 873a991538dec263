"""Tables that are divided among processes: saved, read by another number of them, ranked by, written."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.torch import load_file

from processes import CASES, SMALL, same, whole_run
from sharded_jobs import broken_off, judged, restored, resumed, run_folder, saved
from ssmrec.config import merged
from ssmrec.training import load_run

pytest.importorskip("torchrec", reason="torchrec is not installed: make distributed-cpu")

SHARDED = merged(SMALL, CASES["mf in-batch"], {"distributed": {"tables": "sharded"}})
ODD = merged(SHARDED, {"model": {"dim": 5}})
NODES = 100


@pytest.fixture
def processes(request):
    """`processes(n)(job, ...)`: what the job gives in each of n processes."""

    def of(size: int):
        if size == 1:
            return lambda job, *words: [job(*words)]
        return request.getfixturevalue({2: "pair", 4: "four"}[size]).run

    return of


def whole(parts: list[list[np.ndarray]]) -> list[np.ndarray]:
    """Tables (nodes, d) from the rows of each process: node k lies in process k mod n."""
    tables = zip(*parts, strict=True)
    return [np.stack(table, 1).reshape(-1, table[0].shape[1])[:NODES] for table in tables]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (2, 1), (1, 2), (2, 2),
        pytest.param(4, 2, marks=pytest.mark.slow), pytest.param(2, 4, marks=pytest.mark.slow),
        pytest.param(4, 1, marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_saved_by_some_read_by_others_to_the_last_bit(processes, tmp_path, before, after):
    """Best, model and moments; the file itself is that of one process."""
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    told = whole(processes(before)(saved, tmp_path / "one", ODD))
    found = whole(processes(after)(restored, tmp_path / "one", ODD, tmp_path / "two"))
    one, two = (load_file(tmp_path / name / "checkpoint.safetensors") for name in ("one", "two"))
    for at, name in enumerate(("best/table", "model/table", "adam/0/exp_avg", "adam/0/exp_avg_sq")):
        np.testing.assert_array_equal(one[f"train/{name}"], told[at])
        np.testing.assert_array_equal(found[at], told[at])
        assert np.abs(told[at]).max() > 0
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        np.testing.assert_array_equal(two[name], tensor)


@pytest.mark.parametrize(
    ("before", "after"),
    [(2, 1), (1, 2), pytest.param(4, 2, marks=pytest.mark.slow)],
)
def test_resumed_by_another_number_of_processes(processes, tmp_path, before, after):
    """Under `refit`, broken off in its second training: the choice of the first is read as well."""
    asked = merged(SHARDED, {"train": {"protocol": "refit", "epochs": 4}})
    losses, metrics, tables = whole_run(asked)
    processes(before)(broken_off, tmp_path, asked, 4 + 2)
    for theirs in processes(after)(resumed, tmp_path, asked):
        np.testing.assert_allclose(theirs[0], losses, rtol=1e-5)
        assert theirs[1] == {name: metrics[name] for name in theirs[1]}
        same(tables, theirs[2], 1e-5, 5e-5)


def test_resumed_by_as_many_is_the_unbroken_training_to_the_last_bit(pair, tmp_path):
    unbroken = pair.run(whole_run, SHARDED)
    pair.run(broken_off, tmp_path, SHARDED, 3)
    for one, other in zip(unbroken, pair.run(resumed, tmp_path, SHARDED), strict=True):
        assert one[0] == other[0]
        np.testing.assert_array_equal(one[2][0], other[2][0])


def test_a_checkpoint_that_cannot_be_written_is_told_and_stops_no_process(pair, tmp_path):
    (tmp_path / "run").mkdir()
    notes, others = pair.run(broken_off, tmp_path / "run", SHARDED, 1000)
    assert len([text for text in notes if "training goes on without" in text]) == 3
    assert not any("cannot be written" in text for text in others)


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
@pytest.mark.parametrize("block", [7, 16, 1 << 16])
def test_users_are_ranked_as_by_whole_tables(pair, block, similarity):
    """Few values, so that scores are equal often; the processes need different numbers of rounds."""
    table = np.random.default_rng(1).integers(-2, 3, (NODES, 5)).astype(np.float32)
    alone = judged(ODD, table, block, similarity)
    for theirs in pair.run(judged, ODD, table, block, similarity):
        assert theirs.keys() == alone.keys()
        for name, values in alone.items():
            np.testing.assert_array_equal(theirs[name], values)


def test_the_run_folder_is_that_of_one_process(pair, tmp_path):
    """Process 0 writes it from blocks of rows; nothing in it is pickled."""
    pair.run(run_folder, tmp_path / "two", SHARDED)
    one = run_folder(tmp_path / "one", SHARDED)
    kinds = {path.name for path in (tmp_path / "two").iterdir()}
    assert kinds == {path.name for path in (tmp_path / "one").iterdir()}
    assert {name.split(".")[-1] for name in kinds} <= {
        "safetensors",
        "yaml",
        "json",
        "jsonl",
        "parquet",
    }
    tables = [load_run(tmp_path / name)[0].model.table.detach().numpy() for name in ("one", "two")]
    same(tables[:1], tables[1:], 1e-5, 5e-5)
    assert json.loads((tmp_path / "two" / "metrics.json").read_text())["test"] == one
