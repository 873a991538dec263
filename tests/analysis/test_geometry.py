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
