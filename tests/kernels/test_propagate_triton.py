"""Message passing for a GPU, run by Triton's interpreter on the CPU, against the definition in float64."""

from __future__ import annotations

import pytest

pytest.importorskip("triton", reason="triton is not installed (it comes with torch for CUDA)")

from interpreter import interpreted

CHECK = """
import itertools
import numpy as np
import torch
from ssmrec.data import Interactions, Vocabulary
from ssmrec.kernels.propagate import propagate_reference
from ssmrec.kernels.propagate_triton import PropagateOnDevice
from ssmrec.models.graph import Graph
import polars as pl

random = np.random.default_rng(3)
USERS, ITEMS = 23, 17
pairs = np.unique(random.integers(0, USERS * ITEMS, 150))
users, items = pairs // ITEMS, pairs % ITEMS
keep = (users != 4) & (items != 9)  # nodes without edges
indptr = np.concatenate(([0], np.cumsum(np.bincount(users[keep], minlength=USERS))))
names = [Vocabulary(pl.Series([str(k) for k in range(count)])) for count in (USERS, ITEMS)]
train = Interactions(*names, indptr.astype(np.int64), items[keep].astype(np.int32))
cpu = torch.device("cpu")

for side, layers, d in itertools.product(("both", "user", "item"), (1, 2, 3), (5, 64)):
    graph = Graph(train, (0.7, 0.3), side)
    edges = graph.on(cpu)
    exact = graph.adjacency(dtype=torch.float64)
    weights = tuple(1 / (k + 2) for k in range(layers + 1))
    x = torch.from_numpy(random.normal(size=(graph.n_nodes, d)).astype(np.float32))
    for rows in (torch.tensor([3, 30, 0, 4]), torch.randperm(graph.n_nodes), torch.arange(0)):
        leaf, other = x.clone().requires_grad_(), x.double().requires_grad_()
        out, ego = PropagateOnDevice.apply(leaf, edges, weights, rows)
        want = propagate_reference(exact, other, weights)[rows]
        up, down = torch.randn(len(rows), d), torch.randn(len(rows), d)
        torch.testing.assert_close(out.double(), want, rtol=1e-5, atol=1e-6)
        assert torch.equal(ego, x[rows])
        ((out * up).sum() + (ego * down).sum()).backward()
        ((want * up.double()).sum() + (other[rows] * down.double()).sum()).backward()
        torch.testing.assert_close(leaf.grad.double(), other.grad, rtol=1e-5, atol=1e-6)
    whole = exact @ x.double()
    torch.testing.assert_close(edges.layer(x).double(), whole, rtol=1e-5, atol=1e-6)
    back = exact.to_dense().T @ x.double()
    torch.testing.assert_close(edges.layer(x, transposed=True).double(), back, rtol=1e-5, atol=1e-6)
print("equal")
"""


def test_equals_the_definition():
    assert interpreted(CHECK) == "equal"
