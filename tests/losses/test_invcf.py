"""InvCF: written out with dense matrices and loops, its reductions, and what it learns."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ssmrec.errors import ConfigError
from ssmrec.losses import Context
from ssmrec.losses.invcf import distance_correlation, next_pair
from ssmrec.testing import toy


def vectors(rows, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(rows, 4, generator=generator, dtype=torch.float64), dim=1)


def pairs(rows=8):
    """Pairs of the toy data; the items of some are the same."""
    train = toy()
    at = np.linspace(0, len(train) - 1, rows).astype(np.int64)
    users, items = (torch.from_numpy(x[at].astype(np.int64)) for x in (train.rows, train.indices))
    items[3] = items[0]
    return Context(users, items, items)


def cosine(a, b):
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def correlation(x, y):
    """Distance correlation, entry by entry."""
    n = len(x)
    centred = []
    for rows in (x, y):
        far = np.array([[np.linalg.norm(a - b) for b in rows] for a in rows])
        centred.append(
            [
                [far[i, j] - far[i].mean() - far[:, j].mean() + far.mean() for j in range(n)]
                for i in range(n)
            ]
        )
    a, b = map(np.array, centred)
    return math.sqrt((a * b).mean() / math.sqrt((a * a).mean() * (b * b).mean()))


def popularity(loss):
    """The popularity encoder with a dense adjacency: the mean of layers 0 to 2, all nodes."""
    train = toy()
    m, n = train.n_users, train.n_items
    adjacency = np.zeros((m + n, m + n))
    adjacency[train.rows, m + train.indices] = adjacency[m + train.indices, train.rows] = 1
    degree = adjacency.sum(1)
    scale = np.where(degree > 0, np.maximum(degree, 1) ** -0.5, 0)
    layer = scale[:, None] * adjacency * scale
    start = loss.of_level.detach().numpy()[loss.level.numpy()]
    return (start + layer @ start + layer @ layer @ start) / 3, m


def softmax(scores, items, row):
    """-log of the row's share among the items of the batch, its own item counted once."""
    terms = [math.exp(s) for j, s in enumerate(scores) if j == row or items[j] != items[row]]
    return math.log(sum(terms)) - scores[row]


def test_written_out(attached):
    weights = {"pop_weight": 0.3, "joint_weight": 0.7, "independence": 0.9}
    loss = attached("invcf", temperature=0.5, pop_dim=3, **weights).double()
    asked, users, items = pairs(), vectors(8), vectors(8, 1)
    p, m = popularity(loss)
    pu, pi = p[asked.users.numpy()], p[m + asked.items.numpy()]
    u, v, other = users.numpy(), items.numpy(), next_pair(asked).tolist()
    ids = asked.items.tolist()
    near = (correlation(u, unit(pu)) + correlation(v, unit(pi))) / 2
    want = []
    for i in range(8):
        z = [cosine(u[i], v[j]) for j in range(8)]
        pop = [cosine(pu[i], pi[j]) for j in range(8)]
        moved = [cosine(pu[other[i]], pi[other[j]]) for j in range(8)]
        joint = [
            [cosine(both(u[i], a), both(v[j], b)) for j, (a, b) in enumerate(parts)]
            for parts in ([(pu[i], x) for x in pi], [(pu[other[i]], pi[k]) for k in other])
        ]
        assert joint[1] == pytest.approx([(a + b) / 2 for a, b in zip(z, moved, strict=True)])
        terms = [softmax([s / 0.5 for s in scores], ids, i) for scores in (z, pop, *joint)]
        want.append(terms[0] + 0.3 * terms[1] + 0.7 * (terms[2] + terms[3]) + 0.9 * near)
    found = loss.from_vectors(users, items, asked)
    assert found.tolist() == pytest.approx(want, rel=1e-6)
    as_trained = loss.from_vectors(users / 0.5, items, asked)  # logits are asked for there
    torch.testing.assert_close(as_trained, found)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def both(z, p):
    """Side by side, each at unit length."""
    return np.concatenate([z / np.linalg.norm(z), p / np.linalg.norm(p)])


