"""Scores of given pairs: those of the lists, to the last bit."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch

from ssmrec.errors import DataError
from ssmrec.ranking import Ranker, pair_scores, topk
from ssmrec.recommender import Recommender

SHORT = {"epochs": 2, "threads": 1}


@pytest.fixture(scope="module")
def recommenders(tastes):
    made = {
        "mf": Recommender({"name": "mf", "dim": 8}, "bpr", train=SHORT),
        "cosine": Recommender({"name": "mf", "dim": 8}, "ssm", train=SHORT),
        "ease": Recommender("ease"),
        "popular": Recommender("popular"),
    }
    for one in made.values():
        one.fit(tastes.train, tastes.valid, progress=False)
    made["blend"] = made["mf"].blend(made["ease"], weights=[1, 2], progress=False)
    return made


@pytest.mark.parametrize("name", ["mf", "cosine", "ease", "popular", "blend"])
def test_scores_are_those_of_the_lists(recommenders, name):
    lists = recommenders[name].recommend(k=1000, include_seen=True)
    lists = lists.sample(fraction=1, shuffle=True, seed=1)
    found = recommenders[name].scores(lists["user"], lists["item"])
    assert found.dtype == np.float32 and len(found) > 1000
    np.testing.assert_array_equal(found, lists["score"].to_numpy())


def test_pairs_in_many_small_tiles(monkeypatch, make_interactions):
    g = torch.Generator().manual_seed(3)
    users, items = torch.randn(70, 16, generator=g), torch.randn(900, 16, generator=g)
    pairs = make_interactions(np.ones((70, 900), dtype=bool))
    monkeypatch.setattr(topk, "TILE_BYTES", 4 * 16 * 256)
    g = np.random.default_rng(0)
    user, item = g.integers(70, size=500), g.integers(900, size=500)
    found = pair_scores(Ranker(users, items, pairs, pairs), 100 + user, 100 + item)
    np.testing.assert_allclose(found, (users[user] * items[item]).sum(1), rtol=1e-5, atol=1e-5)


def test_who_is_not_known_has_no_score_and_is_told_once(recommenders, caplog):
    rec = recommenders["mf"]
    one = rec.recommend(k=1)[:1]
    user, item, score = one["user"][0], one["item"][0], one["score"][0]
    found = rec.scores([user, 7, user, 7, user], [item, item, "ghost", item, str(item)])
    np.testing.assert_array_equal(found, np.float32([score, np.nan, np.nan, np.nan, score]))
    assert "scores: 1 of 2 users were not trained on: 7" in caplog.text
    assert "scores: 1 of 2 items were not trained on: 'ghost'" in caplog.text
    assert len(caplog.messages) == 2
    assert np.isnan(rec.scores([7], [item])).all() and len(rec.scores([], [])) == 0


def test_pairs_must_be_pairs(recommenders):
    rec = recommenders["mf"]
    with pytest.raises(DataError, match="2 users and 1 items: give an item for each user"):
        rec.scores([101, 102], [101])
    frame = pl.DataFrame({"user": [101], "item": [101]})
    with pytest.raises(DataError, match="users must be a list of ids, not a DataFrame"):
        rec.scores(frame, frame)
