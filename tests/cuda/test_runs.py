"""Runs of the device: resumed, written, read on a CPU, updated, and chosen within a budget."""

from __future__ import annotations

import json

import polars as pl
import pytest
import torch
from torch.nn import functional as F

from cuda_device import APART, DEVICE, needs_device, settings
from ssmrec.recommender import Recommender
from ssmrec.training import Checkpoint, Listener, Trainer, checkpoint, save_run, train_run
from ssmrec.training.optimizers import LazyAdam

pytestmark = needs_device


class Killed(BaseException):
    """Ends the process as far as training is concerned."""


class Kill(Listener):
    """Dies in the third epoch, whose state is lost."""

    def epoch(self, record, best):
        if record["epoch"] == 3:
            raise Killed


@pytest.fixture(autouse=True)
def save_every_epoch(monkeypatch):
    monkeypatch.setattr(checkpoint, "_EVERY", 0.0)


def killed_and_resumed(pairs, folder, first: str, second: str, **layers):
    """Four epochs, two of them on the device `first` and two on `second`."""
    with pytest.raises(Killed):
        train_run(settings(first, **layers), pairs, Kill(), Checkpoint(folder, "key", {}, False))
    again = Checkpoint(folder, "key", {}, True)
    assert again.phases["train"]["epoch"] == 2
    return train_run(settings(second, **layers), pairs, None, again)


@pytest.mark.parametrize(
    "layers",
    [
        {},
        {"model": {"name": "lightgcn"}},
        {"loss": {"name": "mawu"}},
        {"train": {"optimizer": "lazy_adam"}},
        {"train": {"optimizer": "lazy_adam"}, "loss": {"name": "mawu"}},
    ],
    ids=["mf", "lightgcn", "mawu", "lazy-adam", "lazy-adam-mawu"],
)
def test_resumed_equals_unbroken(pairs, tmp_path, layers):
    more = {**layers, "train": {"epochs": 4, "lr_decay": "linear", **layers.get("train", {})}}
    unbroken = train_run(settings(DEVICE, **more), pairs)
    resumed = killed_and_resumed(pairs, tmp_path, DEVICE, DEVICE, **more)
    assert torch.equal(resumed.model.table, unbroken.model.table)
    losses = [[record["loss"] for record in run.history] for run in (resumed, unbroken)]
    assert losses[0] == losses[1] and len(losses[0]) == 4


@pytest.mark.parametrize("optimizer", ["adam", "lazy_adam"])
@pytest.mark.parametrize("places", [(DEVICE, "cpu"), ("cpu", DEVICE)], ids=["to-cpu", "from-cpu"])
def test_a_training_may_change_the_device(pairs, tmp_path, places, optimizer):
    layers = {"train": {"epochs": 4, "optimizer": optimizer}}
    unbroken = train_run(settings("cpu", **layers), pairs)
    start = Trainer(settings("cpu", **layers), pairs.train, 0).model.table.detach()
    resumed = killed_and_resumed(pairs, tmp_path, *places, **layers)
    want = unbroken.model.table.detach()
    assert (resumed.model.table.detach().cpu() - want).norm() < APART * (want - start).norm()


def test_the_count_of_steps_waits_where_it_is_read(pairs, tmp_path):
    """Fused Adam reads it on the device; LazyAdam in Python, where a tensor of the device would stop it."""
    for optimizer, place in (("adam", DEVICE), ("lazy_adam", "cpu")):
        folder = tmp_path / optimizer
        folder.mkdir()
        config = settings(DEVICE, train={"optimizer": optimizer})
        saved = Checkpoint(folder, "key", {}, False)
        trainer = Trainer(config, pairs.train, 2)
        trainer.run(lambda one, saved=saved: saved.after_epoch("train", one))
        other = Trainer(config, pairs.train, 2)
        Checkpoint(folder, "key", {}, True).restore("train", other)
        for one in (trainer, other):
            (state,) = one.optimizer.state.values()
            assert (state["step"].device.type, state["step"].item()) == (place, 16)
            assert state["exp_avg"].device.type == DEVICE


