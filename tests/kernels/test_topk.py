"""The fast selections against the reference that defines them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmrec.errors import DataError
from ssmrec.kernels.topk import STRIP, select, select_more, select_reference, select_torch

TABLES = {
    "seed": st.integers(0, 2**32 - 1),
    "shape": st.tuples(st.integers(0, 6), st.integers(1, 3 * STRIP)),
    "levels": st.sampled_from([1, 2, 5, 1000]),
    "density": st.sampled_from([0.0, 0.3, 0.9, 1.0]),
}
"""What decides scores and the items that are left out."""


def csr(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate(([0], mask.sum(axis=1).cumsum())), np.nonzero(mask)[1].astype(np.int32)


def assert_all_equal(scores: np.ndarray, k: int, seen=(), allowed=None) -> None:
    ids, best = select_reference(torch.from_numpy(scores), k, seen, allowed)
    fast_ids, fast_best = select(scores.copy(), k, seen, allowed)
    torch_ids, torch_best = select_torch(torch.from_numpy(scores.copy()), k, seen, allowed)
    assert fast_ids.dtype == np.int32 and fast_best.dtype == np.float32
    np.testing.assert_array_equal(fast_ids, ids.numpy())
    np.testing.assert_array_equal(fast_best, best.numpy())
    np.testing.assert_array_equal(torch_ids.numpy(), ids.numpy())
    np.testing.assert_array_equal(torch_best.numpy(), best.numpy())


def test_reference_by_hand() -> None:
    scores = torch.tensor([[1.0, 3.0, 3.0, 2.0, 5.0], [0.0, -1.0, 4.0, 4.0, 9.0]])
    seen = (np.array([0, 1, 1]), np.array([4], dtype=np.int32))  # row 0 has seen item 4
    allowed = np.array([True, True, True, False, True])
    ids, best = select_reference(scores, 4, [seen], allowed)
    assert ids.tolist() == [[1, 2, 0, -1], [4, 2, 0, 1]]
    assert best.tolist() == [[3.0, 3.0, 1.0, -np.inf], [9.0, 4.0, 0.0, -1.0]]
    assert scores[0, 4] == 5.0


@settings(max_examples=60, deadline=None)
@given(
    **TABLES,
    data=st.data(),
)
def test_kernels_equal_reference(seed, shape, levels, density, data) -> None:
    """Few score levels give many ties; density 1 hides whole rows."""
    g = np.random.default_rng(seed)
    k = data.draw(st.one_of(st.just(1), st.just(shape[1]), st.integers(1, shape[1])))
    scores = g.integers(0, levels, shape).astype(np.float32) - levels // 2
    seen = [csr(g.random(shape) < density), csr(g.random(shape) < 0.1)]
    allowed = g.random(shape[1]) < 0.8 if seed % 2 else None
    assert_all_equal(scores, k, seen, allowed)


@pytest.mark.parametrize("k", [1, 7, STRIP, 500])
def test_adversarial_orders(k: int) -> None:
    n = 4 * STRIP + 3
    rows = [np.arange(n), -np.arange(n), np.zeros(n), np.arange(n) % 2, np.arange(n) == n - 1]
    assert_all_equal(np.stack(rows).astype(np.float32), k)


def test_infinite_scores() -> None:
    scores = np.array([[-np.inf, np.inf, 0.0, np.inf], [-np.inf] * 4], dtype=np.float32)
    assert_all_equal(scores, 4)
    ids, _ = select(scores, 4)
    assert ids.tolist() == [[1, 3, 2, -1], [-1, -1, -1, -1]]


def test_everything_hidden() -> None:
    scores = np.ones((2, 3), dtype=np.float32)
    ids, best = select(scores.copy(), 2, [csr(np.ones((2, 3), dtype=bool))])
    assert (ids == -1).all() and (best == -np.inf).all()
    ids, best = select(scores, 2, (), np.zeros(3, dtype=bool))
    assert (ids == -1).all() and (best == -np.inf).all()


@pytest.mark.parametrize("at", [0, STRIP - 1, STRIP + 5, 2 * STRIP])
def test_nan_is_an_error(at: int) -> None:
    scores = np.arange(3 * (2 * STRIP + 1), dtype=np.float32).reshape(3, -1)[:, ::-1].copy()
    scores[1:, at] = np.nan
    for run in (
        lambda: select(scores.copy(), 4),
        lambda: select_torch(torch.from_numpy(scores.copy()), 4),
        lambda: select_reference(torch.from_numpy(scores), 4),
    ):
        with pytest.raises(DataError, match="scores of 2 rows are not a number"):
            run()


def test_nan_of_a_hidden_item_does_not_matter() -> None:
    scores = np.array([[np.nan, 2.0, np.nan]], dtype=np.float32)
    seen = csr(np.array([[True, False, False]]))
    assert_all_equal(scores, 2, [seen], np.array([True, True, False]))
    assert select(scores, 2, [seen], np.array([True, True, False]))[0].tolist() == [[1, -1]]


@settings(max_examples=60, deadline=None)
@given(
    **TABLES,
    k=st.integers(1, 40),
    cuts=st.lists(st.integers(0, 3 * STRIP), max_size=4),
)
def test_tiles_one_after_another_give_the_lists_of_all(
    seed, shape, levels, density, k, cuts
) -> None:
    g = np.random.default_rng(seed)
    scores = g.integers(0, levels, shape).astype(np.float32) - levels // 2
    scores[g.random(shape) < 0.05] = -np.inf
    seen, allowed = [csr(g.random(shape) < density)], g.random(shape[1]) < 0.8
    whole_ids, whole_best = select(scores.copy(), min(k, shape[1]), seen, allowed)
    ids = np.full(whole_ids.shape, -1, dtype=np.int32)
    best = np.full(whole_best.shape, -np.inf, dtype=np.float32)
    ends = sorted({min(cut, shape[1]) for cut in cuts} | {0, shape[1]})
    for first, last in pairwise(ends):
        tile = scores[:, first:last].copy()
        select_more(ids, best, first, tile, seen, allowed[first:last])
    np.testing.assert_array_equal(ids, whole_ids)
    np.testing.assert_array_equal(best, whole_best)


def test_nan_in_a_later_tile_is_an_error() -> None:
    ids, best = select(np.full((2, 3), 5.0, dtype=np.float32), 2)
    with pytest.raises(DataError, match="scores of 1 rows are not a number"):
        select_more(ids, best, 3, np.array([[1.0], [np.nan]], dtype=np.float32))
