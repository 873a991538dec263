"""The kernels of the device against their definitions in float64, at sizes that fill no tile."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from cuda_device import DEVICE, needs_device
from ssmrec.kernels.propagate import propagate_reference
from ssmrec.kernels.softmax import has_kernel, shared_softmax, shared_softmax_reference
from ssmrec.models import Graph

pytestmark = needs_device


@pytest.mark.parametrize(
    ("b", "n", "d", "corrected", "masked", "in_batch"),
    [
        (300, 300, 64, True, True, True),
        (130, 77, 20, False, True, False),
        (65, 1000, 128, True, False, False),
        (1, 1, 16, False, False, False),
    ],
)
def test_softmax(b, n, d, corrected, masked, in_batch):
    random = torch.Generator().manual_seed(b)
    u, pos, neg = (F.normalize(torch.randn(k, d, generator=random), dim=1) for k in (b, b, n))
    weight, u = torch.rand(b, generator=random).to(DEVICE) + 0.1, 10 * u
    log_q = torch.linspace(-6, 1, n) if corrected else None
    mask = torch.rand(b, n, generator=random) < 0.2 if masked else torch.zeros(b, n).bool()
    pairs = mask.nonzero().T if masked else None
    dense = mask | torch.eye(b, n).bool() if in_batch else mask
    found = []
    for kind in (torch.float32, torch.float64):
        leaves = [x.to(DEVICE, kind).requires_grad_() for x in (u, pos, neg)]
        leaves = leaves[:2] if in_batch else leaves
        inputs = [*leaves, leaves[1]][:3]
        if kind == torch.float64:
            q = None if log_q is None else log_q.to(DEVICE, kind)
            value = shared_softmax_reference(*inputs, q, dense.to(DEVICE))
        else:
            assert has_kernel(inputs[0])
            q = None if log_q is None else log_q.to(DEVICE)
            value = shared_softmax(*inputs, q, pairs, in_batch)
        grads = torch.autograd.grad((value * weight.to(kind)).sum(), leaves)
        found.append((value.detach(), *grads))
    for got, want in zip(*found, strict=True):
        torch.testing.assert_close(got.double(), want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("side", ["both", "user", "item"])
def test_propagation(pairs, side):
    graph, random = Graph(pairs.train, (0.7, 0.3), side), torch.Generator().manual_seed(0)
    start = torch.randn(graph.n_nodes, 20, generator=random)
    exact = graph.adjacency(dtype=torch.float64).to_dense().to(DEVICE)
    rows = torch.randperm(graph.n_nodes, generator=random)[:75]
    for weights in ((0.5, 1.5), (0.2, 0.3, 0.5), (0.0, 0.0, 0.0, 1.0)):
        leaf = start.to(DEVICE).requires_grad_()
        other = start.to(DEVICE, torch.float64).requires_grad_()
        for at in (rows.to(DEVICE), rows.numpy()):
            out, ego = graph.rows(leaf, weights, at)
            want = propagate_reference(exact, other, weights)[rows.to(DEVICE)]
            torch.testing.assert_close(out.double(), want, rtol=1e-4, atol=1e-5)
            assert torch.equal(ego, leaf[rows.to(DEVICE)])
        up, down = torch.randn(2, 75, 20, generator=random).to(DEVICE)
        (got,) = torch.autograd.grad((out * up).sum() + (ego * down).sum(), leaf)
        lower = (want * up.double()).sum() + (other[rows.to(DEVICE)] * down.double()).sum()
        (right,) = torch.autograd.grad(lower, other)
        torch.testing.assert_close(got.double(), right, rtol=1e-4, atol=1e-5)
        for grad in (True, False):
            with torch.set_grad_enabled(grad):
                whole = graph.full(leaf, weights)
            expected = propagate_reference(exact, other, weights)
            torch.testing.assert_close(whole.double(), expected, rtol=1e-4, atol=1e-5)
    leaf = start.to(DEVICE).requires_grad_()
    (got,) = torch.autograd.grad(graph.neighbours(leaf).sin().sum(), leaf)
    other = start.to(DEVICE, torch.float64).requires_grad_()
    (right,) = torch.autograd.grad((exact @ other).sin().sum(), other)
    torch.testing.assert_close(got.double(), right, rtol=1e-4, atol=1e-5)


def test_no_edges_of_some_nodes(pairs):
    """Users and items without pairs receive nothing."""
    train = pairs.train
    few = train.take(np.arange(len(train)) < 200)
    graph = Graph(few)
    x = torch.ones(graph.n_nodes, 8, device=DEVICE)
    found = graph.full(x, (0.0, 1.0)).cpu()
    alone = torch.from_numpy(graph.degrees == 0)
    assert alone.any() and not found[alone].any() and (found[~alone] > 0).all()
