"""Draws among the items a user does not have, and the known pairs among shared candidates."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from ssmrec.kernels.sampling import (
    known_pairs,
    known_pairs_reference,
    uniform_unknown,
    weighted_unknown,
)

MASKS = arrays(bool, st.tuples(st.integers(1, 6), st.integers(1, 12)))


def csr(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    indptr = np.concatenate([[0], mask.sum(1).cumsum()]).astype(np.int64)
    return indptr, np.nonzero(mask)[1].astype(np.int32)


@settings(max_examples=60, deadline=None)
@given(MASKS)
def test_uniform_unknown_maps_rank_to_item_exactly(mask):
    """A uniform number inside the r-th of `free` equal parts must give the r-th unknown item."""
    for user, row in enumerate(mask):
        unknown = np.flatnonzero(~row)
        free = max(len(unknown), 1)
        uniform = np.concatenate([(np.arange(free) + 0.5) / free, [0.0, np.nextafter(1.0, 0.0)]])[
            None, :
        ]
        out = np.empty(uniform.shape, dtype=np.int64)
        uniform_unknown(np.array([user]), *csr(mask), mask.shape[1], uniform, out)
        if len(unknown):
            assert out[0].tolist() == [*unknown, unknown[0], unknown[-1]]
        else:
            assert (out == -1).all()


def test_uniform_unknown_is_uniform():
    """Chi-square over the 6 unknown of 10 items, 30,000 draws, p > 0.001 for this seed."""
    mask = np.zeros((2, 10), dtype=bool)
    mask[1, [0, 3, 4, 9]] = True
    out = np.empty((1, 30_000), dtype=np.int64)
    uniform = np.random.default_rng(0).random(out.shape)
    uniform_unknown(np.array([1]), *csr(mask), 10, uniform, out)
    counts = np.bincount(out[0], minlength=10)
    assert counts[[0, 3, 4, 9]].sum() == 0
    assert stats.chisquare(counts[[1, 2, 5, 6, 7, 8]]).pvalue > 0.001


def test_weighted_unknown_keeps_the_weights_among_unknown_items():
    weights = np.array([8.0, 4, 2, 1, 1])
    mask = np.array([[True, False, False, False, True]])
    out = np.empty((1, 30_000), dtype=np.int64)
    uniform = np.random.default_rng(1).random((*out.shape, 40))
    cumulative = np.cumsum(weights / weights.sum())
    weighted_unknown(np.array([0]), *csr(mask), cumulative, uniform, out)
    counts = np.bincount(out[0], minlength=5)
    assert counts[[0, 4]].sum() == 0
    expected = 30_000 * weights[1:4] / 7
    assert stats.chisquare(counts[1:4], expected).pvalue > 0.001


def test_weighted_unknown_gives_up_after_the_last_try():
    """Tries 0.1 and 0.2 both fall on the known item 0; the second column's last try is item 1."""
    mask = np.array([[True, False]])
    uniform = np.array([[[0.1, 0.2], [0.1, 0.9]]])
    out = np.empty((1, 2), dtype=np.int64)
    weighted_unknown(np.array([0]), *csr(mask), np.array([0.5, 1.0]), uniform, out)
    assert out.tolist() == [[-1, 1]]


@settings(max_examples=100, deadline=None)
@given(MASKS, st.data())
def test_known_pairs_equal_the_reference(mask, data):
    """Repeated candidates and repeated users included; the pairs are sorted by row."""
    users = data.draw(st.lists(st.integers(0, len(mask) - 1), max_size=8))
    candidates = data.draw(st.lists(st.integers(0, mask.shape[1] - 1), max_size=15))
    users, candidates = np.array(users, np.int64), np.array(candidates, np.int64)
    found = known_pairs(users, *csr(mask), candidates, mask.shape[1])
    want = known_pairs_reference(mask[users], candidates)
    assert found.shape == want.shape
    assert set(map(tuple, found.T)) == set(map(tuple, want.T))
    assert (np.diff(found[0]) >= 0).all()


def test_known_pairs_of_ids_that_share_their_last_bits():
    indptr, indices = np.array([0, 3, 4]), np.array([5, 5 + 2**16, 5 + 2**17], np.int32)
    indices = np.append(indices, np.int32(7))
    candidates = np.array([5 + 2**17, 7 + 2**16, 5, 5 + 2**17, 5 + 3 * 2**16])
    found = known_pairs(np.array([1, 0, 0]), indptr, indices, candidates, 2**20)
    assert found.tolist() == [[1, 1, 1, 2, 2, 2], [2, 0, 3, 2, 0, 3]]


@pytest.mark.parametrize("kernel", ["uniform", "weighted"])
def test_draws_do_not_depend_on_threads(kernel):
    import numba

    mask = np.random.default_rng(2).random((40, 30)) < 0.4
    users = np.arange(40)
    uniform = np.random.default_rng(3).random((40, 25, 16))
    found = []
    before = numba.get_num_threads()
    for threads in (1, before):
        numba.set_num_threads(threads)
        out = np.empty((40, 25), dtype=np.int64)
        if kernel == "uniform":
            uniform_unknown(users, *csr(mask), 30, uniform[:, :, 0].copy(), out)
        else:
            weighted_unknown(users, *csr(mask), np.linspace(1 / 30, 1, 30), uniform, out)
        found.append(out)
    numba.set_num_threads(before)
    assert np.array_equal(*found)
