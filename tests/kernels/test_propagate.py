"""Message passing against dense matrix products in float64."""

from __future__ import annotations

import tracemalloc

import numba
import numpy as np
import pytest
import torch

from ssmrec.data import synthetic
from ssmrec.kernels.propagate import PropagateRows, propagate_reference
from ssmrec.models.graph import Graph

ROWS = np.array([9, 1, 4, 13])


def dense_adjacency(mask: np.ndarray, alpha: tuple[float, float], side: str) -> torch.Tensor:
    """degree(r)^-a0 degree(n)^-a1 for each edge, straight from the definition."""
    m, n = mask.shape
    whole = np.zeros((m + n, m + n))
    if side in ("user", "both"):
        whole[:m, m:] = mask
    if side in ("item", "both"):
        whole[m:, :m] = mask.T
    degree = np.concatenate([mask.sum(1), mask.sum(0)]).astype(float)
    degree[degree == 0] = 1
    return torch.from_numpy(degree[:, None] ** -alpha[0] * whole * degree[None, :] ** -alpha[1])


def sparse_mask(seed: int = 0, share: float = 0.25) -> np.ndarray:
    """8 users, 10 items; user 3 and item 5 (node 13) are isolated."""
    mask = np.random.default_rng(seed).random((8, 10)) < share
    mask[3], mask[:, 5] = False, False
    mask[0, 0] = True
    return mask


