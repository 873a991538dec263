"""The chain -log DCG <= -log gain <= log rank <= SSM, for any scores."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ssmrec.analysis.bound import (
    TERMS,
    batch_dcg,
    bound_chain,
    catalogue_chain,
    ranks,
    softmax_loss,
)
from ssmrec.errors import DataError
from ssmrec.losses import LOSSES

scores = st.floats(-50, 50, width=32)


def ordered(chain) -> bool:
    terms = [getattr(chain, term) for term in TERMS]
    return all((low <= high + 1e-9).all() for low, high in pairwise(terms))


@settings(max_examples=200, deadline=None)
@given(data=st.data(), shape=st.tuples(st.integers(1, 6), st.integers(0, 40)))
def test_chain_holds_for_random_scores_over_a_sample(data, shape):
    pos = data.draw(arrays.arrays(np.float64, shape[0], elements=scores))
    others = data.draw(arrays.arrays(np.float64, shape, elements=scores))
    live = data.draw(arrays.arrays(bool, shape))
    assert ordered(bound_chain(pos, others, live))


@settings(max_examples=200, deadline=None)
@given(data=st.data(), n=st.integers(1, 60))
def test_chain_holds_for_random_scores_over_a_catalogue(data, n):
    values = data.draw(arrays.arrays(np.float64, n, elements=scores))
    positives = data.draw(st.lists(st.integers(0, n - 1), min_size=1, unique=True))
    assert ordered(catalogue_chain(values, np.array(positives)))


def test_chain_by_hand():
    chain = bound_chain(
        np.array([1.0]), np.array([[2.0, 0.0, 5.0]]), np.array([[True, True, False]])
    )
    assert chain.log_rank[0] == pytest.approx(np.log(2))
    assert chain.neg_log_gain[0] == pytest.approx(np.log(np.log2(3)))
    assert chain.neg_log_dcg[0] == chain.neg_log_gain[0]
    assert chain.ssm[0] == pytest.approx(np.log(1 + np.exp(1) + np.exp(-1)))


def test_the_bound_is_tight_when_every_other_score_is_equal():
    """All equal: rank 1, SSM log(1 + N); far below: both 0."""
    equal = bound_chain(np.zeros(1), np.zeros((1, 7)), np.ones((1, 7), bool))
    assert equal.log_rank[0] == 0 and equal.ssm[0] == pytest.approx(np.log(8))
    far = bound_chain(np.zeros(1), np.full((1, 7), -800.0), np.ones((1, 7), bool))
    assert far.ssm[0] == 0 and far.neg_log_dcg[0] == 0


def test_last_term_is_the_loss_that_trains():
    random = np.random.default_rng(0)
    pos, others, live = (
        random.normal(size=4),
        random.normal(size=(4, 9)),
        random.random((4, 9)) < 0.6,
    )
    loss = LOSSES["ssm"](LOSSES["ssm"].Config())
    expected = loss(*map(torch.from_numpy, (pos, others)), None, torch.from_numpy(~live))
    assert softmax_loss(pos, others, live) == pytest.approx(expected.numpy())


def test_batch_dcg_counts_every_relevant_candidate_at_its_rank():
    pos = np.array([2.0, 0.5, 1.0])
    others = np.array([[3.0, 1.0, 2.0, 0.0], [0.0, 1.0, 2.0, 3.0], [5.0, 0.0, 0.0, 0.0]])
    live = np.array([[1, 1, 1, 1], [1, 1, 0, 1], [1, 1, 1, 1]], dtype=bool)
    relevant = np.array([[0, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]], dtype=bool)
    # Row 0: its positive ties at rank 2, one relevant at 4. Row 1: 3 and 2; the masked one is no candidate.
    gain = 1 / np.log2(1 + np.array([2, 4, 3, 2, 2]))
    expected = [gain[0] + gain[1], gain[2] + gain[3], gain[4]]
    assert batch_dcg(pos, others, live, relevant) == pytest.approx(expected)


@given(st.integers(0, 2**32 - 1))
def test_the_chain_holds_with_the_dcg_of_a_batch(seed):
    random = np.random.default_rng(seed)
    pos, others = random.normal(size=5) * 3, random.normal(size=(5, 12)) * 3
    live, relevant = random.random((2, 5, 12)) < 0.5
    chain = bound_chain(pos, others, live, batch_dcg(pos, others, live, relevant))
    terms = np.stack([getattr(chain, name) for name in TERMS])
    assert (np.diff(terms, axis=0) >= -1e-12).all()


def test_catalogue_equals_the_plain_form_row_by_row():
    random = np.random.default_rng(2)
    values = random.integers(-3, 4, 30) / 2.0  # with ties
    positives = np.array([4, 0, 17])
    rows = np.stack([np.delete(values, at) for at in positives])
    plain = bound_chain(values[positives], rows, np.ones_like(rows, bool))
    found = catalogue_chain(values, positives)
    for term in ("neg_log_gain", "log_rank", "ssm"):
        assert getattr(found, term) == pytest.approx(getattr(plain, term))
    dcg = np.exp(-plain.neg_log_gain).sum()
    assert found.neg_log_dcg.tolist() == pytest.approx([-np.log(dcg)] * 3)


def test_rows_without_a_rank_are_refused():
    one, others, live = np.ones(1), np.zeros((1, 2)), np.ones((1, 2), bool)
    for pos, rest in ((one * np.nan, others), (one, others * np.nan)):
        with pytest.raises(DataError, match="not numbers, which have no rank"):
            bound_chain(pos, rest, live)
    with pytest.raises(DataError, match="not numbers, which have no rank"):
        catalogue_chain(np.array([1.0, np.nan]), np.array([0]))
    with pytest.raises(DataError, match="no relevant item among the candidates"):
        catalogue_chain(others[0], np.array([], int))
    with pytest.raises(DataError, match="DCG of a row must be above 0"):
        bound_chain(one, others, live, np.zeros(1))


@pytest.mark.parametrize("function", [bound_chain, ranks, softmax_loss, batch_dcg])
def test_rows_of_other_shapes_and_masks_of_numbers_are_refused(function):
    """An int mask would be taken for places, and one row would be broadcast to all."""
    pos, others, live = np.ones(2), np.zeros((2, 3)), np.ones((2, 3), bool)
    more = (live,) if function is batch_dcg else ()  # relevant
    for bad, message in (
        ((pos, others, live.astype(int)), "live must be bool, not int64"),
        ((pos, others, live[:1]), r"live must have the shape \(2, 3\), not \(1, 3\)"),
        ((pos[:1], others, live), r"pos must have the shape \(2,\), not \(1,\)"),
        ((pos, others[0], live), r"must have the shape \(B, N\), not \(3,\)"),
    ):
        with pytest.raises(DataError, match=message):
            function(*bad, *more)


def test_relevant_candidates_that_are_none_are_refused():
    pos, others, live = np.ones(2), np.zeros((2, 3)), np.ones((2, 3), bool)
    with pytest.raises(DataError, match="relevant must be bool, not int64"):
        batch_dcg(pos, others, live, live.astype(int))
    with pytest.raises(DataError, match=r"dcg must have the shape \(2,\)"):
        bound_chain(pos, others, live, np.ones(1))
    for positives in ([-1], [3], [1, 1], [0.0], [True, False, True]):
        with pytest.raises(DataError, match="positives must be distinct positions, 0 to 2"):
            catalogue_chain(others[0], np.array(positives))
