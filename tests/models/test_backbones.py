"""Backbones against dense computations; initial tables; the public battery on all of them."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import scipy.sparse.linalg
import torch

from ssmrec.config import build
from ssmrec.errors import ConfigError
from ssmrec.models import MODELS
from ssmrec.models.start import initial_table
from ssmrec.testing import check_backbone, toy


def make(name, train, seed=0, **settings):
    config = build(MODELS[name].Config, settings, "model")
    return MODELS[name](config, train, torch.Generator().manual_seed(seed))


def dense(train) -> np.ndarray:
    return sp.csr_matrix(
        (np.ones(len(train)), train.indices, train.indptr), (train.n_users, train.n_items)
    ).toarray()


TRAINED = [name for name, cls in MODELS.items() if not cls.closed_form]


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("init", ["xavier", "spectral"])
def test_battery(name, init):
    check_backbone(MODELS[name], init=init, dim=16)


@pytest.mark.parametrize("name", TRAINED)
def test_width_is_that_of_the_vectors(name):
    model = make(name, toy(), dim=6)
    found = model.vectors()
    assert found.users.shape[1] == found.items.shape[1] == MODELS[name].width(model.config)


def test_battery_of_deep_and_of_item_side():
    check_backbone(MODELS["lightgcn"], layers=4, alpha=(0.3, 0.8))
    check_backbone(MODELS["svdpp"], side="item", alpha=(0.5, 0.5))
    check_backbone(MODELS["svdpp"], side="both")


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_lightgcn_is_the_mean_of_powers_of_the_normalised_adjacency(layers):
    train = toy()
    model = make("lightgcn", train, dim=6, layers=layers)
    r = dense(train)
    whole = np.block([[np.zeros((12, 12)), r], [r.T, np.zeros((30, 30))]])
    degree = np.maximum(whole.sum(1), 1)
    norm = whole / np.sqrt(degree[:, None] * degree[None, :])
    x = model.table.detach().double().numpy()
    want = sum(np.linalg.matrix_power(norm, k) @ x for k in range(layers + 1)) / (layers + 1)
    found = model.vectors()
    np.testing.assert_allclose(found.users.detach(), want[:12], atol=1e-6)
    np.testing.assert_allclose(found.items.detach(), want[12:], atol=1e-6)
    assert torch.equal(found.ego_items, model.table[12:])


def set_rows(model, rows) -> None:
    with torch.no_grad():
        model.table.copy_(torch.tensor(rows))


ROWS = [[1.0, 0], [0, 1], [2, 0], [0, 4], [6, 8]]


@pytest.fixture
def small(make_interactions):
    """User 0 has items 0 and 1, user 1 has item 1; item 2 nobody. Table rows u0 u1 i0 i1 i2."""
    return make_interactions(np.array([[1, 1, 0], [0, 1, 0]]))


def test_svdpp_user_side_by_hand(small):
    """alpha (1, 0): own row + mean of the items' rows (Eq 30); items keep their rows."""
    model = make("svdpp", small, dim=2)
    set_rows(model, ROWS)
    found = model.vectors()
    assert found.users.tolist() == [[1 + 1, 0 + 2], [0, 1 + 4]]
    assert found.items.tolist() == ROWS[2:]


def test_svdpp_item_side_by_hand(small):
    """alpha (.5, .5): item 0 + u0 / sqrt(1 * 2); item 1 + u0 / sqrt(2 * 2) + u1 / sqrt(2 * 1)."""
    model = make("svdpp", small, dim=2, side="item", alpha=(0.5, 0.5))
    set_rows(model, ROWS)
    found = model.vectors()
    h = 0.5**0.5
    want = torch.tensor([[2 + h, 0], [0.5, 4 + h], [6, 8]])
    torch.testing.assert_close(found.items, want)
    assert found.users.tolist() == ROWS[:2]
    part = model.vectors(torch.tensor([1]), torch.tensor([2, 0]))
    torch.testing.assert_close(part.items, want[[2, 0]])
    torch.testing.assert_close(part.ego_items, torch.tensor([[6.0, 8], [2, 0]]))


