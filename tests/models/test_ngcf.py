"""NGCF against its dense definition in float64, values and gradients; dropout; the battery."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ssmrec.config import build
from ssmrec.errors import ConfigError
from ssmrec.models.graph import Graph
from ssmrec.models.ngcf import NGCF
from ssmrec.testing import check_backbone, toy


def make(train, seed=0, exact=False, **settings):
    config = build(NGCF.Config, settings, "model")
    model = NGCF(config, train, torch.Generator().manual_seed(seed))
    if exact:
        model.double().graph = Graph(train, dtype=np.float64)
    return model


def laplacian(train) -> torch.Tensor:
    """D^-1/2 A D^-1/2 over users, then items; nodes without edges have zero rows."""
    r = torch.zeros(train.n_users, train.n_items, dtype=torch.float64)
    r[torch.from_numpy(train.rows).long(), torch.from_numpy(train.indices).long()] = 1
    m, n = r.shape
    a = torch.zeros(m + n, m + n, dtype=torch.float64)
    a[:m, m:], a[m:, :m] = r, r.T
    scale = a.sum(1).clamp_min(1).rsqrt()
    return scale[:, None] * a * scale


def defined(model, train) -> torch.Tensor:
    """Eq 7 of the paper layer by layer, with a dense L and an identity for the self-connection."""
    lap = laplacian(train)
    loops = lap + torch.eye(len(lap), dtype=torch.float64)
    e = model.table
    layers = [e]
    for w1, w2 in zip(model.sums, model.products, strict=True):
        e = F.leaky_relu(loops @ e @ w1 + (lap @ e * e) @ w2, 0.2)
        layers.append(e)
    return torch.cat(layers, dim=1)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_is_the_dense_definition(layers):
    train = toy()
    model = make(train, exact=True, dim=5, layers=layers)
    want, found = defined(model, train), model.vectors()
    assert found.users.shape == (12, 5 * (layers + 1))
    torch.testing.assert_close(torch.cat([found.users, found.items]), want, rtol=1e-12, atol=1e-12)
    assert torch.equal(found.ego_items, model.table[12:])


@pytest.mark.parametrize("layers", [1, 3])
def test_gradients_of_a_batch_are_those_of_the_definition(layers):
    train = toy()
    model = make(train, exact=True, dim=4, layers=layers)
    users, items = torch.tensor([3, 0, 11]), torch.tensor([29, 2])
    weight = torch.randn(5, 4 * (layers + 1), dtype=torch.float64)
    part = model.vectors(users, items)
    value = (torch.cat([part.users, part.items]).sin() * weight).sum()
    want = (defined(model, train)[torch.cat([users, items + 12])].sin() * weight).sum()
    parameters = list(model.parameters())
    assert len(parameters) == 3
    found = torch.autograd.grad(value, parameters)
    for one, other in zip(found, torch.autograd.grad(want, parameters), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)
        assert other.abs().max() > 0


@pytest.mark.parametrize("init", ["xavier", "spectral"])
def test_battery(init):
    check_backbone(NGCF, init=init, dim=16)
    check_backbone(NGCF, init=init, dim=8, layers=1)


def test_weights_start_at_xaviers_bound():
    weights = make(toy(), dim=48).sums
    assert weights.abs().max() <= 0.25 and weights.std().item() == pytest.approx(
        0.25 / 3**0.5, rel=0.03
    )


def test_dropout_drops_that_share_in_training_and_nothing_when_ranking():
    train = toy()
    model, plain = make(train, dim=64, layers=1, dropout=0.3), make(train, dim=64, layers=1)
    plain.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.equal(model.vectors().items, plain.vectors().items)
    whole, dropped = plain.vectors().items.detach(), model.vectors().items.detach()
    kept = dropped != 0
    torch.testing.assert_close(dropped[:, 64:][kept[:, 64:]], (whole / 0.7)[:, 64:][kept[:, 64:]])
    assert kept[:, :64].all()  # the embeddings themselves are not dropped
    warm = torch.from_numpy(train.item_degrees > 0)
    live = (whole[:, 64:] != 0) & warm[:, None]
    assert (~kept[:, 64:])[live].float().mean().item() == pytest.approx(0.3, abs=0.04)


def test_dropout_goes_on_from_saved_weights_as_if_unbroken():
    train = toy()
    one, other = (make(train, seed, dim=8, dropout=0.5) for seed in (0, 7))
    first = one.vectors().users.detach()
    other.load_state_dict(one.state_dict())
    second = one.vectors().users.detach()
    assert not torch.equal(first, second)
    assert torch.equal(second, other.vectors().users.detach())


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"dropout": 1.0}, "model.dropout"), ({"layers": 0}, "model.layers"), ({"alpha": 1}, "alpha")],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ConfigError, match=message):
        make(toy(), **settings)
