"""Reasons of a recommendation against weights, normal equations and the definition."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from ssmrec.errors import ConfigError, DataError
from ssmrec.ranking import ItemRows
from ssmrec.serving import Live, explain
from ssmrec.serving.explain import effects

USER = 4
WANTED = np.array([2, 9, 30])


def history(live) -> np.ndarray:
    train = live.ranker.train
    return train.indices[train.indptr[USER] : train.indptr[USER + 1]]


def of(models, name: str) -> Live:
    return Live.of(models(name).trained_)


def test_an_item_item_model_has_its_weights_for_effects(models):
    live = of(models, "ease")
    mine, weights = history(live), live.trained.model.weights.numpy()
    scores, found = effects(live.folding, live.ranker.items, mine, WANTED)
    np.testing.assert_allclose(found, weights[np.ix_(mine, WANTED)].T, atol=1e-6)
    np.testing.assert_allclose(scores, found.sum(1), rtol=1e-5)


def test_mf_by_the_normal_equations_of_a_user(models):
    """Ridge with l2 = unseen = 1 as docs/production.md has it, in float64, with and without each item."""
    live = of(models, "mf")
    items, mine = live.ranker.items.double().numpy(), history(live)
    used = np.square(items).sum(1) > 0

    def score(liked):
        if not len(liked):
            return np.zeros(len(WANTED))
        own = items[liked]
        system = own.T @ own / len(own) + items.T @ items / used.sum()
        system += np.eye(items.shape[1]) * np.square(items).sum() / used.sum()
        u = np.linalg.solve(system, own.mean(0))
        return items[WANTED] @ (u / np.linalg.norm(u))

    want = np.stack([score(mine) - score(np.delete(mine, j)) for j in range(len(mine))], axis=1)
    scores, found = effects(live.folding, live.ranker.items, mine, WANTED)
    np.testing.assert_allclose(scores, score(mine), atol=1e-5)
    np.testing.assert_allclose(found, want, atol=1e-5)


@pytest.mark.parametrize("name", ["lightgcn", "ngcf"])
def test_an_effect_is_what_the_score_loses_without_the_item(models, name, monkeypatch):
    """One user at a time, and in blocks of two."""
    live = of(models, name)
    mine, items = history(live), live.ranker.items
    whole, *rests = (
        (live.folding.vectors(ItemRows.of([liked], len(items))) @ items[WANTED].T)[0].numpy()
        for liked in (mine, *(np.delete(mine, j) for j in range(len(mine))))
    )
    monkeypatch.setattr(explain, "_NUMBERS", 2 * len(items))
    scores, found = effects(live.folding, items, mine, WANTED)
    np.testing.assert_allclose(scores, whole, atol=1e-6)
    np.testing.assert_allclose(found, np.stack([whole - rest for rest in rests], 1), atol=1e-6)


def test_a_blend_by_the_whole_rows_of_its_scores(models):
    parts = models("lightgcn"), models("ease")
    live = Live.of(parts[0].blend(parts[1], weights=[0.5, 0.5], progress=False).trained_)
    mine, items = history(live), live.ranker.items
    whole, *rests = (
        live.folding.vectors(ItemRows.of([liked], len(items))).scores(items)[0, WANTED].numpy()
        for liked in (mine, *(np.delete(mine, j) for j in range(len(mine))))
    )
    scores, found = effects(live.folding, items, mine, WANTED)
    np.testing.assert_allclose(scores, whole, rtol=1e-5)
    np.testing.assert_allclose(found, np.stack([whole - rest for rest in rests], 1), atol=1e-5)


def test_a_single_item_carries_the_whole_score(models):
    live = of(models, "mf")
    scores, found = effects(live.folding, live.ranker.items, np.array([5]), WANTED)
    np.testing.assert_allclose(found[:, 0], scores)


def test_reasons_are_of_the_list_best_first(live, models):
    user = live.ranker.train.users.ids[USER]
    frame = live.explain(user, k=4, reasons=2)
    listed = models("lightgcn").recommend([user], 4)["item"].to_list()
    assert frame["item"].unique(maintain_order=True).to_list() == listed
    train = live.ranker.train
    mine = train.items.decode(history(live))
    _, found = effects(
        live.folding, live.ranker.items, history(live), train.items.encode(pl.Series(listed[:1]))
    )
    best = np.argsort(-found[0])[:2]
    first = frame.filter(item=listed[0])
    assert first["rank"].to_list() == [1, 2] and first["reason"].to_list() == mine[best].to_list()
    np.testing.assert_allclose(first["effect"].to_numpy(), found[0][best], atol=1e-6)


def test_an_item_that_he_has_is_no_reason_for_itself(live):
    user, own = live.ranker.train.users.ids[USER], live.ranker.train.items.decode(history(live))
    frame = live.explain(user, [own[0]], reasons=len(own))
    assert len(frame) and own[0] not in frame["reason"]
    assert (frame["effect"] > 0).all()


@pytest.mark.parametrize(
    ("asked", "error", "told"),
    [
        ((-5,), DataError, "1 user\\(s\\) were not trained on: -5"),
        ((104, [-7]), DataError, "1 item\\(s\\) were not trained on: -7"),
        ((104, 100), DataError, "items must be a list of ids"),
        ((104, None, 0), ConfigError, "k must be a whole number of at least 1"),
        ((104, None, 3, 0), ConfigError, "reasons must be at least 1"),
    ],
)
def test_what_is_refused(live, asked, error, told):
    with pytest.raises(error, match=told):
        live.explain(*asked)
