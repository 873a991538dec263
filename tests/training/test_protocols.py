"""Who chooses the epoch, what the final model has seen, and when test is looked at."""

from __future__ import annotations

import dataclasses
import gc

import numpy as np
import pytest
import torch

from ssmrec.data import Interactions, merge
from ssmrec.errors import ConfigError
from ssmrec.evaluation import evaluate
from ssmrec.ranking.vectors import ranking_vectors
from ssmrec.training import Listener, Trainer, train_run
from ssmrec.training.judges import some_users

PROTOCOLS = ["valid", "refit", "fixed", "published"]


class Ear(Listener):
    def __init__(self):
        self.phases, self.epochs, self.notes = [], [], []

    def phase(self, name, epochs, device):
        self.phases.append((name, epochs))

    def epoch(self, record, best):
        self.epochs.append(record["epoch"])

    def note(self, text):
        self.notes.append(text)


def under(small, protocol, **train):
    return small(train={"protocol": protocol, "epochs": 6, "lr": 0.1, "patience": 2, **train})


def table(trained) -> torch.Tensor:
    return trained.model.table.detach()


def without_seconds(history):
    timed = {"train_seconds", "eval_seconds", "examples_per_second"}
    return [{key: row[key] for key in row.keys() - timed} for row in history]


def test_valid_learns_from_train_only(small, tastes):
    ear = Ear()
    trained = train_run(under(small, "valid"), tastes, ear)
    metrics = trained.metrics
    assert trained.train is tastes.train
    assert len(trained.seen) == len(tastes.train) + len(tastes.valid)
    assert ear.phases == [("select", 6)] and not ear.notes
    assert metrics["selected_on"] == "valid" and metrics["protocol"] == "valid"
    assert metrics["device"] == "cpu"
    values = [record["ndcg@5"] for record in trained.history]
    assert metrics["valid"]["ndcg@5"] == max(values) == values[metrics["best_epoch"] - 1]
    assert set(metrics["test"]) == {"recall@5", "ndcg@5"}
    assert metrics["similarity"] == {"train": "cosine", "rank": "cosine"}


def test_refit_is_a_fresh_training_on_everything_for_the_chosen_epochs(small, tastes):
    ear = Ear()
    refit = train_run(under(small, "refit"), tastes, ear)
    chosen = refit.metrics["best_epoch"]
    select = train_run(under(small, "valid"), tastes)
    assert chosen == select.metrics["best_epoch"]
    assert refit.metrics["valid"] == select.metrics["valid"]
    assert ear.phases == [("select", 6), ("refit", chosen)]
    assert [row["phase"] for row in refit.history].count("refit") == chosen
    alone = Trainer(under(small, "fixed"), merge(tastes.train, tastes.valid), chosen)
    alone.run()
    assert torch.equal(table(refit), alone.model.table.detach())
    assert refit.train.fingerprint == merge(tastes.train, tastes.valid).fingerprint


@pytest.mark.parametrize("protocol", ["valid", "refit"])
def test_of_many_users_some_choose(small, tastes, protocol):
    ear, config = Ear(), under(small, protocol, valid_users=7)
    trained = train_run(config, tastes, ear)
    judged = some_users(tastes.valid, 7, config.seed)
    users = np.flatnonzero(judged.user_degrees)
    every = int((tastes.valid.user_degrees > 0).sum())
    assert len(users) == 7 < every
    assert (judged.user_degrees[users] == tastes.valid.user_degrees[users]).all()
    assert ear.notes == [f"validation looks at 7 of {every} users (train.valid_users)"]
    values = [row["ndcg@5"] for row in trained.history if row["phase"] == "select"]
    assert trained.metrics["valid"]["ndcg@5"] == max(values)
    assert trained.metrics["counts"]["valid"]["users"] == 7
    if protocol == "valid":
        found = evaluate(
            *ranking_vectors(trained.model, "cosine"), judged, [tastes.train], ["ndcg@5"],
            tastes.train.item_degrees > 0,
        )  # fmt: skip
        assert trained.metrics["valid"]["ndcg@5"] == found.values["ndcg@5"]
    # All are known all the same, and all of test is looked at.
    assert trained.seen.fingerprint == merge(tastes.train, tastes.valid).fingerprint
    assert trained.metrics["counts"]["test"]["users"] == (tastes.test.user_degrees > 0).sum()


def test_as_many_users_as_there_are_choose_without_a_word(small, tastes):
    ear, every = Ear(), int((tastes.valid.user_degrees > 0).sum())
    trained = train_run(under(small, "valid", valid_users=every), tastes, ear)
    assert trained.metrics["counts"]["valid"]["users"] == every and not ear.notes


