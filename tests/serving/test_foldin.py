"""Fold-in against the formulas it stands for, and against trained users."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch

from ssmrec.data import Split, load
from ssmrec.errors import DataError
from ssmrec.models import HistoryRows
from ssmrec.ranking import ItemRows
from ssmrec.recommender import Recommender
from ssmrec.serving import FoldIn, Live, foldin
from ssmrec.serving.foldin import ridge


def histories(pairs, users) -> ItemRows:
    cut = pairs.indptr
    return ItemRows.of([pairs.indices[cut[u] : cut[u + 1]] for u in users], pairs.n_items)


def test_lightgcn_is_the_propagation_formula_without_own_row(models):
    """Layer by layer, by hand, in float64: x_u^(k) = sum over items / sqrt(|H| degree)."""
    trained = models("lightgcn").trained_
    model, train = trained.model, trained.train
    liked = ItemRows.of([np.array([1, 5, 30])], train.n_items)
    adjacency = model.graph.adjacency().to_dense().double()
    layers = [model.table.detach().double()]
    for _ in range(2):
        layers.append(adjacency @ layers[-1])
    degree = torch.from_numpy(train.item_degrees[[1, 5, 30]]).double()
    want = torch.zeros(8, dtype=torch.float64)
    for layer in layers[:-1]:
        items = layer[train.n_users :][[1, 5, 30]]
        want += (items / (3 * degree).sqrt()[:, None]).sum(0) / 3
    want = want / want.norm()  # the run ranks by cosine
    fold = FoldIn(trained)
    assert (fold.how, fold.similarity) == ("propagation", "cosine")
    torch.testing.assert_close(fold.vectors(liked)[0].double(), want, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["lightgcn", "lightgcnpp", "svdpp", "simplex"])
def test_own_row_and_fold_in_make_a_trained_user(models, name):
    """What the model adds for a trained user is his own row, nothing else."""
    trained = models(name).trained_
    fold = FoldIn(trained)
    message = fold._rows.__self__
    users = np.array([0, 7, 33])
    found = trained.model.vectors(torch.from_numpy(users))
    made = message.own * found.ego_users + message.received(histories(trained.train, users))
    assert fold.how == "propagation"
    torch.testing.assert_close(made, found.users, rtol=1e-4, atol=1e-5)


def test_ngcf_is_its_layers_from_a_zero_row(models):
    """A trained user whose own row is set to zero, with the item side as it was."""
    trained = models("ngcf").trained_
    model, users = trained.model, np.array([3, 8])
    fold = FoldIn(trained)
    found = fold._rows(histories(trained.train, users))
    items = model.vectors().items.detach().double().split(8, dim=1)
    send, receive = (
        torch.from_numpy(getattr(model.graph, n)).double() for n in ("send", "receive")
    )
    for row, user in enumerate(users):
        at = trained.train.indices[trained.train.indptr[user] : trained.train.indptr[user + 1]]
        own, parts = torch.zeros(8, dtype=torch.float64), []
        for layer in range(2):
            parts.append(own)
            got = receive[user] * (send[at + model.n_users, None] * items[layer][at]).sum(0)
            mixed = (got + own) @ model.sums[layer].double() + (got * own) @ model.products[
                layer
            ].double()
            own = torch.where(mixed > 0, mixed, 0.2 * mixed)
        want = torch.cat([*parts, own])
        torch.testing.assert_close(found[row].double(), want, rtol=1e-4, atol=1e-6)


def test_ridge_minimises_what_it_says():
    """The gradient of the stated sum of squares is zero at the solution."""
    generator = torch.Generator().manual_seed(0)
    items = torch.randn(20, 5, generator=generator, dtype=torch.float64)
    items[7] = 0  # unknown
    liked = ItemRows.of([np.array([2, 3, 11])], 20)
    u = ridge(items, l2=0.3, unseen=2.0)(liked)[0].requires_grad_()
    mine = items[[2, 3, 11]]
    scale = items.square().sum() / 19
    loss = (
        (1 - mine @ u).square().mean()
        + 2.0 * (items @ u).square().sum() / 19
        + 0.3 * scale * u.square().sum()
    )
    loss.backward()
    assert u.grad is not None and u.grad.abs().max() < 1e-12


@pytest.mark.parametrize("numbers", [1, 100, 1 << 21])
def test_users_together_are_what_each_is_alone(monkeypatch, numbers):
    """Histories of 0 to 6 items, in blocks of one user, of some, and of all."""
    items = torch.randn(20, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    liked = [np.arange(size) + size for size in (3, 0, 6, 1, 2, 5)]
    solve = ridge(items)
    alone = torch.cat([solve(ItemRows.of([one], 20)) for one in liked])
    monkeypatch.setattr(foldin, "_NUMBERS", numbers)
    together = solve(ItemRows.of(liked, 20))
    torch.testing.assert_close(together, alone)
    assert not together[1].any() and solve(ItemRows.of([], 20)).shape == (0, 4)


def test_an_item_item_model_gives_a_new_user_what_a_trained_one_has(models):
    recommender = models("ease")
    live = Live.of(recommender.trained_)
    assert live.folding.how == "history"
    train = recommender.trained_.train
    users = [100, 117]
    owned = train.frame()
    liked = [owned.filter(user=user)["item"] for user in users]
    frame, missing = live.fold_in(liked, live.ranker.choice(5))
    want = recommender.recommend(users, 5)
    assert missing == [[], []]
    assert frame["item"].to_list() == want["item"].to_list()
    assert frame["score"].to_list() == want["score"].to_list()


def test_ials_is_the_least_squares_of_its_library(tastes):
    pytest.importorskip("implicit")
    from implicit.als import AlternatingLeastSquares
    from scipy.sparse import csr_matrix

    recommender = Recommender({"name": "ials", "dim": 6}).fit(tastes.train, progress=False)
    trained = recommender.trained_
    solver = AlternatingLeastSquares(6, regularization=0.01, alpha=10.0, use_gpu=False)
    solver.item_factors = trained.model.items.numpy()
    row = csr_matrix((np.ones(3, np.float32), [[0, 0, 0], [2, 9, 15]]), (1, tastes.train.n_items))
    want = solver.recalculate_user(0, row)
    fold = FoldIn(trained)
    found = fold.vectors(ItemRows.of([np.array([2, 9, 15])], tastes.train.n_items))
    assert fold.how == "least squares"
    np.testing.assert_allclose(found[0], want.ravel(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "name", ["mf", "lightgcn", "lightgcnpp", "svdpp", "simplex", "ngcf", "ease"]
)
def test_a_new_user_gets_items_of_his_taste(models, name):
    """Items 0-19 are liked by one group, 20-39 by the other; five of one side give that side."""
    live = Live.of(models(name).trained_)
    liked = [pl.Series([101, 103, 105, 107, 109]), pl.Series([121, 123, 125, 127, 129])]
    frame, _ = live.fold_in(liked, live.ranker.choice(8))
    for user, side in ((0, range(100, 120)), (1, range(120, 140))):
        items = frame.filter(user=user)["item"].to_list()
        assert len(items) == 8 and not set(items) & set(liked[user])
        assert sum(item in side for item in items) >= 6


def test_unknown_items_are_named_and_count_for_nothing(live):
    choice = live.ranker.choice(3)
    with_ghost, missing = live.fold_in([pl.Series([101, 9999, 103])], choice)
    without, _ = live.fold_in([pl.Series([101, 103])], choice)
    assert missing == [[9999]] and with_ghost.equals(without)
    with pytest.raises(DataError, match="none of the 1 items was trained on"):
        live.fold_in([pl.Series([9999])], choice)
    for lists in ([[101, 9999, "103"]], (np.array([101, 103, 9999]),), iter([[101, 9999, 103]])):
        listed, missing = live.fold_in(lists, choice)
        assert listed.equals(without) and list(map(str, missing[0])) == ["9999"]
    with pytest.raises(DataError, match="items must be a list of ids, not the single value 101"):
        live.fold_in([101, 103], choice)
    for table in (pl.DataFrame({"item": [101]}), {"a": [101]}):
        with pytest.raises(DataError, match="items of each new user must be a list of ids, not a"):
            live.fold_in(table, choice)
    assert live == live and live != Live(live.trained, live.ranker)


def test_an_item_known_only_from_test_is_unknown():
    """Item 9 is in the vocabulary, but no user had it in training."""
    rows = pl.DataFrame({"user": [1, 1, 2, 2, 3, 3, 3], "item": [1, 2, 2, 3, 1, 3, 9]})
    data = load(rows)
    train = data.take(data.indices != data.n_items - 1)
    recommender = Recommender("mf", train={"epochs": 1}).fit(train, progress=False)
    live = Live.of(recommender.trained_)
    _, missing = live.fold_in([pl.Series([1, 9])], live.ranker.choice(2))
    assert missing == [[9]]
    with pytest.raises(DataError, match="not trained on: 9"):
        live.ranker.similar([9])


def test_svdpp_of_the_item_side_falls_back_to_ridge(tastes):
    split = Split(tastes.train, None, None, "given")
    recommender = Recommender({"name": "svdpp", "side": "item", "dim": 8}, train={"epochs": 1})
    fold = FoldIn(recommender.fit(split.train, progress=False).trained_)
    assert fold.how == "ridge"
    assert not isinstance(fold.vectors(ItemRows.of([np.array([1])], 40)), HistoryRows)
