"""EASE, GF-CF and iALS against dense solutions in float64, and through training, ranking and folders."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

import ssmrec
from ssmrec.config import build
from ssmrec.errors import ConfigError
from ssmrec.evaluation import evaluate
from ssmrec.kernels.history import (
    occur_together,
    occur_together_reference,
    sum_rows,
    sum_rows_reference,
)
from ssmrec.models import MODELS, HistoryRows
from ssmrec.ranking import top_k
from ssmrec.ranking.vectors import ranking_vectors
from ssmrec.testing import check_backbone, toy
from ssmrec.training import label, resolve, train_run

CLOSED = ["ease", "gfcf", "ials"]


def needs(name: str) -> None:
    if name == "ials":
        pytest.importorskip("implicit")


def dense(train) -> np.ndarray:
    rows = np.zeros((train.n_users, train.n_items))
    rows[train.rows, train.indices] = 1
    return rows


def solved(name, train, **settings):
    cls = MODELS[name]
    model = cls(build(cls.Config, settings, "model"), train, torch.Generator().manual_seed(0))
    with torch.no_grad():
        model.solve()
    return model


@pytest.mark.parametrize("name", CLOSED)
def test_battery(name):
    needs(name)
    check_backbone(MODELS[name])


def test_kernels_equal_their_references():
    train = toy()
    rows = dense(train)
    weights = np.random.default_rng(0).random(12)
    starts = np.concatenate([[0], np.cumsum(train.item_degrees)])
    users = train.rows[np.argsort(train.indices, kind="stable")]
    found = np.empty((30, 30))
    occur_together(starts, users, train.indptr, train.indices, weights, found)
    want = occur_together_reference(torch.from_numpy(rows), torch.from_numpy(weights))
    np.testing.assert_allclose(found, want, atol=1e-12)
    table = np.random.default_rng(1).random((30, 7))
    out = np.full((12, 7), np.nan)
    sum_rows(train.indptr, train.indices, table, out)
    want = sum_rows_reference(torch.from_numpy(rows), torch.from_numpy(table))
    np.testing.assert_allclose(out, want, atol=1e-12)


@pytest.mark.parametrize("l2", [0.5, 20.0])
def test_ease_is_the_constrained_least_squares_solution(l2):
    """W from the definition: per column least squares over the other items, as normal equations."""
    train = toy()
    r = dense(train)
    want = np.zeros((30, 30))
    for j in range(30):
        rest = np.delete(np.arange(30), j)
        gram = r[:, rest].T @ r[:, rest] + l2 * np.eye(29)
        want[rest, j] = np.linalg.solve(gram, r[:, rest].T @ r[:, j])
    weights = solved("ease", train, l2=l2).weights
    np.testing.assert_allclose(weights, want, atol=2e-5)
    assert not weights.diagonal().any()


def test_ease_by_hand(make_interactions):
    """Two items, both users have both: W_01 = (R'R)_01 / ((R'R)_00 + l2) = 2 / (2 + 1)."""
    model = solved("ease", make_interactions(np.ones((2, 2))), l2=1.0)
    torch.testing.assert_close(model.weights, torch.tensor([[0, 2 / 3], [2 / 3, 0]]))


@pytest.mark.parametrize(("dim", "alpha"), [(4, 0.3), (4, 0.0), (29, 1.0)])
def test_gfcf_is_its_formula(tastes, dim, alpha):
    train = tastes.train
    r = dense(train)
    user, item = np.maximum(r.sum(1), 1), np.maximum(r.sum(0), 1)
    s = r / np.sqrt(user[:, None] * item)
    v = np.linalg.svd(s)[2][:dim].T
    low = (v / np.sqrt(item)[:, None]) @ (v.T * np.sqrt(item))
    want = s.T @ s + alpha * low
    got = solved("gfcf", train, dim=dim, alpha=alpha).weights.numpy()
    assert np.abs(got - want).max() < 2e-3 * np.abs(want).max()


def test_ials_minimises_its_objective(tastes):
    """Users' vectors solve (V'V + alpha V_u'V_u + l2 I) u = (1 + alpha) sum of V_u: Hu et al. Eq 4,
    with the library's weight alpha on the observed pairs."""
    pytest.importorskip("implicit")
    train, alpha, l2 = tastes.train, 8.0, 0.5
    model = solved("ials", train, dim=4, alpha=alpha, l2=l2, iterations=60)
    v, r = model.items.double().numpy(), dense(train)
    for user in (0, 17, 40):
        own = v[r[user] > 0]
        left = v.T @ v + (alpha - 1) * own.T @ own + l2 * np.eye(4)
        want = np.linalg.solve(left, alpha * own.sum(0))
        np.testing.assert_allclose(model.users[user], want, atol=0.02)


