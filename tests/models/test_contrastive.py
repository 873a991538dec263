"""SimGCL, XSimGCL and SGL against dense autograd with the same noise; LightGCN++ and SimpleX."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ssmrec.config import build, merged
from ssmrec.errors import ConfigError
from ssmrec.losses import LOSSES
from ssmrec.models import MODELS
from ssmrec.models.contrastive import info_nce
from ssmrec.negatives import SAMPLERS, Batch
from ssmrec.testing import check_backbone, toy
from ssmrec.training import Checkpoint, Listener, checkpoint, resolve, train_run
from ssmrec.training.step import objective

USERS, ITEMS, POSITIVES = torch.tensor([7, 0, 3]), torch.tensor([3, 0, 12, 8]), torch.tensor([0, 3])


def make(name, train, seed=0, **settings):
    config = build(MODELS[name].Config, settings, "model")
    return MODELS[name](config, train, torch.Generator().manual_seed(seed))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def adjacency(train, a0=0.5, a1=0.5) -> torch.Tensor:
    """D^-a0 A D^-a1, dense, float32."""
    r = np.zeros((train.n_users, train.n_items))
    r[train.rows, train.indices] = 1
    whole = np.block([[np.zeros((len(r), len(r))), r], [r.T, np.zeros((r.shape[1],) * 2)]])
    degree = np.maximum(whole.sum(1), 1)
    return torch.from_numpy(whole * degree[:, None] ** -a0 * degree**-a1).float()


def nce(a, b, tau) -> torch.Tensor:
    """InfoNCE written out."""
    logits = F.normalize(a, dim=1) @ F.normalize(b, dim=1).T / tau
    return -(logits.diagonal() - logits.logsumexp(1)).mean()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_info_nce_and_its_gradient(dtype):
    one, other = (torch.randn(9, 5, dtype=dtype, generator=seeded(s)) for s in (0, 1))
    one.requires_grad_(), other.requires_grad_()
    found, want = info_nce(one, other, 0.3), nce(one, other, 0.3)
    torch.testing.assert_close(found, want)
    grads = (torch.autograd.grad(value, (one, other)) for value in (found, want))
    for got, right in zip(*grads, strict=True):
        torch.testing.assert_close(got, right, rtol=1e-4, atol=1e-6)


def test_info_nce_by_hand():
    """Two nodes, orthogonal: each row is log(e^2 + 1) - 2 for tau = .5."""
    eye = 3 * torch.eye(2)
    assert info_nce(eye, eye, 0.5).item() == pytest.approx(np.log(np.e**2 + 1) - 2, abs=1e-6)


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("name", ["simgcl", "xsimgcl", "sgl", "lightgcnpp"])
def test_batteries(name, layers):
    check_backbone(MODELS[name], layers=layers)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_simgcl_ranks_by_the_mean_of_layers_1_to_k(layers):
    train = toy()
    for name in ("simgcl", "xsimgcl"):
        model = make(name, train, dim=6, layers=layers)
        a, x = adjacency(train), model.table.detach()
        want = sum(torch.linalg.matrix_power(a, k) @ x for k in range(1, layers + 1)) / layers
        torch.testing.assert_close(model.vectors().users, want[:12], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(model.vectors().items, want[12:], rtol=1e-4, atol=1e-6)


def dense_view(model, a, rows, generator):
    """Layers 1 to K of one noisy view by dense autograd, drawing as the model does."""
    k, reach = model.config.layers, model.graph.reach(rows, model.config.layers)
    x, found = model.table, []
    for layer in range(1, k + 1):
        x = a @ x
        at = np.arange(42) if reach[layer] is None else reach[layer]
        drawn = F.normalize(torch.rand(len(at), x.shape[1], generator=generator), dim=1)
        noise = torch.zeros_like(x)
        noise[at] = model.config.noise * drawn
        x = x + noise * x.sign()
        found.append(x)
    return found


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_simgcl_term_and_gradient_equal_dense_autograd_with_the_same_noise(layers, noise):
    train = toy()
    model = make("simgcl", train, dim=6, layers=layers, noise=noise, ssl_weight=0.7)
    vectors, term = model.for_training(USERS, ITEMS, POSITIVES, seeded(5))
    plain = model.vectors(USERS, ITEMS)
    assert torch.equal(vectors.users, plain.users) and torch.equal(vectors.items, plain.items)
    users, items = USERS, ITEMS[POSITIVES] + 12
    a, generator, rows = adjacency(train), seeded(5), torch.cat([users, items]).numpy()
    one, other = (torch.stack(dense_view(model, a, rows, generator)).mean(0) for _ in range(2))
    want = 0.7 * (nce(one[users], other[users], 0.2) + nce(one[items], other[items], 0.2))
    torch.testing.assert_close(term, want, rtol=1e-4, atol=1e-5)
    grads = [torch.autograd.grad(value, model.table)[0] for value in (term, want)]
    torch.testing.assert_close(*grads, rtol=1e-3, atol=1e-4)
    if noise:
        assert not torch.equal(one[users], other[users])


@pytest.mark.parametrize(("layers", "at"), [(1, 1), (2, 1), (3, 2), (3, 3)])
def test_xsimgcl_reads_and_contrasts_one_noisy_pass(layers, at):
    train = toy()
    settings = {"dim": 6, "layers": layers, "ssl_layer": at, "noise": 0.4, "ssl_weight": 0.5}
    model = make("xsimgcl", train, **settings)
    vectors, term = model.for_training(USERS, ITEMS, POSITIVES, seeded(5))
    rows = torch.cat([USERS, ITEMS + 12])
    view = dense_view(model, adjacency(train), rows.numpy(), seeded(5))
    mean, part = torch.stack(view).mean(0), view[at - 1]
    torch.testing.assert_close(vectors.users, mean[USERS], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(vectors.items, mean[ITEMS + 12], rtol=1e-4, atol=1e-5)
    assert (vectors.users - model.vectors(USERS, ITEMS).users).norm(dim=1).min() > 0.05
    items = ITEMS[POSITIVES] + 12
    want = 0.5 * (nce(mean[USERS], part[USERS], 0.2) + nce(mean[items], part[items], 0.2))
    torch.testing.assert_close(term, want, rtol=1e-4, atol=1e-5)
    values = (term + vectors.items.cos().sum(), want + mean[ITEMS + 12].cos().sum())
    grads = [torch.autograd.grad(value, model.table)[0] for value in values]
    torch.testing.assert_close(*grads, rtol=1e-3, atol=1e-4)


def test_noise_has_the_length_asked_for_and_keeps_signs():
    model = make("simgcl", toy(), dim=6, layers=1, noise=0.25)
    rows = np.arange(11)  # users with items
    plain = model._first(rows)[rows]
    (noisy,) = model._noisy(rows, model._first(rows), seeded(0))
    torch.testing.assert_close((noisy - plain).norm(dim=1), torch.full((11,), 0.25))
    assert torch.equal(noisy.sign(), plain.sign())


@pytest.mark.parametrize("drop", [0.0, 0.4])
def test_sgl_contrasts_two_graphs_with_dropped_edges(drop):
    train = toy()
    model = make("sgl", train, dim=6, layers=2, drop=drop, ssl_weight=0.3)
    model.before_epoch(3, seeded(9))
    _, term = model.for_training(USERS, ITEMS, POSITIVES, seeded(5))
    generator, views = seeded(9), []
    for _ in range(2):
        left = train.take((torch.rand(len(train), generator=generator) >= drop).numpy())
        a, x = adjacency(left), model.table
        views.append((x + a @ x + a @ (a @ x)) / 3)
        assert len(left) == len(train) if drop == 0 else 0.4 < len(left) / len(train) < 0.8
    items = ITEMS[POSITIVES] + 12
    want = 0.3 * sum(nce(views[0][at], views[1][at], 0.2) for at in (USERS, items))
    torch.testing.assert_close(term, want, rtol=1e-4, atol=1e-5)
    grads = [torch.autograd.grad(value, model.table)[0] for value in (term, want)]
    torch.testing.assert_close(*grads, rtol=1e-3, atol=1e-4)


def test_the_term_is_added_to_the_loss_and_l2_once():
    """Objective with a generator: plain vectors, so the loss is that of LightGCN's rows; the second
    value is L2 plus the contrast of users 1, 2 and the positives 3, 5 (negatives left out)."""
    train = toy()
    model = make("simgcl", train, dim=6, noise=0.1)
    loss = LOSSES["ssm"](build(LOSSES["ssm"].Config, {}))
    sampler = SAMPLERS["uniform"](build(SAMPLERS["uniform"].Config, {"n": 4}), train)
    rows = Batch(torch.tensor([1, 2, 1]), torch.tensor([3, 5, 3]))
    drawn = sampler.draw(rows, np.random.default_rng(0))
    value, added = objective(model, loss, sampler, rows, drawn, 0.2, None, seeded(4))
    plain, l2 = objective(model, loss, sampler, rows, drawn, 0.2)
    torch.testing.assert_close(value, plain)
    users, items = torch.tensor([1, 2]), torch.tensor([3, 5])
    _, term = model.for_training(users, items, torch.arange(2), seeded(4))
    torch.testing.assert_close(added, l2 + term)


def test_xsimgcl_refuses_a_layer_it_does_not_have():
    with pytest.raises(ConfigError, match=r"model\.ssl_layer=3 .*choose 1 to 2"):
        make("xsimgcl", toy(), layers=2, ssl_layer=3)


# --- LightGCN++ and SimpleX ---


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_lightgcnpp_is_its_formula_with_its_gradient(layers):
    train = toy()
    model = make("lightgcnpp", train, dim=6, layers=layers, alpha=(0.7, -0.2), gamma=0.3)
    a, x, found = adjacency(train, 0.7, -0.2), model.table, []
    for _ in range(layers):
        x = a @ F.normalize(x, dim=1)
        found.append(x)
    want = 0.3 * model.table + 0.7 * torch.stack(found).mean(0)
    mine = model.vectors(USERS, ITEMS)
    torch.testing.assert_close(mine.users, want[USERS], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(mine.items, want[ITEMS + 12], rtol=1e-4, atol=1e-6)
    values = (mine.users.sin().sum() + mine.items.cos().sum(),
              want[USERS].sin().sum() + want[ITEMS + 12].cos().sum())  # fmt: skip
    grads = [torch.autograd.grad(value, model.table)[0] for value in values]
    torch.testing.assert_close(*grads, rtol=1e-3, atol=1e-5)


def test_simplex_by_hand(make_interactions):
    """gamma .25, V a swap of axes: user 0 is .25 (1, 0) + .75 swap(mean of (2, 0), (0, 4)); user 1
    .25 (0, 1) + .75 swap(0, 4); items are their rows."""
    train = make_interactions(np.array([[1, 1, 0], [0, 1, 0]]))
    model = make("simplex", train, dim=2, gamma=0.25)
    with torch.no_grad():
        model.table.copy_(torch.tensor([[1.0, 0], [0, 1], [2, 0], [0, 4], [6, 8]]))
        assert torch.equal(model.turn, torch.eye(2))
        model.turn.copy_(torch.tensor([[0.0, 1], [1, 0]]))
    found = model.vectors()
    want = torch.tensor([[0.25 + 0.75 * 2, 0.75 * 1], [0.75 * 4, 0.25]])
    torch.testing.assert_close(found.users, want)
    assert found.items.tolist() == [[2, 0], [0, 4], [6, 8]]
    assert found.ego_users.tolist() == [[1, 0], [0, 1]]


# --- through a training ---

SMALL = {
    "loss": {"name": "ssm"},
    "train": {"epochs": 5, "batch_size": 128, "lr": 0.02, "threads": 1, "metric": "ndcg@5"},
    "evaluation": {"metrics": ["ndcg"], "ks": [5]},
}


@pytest.mark.parametrize("name", ["lightgcnpp", "simplex", "simgcl", "xsimgcl", "sgl"])
def test_training_with_each_learns(tastes, name):
    trained = train_run(resolve(merged(SMALL, {"model": {"name": name, "dim": 8}})), tastes)
    popular = trained.metrics["reference"]["most_popular"]["ndcg@5"]
    assert trained.metrics["test"]["ndcg@5"] > 2 * popular


class Kill(Listener):
    def epoch(self, record, best):
        if record["epoch"] == 2:
            raise RuntimeError


@pytest.mark.parametrize("name", ["sgl", "xsimgcl"])
def test_views_of_a_resumed_training_are_those_of_an_unbroken_one(
    tastes, tmp_path, monkeypatch, name
):
    monkeypatch.setattr(checkpoint, "_EVERY", 0.0)
    config = resolve(merged(SMALL, {"model": {"name": name, "dim": 8}}))
    unbroken = train_run(config, tastes)
    with pytest.raises(RuntimeError):
        train_run(config, tastes, Kill(), Checkpoint(tmp_path, "key", {}, False))
    resumed = train_run(config, tastes, None, Checkpoint(tmp_path, "key", {}, True))
    assert torch.equal(resumed.model.table, unbroken.model.table)
