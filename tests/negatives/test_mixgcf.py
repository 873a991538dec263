"""MixGCF: vectors mixed layer by layer, against loops over a dense graph."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from operations import operations
from ssmrec.config import build
from ssmrec.errors import ConfigError
from ssmrec.losses import LOSSES
from ssmrec.models import MODELS
from ssmrec.negatives import SAMPLERS, Batch, Negatives
from ssmrec.testing import check_sampler, toy
from ssmrec.training.config import resolve
from ssmrec.training.step import objective

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")


def make(table, name, *args, **settings):
    cls = table[name]
    return cls(build(cls.Config, settings, name), *args)


def seeded(seed: int = 5) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(train, rows: int, pool: int):
    at = np.random.default_rng(3).integers(0, len(train), rows)
    users, items = (torch.from_numpy(x[at].astype(np.int64)) for x in (train.rows, train.indices))
    batch = Batch(users, items)
    sampler = make(SAMPLERS, "mixgcf", train, pool=pool)
    return sampler, batch, sampler.draw(batch, np.random.default_rng(4))


def test_battery():
    check_sampler(SAMPLERS["mixgcf"], pool=6)
    check_sampler(SAMPLERS["mixgcf"], pool=1, exclude_known=False)


def test_mix_by_hand():
    """Candidates that become (1, 2) and (3, 0) beside a positive (2, 0): user (1, 1.1) has 3.2 and 3 with
    them and takes the first, user (1, 0) the second."""
    sampler = make(SAMPLERS, "mixgcf", toy())
    share = torch.rand((2, 1, 1), generator=seeded())
    positives = torch.tensor([[[2.0, 0.0]], [[2.0, 0.0]]])
    wanted = torch.tensor([[1.0, 2.0], [3.0, 0.0]])
    draws = (wanted[None, :, None] - share[:, None] * positives[:, None]) / (1 - share[:, None])
    users = torch.tensor([[[1.0, 1.1]], [[1.0, 0.0]]])
    found = sampler.mix(users, positives, draws, None, seeded())
    torch.testing.assert_close(found[:, 0], wanted)
    mask = torch.tensor([[True, False], [False, True]])  # the other one, where that is no draw
    found = sampler.mix(users, positives, draws, mask, seeded())
    torch.testing.assert_close(found[:, 0], wanted.flip(0))


def test_one_candidate_scales_the_margin_of_bpr():
    """u p - u (a p + (1 - a) x) = (1 - a) (u p - u x), with MF, a pool of one and inner products."""
    train = toy()
    sampler, batch, negatives = drawn(train, 8, 1)
    model = make(MODELS, "mf", train, seeded(0), dim=4)
    users, items = model.vectors().users, model.vectors().items
    u, p, x = users[batch.users], items[batch.items], items[negatives.ids[:, 0]]
    share = torch.rand((8, 1, 1), generator=seeded())[:, 0, 0]
    want = F.softplus(-(1 - share) * (u * (p - x)).sum(1)).mean()
    value, _ = objective(
        model, make(LOSSES, "bpr"), sampler, batch, negatives, 0.0, generator=seeded()
    )
    torch.testing.assert_close(value, want)


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
@pytest.mark.parametrize("name", ["lightgcn", "svdpp"])
def test_equals_loops_over_the_layers(name, similarity):
    """Each layer from the dense adjacency; each row, layer and candidate by itself; values, gradients."""
    train = toy()
    sampler, batch, negatives = drawn(train, 8, 5)
    model = make(MODELS, name, train, seeded(0), dim=4)
    loss = make(LOSSES, "ssm", similarity=similarity, temperature=0.5)
    value, _ = objective(model, loss, sampler, batch, negatives, 0.0, generator=seeded())
    (gradient,) = torch.autograd.grad(value, model.table)

    table = model.table.detach().double().requires_grad_()
    graph = model.graph.adjacency().to_dense().double()
    layers, x = [model.layer_weights[0] * table], table
    for weight in model.layer_weights[1:]:
        x = graph @ x
        layers.append(weight * x)
    share = torch.rand((8, len(layers), 1), generator=seeded()).double()
    rows = []
    for row in range(8):
        user, positive = batch.users[row], batch.items[row] + train.n_users
        negative = 0
        final = sum(layer[user] for layer in layers).detach()
        for at, layer in enumerate(layers):
            a = share[row, at]
            mixed = [
                a * layer[positive] + (1 - a) * layer[j + train.n_users] for j in negatives.ids[row]
            ]
            negative = negative + max(mixed, key=lambda v, u=final: float((v @ u).detach()))
        u, p = sum(layer[user] for layer in layers), sum(layer[positive] for layer in layers)
        if similarity == "cosine":
            u, p, negative = (F.normalize(v, dim=0) for v in (u, p, negative))
        rows.append(F.softplus((u @ negative - u @ p) / 0.5))
    want = torch.stack(rows).mean()
    torch.testing.assert_close(value.double(), want, rtol=1e-5, atol=1e-6)
    (reference,) = torch.autograd.grad(want, table)
    torch.testing.assert_close(gradient.double(), reference, rtol=1e-4, atol=1e-6)


def test_a_row_without_a_draw_has_nothing_to_be_contrasted_with():
    train = toy()
    sampler = make(SAMPLERS, "mixgcf", train, pool=3)
    users = torch.arange(4)
    batch = Batch(users, torch.from_numpy(train.indices[train.indptr[:4]].astype(np.int64)))
    negatives = sampler.draw(batch, np.random.default_rng(4))
    masked = torch.tensor([[1, 1, 1, 2], [0, 1, 2, 0]])
    model, loss = make(MODELS, "mf", train, seeded(0), dim=4), make(LOSSES, "bpr")
    some = Negatives(negatives.ids, None, masked)
    value, _ = objective(model, loss, sampler, batch, some, 0.0, generator=seeded())
    (gradient,) = torch.autograd.grad(value, model.table)
    assert gradient[users].any(1).tolist() == [True, False, True, True]


def test_gradients_of_repeated_rows_are_added_up_in_one_order():
    """None goes back through indexing, which adds as threads come to it."""
    train = toy()
    sampler = make(SAMPLERS, "mixgcf", train, pool=3)
    batch = Batch(torch.zeros(4).long(), torch.from_numpy(train.indices[:4].astype(np.int64)))
    negatives = sampler.draw(batch, np.random.default_rng(4))
    model, loss = make(MODELS, "mf", train, seeded(0), dim=4), make(LOSSES, "bpr")
    value, _ = objective(model, loss, sampler, batch, negatives, 0.0, generator=seeded())
    names = operations(value)
    assert "EmbeddingBackward0" in names and "IndexBackward0" not in names


@pytest.mark.parametrize("loss", ["advinfonce", "directau"])
def test_losses_that_need_items_are_refused(loss):
    with pytest.raises(ConfigError, match="mixgcf makes vectors, not items, and loss.name=" + loss):
        resolve({"model": {"name": "mf"}, "loss": {"name": loss}, "negatives": {"name": "mixgcf"}})
