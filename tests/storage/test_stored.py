"""A model's file that is not what it should be ends in one line: never in a crash, never in other lists."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
import yaml

from ssmrec.blending.blend import blend
from ssmrec.data import Interactions
from ssmrec.errors import RunError, SsmrecError
from ssmrec.storage.tensors import read_tensors, write_tensors
from ssmrec.training import Checkpoint, checkpoint, load_run, save_run, train_run
from ssmrec.training.listener import Listener
from ssmrec.training.run import MODEL


def changed(path, change):
    """Write the file anew with `change` made to its tensors, and without a checksum of what they were."""
    tensors, facts = read_tensors(path)
    del facts["crc32"]
    write_tensors(path, change(dict(tensors)) or tensors, facts)


@pytest.fixture
def folder(small, tastes, tmp_path):
    save_run(tmp_path / "run", train_run(small(train={"epochs": 1}), tastes), "abc")
    return tmp_path / "run"


def refused(folder, said):
    with pytest.raises(RunError, match=rf"model\.safetensors: damaged or not of this run .*{said}"):
        load_run(folder)


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("train.indptr", lambda x: x[-1:].fill_(5000), "does not divide"),
        ("seen.indptr", lambda x: x[-1:].fill_(5000), "does not divide"),
        ("train.indptr", lambda x: x[:1].fill_(-4), "does not divide"),
        ("train.indptr", lambda x: x[3:5].copy_(x[3:5].flip(0).clone()), "does not divide"),
        ("train.indices", lambda x: x[:1].fill_(-1), "names items that are not among the 40 ids"),
        ("train.indices", lambda x: x[-1:].fill_(40), "names items that are not among the 40 ids"),
        ("train.indices", lambda x: x[:2].copy_(x[:2].flip(0).clone()), "does not ascend"),
        ("train.indices", lambda x: x[1:2].copy_(x[:1].clone()), "does not ascend"),
        ("model.table", lambda x: x[0, :1].fill_(torch.nan), "not finite"),
        ("model.table", lambda x: x[-1, -1:].fill_(-torch.inf), "not finite"),
    ],
)  # fmt: skip
def test_a_wrong_number_is_told(folder, name, change, said):
    changed(folder / MODEL, lambda tensors: change(tensors[name]) is None or None)
    refused(folder, said)


@pytest.mark.parametrize(
    ("name", "other", "said"),
    [
        ("train.indptr", lambda x: x[:-1], r"train\.indptr is torch\.int64 of shape"),
        ("train.indptr", lambda x: x.int(), r"train\.indptr is torch\.int32"),
        ("train.indices", lambda x: x.long(), r"train\.indices is torch\.int64"),
        ("train.indices", lambda x: x[:, None], r"train\.indices is .* one dimension"),
        ("train.timestamps", lambda _: torch.zeros(3).long(), r"train\.timestamps is .* of length"),
        ("train.weights", lambda _: torch.ones(3), r"train\.weights is .* of length"),
        ("model.table", lambda x: x[:-1], r"table is .* of shape"),
        ("model.table", lambda x: x.double(), r"table is torch\.float64"),
        ("model.more", lambda _: torch.ones(3), "tensors of another model: more"),
    ],
)  # fmt: skip
def test_a_tensor_of_another_shape_or_type_is_told(folder, name, other, said):
    def change(tensors):
        return tensors | {name: other(tensors.get(name)).contiguous()}

    changed(folder / MODEL, change)
    refused(folder, said)


@pytest.mark.parametrize("wrong", [0.0, -1.0, torch.inf, torch.nan])
def test_weights_are_above_0_and_finite(folder, wrong):
    def change(tensors):
        return tensors | {"train.weights": torch.full((len(tensors["train.indices"]),), wrong)}

    changed(folder / MODEL, change)
    refused(folder, r"train\.weights must be above 0 and finite")


def test_users_without_pairs_are_none_that_do_not_ascend(small, tastes, tmp_path):
    """Users at the beginning, in the middle and at the end, each next to one with pairs."""
    train = tastes.train
    keep = ~torch.isin(torch.from_numpy(train.rows), torch.tensor([0, 1, 7, train.n_users - 1]))
    some: Interactions = train.take(keep.numpy())
    done = train_run(
        small(train={"epochs": 1, "protocol": "fixed"}), type(tastes)(some, None, None, "x")
    )
    save_run(tmp_path, done, "")
    assert load_run(tmp_path)[0].train.fingerprint == some.fingerprint


@pytest.fixture
def blended(small, tastes, tmp_path):
    """A blend with the matrix of `ease`, and with what it is made of."""
    runs = [
        train_run(small(model=model, train={"epochs": 1}), tastes)
        for model in ({"name": "mf", "dim": 8}, {"name": "ease"})
    ]
    save_run(tmp_path / "both", blend(runs, tastes, [0.5, 0.5]), "abc")
    return tmp_path / "both"


@pytest.mark.parametrize("name", ["parts.0.table", "parts.1.weights", "spread_1"])
def test_parts_of_a_blend_are_looked_at_too(blended, name):
    changed(
        blended / MODEL, lambda t: t[f"model.{name}"].view(-1)[:1].fill_(torch.nan) is None or None
    )
    refused(blended, f"{name} holds numbers that are not finite")


def test_how_a_part_of_a_blend_ranks_is_looked_at(blended):
    record = yaml.safe_load((blended / "config.yaml").read_text())
    record["settings"]["model"]["parts"][0]["settings"]["ranking"]["similarity"] = "warm"
    (blended / "config.yaml").write_text(yaml.safe_dump(record))
    with pytest.raises(
        SsmrecError, match=r"both: mf .*similarity: must be one of auto, cosine, dot \(got 'warm'"
    ):
        load_run(blended)


MUTATE = """
import json, pathlib, sys
import numpy as np, torch
from ssmrec.errors import RunError
from ssmrec.serving.live import Live
from ssmrec.storage.tensors import read_tensors, write_tensors

