"""A blend goes on: its models are updated one after the other, its weights stay."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import ssmrec
from ssmrec.blending.blend import blend
from ssmrec.data import Split
from ssmrec.errors import ConfigError, RunError
from ssmrec.models import ScoringRows
from ssmrec.training import DivergedError, Listener, load_run, resolve, save_run, train_run
from ssmrec.updating import update as room
from ssmrec.updating.grown import grown
from ssmrec.updating.update import fewer_epochs, parts_of, update_run

MODELS = [{"name": "ease", "l2": 5.0}, {"name": "mf", "dim": 8}, {"name": "svd", "dim": 4}]
WEIGHTS = [0.5, 0.3, 0.2]


def made(model=MODELS[1], **train):
    return resolve(
        {
            "model": model,
            "train": {"epochs": 4, "batch_size": 128, "lr": 0.02, "metric": "ndcg@5", "threads": 1}
            | train,
            "evaluation": {"metrics": ["ndcg"], "ks": [5]},
        }
    )


@pytest.fixture(scope="module")
def halves(tastes):
    """Two in three training pairs with the validation pairs, and the other third."""
    first = np.arange(len(tastes.train)) % 3 > 0
    known = tastes.train.take(first)
    return Split(known, tastes.valid, tastes.test, "given"), tastes.train.take(~first)


@pytest.fixture(scope="module")
def runs(halves):
    return [train_run(made(model), halves[0]) for model in MODELS]


def scores(run):
    with torch.no_grad():
        vectors = run.model.vectors()
    users, items = vectors.users, vectors.items
    return (users.scores(items) if isinstance(users, ScoringRows) else users @ items.T).numpy()


@pytest.mark.parametrize("protocol", ["valid", "refit", "fixed"])
def test_each_model_is_updated_as_it_would_be_alone(halves, runs, protocol, tmp_path):
    """Also after the blend was in a folder."""
    split, new = halves
    save_run(tmp_path, blend(runs, split, WEIGHTS), "data")
    old, _ = load_run(tmp_path)
    config = replaced(old.config, protocol=protocol, epochs=2)
    data = grown(old, new, config)
    data = replace(data, split=replace(data.split, test=None))
    found = update_run(old, data, config, {"run": "here"})
    alone = [
        update_run(run, data, replaced(run.config, protocol=protocol, epochs=2), {}) for run in runs
    ]
    expected = blend(alone, data.split, WEIGHTS)
    np.testing.assert_allclose(scores(found), scores(expected), rtol=1e-4, atol=1e-5)
    assert [part["weight"] for part in found.config.model["parts"]] == WEIGHTS
    facts = found.metrics
    assert facts["protocol"] == protocol and facts["stopped"] == "blended"
    assert facts["update"] == {"run": "here"} and facts["counts"]["update"] == data.counts
    assert facts["warm_start"]["epochs_afresh"] == runs[1].metrics["best_epoch"]
    assert found.epochs_afresh == runs[1].metrics["best_epoch"]


def replaced(config, **train):
    return config.model_copy(update={"train": config.train.model_copy(update=train)})


def test_the_parts_know_their_epochs(halves, runs):
    both = blend(runs[1:], halves[0], [1, 1])
    assert [run.epochs_afresh for run in parts_of(both)] == [runs[1].metrics["best_epoch"], 0]
    inner = blend([both, runs[0]], halves[0], [1, 1])
    assert inner.epochs_afresh == runs[1].metrics["best_epoch"]
    assert fewer_epochs(inner) == fewer_epochs(runs[1])


def test_a_blend_in_a_blend_goes_on(halves, runs):
    split, new = halves
    inner = blend(runs[:2], split, [1, 1])
    old = blend([inner, runs[2]], split, [1, 1])
    config = replaced(old.config, epochs=1)
    found = update_run(old, grown(old, new, config), config, {})
    assert found.train.n_users == split.train.n_users and len(found.seen) > len(old.seen)
    assert [p["name"] for p in found.config.model["parts"]] == [
        p["name"] for p in old.config.model["parts"]
    ]


def test_changed_settings_of_training_are_those_of_each_model(halves, runs, monkeypatch):
    old = blend(runs[:2], halves[0], [1, 1])
    config = replaced(old.config, lr=0.5, budget=60.0)
    asked = []
    plain = room.train_run

    def heard(config, *args):
        asked.append(config.train)
        return plain(config, *args)

    monkeypatch.setattr(room, "train_run", heard)
    update_run(old, grown(old, halves[1], config), config, {})
    assert [train.lr for train in asked] == [0.5, 0.5]
    assert 0 < asked[1].budget <= 60.0 and asked[1].batch_size == 128


def test_a_budget_is_shared_by_the_models_that_train(halves, runs, monkeypatch):
    others = [train_run(made({"name": "mf", "dim": n}), halves[0]) for n in (2, 3)]
    old = blend([runs[0], *others], halves[0], WEIGHTS)
    config = replaced(old.config, budget=100.0)
    budgets = {}
    plain = room.train_run

    def heard(config, *args):
        budgets[config.model.get("dim")] = config.train.budget
        run = plain(config, *args)
        run.metrics["seconds"]["train"] = 10.0
        return run

    monkeypatch.setattr(room, "train_run", heard)
    update_run(old, grown(old, halves[1], config), config, {})
    assert budgets[2] == pytest.approx(45.0) and budgets[3] == pytest.approx(80.0)


@pytest.mark.parametrize(
    "change",
    [{"loss": {"name": "bpr"}}, {"negatives": {"name": "uniform"}}, {"model": {"name": "mf"}}],
)
def test_parts_of_one_s_own_cannot_be_changed(halves, runs, change):
    old = blend(runs[:2], halves[0], [1, 1])
    config = old.config.model_copy(update=change)
    data = grown(old, halves[1], old.config)
    with pytest.raises(ConfigError, match="blend them again|goes on with the model"):
        update_run(old, data, config, {})


class Interrupt(Listener):
    def epoch(self, record, best):
        raise KeyboardInterrupt


def test_an_interrupted_update_of_a_blend_gives_nothing(halves, runs):
    old = blend(runs[:2], halves[0], [1, 1])
    with pytest.raises(KeyboardInterrupt):
        update_run(old, grown(old, halves[1], old.config), old.config, {}, Interrupt())


def test_a_model_that_diverges_is_named(halves, runs, monkeypatch):
    def broken(*_):
        raise DivergedError("the loss is NaN in epoch 1")

    old = blend(runs[:2], halves[0], [1, 1])
    monkeypatch.setattr(room, "train_run", broken)
    with pytest.raises(RunError, match="^ease: the loss is NaN in epoch 1"):
        update_run(old, grown(old, halves[1], old.config), old.config, {})


def test_a_blended_recommender_goes_on(halves, tmp_path):
    split, new = halves
    both = [
        ssmrec.Recommender(model, train={"epochs": 4, "batch_size": 128}).fit(
            split.train, split.valid, progress=False
        )
        for model in MODELS[:2]
    ]
    found = both[0].blend(both[1], weights=[1, 1], progress=False)
    later = found.update(new, epochs=1, progress=False)
    assert later.metrics_["counts"]["update"]["pairs_new"] == len(new)
    later.save(tmp_path / "later")
    assert ssmrec.Recommender.load(tmp_path / "later").recommend(k=3).height == 3 * 60
