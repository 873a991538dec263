"""The objective of one batch: which rows it reads, and the L2 term by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ssmrec.config import build
from ssmrec.errors import ConfigError
from ssmrec.losses import LOSSES
from ssmrec.models import MODELS
from ssmrec.negatives import SAMPLERS, Batch, Negatives
from ssmrec.testing import toy
from ssmrec.training.rows import loss_rows, pair_weights
from ssmrec.training.step import objective

TABLES = {"model": MODELS, "loss": LOSSES, "negatives": SAMPLERS}


def config(kind, name, **settings):
    return build(TABLES[kind][name].Config, settings, kind)


def parts(train, loss="ssm", sampler="in_batch", model="mf", **negatives):
    backbone = MODELS[model](config("model", model, dim=4), train, torch.Generator().manual_seed(0))
    made = LOSSES[loss](config("loss", loss))
    made.attach(train, torch.Generator().manual_seed(1))
    return backbone, made, SAMPLERS[sampler](config("negatives", sampler, **negatives), train)


def a_batch(train, size=8, seed=0) -> Batch:
    rows = np.random.default_rng(seed).choice(len(train), size)
    users, items = train.rows[rows].astype(np.int64), train.indices[rows].astype(np.int64)
    return Batch(torch.from_numpy(users), torch.from_numpy(items))


@pytest.mark.parametrize("model", [name for name, cls in MODELS.items() if not cls.closed_form])
@pytest.mark.parametrize(
    ("sampler", "settings"),
    [
        ("in_batch", {"exclude_known": True, "log_q": True}),
        ("uniform", {"n": 12, "log_q": True}),
        ("popularity", {"n": 3, "shared": False, "log_q": True}),
        ("all", {}),
    ],
)
def test_objective_equals_the_long_way(model, sampler, settings):
    """All vectors, all logits, dense mask, plain loss; values and gradient."""
    train = toy()
    backbone, loss, draws = parts(train, "ssm", sampler, model, **settings)
    batch = a_batch(train)
    drawn = draws.draw(batch, np.random.default_rng(1))
    value, _ = objective(backbone, loss, draws, batch, drawn, 0.0)
    full = backbone.vectors()
    users, items = F.normalize(full.users, dim=1), F.normalize(full.items, dim=1)
    ids = (batch.items if drawn.ids is None else drawn.ids).expand(8, -1)
    scores = users[batch.users] @ items.T / loss.config.temperature
    long = loss(
        scores.gather(1, batch.items[:, None])[:, 0],
        scores.gather(1, ids),
        drawn.log_q,
        drawn.mask(ids.shape),
    ).mean()
    torch.testing.assert_close(value, long, rtol=1e-5, atol=1e-5)
    grads = (torch.autograd.grad(v, list(backbone.parameters())) for v in (value, long))
    for got, want in zip(*grads, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-6)


def test_l2_counts_a_row_as_often_as_it_occurs():
    """Users 1, 1, 2; positives 3, 4, 3; shared negatives 4, 5 (once each):
    0.5 * l2 / 3 * (2 |u1|^2 + |u2|^2 + 2 |i3|^2 + 2 |i4|^2 + |i5|^2)."""
    train = toy()
    backbone, loss, draws = parts(train, sampler="uniform", n=2)
    batch = Batch(torch.tensor([1, 1, 2]), torch.tensor([3, 4, 3]))
    drawn = Negatives(torch.tensor([4, 5]))
    _, penalty = objective(backbone, loss, draws, batch, drawn, 0.6)
    square = backbone.table.detach().pow(2).sum(1)
    users, items = square[:12], square[12:]
    want = 0.5 * 0.6 / 3 * (2 * users[1] + users[2] + 2 * items[3] + 2 * items[4] + items[5])
    torch.testing.assert_close(penalty, want)
    (grad,) = torch.autograd.grad(penalty, backbone.parameters())
    touched = grad.abs().sum(1).nonzero()[:, 0].tolist()
    assert touched == [1, 2, 12 + 3, 12 + 4, 12 + 5]


def test_l2_does_not_count_the_positives_again_among_mixed_candidates():
    """Users 1, 2; positives 3, 4; candidates 3, 4 of the batch and two drawn, 4 and 5."""
    train = toy()
    backbone, loss, draws = parts(train, sampler="mixed", n=2)
    batch = Batch(torch.tensor([1, 2]), torch.tensor([3, 4]))
    drawn = draws.draw(batch, np.random.default_rng(0))
    drawn = replace(drawn, ids=torch.tensor([3, 4, 4, 5]), log_q=None)
    _, penalty = objective(backbone, loss, draws, batch, drawn, 0.6)
    square = backbone.table.detach().pow(2).sum(1)
    users, items = square[:12], square[12:]
    want = 0.5 * 0.6 / 2 * (users[1] + users[2] + items[3] + 2 * items[4] + items[5])
    torch.testing.assert_close(penalty, want)


def test_l2_acts_on_layer_0_and_not_on_the_whole_catalogue():
    train = toy()
    backbone, loss, draws = parts(train, "softmax", "all", "lightgcn")
    batch = a_batch(train)
    drawn = draws.draw(batch, np.random.default_rng(0))
    _, penalty = objective(backbone, loss, draws, batch, drawn, 2.0)
    square = backbone.table.detach().pow(2).sum(1)
    want = (square[batch.users].sum() + square[12 + batch.items].sum()) / 8
    torch.testing.assert_close(penalty, want)
    _, nothing = objective(backbone, loss, draws, batch, drawn, 0.0)
    assert nothing.item() == 0


@pytest.mark.parametrize("loss", [name for name in LOSSES if not LOSSES[name].on_vectors])
def test_case_19_a_batch_twice_has_the_same_loss(loss):
    train = toy()
    backbone, made, draws = parts(train, loss, "uniform", n=5)
    batch = a_batch(train)
    twice = Batch(batch.users.repeat(2), batch.items.repeat(2))
    drawn = Negatives(torch.tensor([3, 7, 7, 1, 20]))
    values = [objective(backbone, made, draws, rows, drawn, 0.1) for rows in (batch, twice)]
    torch.testing.assert_close(values[0][0], values[1][0])
    own = Negatives(torch.tensor([3, 7, 7, 1, 20]).repeat(8, 1))
    own_twice = Negatives(own.ids.repeat(2, 1))
    one = objective(backbone, made, draws, batch, own, 0.1)
    two = objective(backbone, made, draws, twice, own_twice, 0.1)
    torch.testing.assert_close(one, two)
    torch.testing.assert_close(one[0], values[0][0])  # shared and own negatives agree


def test_case_13_through_the_engine(make_interactions):
    """The same user twice in a batch: rows 0.12693, 0.12693, 0.79438 with known positives masked."""
    train = make_interactions(np.array([[1, 1, 0], [0, 0, 1]]))
    draws = parts(train, exclude_known=True)[2]
    batch = Batch(torch.tensor([0, 0, 1]), torch.tensor([0, 1, 2]))
    drawn = draws.draw(batch, np.random.default_rng(0))
    users = torch.tensor([[2.0, 1, 0], [1, 2, 0], [0.5, 0.5, 1]])  # scores over unit item vectors
    loss = LOSSES["ssm"](config("loss", "ssm"))
    rows = loss_rows(loss, users, torch.eye(3), torch.arange(3), drawn)
    torch.testing.assert_close(rows, torch.tensor([0.12693, 0.12693, 0.79438]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["ssm", "bpr", "ccl"])
def test_a_pair_of_weight_two_counts_as_two_pairs(name):
    """With the same negatives for all, and without L2: value and gradient, by the mean of the rows."""
    train = toy()
    backbone, loss, draws = parts(train, name, "uniform", n=6)
    batch = a_batch(train, 3)
    drawn = replace(draws.draw(batch, np.random.default_rng(1)), masked=None, known=None)
    at = torch.tensor([0, 0, 1, 2])
    twice = Batch(batch.users[at], batch.items[at])
    weighted = replace(batch, weights=torch.tensor([2.0, 1.0, 1.0]) * 3 / 4)
    found = []
    for rows in (twice, weighted):
        backbone.zero_grad()
        value, _ = objective(backbone, loss, draws, rows, drawn, 0.0)
        value.backward()
        found.append((value.detach(), backbone.table.grad.clone()))
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-7)


def test_weights_are_one_on_average_and_their_power_is_taken():
    train = replace(toy(), weights=np.full(len(toy()), 4, np.float32))
    train.weights[0] = 64
    found = pair_weights(train, 0.5)
    rest = 2 / ((8 + 2 * (len(train) - 1)) / len(train))
    assert found.dtype == np.float32 and found.mean() == pytest.approx(1)
    np.testing.assert_allclose(found[:2], [4 * rest, rest], rtol=1e-6)
    assert pair_weights(train, 0) is None
    with pytest.raises(
        ConfigError, match="weight_power=1: the training pairs have no weights; name"
    ):
        pair_weights(toy(), 1)
