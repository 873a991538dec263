"""A budget and no model named: SVD, then LightGCN in the time left, and validation chooses."""

from itertools import pairwise

import pytest

from ssmrec.training import Listener, resolve, train_best
from ssmrec.training import budget as budget_room


class Notes(Listener):
    def __init__(self):
        self.told = []

    def note(self, text):
        self.told.append(text)


def budget(seconds, **parts):
    more = {"batch_size": 64, "epochs": 3, **parts.pop("train", {})}
    return resolve({"train": {"budget": seconds, **more}, **parts})


def test_no_time_left_for_lightgcn_gives_the_first_svd(tastes):
    notes = Notes()
    trained = train_best(budget(1e-6), tastes, notes)
    assert trained.config.model["name"] == "svd" and trained.config.model["dim"] == 32
    assert trained.config.ranking.similarity == "dot" and not trained.config.train.choose_model
    assert [one["dim"] for one in trained.metrics["candidates"]] == [32]
    assert "the best of 1 models by ndcg@20 on validation: svd with 32 dimensions" in notes.told


def test_with_time_the_best_on_validation_is_returned_and_tested(tastes):
    trained = train_best(budget(600.0), tastes)
    candidates = trained.metrics["candidates"]
    best = max(candidates, key=lambda one: one["valid ndcg@20"])
    assert candidates[-1]["model"] == "lightgcn + ssm"
    assert trained.config.model["name"] == best["model"].partition(" ")[0]
    assert trained.metrics["valid"]["ndcg@20"] == best["valid ndcg@20"]
    assert 0 < trained.metrics["test"]["ndcg@20"] <= 1
    assert trained.metrics["reference"]["most_popular"]


def test_svd_grows_while_validation_rises_and_time_lasts(tastes, monkeypatch):
    monkeypatch.setattr(budget_room, "SVD_DIMS", (1, 2, 4, 8))
    *solved, _ = train_best(budget(600.0), tastes).metrics["candidates"]
    values = [one["valid ndcg@20"] for one in solved]
    assert [one["dim"] for one in solved] == [1, 2, 4, 8][: len(solved)]
    assert all(a < b for a, b in pairwise(values[:-1]))
    assert len(solved) == 4 or values[-1] <= values[-2]
    monkeypatch.setattr(budget_room, "_DOUBLING", 1e9)
    first, *_ = train_best(budget(600.0), tastes).metrics["candidates"]
    assert [first["dim"], _[0]["model"]] == [1, "lightgcn + ssm"]


@pytest.mark.parametrize(
    "named",
    [
        {"model": {"name": "mf"}},
        {"loss": {"name": "bpr"}},
        {"negatives": {"name": "uniform"}},
        {"train": {"protocol": "fixed"}},
        {"train": {"metric": "ndcg@7"}},
    ],
)
def test_what_was_named_is_kept(named):
    assert not budget(1e-3, **named).train.choose_model


def test_no_budget_no_choice():
    assert not resolve({}).train.choose_model


def test_settings_once_resolved_stay_what_they_are():
    once = budget(5.0)
    assert once.train.choose_model and resolve(once) == once