def test_mf_is_its_table(small):
    model = make("mf", small, dim=2)
    set_rows(model, ROWS)
    found = model.vectors(torch.tensor([1]), torch.tensor([2, 0]))
    assert found.users.tolist() == [ROWS[1]]
    assert found.items.tolist() == [ROWS[4], ROWS[2]]


def test_message_passing_is_declared():
    flags = {name: MODELS[name].message_passing for name in ("mf", "svdpp", "lightgcn")}
    assert flags == {"mf": False, "svdpp": True, "lightgcn": True}


def test_case_20_vectors_come_from_train_only(tastes):
    """The held-out part is no argument of a backbone; equal train gives equal vectors."""
    one, two = (make("lightgcn", tastes.train).vectors() for _ in range(2))
    assert torch.equal(one.users, two.users) and torch.equal(one.items, two.items)


# --- initial tables ---


def test_xavier_bounds_and_spread():
    """Uniform in +-sqrt(6 / (n + dim)), users and items apart; its deviation is bound / sqrt(3)."""
    table = initial_table(toy(40, 200), 64, "xavier", torch.Generator().manual_seed(0))
    for part, n in ((table[:40], 40), (table[40:], 200)):
        bound = (6 / (n + 64)) ** 0.5
        assert part.abs().max() <= bound
        assert part.abs().max() > 0.99 * bound
        assert part.std().item() == pytest.approx(bound / 3**0.5, rel=0.03)


def normalised(train) -> np.ndarray:
    user, item = np.maximum(train.user_degrees, 1), np.maximum(train.item_degrees, 1)
    return dense(train) / np.sqrt(user[:, None] * item[None, :])


def test_spectral_start_spans_the_leading_singular_vectors(tastes):
    """Against scipy's svds: equal subspaces, and U V' proportional to the best rank-5 matrix."""
    train, dim = tastes.train, 5
    table = initial_table(train, dim, "spectral", torch.Generator().manual_seed(0)).double().numpy()
    users, items = table[: train.n_users], table[train.n_users :]
    left, singular, right = scipy.sparse.linalg.svds(normalised(train), k=dim)
    for mine, true in ((users, left), (items, right.T)):
        basis = np.linalg.qr(mine)[0]
        cosines = np.linalg.svd(basis.T @ true)[1]  # of the principal angles
        assert cosines.min() > 0.99
    best = (left * singular) @ right
    product = users @ items.T
    scale = (product * best).sum() / (best**2).sum()
    assert np.abs(product / scale - best).max() < 0.02 * np.abs(best).max() + 1e-3


def test_spectral_start_has_the_length_of_xavier_and_no_zero_rows():
    train = toy()  # the last user and item have no pairs
    xavier, spectral = (
        initial_table(train, 8, init, torch.Generator().manual_seed(0))
        for init in ("xavier", "spectral")
    )
    assert torch.equal(spectral[11], xavier[11]) and torch.equal(spectral[-1], xavier[-1])
    for part in (slice(0, 11), slice(12, 41)):
        mine, like = (table[part].pow(2).mean().sqrt().item() for table in (spectral, xavier))
        assert mine == pytest.approx(like, rel=0.15)


def test_spectral_start_with_more_dimensions_than_rank(make_interactions):
    table = initial_table(
        make_interactions(np.array([[1, 1, 0], [0, 1, 1]])), 7, "spectral", torch.Generator()
    )
    assert table.shape == (5, 7) and table.isfinite().all() and (table.norm(dim=1) > 0).all()


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("lightgcn", {"layers": 0}, "model.layers"),
        ("lightgcn", {"layer": 2}, "did you mean 'model.layers'"),
        ("svdpp", {"side": "users"}, "model.side"),
        ("mf", {"layers": 2}, "unknown key model.layers"),
        ("mf", {"dim": 0}, "model.dim"),
    ],
)
def test_settings_are_checked(name, settings, message):
    with pytest.raises(ConfigError, match=message):
        make(name, toy(), **settings)