def test_history_rows_are_the_dense_rows():
    train = toy()
    rows = HistoryRows.of(train)
    np.testing.assert_array_equal(rows.to_dense(), dense(train))
    assert len(rows) == 12 and rows.shape == (12, 30)
    np.testing.assert_array_equal(rows[3:5].to_dense(), dense(train)[3:5])
    pick = torch.tensor([7, 0, 11, 7])
    np.testing.assert_array_equal(rows[pick].to_dense(), dense(train)[pick])
    items = torch.randn(9, 30, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(rows.scores(items), rows.to_dense() @ items.T)


def test_ranking_of_histories_equals_ranking_of_dense_rows(tastes):
    train = tastes.train
    model = solved("ease", train, l2=5.0)
    users, items = ranking_vectors(model, "dot")
    index = np.array([3, 59, 0, 3])
    lists = top_k(users[index], items, 7, seen=[train], user_index=index)
    plain = top_k(users.to_dense()[index], items, 7, seen=[train], user_index=index)
    np.testing.assert_array_equal(lists.ids, plain.ids)
    np.testing.assert_allclose(lists.scores, plain.scores, rtol=1e-5)
    for block in (1, 2):
        part = top_k(users[index], items, 7, seen=[train], user_index=index, block=block)
        np.testing.assert_array_equal(part.scores, lists.scores)


def test_cosine_makes_no_sense_of_item_item_weights(tastes):
    with pytest.raises(ConfigError, match="similarity=dot"):
        ranking_vectors(solved("ease", tastes.train), "cosine")


def test_too_large_a_catalogue_is_refused(tastes):
    with pytest.raises(ConfigError, match=r"40 items: .*GiB.*model.max_items"):
        solved("ease", tastes.train, max_items=39)


@pytest.mark.parametrize("protocol", ["valid", "refit", "fixed", "published"])
def test_protocols_solve_once_and_need_no_epochs(tastes, protocol):
    config = resolve({"model": {"name": "ease", "l2": 5.0}, "train": {"protocol": protocol}})
    assert config.ranking.similarity == "dot" and label(config) == "ease"
    trained = train_run(config, tastes)
    metrics = trained.metrics
    assert (metrics["epochs"], metrics["best_epoch"], metrics["stopped"]) == (0, 0, "solved")
    assert metrics["selected_on"] == "nothing (closed form)"
    assert metrics["similarity"] == {"train": None, "rank": "dot"}
    assert [row["phase"] for row in trained.history] == {
        "valid": ["select"], "refit": ["select", "refit"]}.get(protocol, ["train"])  # fmt: skip
    pairs = len(tastes.train) + (0 if protocol == "valid" else len(tastes.valid))
    assert len(trained.train) == pairs
    r = dense(trained.train)
    scores = torch.from_numpy((r @ trained.model.weights.double().numpy()).astype(np.float32))
    want = evaluate(
        scores, torch.eye(40), tastes.test, [trained.train, trained.seen], ["ndcg@20"],
        allowed=trained.train.item_degrees > 0,
    )  # fmt: skip
    assert metrics["test"]["ndcg@20"] == pytest.approx(want.values["ndcg@20"], abs=1e-6)
    assert metrics["test"]["ndcg@20"] > metrics["reference"]["most_popular"]["ndcg@20"] + 0.1


@pytest.mark.parametrize(("budget", "told"), [(1e-9, True), (1e4, False)])
def test_a_budget_that_a_closed_form_cannot_keep_is_told(tastes, caplog, budget, told):
    made = ssmrec.Recommender("ease", train={"budget": budget})
    with caplog.at_level("WARNING", logger="ssmrec"):
        made.fit(tastes.train, tastes.valid, progress=False)
    assert ("more than the budget of 1e-09 s" in caplog.text) is told


@pytest.mark.parametrize("name", CLOSED)
def test_folder_gives_the_same_lists(tastes, tmp_path, name):
    needs(name)
    made = ssmrec.Recommender(name, seed=3).fit(tastes.train, tastes.valid, progress=False)
    made.save(tmp_path)
    again = ssmrec.Recommender.load(tmp_path)
    assert again.recommend(k=5).equals(made.recommend(k=5))
    assert again.recommend([103], k=5).equals(made.recommend([103, 104], k=5)[:5])
    assert again.evaluate(tastes.test).values == made.evaluate(tastes.test).values
    assert json.loads((tmp_path / "metrics.json").read_text())["stopped"] == "solved"


def test_threads_may_rank_histories_at_once(tastes):
    """Scoring and choosing share one lock, so that a thread in either waits for the other."""
    model = solved("ease", tastes.train, l2=5.0)
    users, items = ranking_vectors(model, "dot")
    whole = top_k(users, items, 5).ids
    with ThreadPoolExecutor(4) as pool:
        rows = list(pool.map(lambda u: top_k(users[u : u + 1], items, 5).ids[0], range(60)))
    np.testing.assert_array_equal(np.stack(rows), whole)


def test_weights_of_ease_that_lose_digits_are_told(make_interactions, caplog):
    """Two items that always occur together, beside a third: W_01 of float64 is 0.67 with so little l2."""
    rows = np.ones((20_000, 4))
    rows[:10_000, 2] = rows[10_000:, 3] = 0
    solved("ease", make_interactions(rows), l2=0.001)
    assert "raise model.l2 (it is 0.001)" in caplog.text
    caplog.clear()
    weights = solved("ease", make_interactions(rows), l2=1.0).weights
    gram = np.linalg.inv(rows.T @ rows + np.eye(4))
    np.testing.assert_allclose(weights[0, 1], -gram[0, 1] / gram[1, 1], rtol=1e-2)
    assert not caplog.text
