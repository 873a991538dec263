"""The memory that a training needs: by its sizes, and as measured; told before it begins."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from ssmrec.cli.train import tell_room
from ssmrec.data import Split, synthetic
from ssmrec.kernels import memory
from ssmrec.models import MODELS
from ssmrec.training import Listener, resolve, room
from ssmrec.training.ahead import refuse_early
from ssmrec.training.config import make_model
from ssmrec.training.protocols import train_run
from ssmrec.training.room import model_bytes, needed, too_little

FACTOR = 1.5
PEAK = """
import json, sys
from pathlib import Path
import numpy as np
from ssmrec.data import Split, synthetic
from ssmrec.training import resolve
from ssmrec.training.protocols import train_run
from ssmrec.training.room import needed

def resident(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(key)).split()[1])

def parts(users, items, pairs):
    every = synthetic(users, items, pairs, seed=1)
    held = np.arange(pairs) % (pairs // 40) == 0
    return Split(every.take(~held), every.take(held), None, "given")

config = resolve(json.loads(sys.argv[1]))
train_run(config, parts(50, 40, 400))  # libraries and kernels are there before memory is counted
split = parts(20_000, 120_000, 30_000)
before = resident("VmRSS")
Path("/proc/self/clear_refs").write_text("5")
train_run(config, split)
told = needed(config, 20_000, 120_000, 30_000)
print(json.dumps([resident("VmHWM") - before, sum(told.values())]))
"""


def settings(name, **parts):
    train = {"epochs": 1, "threads": 1, "batch_size": 8192, **parts.pop("train", {})}
    measured = {"metrics": ["ndcg"], "ks": [20]}
    return {"model": {"name": name}, "train": train, "evaluation": measured, **parts}


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux tells the peak")
@pytest.mark.parametrize(
    "asked",
    [
        settings("mf"),
        settings("lightgcn"),
        settings(
            "mf",
            loss={"name": "bpr"},
            negatives={"name": "uniform", "n": 64, "shared": False},
            train={"optimizer": "lazy_adam"},
        ),
    ],
    ids=["tables", "propagation", "vectors of negatives"],
)
def test_the_peak_is_near_what_the_sizes_say(asked):
    """140,000 nodes of 64 numbers, 36 MB a table: resident memory of a process of its own."""
    one = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PEAK), json.dumps(asked)],
        env=os.environ | one, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    peak, told = json.loads(done.stdout.splitlines()[-1])
    assert peak > 1e8 and told / FACTOR < peak < told * FACTOR, (peak, told)


def test_by_hand():
    """1000 users, 500 items, 64 numbers of 4 bytes: a table has 384,000 bytes."""
    parts = needed(resolve({"train": {"batch_size": 100}}), 1000, 500, 10_000)
    assert parts["tables"] == 2 * 384_000  # and the best one
    assert parts["optimiser"] == 3 * 384_000  # gradient and two moments
    rows = 5 * 100 * 64  # vectors, prepared, divided, and gradients
    assert parts["batch"] == 4 * (rows + 100 * 100)
    deep = {"model": {"name": "ngcf", "dim": 64, "layers": 3}, "train": {"batch_size": 100}}
    assert needed(resolve(deep), 1000, 500, 10_000)["vectors"] == 3 * 4 * 384_000  # side by side
    few = needed(resolve({"train": {"batch_size": 10**6}}), 1000, 500, 50)
    assert few["batch"] == 4 * (5 * 50 * 64 + 50 * 50)  # no more rows than there are pairs
    hard = {"negatives": {"name": "dns", "pool": 7}, "train": {"batch_size": 100}}
    drawn = 100 * 7 * 64 + 2 * 100 * 64  # the pool, and the one that is chosen, with its gradient
    found = needed(resolve(hard), 1000, 500, 10_000)["batch"]
    assert found == 4 * (rows + drawn + 2 * 100 * 7) + 64 * 100 * 7
    shared = {"negatives": {"name": "uniform", "n": 1000}, "train": {"batch_size": 100}}
    found = needed(resolve(shared), 1000, 500, 10_000)["batch"]
    assert found == 4 * (rows + 2 * 1000 * 64 + 100 * 1000) + 64 * 1000
    fixed = needed(resolve({"train": {"protocol": "fixed"}}), 1000, 500, 10_000)
    assert fixed["tables"] == 384_000
    lazy = resolve({"model": {"name": "mf"}, "train": {"optimizer": "lazy_adam"}})
    assert needed(lazy, 1000, 500, 10_000)["optimiser"] == 2 * 384_000
    ease = resolve({"model": {"name": "ease"}})
    assert needed(ease, 1000, 500, 0)["item-item matrix"] == 10**6


@pytest.mark.parametrize("name", sorted(set(MODELS) - {"blend"}))
def test_the_bytes_of_a_model_are_those_of_its_tensors(name):
    dim = {"dim": 8} if "dim" in MODELS[name].Config.model_fields else {}
    config = resolve({"model": {"name": name, **dim}})
    model = make_model(config, synthetic(60, 40, 600), torch.Generator())
    if model.closed_form:
        model.solve()
    numbers = sum(tensor.numel() for tensor in model.state_dict().values())
    assert model_bytes(config, 60, 40) == 4 * numbers


@pytest.mark.parametrize(("name", "size"), [("ease", 0.7), ("mf", 0.3), ("ngcf", 0.3)])
def test_a_disk_without_room_for_the_model_is_told(name, size, monkeypatch, caplog, tmp_path):
    """ease: 400 x 400 numbers; mf: 900 x 64; ngcf: as many, and 6 x 64 x 64 that stay inside."""
    split = Split(synthetic(500, 400, 5000), None, None, "given")
    config = resolve({"model": {"name": name}})
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=200_000))
    tell_room(tmp_path, config, split)
    assert f"the model takes about {size} MB and the disk has 0.2 MB left" in caplog.text


@pytest.mark.parametrize(
    ("free", "model", "said"),
    [
        (10**6, "mf", "0.0 GB are free: lower model.dim, drop.*lazy_adam, or divide the tables"),
        (10**6, "lightgcn", "lower model.dim, drop rare users.*min_item$"),
        (10**5, "ease", "drop rare items with data.min_item, or take model=lightgcn$"),
        (10**12, "mf", ""),
        (None, "mf", ""),
    ],
)  # fmt: skip
def test_too_little_memory_is_told_before_training(free, model, said, monkeypatch, caplog):
    monkeypatch.setattr("ssmrec.training.room.free_memory", lambda device: free)
    config = resolve(
        {"model": {"name": model}, "train": {"epochs": 0, "protocol": "fixed", "batch_size": 16}}
    )
    train_run(config, Split(synthetic(500, 400, 5000), None, None, "given"))
    told = [r.getMessage() for r in caplog.records if "of memory" in r.getMessage()]
    if not said:
        assert told == []
        return
    (line,) = told
    assert line.startswith("this training needs about 0.0 GB of memory (") and "\n" not in line
    assert re.search(said, line), line


def test_a_model_that_cannot_be_made_small_is_trained_all_the_same(monkeypatch):
    """One of the user's own, that needs more items than the models it would be tried with have."""

    class Picky(MODELS["mf"]):
        def __init__(self, config, train, generator):
            assert train.n_items > 100
            super().__init__(config, train, generator)

    monkeypatch.setitem(MODELS, "picky", Picky)
    config = resolve({"model": {"name": "picky"}, "train": {"epochs": 1, "protocol": "fixed"}})
    refuse_early(config)
    assert needed(config, 500, 400, 5000)["tables"] == 0
    assert (
        train_run(config, Split(synthetic(500, 400, 5000), None, None, "given")).metrics["epochs"]
        == 1
    )


def test_a_batch_that_is_too_large_is_told_as_such():
    pool = {"negatives": {"name": "dns", "pool": 10**9}}
    if memory.free_memory() is not None:
        said = too_little(resolve(pool), 100, 100, 10**6)
        assert said.endswith("lower train.batch_size, model.dim or the numbers of negatives")


def test_what_is_free_is_asked_of_the_machine():
    huge = resolve({"model": {"name": "mf", "dim": 4096}})
    assert too_little(huge, 10**9, 10**9, 1) != "" or memory.free_memory() is None
    assert too_little(resolve({}), 10, 10, 10) == ""


@pytest.mark.parametrize(
    "asked",
    [
        {"negatives": {"name": "uniform", "n": 2**31 - 1}},
        {"negatives": {"name": "mixed", "n": 2**31 - 1}},
        {"negatives": {"name": "tron", "pool": 2**31 - 1}},
        {"model": {"name": "mf", "dim": 2048}, "train": {"batch_size": 100_000}},
        {"model": {"name": "ngcf", "dim": 512, "layers": 3}, "train": {"batch_size": 100_000}},
        {"loss": {"name": "mscl", "n_positives": 2**31 - 1}},
    ],
)
def test_what_a_step_takes_is_told(asked, monkeypatch):
    """With 2 GB free, on a small shop: the step is what is too large, whatever makes it so."""
    monkeypatch.setattr("ssmrec.training.room.free_memory", lambda device: 2 * 10**9)
    said = too_little(resolve(asked), 4000, 3600, 200_000)
    assert said.endswith("lower train.batch_size, model.dim or the numbers of negatives"), said
    assert too_little(resolve({}), 4000, 3600, 200_000) == ""


@pytest.mark.parametrize(
    ("negatives", "said"),
    [
        (
            {"name": "uniform", "n": 40_000},
            "negatives.n=40000 takes each of the 40 items about 1,000",
        ),
        ({"name": "dns", "pool": 4000}, "negatives.pool=4000 takes each of the 40 items about 100"),
        ({"name": "uniform", "n": 1024}, ""),
        ({"name": "in_batch"}, ""),
    ],
)
def test_far_more_negatives_than_items_are_told(negatives, said, tastes, caplog):
    train = {"epochs": 0, "protocol": "fixed", "batch_size": 4}
    train_run(resolve({"negatives": negatives, "train": train}), tastes)
    told = [r.getMessage() for r in caplog.records if "in a step" in r.getMessage()]
    assert [line.startswith(said) for line in told] == ([True] if said else [])


@pytest.mark.parametrize(
    ("asked", "users", "told"),
    [
        ({"model": {"name": "mf"}}, 2**19 - 1000, True),
        ({"model": {"name": "mf"}}, 2**19 - 1001, False),
        ({"model": {"name": "mf", "dim": 128}}, 2**18 - 1000, True),
        ({"model": {"name": "mf"}, "train": {"optimizer": "lazy_adam"}}, 2**20, False),
        ({"model": {"name": "lightgcn"}}, 2**20, False),  # it has no choice
        ({"model": {"name": "svd"}}, 2**20, False),
    ],
)
def test_where_adam_takes_most_of_a_step_its_lazy_form_is_named(asked, users, told):
    config = resolve({**asked, "train": {"device": "cpu", **asked.get("train", {})}})
    said = room.moves_all(config, users, 1000)
    assert bool(said) == told
    assert not told or said.startswith(
        f"train.optimizer=adam moves all {users + 1000:,} rows at every step; lazy_adam"
    )


def test_lazy_adam_is_named_before_training(tastes, monkeypatch):
    monkeypatch.setattr(room, "_MANY_NUMBERS", 100)
    heard = []

    class Ear(Listener):
        def note(self, text):
            heard.append(text)

    train_run(
        resolve({"model": {"name": "mf", "dim": 4}, "train": {"epochs": 1, "device": "cpu"}}),
        tastes,
        Ear(),
    )
    assert sum("lazy_adam moves those of the batch" in text for text in heard) == 1