@pytest.mark.parametrize("side", ["user", "item", "both"])
@pytest.mark.parametrize("alpha", [(0.5, 0.5), (0.3, 0.9), (1.0, 0.0)])
@pytest.mark.parametrize("layers", [1, 2, 3, 4])
@pytest.mark.parametrize("share", [0.12, 0.5])
def test_values_and_gradients_equal_dense(make_interactions, side, alpha, layers, share):
    mask = sparse_mask(share=share)
    graph = Graph(make_interactions(mask), alpha, side, dtype=np.float64)
    adjacency = dense_adjacency(mask, alpha, side)
    weights = tuple(np.linspace(0.4, 1.3, layers + 1))
    generator = torch.Generator().manual_seed(layers)
    table = torch.randn(18, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    for rows in (ROWS, np.arange(18)):
        pull = torch.randn(2, len(rows), 5, generator=generator, dtype=torch.float64)
        out, ego = PropagateRows.apply(table, graph, weights, rows)
        want = propagate_reference(adjacency, table, weights)[rows]
        assert out.dtype == torch.float64
        torch.testing.assert_close(out, want, rtol=0, atol=1e-12)
        assert torch.equal(ego, table[rows])
        (got,) = torch.autograd.grad((out * pull[0] + ego * pull[1]).sum(), table)
        (grad,) = torch.autograd.grad((want * pull[0] + table[rows] * pull[1]).sum(), table)
        torch.testing.assert_close(got, grad, rtol=0, atol=1e-12)


def test_gradcheck(make_interactions):
    graph = Graph(make_interactions(sparse_mask()), (0.3, 0.9), dtype=np.float64)
    table = torch.randn(18, 2, dtype=torch.float64, requires_grad=True)
    rows = np.array([2, 12])
    assert torch.autograd.gradcheck(
        lambda x: PropagateRows.apply(x, graph, (0.5, 1.0, 2.0), rows), table
    )


def test_two_users_two_items_by_hand(make_interactions):
    """u0-i0, u0-i1, u1-i1: degrees u 2, 1; i 1, 2; weights 1/sqrt(d_u d_i) = h, 0.5, h."""
    graph = Graph(make_interactions(np.array([[1, 1], [0, 1]])), dtype=np.float64)
    table = torch.tensor([[1.0], [2.0], [4.0], [8.0]], dtype=torch.float64)
    one = graph.layer(table.numpy(), None)[:, 0]
    h = 0.5**0.5
    np.testing.assert_allclose(one, [4 * h + 8 * 0.5, 8 * h, 1 * h, 0.5 * 1 + 2 * h], rtol=1e-15)
    full = graph.full(table, (0.5, 0.5))[:, 0].numpy()
    np.testing.assert_allclose(full, (table[:, 0].numpy() + one) / 2, rtol=1e-15)


def test_no_messages_to_the_other_side(make_interactions):
    """Side `user`: an item keeps layer 0 only, so its own row is the whole output."""
    graph = Graph(make_interactions(sparse_mask()), (1.0, 0.0), "user", dtype=np.float64)
    table = torch.randn(18, 3, dtype=torch.float64)
    out = graph.full(table, (1.0, 1.0))
    assert torch.equal(out[8:], table[8:])
    assert torch.equal(out[3], table[3])  # isolated user
    # alpha (1, 0): the mean of the neighbours
    mean = table[8:][torch.from_numpy(sparse_mask()[0])].mean(0)
    torch.testing.assert_close(out[0], table[0] + mean, rtol=0, atol=1e-14)


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")
def test_full_rows_and_adjacency_agree_in_float32(make_interactions):
    mask = sparse_mask(share=0.4)
    graph = Graph(make_interactions(mask), (0.5, 0.5))
    table = torch.randn(18, 4)
    weights = (0.25, 0.25, 0.5)
    by_sparse = propagate_reference(graph.adjacency(), table, weights)
    dense = dense_adjacency(mask, (0.5, 0.5), "both").float()
    by_dense = propagate_reference(dense, table, weights)
    for other in (by_sparse, by_dense, graph.rows(table, weights, np.arange(18))[0]):
        torch.testing.assert_close(graph.full(table, weights), other, rtol=0, atol=1e-6)


def test_reach_is_the_neighbourhood_and_none_where_dense(make_interactions):
    mask = np.zeros((8, 10), dtype=bool)
    mask[np.arange(8), np.arange(8)] = True  # pairs: the neighbourhood of a user is one item
    graph = Graph(make_interactions(mask))
    needed = graph.reach(np.array([1]), 3)
    assert [found.tolist() for found in needed[1:]] == [[1, 9], [1, 9], [1]]
    full = Graph(make_interactions(np.ones((8, 10))))
    assert full.reach(np.arange(6), 2)[1] is None
    assert full.reach(np.array([1]), 3)[1] is None


def test_interleaved_batches_do_not_disturb_each_other(make_interactions):
    """Two forwards, then their backwards in the other order: the slot array is shared."""
    graph = Graph(make_interactions(sparse_mask(share=0.5)), dtype=np.float64)
    table = torch.randn(18, 3, dtype=torch.float64, requires_grad=True)
    weights = (0.5, 0.5)
    parts = [np.array([1, 9]), np.array([9, 2, 15])]
    outs = [PropagateRows.apply(table, graph, weights, rows)[0] for rows in parts]
    want = propagate_reference(graph.adjacency(dtype=torch.float64), table, weights)
    for rows, out in reversed(list(zip(parts, outs, strict=True))):
        (got,) = torch.autograd.grad(out.sum(), table)
        (grad,) = torch.autograd.grad(want[rows].sum(), table, retain_graph=True)
        torch.testing.assert_close(got, grad, rtol=0, atol=1e-12)


def test_values_and_gradients_do_not_depend_on_threads(make_interactions):
    """To the last bit: every node sums its own neighbours, in one order."""
    mask = np.random.default_rng(4).random((300, 200)) < 0.05
    graph = Graph(make_interactions(mask))
    table = torch.randn(500, 16, generator=torch.Generator().manual_seed(4), requires_grad=True)
    found, before = [], numba.get_num_threads()
    for threads in (1, before):
        numba.set_num_threads(threads)
        out, _ = graph.rows(table, (0.3, 0.3, 0.4), np.arange(0, 500, 3))
        (grad,) = torch.autograd.grad(out.pow(2).sum(), table)
        found.append((out.detach(), grad))
    numba.set_num_threads(before)
    assert all(torch.equal(one, many) for one, many in zip(*found, strict=True))


def test_a_graph_is_made_in_twice_the_memory_of_its_edges():
    """8 bytes of a pair are kept, and 8 more are taken to sort it by item."""
    train = synthetic(3000, 2000, 200_000, seed=1)
    train.rows, train.user_degrees, train.item_degrees  # noqa: B018
    tracemalloc.start()
    Graph(train)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 16 < peak / len(train) < 18
