"""Alignment, uniformity and spectrum against plain definitions."""

from __future__ import annotations

import numpy as np
import pytest

from ssmrec.analysis.geometry import (
    alignment,
    effective_rank,
    mean_share,
    singular_values,
    uniformity,
)
from ssmrec.errors import ConfigError, DataError


def test_alignment_is_two_minus_twice_the_cosine():
    users, items = np.array([[2.0, 0.0], [1.0, 1.0]]), np.array([[0.0, 5.0], [3.0, 3.0]])
    assert alignment(users, items) == pytest.approx((2 + 0) / 2)
    assert alignment(users, -users) == pytest.approx(4)


def test_uniformity_is_the_mean_over_pairs():
    x = np.random.default_rng(0).normal(size=(7, 3))
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    pairs = [
        np.exp(-2 * ((unit[i] - unit[j]) ** 2).sum()) for i in range(7) for j in range(7) if i != j
    ]
    assert uniformity(x) == pytest.approx(np.log(np.mean(pairs)))
    assert uniformity(np.ones((4, 3))) == pytest.approx(0)
    assert uniformity(np.eye(5)) == pytest.approx(-4)


def test_singular_values_are_numpys():
    x = np.random.default_rng(1).normal(size=(40, 6))
    assert singular_values(x) == pytest.approx(np.linalg.svd(x, compute_uv=False))


def test_effective_rank_and_mean_share():
    assert effective_rank(np.array([3.0, 3.0, 3.0, 0.0])) == pytest.approx(3)
    assert effective_rank(np.array([5.0, 0.0])) == pytest.approx(1)
    assert np.isnan(effective_rank(np.zeros(3)))
    assert mean_share(np.array([[1.0, 2.0]] * 5)) == pytest.approx(1)
    assert mean_share(np.array([[1.0, 2.0], [-1.0, -2.0]])) == 0


def test_rows_without_a_direction_are_left_out():
    users, items = np.array([[2.0, 0.0], [0.0, 0.0]]), np.array([[0.0, 5.0], [3.0, 3.0]])
    assert alignment(users, items) == pytest.approx(2) == alignment(items, users)
    assert np.isnan(alignment(np.zeros((2, 2)), items)) and np.isnan(alignment(*np.ones((2, 0, 3))))
    assert uniformity(np.vstack([np.eye(5), np.zeros(5)])) == pytest.approx(-4)
    assert np.isnan(uniformity(np.eye(2)[:1])) and np.isnan(uniformity(np.zeros((4, 3))))
    assert np.isnan(mean_share(np.zeros((3, 2)))) and np.isnan(mean_share(np.zeros((0, 2))))


def test_what_has_no_geometry_is_refused():
    with pytest.raises(DataError, match=r"users \(2, 3\) and items \(1, 3\) are no pairs"):
        alignment(np.ones((2, 3)), np.ones((1, 3)))
    with pytest.raises(DataError, match="not finite numbers: they have no spectrum"):
        singular_values(np.array([[1.0, np.nan]]))
    with pytest.raises(DataError, match="at least 0, not -1"):
        effective_rank(np.array([2.0, -1.0]))
    for t in (-2.0, 0.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="t of uniformity must be above 0 and finite, not"):
            uniformity(np.eye(2), t)
