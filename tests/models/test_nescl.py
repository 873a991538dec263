"""NESCL: nearest neighbours against a dense matrix, and its term against the formula."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch
from torch.nn import functional as F

from operations import operations
from ssmrec.config import build, merged
from ssmrec.data import Interactions, Vocabulary
from ssmrec.models import NESCL, nescl
from ssmrec.models.graph import Graph
from ssmrec.testing import check_backbone, toy
from ssmrec.training import resolve, train_run

USERS, ITEMS, POSITIVES = torch.tensor([7, 0, 3]), torch.tensor([3, 0, 12, 8]), torch.tensor([0, 3])


def make(train, **settings):
    config = build(NESCL.Config, {"dim": 6, **settings}, "model")
    return NESCL(config, train, torch.Generator().manual_seed(0))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def dense(train) -> np.ndarray:
    rows = np.zeros((train.n_users, train.n_items))
    rows[train.rows, train.indices] = 1
    return rows


@pytest.mark.parametrize("train", [toy(), toy(200, 90)], ids=len)
@pytest.mark.parametrize("side", ["user", "item"])
def test_nearest_are_those_of_the_dense_cosine(side, train):
    r = dense(train) if side == "user" else dense(train).T
    length = np.maximum(np.linalg.norm(r, axis=1), 1)
    cosine = r @ r.T / length[:, None] / length
    np.fill_diagonal(cosine, 0)
    found = nescl.nearest(train, side, 4)
    for node, row in enumerate(found):
        best = np.sort(cosine[node])[::-1][:4]
        got = np.where(row >= 0, cosine[node, row], 0)
        np.testing.assert_allclose(got, best, atol=1e-6)
        assert node not in row.tolist() and len({n for n in row if n >= 0}) == (row >= 0).sum()
    assert (found[-1] == -1).all()  # the last user and item have no pairs
    square = (r @ r.T) ** 2 / np.maximum(r.sum(1), 1)  # as the cosine orders a row; ties are exact
    np.fill_diagonal(square, 0)
    order = np.argsort(-square, axis=1, kind="stable")[:, :4]
    want = np.where(np.take_along_axis(square, order, 1) > 0, order, -1)
    np.testing.assert_array_equal(found, want)


def test_nearest_of_very_many_nodes():
    """Half a million users, two of them to an item: no pair of users is looked at but these."""
    users, items = (Vocabulary(pl.Series(range(n), dtype=pl.Int64)) for n in (2 * 250_000, 250_000))
    user = np.arange(len(users))
    train = Interactions.from_pairs(user, user // 2, users, items)
    found = nescl.nearest(train, "user", 2)
    np.testing.assert_array_equal(found[:, 0], user ^ 1)
    assert (found[:, 1] == -1).all() and (nescl.nearest(train, "item", 1) == -1).all()


def test_more_neighbours_than_nodes(make_interactions):
    found = nescl.nearest(make_interactions(np.ones((2, 3))), "user", 5)
    assert found.tolist() == [[1, -1, -1, -1, -1], [0, -1, -1, -1, -1]]


@pytest.mark.parametrize("mean", ["in", "out"])
def test_battery(mean):
    check_backbone(NESCL, mean=mean, layers=1)


@pytest.mark.parametrize("mean", ["in", "out"])
@pytest.mark.parametrize("drop", [0.0, 0.4])
def test_term_and_gradient_equal_the_formula(mean, drop):
    """Full vectors of both views; the drawn nodes are read from the model's own draws."""
    train = toy()
    model = make(train, layers=2, drop=drop, mean=mean, ssl_weight=0.3, neighbours=3)
    model.before_epoch(1, seeded(9))
    _, term = model.for_training(USERS, ITEMS, POSITIVES, seeded(5))
    generator = seeded(9)
    views = []
    for _ in range(2):
        keep = torch.rand(len(train), generator=generator) >= drop
        views.append(Graph(train.take(keep.numpy())).full(model.table, (1 / 3,) * 3))
    one, other = (F.normalize(view, dim=1) for view in views)
    anchors = torch.cat([USERS, ITEMS[POSITIVES] + 12]).numpy()
    generator = seeded(5)
    drawn = [model._interacted(anchors, generator), model._near(anchors, generator)]
    each = []
    for place, node in enumerate(anchors):
        e = torch.exp(one[node] @ other.T / 0.1)
        shares = e[[node, drawn[0][place], drawn[1][place]]] / e[anchors].sum()
        each.append(-shares.log().mean() if mean == "in" else -shares.mean().log())
    want = 0.3 * (torch.stack(each[:3]).mean() + torch.stack(each[3:]).mean())
    torch.testing.assert_close(term, want, rtol=1e-4, atol=1e-5)
    grads = [torch.autograd.grad(value, model.table)[0] for value in (term, want)]
    torch.testing.assert_close(*grads, rtol=1e-3, atol=1e-4)


def test_gradients_of_repeated_nodes_are_added_up_in_one_order():
    """None goes back through indexing: drawn nodes occur again, and threads would add as they come."""
    _, term = make(toy(), neighbours=3).for_training(USERS, ITEMS, POSITIVES, seeded(5))
    names = operations(term)
    assert "EmbeddingBackward0" in names and "IndexBackward0" not in names


def test_drawn_nodes_are_neighbours():
    """200 draws for a node: all its partners, and all its nearest, occur; an isolated node is itself."""
    train = toy()
    model = make(train, neighbours=3)
    model.before_epoch(1, seeded(0))
    generator, own = seeded(1), train.indices[train.indptr[4] : train.indptr[5]] + 12
    anchors = np.full(200, 4)
    assert set(model._interacted(anchors, generator)) == set(own)
    assert set(model._near(anchors, generator)) == set(model.near[4])
    item = np.full(200, 12 + 2)
    assert set(model._interacted(item, generator)) == set(train.rows[train.indices == 2])
    assert (model._near(item, generator) >= 12).all()
    alone = np.array([11, 41])
    assert model._interacted(alone, generator).tolist() == [11, 41]
    assert model._near(alone, generator).tolist() == [11, 41]


def test_training_learns(tastes):
    settings = {
        "model": {"name": "nescl", "dim": 8},
        "loss": {"name": "bpr"},
        "train": {"epochs": 5, "batch_size": 128, "lr": 0.02, "threads": 1, "metric": "ndcg@5"},
        "evaluation": {"metrics": ["ndcg"], "ks": [5]},
    }
    metrics = train_run(resolve(merged({}, settings)), tastes).metrics
    assert metrics["test"]["ndcg@5"] > 1.5 * metrics["reference"]["most_popular"]["ndcg@5"]