def test_without_its_weights_it_is_sampled_softmax(attached):
    """In value and gradient, over the items of the batch."""
    loss = attached("invcf", pop_weight=0, joint_weight=0, independence=0).double()
    asked, masked = pairs(), pairs().items[:, None] == pairs().items
    found = []
    for name in ("invcf", "ssm"):
        lengths = torch.linspace(0.5, 2, 8, dtype=torch.float64)[:, None]
        inputs = [(lengths * vectors(8, seed)).requires_grad_() for seed in (0, 1)]
        users, items = (F.normalize(x, dim=1) for x in inputs)
        logits = users @ items.T / 0.15
        plain = attached("ssm")(logits.diagonal(), logits, None, masked)
        rows = loss.from_vectors(users, items, asked) if name == "invcf" else plain
        found.append([rows, *torch.autograd.grad(rows.sum(), inputs)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_the_kernel_gives_what_is_written_out(attached):
    """Float32 by the softmax kernel against float64 in plain torch: values and gradients."""
    weights = {"pop_weight": 0.3, "joint_weight": 0.7, "independence": 0.9}
    loss, found = attached("invcf", **weights), []
    for dtype in (torch.float32, torch.float64):
        loss.to(dtype)
        inputs = [vectors(8, seed).to(dtype).requires_grad_() for seed in (0, 1)]
        rows = loss.from_vectors(*inputs, pairs())
        grads = torch.autograd.grad(rows.sum(), [*inputs, loss.of_level])
        found.append([x.double() for x in (rows, *grads)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_distance_correlation_by_hand_and_by_loops():
    """x = -1, 0, 1 and x^2: (1 / sqrt 10)^(1/2). The same rows turned and scaled: 1."""
    x = torch.tensor([[-1.0], [0], [1]], dtype=torch.float64)
    assert distance_correlation(x, x**2).item() == pytest.approx(10**-0.25, rel=1e-9)
    rows = vectors(6)
    turn, _ = torch.linalg.qr(vectors(4, 3))
    assert distance_correlation(rows, 3 * rows @ turn + 1).item() == pytest.approx(1, rel=1e-6)
    found = distance_correlation(rows, x.new_tensor([[0.0], [1], [1], [5], [2], [0]]))
    want = correlation(rows.numpy(), np.array([[0.0], [1], [1], [5], [2], [0]]))
    assert found.item() == pytest.approx(want, rel=1e-9)


def test_distance_correlation_is_not_rounded_by_autocast():
    """Rows that depend on each other a little: in bfloat16 the sums it subtracts would be alike."""
    one, other = vectors(600).float(), vectors(600, 1).float()
    other = F.normalize(other + 0.1 * one, dim=1)
    want = distance_correlation(one.double(), other.double()).item()
    with torch.autocast("cpu", torch.bfloat16):
        found = distance_correlation(one, other).item()
    assert found == pytest.approx(want, rel=1e-2)


@pytest.mark.parametrize("rows", [torch.ones(1, 3), torch.ones(4, 3), torch.zeros(4, 3)])
def test_what_does_not_vary_is_correlated_with_nothing(rows):
    rows.requires_grad_()
    found = distance_correlation(rows, vectors(len(rows), 2).float())
    found.backward()
    assert found.item() == 0 and not rows.grad.any()


def test_independent_rows_correlate_less_than_dependent_ones():
    random = torch.Generator().manual_seed(0)
    x, y = (torch.randn(400, 3, generator=random) for _ in range(2))
    assert distance_correlation(x, y) < 0.2 < 0.8 < distance_correlation(x, x + 0.1 * y)


def test_the_next_pair_is_another_and_does_not_depend_on_the_order():
    asked, turn = pairs(), torch.randperm(8, generator=torch.Generator().manual_seed(1))
    other = next_pair(asked)
    assert sorted(other.tolist()) == list(range(8)) and (other != torch.arange(8)).all()
    turned = next_pair(Context(asked.users[turn], asked.items[turn], turn))
    assert torch.equal(turn[turned], other[turn])


def test_popularity_has_one_vector_a_degree_and_learns_by_each_term(attached):
    train = toy()
    for weight in ("pop_weight", "joint_weight", "independence"):
        only = dict.fromkeys(("pop_weight", "joint_weight", "independence"), 0.0) | {weight: 1.0}
        loss = attached("invcf", pop_dim=3, **only).double()
        size = len(set(train.user_degrees.tolist())) + len(set(train.item_degrees.tolist()))
        assert loss.of_level.shape == (size, 3)
        asked, (users, items) = pairs(), (vectors(8), vectors(8, 1))

        def mean(table, loss=loss, asked=asked, users=users, items=items):
            given = {"of_level": table, "level": loss.level}
            return torch.func.functional_call(loss, given, (users, items, asked)).mean()

        loss.forward = loss.from_vectors
        table = loss.of_level.detach().clone().requires_grad_()
        assert torch.autograd.gradcheck(mean, (table,))
        (grad,) = torch.autograd.grad(mean(table), table)
        assert grad.abs().max() > 1e-6, weight


def test_it_is_for_cosine():
    from ssmrec.training import resolve

    with pytest.raises(ConfigError, match=r"loss\.similarity"):
        resolve({"loss": {"name": "invcf", "similarity": "dot"}})