def test_lazy_adam_is_that_of_the_cpu():
    found = []
    for place in ("cpu", DEVICE):
        random = torch.Generator().manual_seed(0)
        table = torch.nn.Parameter(torch.randn(20, 4, generator=random).to(place))
        start, optimizer = table.detach().cpu().clone(), LazyAdam([table], lr=0.05)
        for _ in range(10):
            rows = torch.randint(15, (12,), generator=random)  # with repeats; five never
            goal = torch.randn(12, 4, generator=random).to(place)
            optimizer.zero_grad()
            (F.embedding(rows.to(place), table, sparse=True) - goal).pow(2).sum().backward()
            optimizer.step()
        found.append(table.detach().cpu())
        assert torch.equal(found[-1][15:], start[15:]) and not torch.equal(found[-1], start)
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("protocol", ["valid", "refit", "published"])
def test_protocols(pairs, protocol):
    found = train_run(settings(DEVICE, train={"protocol": protocol, "epochs": 3}), pairs)
    right = train_run(settings("cpu", train={"protocol": protocol, "epochs": 3}), pairs)
    assert found.model.table.device.type == DEVICE
    assert found.metrics["stopped"] == right.metrics["stopped"] == "epochs"
    assert found.metrics["test"] == pytest.approx(right.metrics["test"], abs=0.02)


def test_a_budget_chooses_among_models_on_both(pairs):
    """EASE and SVD are solved on the CPU, LightGCN trained on the device; any may be the best."""
    train = {"budget": 2.0, "device": DEVICE, "threads": 1}
    made = Recommender(train=train).fit(pairs.train, pairs.valid, progress=False)
    names = [one["model"] for one in made.metrics_["candidates"]]
    assert "svd" in names and set(names) <= {"ease", "svd", "lightgcn + ssm"}
    assert made.evaluate(pairs.test).values["ndcg@20"] > 0.02
    assert len(made.recommend([0, 1], k=5)) == 10


@pytest.mark.parametrize("name", ["mf", "lightgcn"])
def test_a_run_of_the_device_is_updated_in_memory(pairs, name):
    config = settings(DEVICE, model={"name": name}, train={"protocol": "valid", "epochs": 3})
    made = Recommender.of(train_run(config, pairs))
    later = made.update(pairs.test, epochs=1, progress=False)
    assert later.trained_.model.table.device.type == DEVICE
    assert later.metrics_["counts"]["update"]["pairs_new"] == 1024
    assert later.metrics_["warm_start"]["valid"] > 0


def test_on_the_command_line(pairs, command, tmp_path):
    """Trained on the device; measured, asked and updated on a CPU."""
    files = {"clicks.csv": pairs.train, "new.csv": pairs.valid, "test.csv": pairs.test}
    for name, part in files.items():
        frame = part.frame()
        pl.DataFrame({"user": frame["user"], "item": frame["item"]}).write_csv(tmp_path / name)
    small = ("--set", "model.dim=16", "--set", "train.batch_size=512", "--set", "train.threads=1")
    train = ("train", "clicks.csv", "--test", "test.csv", "--model", "lightgcn", "--epochs", 3)
    code, out, err = command(*train, *small, "--set", f"train.device={DEVICE}", "--out", "run")
    assert code == 0, err
    assert f"on {DEVICE}" in out + err
    code, out, err = command("evaluate", "run", "--json")
    assert code == 0, err
    measured = json.loads((tmp_path / "run" / "metrics.json").read_text())["test"]
    assert json.loads(out)["test"] == pytest.approx(measured, abs=5e-3)
    code, out, err = command("recommend", "run", "--users", 3, "--top", 4)
    assert code == 0, err
    update = ("update", "run", "new.csv", "--epochs", 1, "--set", "train.device=cpu")
    code, out, err = command(*update, "--out", "second")
    assert code == 0, err
    assert json.loads((tmp_path / "second" / "metrics.json").read_text())["warm_start"]


def test_what_is_written_does_not_tell_the_device(pairs, tmp_path):
    """A file of a run from the device holds what the device held, in the order of a CPU's."""
    run = train_run(settings(DEVICE), pairs)
    save_run(tmp_path / "run", run, "")
    loaded = Recommender.load(tmp_path / "run").trained_
    assert torch.equal(loaded.model.table, run.model.table.detach().cpu())