def test_a_model_is_all_that_stays_of_a_training(small, tastes):
    class Counting(Ear):
        def phase(self, name, epochs, device):
            super().phase(name, epochs, device)
            self.trainers = sum(type(each) is Trainer for each in gc.get_objects())

    gc.collect()
    ear = Counting()
    trained = train_run(under(small, "refit"), tastes, ear)
    assert [name for name, _ in ear.phases] == ["select", "refit"] and ear.trainers == 1
    assert all(parameter.grad is None for parameter in trained.model.parameters())


def test_fixed_runs_all_epochs_on_everything(small, tastes):
    trained = train_run(under(small, "fixed"), tastes)
    assert len(trained.train) == len(tastes.train) + len(tastes.valid)
    assert trained.metrics["epochs"] == trained.metrics["best_epoch"] == len(trained.history) == 6
    assert trained.metrics["valid"] is None
    assert trained.metrics["selected_on"].startswith("nothing")


def test_published_says_that_it_chose_on_test(small, tastes):
    ear = Ear()
    trained = train_run(under(small, "published"), tastes, ear)
    assert "chosen on TEST" in ear.notes[0]
    assert trained.metrics["selected_on"] == "test"
    best = max(record["ndcg@5"] for record in trained.history)
    assert trained.metrics["test"]["ndcg@5"] == best


class Looked(Exception):
    """Somebody read the test part."""


class Sealed:
    def __getattribute__(self, name):
        raise Looked(name)

    def __len__(self):
        raise Looked("len")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_case_21_test_is_not_touched_before_training_has_ended(small, tastes, protocol):
    ear = Ear()
    sealed = dataclasses.replace(tastes, test=Sealed())
    with pytest.raises(Looked):
        train_run(under(small, protocol, patience=99), sealed, ear)
    if protocol == "published":
        assert len(ear.epochs) < 2
    else:
        assert ear.epochs[:6] == [1, 2, 3, 4, 5, 6]
    if protocol == "refit":
        assert ear.phases[1][0] == "refit" and len(ear.epochs) == 6 + ear.phases[1][1]


@pytest.mark.parametrize("protocol", ["valid", "refit", "fixed"])
def test_other_test_pairs_change_nothing_but_the_test_metrics(small, tastes, protocol):
    test = tastes.test
    other = Interactions.from_pairs(
        np.arange(60), np.random.default_rng(3).integers(40, size=60), test.users, test.items
    )
    found = [
        train_run(under(small, protocol), dataclasses.replace(tastes, test=part))
        for part in (test, other, None)
    ]
    for trained in found[1:]:
        assert torch.equal(table(trained), table(found[0]))
        assert without_seconds(trained.history) == without_seconds(found[0].history)
        assert trained.metrics["valid"] == found[0].metrics["valid"]
    assert found[0].metrics["test"] != found[1].metrics["test"]
    assert found[2].metrics["test"] is None and found[2].metrics["reference"] is None


def test_reference_points_bound_the_model(small, tastes):
    trained = train_run(under(small, "valid"), tastes)
    reference = trained.metrics["reference"]
    for name, value in trained.metrics["test"].items():
        assert value <= reference["best_possible"][name] <= 1
    assert 0 < reference["most_popular"]["ndcg@5"] < reference["best_possible"]["ndcg@5"]


@pytest.mark.parametrize("protocol", ["valid", "refit"])
def test_no_validation_pairs_is_an_error_with_advice(small, tastes, protocol):
    bare = dataclasses.replace(tastes, valid=None)
    with pytest.raises(ConfigError, match=r"there are none: set data.split.valid=0.1"):
        train_run(under(small, protocol), bare)
    assert len(train_run(under(small, "fixed"), bare).train) == len(tastes.train)


def test_published_without_test_is_an_error(small, tastes):
    with pytest.raises(ConfigError, match="chooses the epoch on test, and there is none"):
        train_run(under(small, "published"), dataclasses.replace(tastes, test=None))


def test_ctrl_c_while_choosing_skips_the_refit(small, tastes):
    class Stop(Ear):
        def epoch(self, record, best):
            super().epoch(record, best)
            if record["epoch"] == 2:
                raise KeyboardInterrupt

    ear = Stop()
    trained = train_run(under(small, "refit"), tastes, ear)
    assert [name for name, _ in ear.phases] == ["select"]
    assert trained.metrics["stopped"] == "interrupted"
    assert trained.train is tastes.train and trained.metrics["test"]
