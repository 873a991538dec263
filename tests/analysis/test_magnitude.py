"""Lengths against degree: rank correlation, bins, and the lemma on message passing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ssmrec.analysis.magnitude import (
    by_degree,
    degree_bins,
    degree_range,
    lemma,
    lemma_coefficients,
    mean_ranks,
    pareto_moment,
    simulate_message,
    spearman,
)
from ssmrec.errors import ConfigError, DataError


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(3, 60), st.integers(2, 9))
def test_spearman_is_scipys_with_ties(seed, n, distinct):
    random = np.random.default_rng(seed)
    x, y = random.integers(0, distinct, n), random.integers(0, distinct, n).astype(float)
    assert mean_ranks(x) == pytest.approx(stats.rankdata(x))
    if len(set(x)) > 1 and len(set(y)) > 1:
        assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic)
    else:
        assert np.isnan(spearman(x, y))


def test_spearman_of_too_few():
    assert np.isnan(spearman(np.array([1.0]), np.array([2.0])))


def test_spearman_with_a_nan_is_nan_and_of_no_pairs_an_error():
    x, y = np.array([1.0, 2.0, np.nan]), np.array([1.0, 2.0, 3.0])
    assert np.isnan(spearman(x, y)) and np.isnan(spearman(y, x))
    with pytest.raises(DataError, match="3 and 1 values are no pairs"):
        spearman(x, y[:1])


@pytest.mark.parametrize("degrees", [[], [3, 0], [-1]])
def test_degrees_below_one_are_refused(degrees):
    degrees = np.array(degrees, int)
    calls = (degree_bins, degree_range, lambda d: by_degree(d, d), lambda d: lemma(d, 1.0, 1.0))
    for call in calls:
        with pytest.raises(DataError, match="degrees must be at least 1, not"):
            call(degrees)
    with pytest.raises(ConfigError, match="bins of degree must be at least 1, not 0"):
        degree_bins(np.ones(3), 0)
    with pytest.raises(DataError, match=r"values must have the shape \(3,\), not \(2,\)"):
        by_degree(np.ones(2), np.ones(3, int))


def test_bins_are_even_in_log_degree():
    degrees = np.array([1, 2, 3, 9, 10, 99, 100, 1000])
    assert degree_bins(degrees, 3).tolist() == [0, 0, 0, 0, 1, 1, 2, 2]
    assert degree_bins(np.full(4, 5), 3).tolist() == [2, 2, 2, 2]
    rows = by_degree(np.arange(8.0), degrees, 3)
    assert [row["nodes"] for row in rows] == [4, 2, 2]
    assert rows[0] == {
        "degree_min": 1, "degree_max": 9, "degree": 3.75, "nodes": 4, "mean": 1.5, "q25": 0.75,
        "q75": 2.25,
    }  # fmt: skip


@pytest.mark.parametrize("alpha", [(0.5, 0.5), (1.0, 0.0), (0.0, 1.0)])
@pytest.mark.parametrize("mean", [0.0, 0.7])
@pytest.mark.parametrize("degree", [1, 8, 60])
def test_lemma_agrees_with_monte_carlo(alpha, mean, degree):
    a, b = lemma_coefficients(
        mean**2, 1.3**2, pareto_moment(2.5, alpha[1]), pareto_moment(2.5, 2 * alpha[1])
    )
    value = lemma(np.array([degree]), a, b, alpha[0])[0]
    found, error = simulate_message(
        degree, np.random.default_rng(degree), alpha=alpha, shape=2.5, mean=mean, deviation=1.3,
        repeats=20_000,
    )  # fmt: skip
    assert abs(found - value) < 5 * error
    assert error < 0.05 * value  # otherwise the line above says little


def test_length_grows_with_degree_only_if_the_mean_is_not_zero():
    moments = pareto_moment(3, 0.5), pareto_moment(3, 1)
    flat = lemma(np.array([1, 10, 100]), *lemma_coefficients(0, 1, *moments))
    assert flat.tolist() == [0.75, 0.75, 0.75]
    a, b = lemma_coefficients(1, 1, *moments)
    assert b == pytest.approx((6 / 7) ** 2) and a == pytest.approx(2 * 0.75 - b)
    assert np.diff(lemma(np.array([1, 2, 3]), a, b)) == pytest.approx([b, b])


def test_moment_is_that_of_the_pareto_law():
    draws = stats.pareto(3.0).rvs(200_000, random_state=0)
    assert (draws**-0.5).mean() == pytest.approx(pareto_moment(3.0, 0.5), rel=2e-3)


def test_a_moment_that_is_infinite_and_laws_that_are_none():
    assert pareto_moment(3, -3) == pareto_moment(3, -4) == np.inf
    assert pareto_moment(3, -2) == 3
    random = np.random.default_rng(0)
    for shape in (0, -1, float("nan")):
        with pytest.raises(ConfigError, match="shape of a Pareto law must be above 0, not"):
            pareto_moment(shape, 1)
        with pytest.raises(ConfigError, match="shape of a Pareto law must be above 0, not"):
            simulate_message(3, random, shape=shape)
    for degree, repeats in ((0, 9), (3, 1)):
        with pytest.raises(ConfigError, match="needs degree 1 and 2 repeats at least, not"):
            simulate_message(degree, random, repeats=repeats)
