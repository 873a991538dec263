"""TTEN, EDGE and DAP against their formulas, their reductions, and through Python."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import ssmrec
from ssmrec.config import build
from ssmrec.errors import ConfigError
from ssmrec.models import MODELS
from ssmrec.ranking import corrections, top_k
from ssmrec.ranking.corrections import (
    corrected_vectors,
    correction,
    k_means,
    neighbours_by_degree,
)
from ssmrec.ranking.vectors import ranking_vectors
from ssmrec.testing import toy


def make(train, name="lightgcn", **settings):
    config = build(MODELS[name].Config, {"dim": 6, **settings}, "model")
    return MODELS[name](config, train, torch.Generator().manual_seed(0))


def lists(vectors, train, k=10):
    return top_k(*vectors, k, seen=[train]).ids


def test_tten_runs_from_dot_to_cosine():
    train = toy()
    model = make(train)
    dot, cosine = (ranking_vectors(model, how) for how in ("dot", "cosine"))
    none = corrected_vectors(model, train, "dot", "tten:strength=0")
    torch.testing.assert_close(none, dot)
    whole = corrected_vectors(model, train, "dot", "tten")
    np.testing.assert_array_equal(lists(whole, train), lists(cosine, train))
    assert (lists(dot, train) != lists(cosine, train)).any()
    users, items = corrected_vectors(model, train, "cosine", {"name": "tten", "strength": 0.5})
    torch.testing.assert_close(items, dot[1] / dot[1].norm(dim=1, keepdim=True).sqrt())
    assert torch.equal(users, dot[0])


def test_edge_is_its_formula():
    """Item by item, in float64; the head are the 6 most popular of the 29 items with users."""
    train = toy()
    model = make(train, "mf")
    e = model.vectors().items.detach().double().numpy()
    length = np.linalg.norm(e, axis=1)
    head = np.argsort(-train.item_degrees, kind="stable")[:6]
    want = np.empty_like(e)
    for i in range(30):
        cos = e[head] @ e[i] / length[head] / length[i]
        w = np.exp(cos / 0.3) / np.exp(cos / 0.3).sum()
        a = (w[:, None] * e[head] / length[head, None]).sum(0)
        mixed = e[i] / length[i] + 0.7 * a / np.linalg.norm(a)
        mixed /= np.linalg.norm(mixed)
        want[i] = mixed * (train.item_degrees[i] + 1) ** 0.2 * length[i] ** (1 - 0.6)
    asked = "edge:strength=0.7,alpha=0.6,beta=0.2,temperature=0.3"
    users, items = corrected_vectors(model, train, "cosine", asked)
    np.testing.assert_allclose(items.detach(), want, rtol=1e-4, atol=1e-6)
    assert torch.equal(users, model.vectors().users)


def test_edge_reduces_to_nothing_and_to_tten():
    train = toy()
    model = make(train)
    same = corrected_vectors(model, train, "dot", "edge:strength=0,alpha=0,beta=0")
    torch.testing.assert_close(same, ranking_vectors(model, "dot"))
    one = corrected_vectors(model, train, "dot", "edge:strength=0,alpha=1")
    torch.testing.assert_close(one, corrected_vectors(model, train, "dot", "tten"))


def test_edge_holds_few_similarities_at_once_however_large_the_head(monkeypatch):
    """Rows of a block times head items stay within a bound; the block is no part of the result."""
    train = toy()
    model = make(train)
    asked = "edge:strength=0.7,head=1"
    whole = corrected_vectors(model, train, "dot", asked)[1]
    sizes = []
    real = torch.softmax
    monkeypatch.setattr(torch, "softmax", lambda x, dim: sizes.append(x.shape) or real(x, dim))
    monkeypatch.setattr(corrections, "_CELLS", 100)
    torch.testing.assert_close(corrected_vectors(model, train, "dot", asked)[1], whole)
    assert {tuple(size) for size in sizes} == {(3, 29)} and len(sizes) == 10


def test_means_by_degree_equal_brute_force():
    random = np.random.default_rng(0)
    x, cluster = (
        torch.from_numpy(random.normal(size=(60, 4))),
        torch.from_numpy(random.integers(0, 5, 60)),
    )
    degrees = torch.from_numpy(random.integers(0, 6, 60))
    cluster[degrees == 5] = 4
    cluster[:2], degrees[:2] = 9, 3  # a cluster of one degree: nobody is above or below
    high, low = neighbours_by_degree(x, cluster, degrees)
    for node in range(60):
        for found, members in ((high, degrees > degrees[node]), (low, degrees < degrees[node])):
            inside = members & (cluster == cluster[node])
            want = F.normalize(x[inside].mean(0), dim=0) if inside.any() else torch.zeros(4)
            torch.testing.assert_close(found[node], want.to(x))
    assert not high[:2].any() and not low[:2].any()


def test_k_means_finds_clear_clusters():
    random = np.random.default_rng(0)
    truth = random.integers(0, 3, 90)
    points = torch.from_numpy(np.eye(3)[truth] * 10 + random.normal(size=(90, 3)))
    found = k_means(points[np.argsort(truth)], 3).numpy()
    assert [len(set(found[np.sort(truth) == c])) for c in range(3)] == [1, 1, 1]
    assert len(set(found)) == 3
    assert k_means(points[:2], 5).shape == (2,)


def test_dap_without_strength_is_the_model_itself():
    train = toy()
    for how in ("dot", "cosine"):
        model = make(train, layers=3)
        found = corrected_vectors(model, train, how, "dap:strength=0")
        torch.testing.assert_close(found, ranking_vectors(model, how), rtol=1e-4, atol=1e-6)


def test_dap_of_one_layer_and_one_cluster_by_its_formula():
    train = toy()
    model = make(train, layers=1)
    x = model.table.detach()
    y = model.graph.neighbours(x)
    degrees, out = model.graph.degrees, x.clone()
    for node in range(42):
        change = y[node].clone()
        for inside, amount in ((degrees > degrees[node], 0.4), (degrees < degrees[node], 0.1)):
            if inside.any():
                direction = F.normalize(y[inside].mean(0), dim=0)
                change = change - amount * F.cosine_similarity(x[node], direction, 0) * direction
        out[node] = (x[node] + change) / 2
    users, items = corrected_vectors(model, train, "dot", "dap:strength=0.4,low=0.1,clusters=1")
    torch.testing.assert_close(torch.cat([users, items]), out, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("tenn", "unknown correction 'tenn', did you mean 'tten'"),
        ("edge:strenght=1", r"did you mean 'correction\.strength'"),
        ("tten:strength=-1", r"correction\.strength"),
        ("edge:0.5", "must look like strength=0.5"),
    ],
)
def test_what_is_asked_is_checked(asked, message):
    with pytest.raises(ConfigError, match=message):
        correction(asked)


@pytest.mark.parametrize("asked", ["tten:strength=1e6", "edge:beta=400"])
def test_vectors_beyond_a_float_are_the_corrections_fault(asked):
    train = toy()
    with pytest.raises(ConfigError, match=f"correction {asked}: vectors grow beyond"):
        corrected_vectors(make(train, "mf"), train, "dot", asked)


def test_models_that_cannot_be_corrected_say_so():
    train = toy()
    with pytest.raises(ConfigError, match="dap acts on the layers"):
        corrected_vectors(make(train, "mf"), train, "dot", "dap")
    ease = MODELS["ease"](MODELS["ease"].Config(), train, torch.Generator())
    with pytest.raises(ConfigError, match="no item vectors"):
        corrected_vectors(ease, train, "dot", "tten")


@pytest.fixture(scope="module")
def trained(tastes):
    made = ssmrec.Recommender(
        {"name": "lightgcn", "dim": 8}, "bpr", train={"epochs": 6, "lr": 0.02, "threads": 1}
    )
    return made.fit(tastes.train, progress=False)


@pytest.mark.parametrize("name", ["tten", "edge"])
def test_more_strength_lists_less_popular_items(trained, tastes, name):
    """BPR by dot: lengths follow degree, so taking them away lowers the popularity of the lists."""
    degrees = dict(zip(tastes.train.items.ids, tastes.train.item_degrees, strict=True))
    means = []
    for strength in (None, 0.5, 2.0):
        asked = None if strength is None else {"name": name, "strength": strength}
        found = trained.recommend(k=5, correct=asked)
        means.append(np.mean([degrees[item] for item in found["item"]]))
    assert means[2] < means[0]
    if name == "tten":
        assert means[2] < means[1] < means[0]


def test_evaluate_with_a_correction(trained, tastes):
    plain = trained.evaluate(tastes.test).values
    assert trained.evaluate(tastes.test, correct="tten:strength=0").values == plain
    assert trained.evaluate(tastes.test, correct="tten:strength=3").values != plain