folder, random = pathlib.Path(sys.argv[1]), np.random.default_rng(int(sys.argv[2]))
path = folder / "model.safetensors"
whole, facts = read_tensors(path)
del facts["crc32"]

def lists():
    live = Live.load(folder)
    items = live.trained.train.items.ids
    one = live.ranker.known_users[0]
    found = [
        live.ranker.recommend(None, live.ranker.choice(5)), live.ranker.similar(items[:3], 3),
        live.explain(one, k=2), live.fold_in([items[:2]], live.ranker.choice(3))[0],
    ]
    return [frame.to_dict(as_series=False) for frame in found]

def at(x): return int(random.integers(len(x)))
def negative(x): x[at(x)] = -int(random.integers(1, 2**31))
def huge(x): x[at(x)] = int(random.integers(2**30, 2**31))
def swapped(x):
    first = int(random.integers(len(x) - 30))
    x[first : first + 30] = x[first : first + 30].flip(0)
def shifted(x): x += int(random.choice([-1, 1]))
def rolled(x): x.copy_(x.roll(1))
def broken(x): x[at(x)] = float(random.choice([np.nan, np.inf, -np.inf]))

before, outcomes = lists(), []
for name, tensor in whole.items():
    real = tensor.is_floating_point()
    for mutate in 3 * ((broken,) if real else (negative, huge, swapped, shifted, rolled)):
        made = {key: value.clone() for key, value in whole.items()}
        mutate(made[name].view(-1))
        write_tensors(path, made, facts)
        print(name, mutate.__name__, file=sys.stderr, flush=True)  # the last one, if it ends the process
        try:
            outcomes.append("the same" if lists() == before else f"{name} {mutate.__name__}: others")
        except RunError as error:
            outcomes.append("refused" if "damaged" in str(error) else str(error))
print(json.dumps(outcomes))
"""


@pytest.mark.parametrize("seed", range(2))
def test_whatever_the_file_holds_it_is_refused_or_ranks_as_before(folder, seed):
    """In a process of its own, which reading beyond a table would end."""
    done = subprocess.run(
        [sys.executable, "-c", MUTATE, str(folder), str(seed)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    outcomes = json.loads(done.stdout)
    assert len(outcomes) > 30 and set(outcomes) <= {"refused", "the same"}


class Stop(Listener):
    """Ends a training after its second epoch as a kill would."""

    def epoch(self, record, best):
        if record["epoch"] == 2:
            raise EOFError


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("select/model/table", lambda x: x[:1].fill_(torch.nan), "table holds numbers"),
        ("select/best/table", lambda x: x[:1].fill_(torch.inf), "table holds numbers"),
        ("select/best/table", lambda x: x.resize_(3, 8), "table is torch.float32 of shape"),
        ("select/adam/0/exp_avg", lambda x: x[:1].fill_(torch.nan), "exp_avg holds numbers"),
        ("select/adam/0/exp_avg", lambda x: x.resize_(1, 8), "exp_avg is torch.float32 of shape"),
        ("select/adam/0/exp_avg_sq", lambda x: x[:1].fill_(-1), "below 0"),
        ("select/adam/0/step", lambda x: x.fill_(-1), "below 0"),
    ],
)  # fmt: skip
def test_a_checkpoint_is_looked_at_before_it_goes_on(
    small, tastes, tmp_path, monkeypatch, name, change, said
):
    monkeypatch.setattr(checkpoint, "_EVERY", 0.0)
    with pytest.raises(EOFError):
        train_run(small(), tastes, Stop(), Checkpoint(tmp_path, "key", {}, False))
    changed(tmp_path / "checkpoint.safetensors", lambda t: change(t[name]) is None or None)
    with pytest.raises(RunError, match=f"the checkpoint is damaged .*{said}.*--overwrite"):
        train_run(small(), tastes, None, Checkpoint(tmp_path, "key", {}, True))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"epoch": -1}, "epoch: must be at least 0"),
        ({"epoch": 7}, "select holds 7 epochs and tells of 1"),
        ({"best_value": "x"}, "best_value: must be a number"),
        ({"history": [{"epoch": 1, "train_seconds": "x"}]}, "history.*must be a number"),
        ({"other": 1}, "unexpected keyword argument"),
    ],
)
def test_the_counters_of_a_checkpoint_are_looked_at(
    small, tastes, tmp_path, monkeypatch, change, said
):
    monkeypatch.setattr(checkpoint, "_EVERY", 0.0)
    with pytest.raises(EOFError):
        train_run(small(), tastes, Stop(), Checkpoint(tmp_path, "key", {}, False))
    path = tmp_path / "checkpoint.safetensors"
    tensors, facts = read_tensors(path)
    phases = json.loads(facts["phases"])
    phases["select"] |= change
    write_tensors(path, tensors, {"data": "key", "settings": "{}", "phases": json.dumps(phases)})
    with pytest.raises(RunError, match=f"the checkpoint is damaged .*{said}"):
        train_run(small(), tastes, None, Checkpoint(tmp_path, "key", {}, True))
