"""Blends of runs: the score, the choice of weights, what is refused, and the folder."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import ssmrec
from ssmrec.data import Split
from ssmrec.errors import ConfigError, DataError
from ssmrec.evaluation import evaluate
from ssmrec.models.blend import blended
from ssmrec.ranking.vectors import ranking_vectors
from ssmrec.training import label, load_run, save_run, train_run
from ssmrec.training.blend import blend

SVD = {"name": "svd", "dim": 4}
MF = {"name": "mf", "dim": 8}


@pytest.fixture
def two(small, tastes):
    """A trained and a solved run under `valid`."""
    return [train_run(small(model=m, train={"protocol": "valid"}), tastes) for m in (MF, SVD)]


def scores(trained) -> np.ndarray:
    users, items = ranking_vectors(trained.model, trained.config.ranking.similarity)
    return (users.double() @ items.double().T).numpy()


def standardised(trained) -> np.ndarray:
    """Scores over their standard deviation among the items with training pairs, user by user."""
    found = scores(trained)
    return found / found[:, trained.train.item_degrees > 0].std(axis=1, keepdims=True)


def test_scaled_vectors_have_scores_of_one_spread_and_lengths_of_the_weight():
    random = torch.Generator().manual_seed(0)
    users, items = (torch.randn(n, 3, generator=random) for n in (5, 9))
    users[4] = 0
    known = torch.tensor([True] * 8 + [False])
    x, y = blended(users, 7 * items, known, 0.3)
    found, plain = (x @ y.T).numpy(), (users @ items.T).numpy()
    np.testing.assert_allclose(
        found[:4], 0.3 * plain[:4] / plain[:4, :8].std(axis=1, keepdims=True), rtol=1e-5
    )
    assert not found[4].any()  # a user without a vector stays without
    assert y[:8].square().sum(1).mean() == pytest.approx(0.3)


def test_the_score_is_the_weighted_sum_of_the_standardised_scores(two, tastes):
    found = blend(two, tastes, weights=[3, 1])
    expected = 0.75 * standardised(two[0]) + 0.25 * standardised(two[1])
    np.testing.assert_allclose(scores(found), expected, rtol=1e-4, atol=1e-5)
    parts = found.config.model["parts"]
    assert [(part["name"], part["weight"]) for part in parts] == [("mf + ssm", 0.75), ("svd", 0.25)]
    assert parts[0]["settings"] == two[0].config.model_dump(mode="json")
    assert found.config.model["dim"] == 12 and label(found.config) == "blend"
    facts = found.metrics
    assert (facts["protocol"], facts["selected_on"], facts["stopped"]) == (
        "valid",
        "valid",
        "blended",
    )
    assert facts["similarity"] == {"train": None, "rank": "dot"}


def value(weights, runs, split) -> float:
    mixed = sum(w * standardised(run) for w, run in zip(weights, runs, strict=True))
    result = evaluate(
        torch.from_numpy(mixed), torch.eye(mixed.shape[1]).double(), split.valid, [split.train],
        ["ndcg@5"], allowed=split.train.item_degrees > 0,
    )  # fmt: skip
    return result.values["ndcg@5"]


def test_the_chosen_weights_are_the_best_of_those_tried(two, tastes):
    found = blend(two, tastes)
    chosen = found.metrics["valid"]["ndcg@5"]
    assert chosen >= max(value((w, 1 - w), two, tastes) for w in np.linspace(0, 1, 11)) - 1e-9
    weights = {part["name"]: part["weight"] for part in found.config.model["parts"]}
    assert sum(weights.values()) == pytest.approx(1)
    again = value([weights.get("mf + ssm", 0), weights.get("svd", 0)], two, tastes)
    assert again == pytest.approx(chosen)
    assert set(found.metrics["test"]) == {"recall@5", "ndcg@5"}


def test_a_run_that_adds_nothing_is_left_out(two, tastes):
    found = blend([two[1], two[1]], tastes)
    assert [part["weight"] for part in found.config.model["parts"]] == [1.0]
    np.testing.assert_allclose(scores(found), standardised(two[1]), rtol=1e-4, atol=1e-5)


def test_refit_blends_the_runs_trained_again_with_the_same_weights(two, small, tastes):
    found = blend(two, tastes, weights=[0.6, 0.4], refit=True)
    again = [train_run(small(model=m, train={"protocol": "refit"}), tastes) for m in (MF, SVD)]
    expected = 0.6 * standardised(again[0]) + 0.4 * standardised(again[1])
    np.testing.assert_allclose(scores(found), expected, rtol=1e-4, atol=1e-5)
    assert len(found.train) == len(tastes.train) + len(tastes.valid)
    assert found.metrics["protocol"] == "refit"
    before = blend(two, tastes, weights=[0.6, 0.4])
    assert found.metrics["valid"] == before.metrics["valid"]
    assert found.metrics["test"] != before.metrics["test"]


def test_what_cannot_be_blended_is_refused(two, small, tastes):
    with pytest.raises(ConfigError, match="at least two runs"):
        blend(two[:1], tastes)
    with pytest.raises(ConfigError, match="one above 0 for each of the 2 runs"):
        blend(two, tastes, weights=[1.0, 0.0])
    ease = train_run(small(model={"name": "ease"}, train={"protocol": "valid"}), tastes)
    with pytest.raises(ConfigError, match="ease has scores of its own"):
        blend([two[0], ease], tastes)
    refit = train_run(small(model=SVD, train={"protocol": "refit"}), tastes)
    with pytest.raises(DataError, match="svd and mf . ssm learned from different pairs"):
        blend([two[0], refit], tastes)
    with pytest.raises(
        ConfigError, match="have learned from these: blend runs of --protocol valid"
    ):
        blend([refit, refit], tastes)
    with pytest.raises(ConfigError, match="there are none"):
        blend(two, Split(tastes.train, None, None, "given"))
    with pytest.raises(ConfigError, match="made of finished runs"):
        train_run(small(model={"name": "blend"}), tastes)


def test_an_epoch_chosen_on_test_is_told(small, tastes):
    published = train_run(small(model=MF, train={"protocol": "published"}), tastes)
    solved = train_run(small(model=SVD, train={"protocol": "fixed"}), tastes)
    found = blend([solved, published], tastes, weights=[0.5, 0.5])
    assert found.metrics["selected_on"] == "test" and found.metrics["valid"] is None


def test_a_blend_is_kept_in_a_folder(two, tastes, tmp_path):
    found = blend(two, tastes, weights=[0.6, 0.4])
    save_run(tmp_path, found, tastes.fingerprint)
    read, _ = load_run(tmp_path)
    assert read.config == found.config and read.metrics == found.metrics
    assert (scores(read) == scores(found)).all()


def test_recommenders_are_blended(tastes):
    both = [
        ssmrec.Recommender(model, train={"epochs": 2, "metric": "ndcg@5"})
        .fit(tastes.train, tastes.valid, progress=False)
        for model in (MF, SVD)
    ]  # fmt: skip
    found = both[0].blend(both[1], valid=tastes.valid, refit=True, progress=False)
    assert found.evaluate(tastes.test).values.keys() >= {"ndcg@5"}
    assert found.recommend([100], k=3).height == 3
    with pytest.raises(ConfigError, match="validation"):
        both[0].blend(both[1], progress=False)


def test_runs_that_know_less_than_the_split_are_judged_by_its_validation_pairs(small, tastes):
    """Fitted without validation pairs, they may be blended by pairs that were held out elsewhere."""
    alone = replace(tastes, valid=None, test=None)
    runs = [train_run(small(model=m, train={"protocol": "fixed"}), alone) for m in (MF, SVD)]
    found = blend(runs, tastes)
    assert found.metrics["selected_on"] == "valid" and found.metrics["valid"]
