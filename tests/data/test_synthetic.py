"""Made-up interactions: exact counts, valid CSR, tails and tastes that are there."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmrec.data import statistics
from ssmrec.data import synthetic as make
from ssmrec.errors import ConfigError


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 60), st.floats(0, 1), st.integers(0, 5))
def test_exact_number_of_distinct_sorted_pairs(n_users, n_items, share, seed):
    most = n_users * max(1, n_items // 4)
    wanted = round(n_users + share * (most - n_users))
    data = make(n_users, n_items, wanted, seed)
    assert len(data) == wanted == data.indptr[-1]
    assert data.user_degrees.min() >= 1
    assert 0 <= data.indices.min() <= data.indices.max() < n_items
    same_user = data.rows[1:] == data.rows[:-1]
    assert (np.diff(data.indices)[same_user] > 0).all()


def test_equal_seeds_give_equal_tables():
    first, second, other = (make(300, 200, 4000, seed) for seed in (1, 1, 2))
    assert first.fingerprint == second.fingerprint != other.fingerprint


def test_blocks_are_joined(monkeypatch):
    monkeypatch.setattr(sys.modules[make.__module__], "_BLOCK", 50)
    data = make(100, 80, 1200, 3)
    assert len(data) == 1200 and data.user_degrees.min() >= 1


def test_exponent_makes_the_tail():
    gini = [statistics(make(2000, 1000, 30_000, 0, e))["gini"] for e in (0.0, 0.9, 1.0, 1.5)]
    assert gini[0] < 0.2 < gini[1] < gini[2] < gini[3]


def test_users_of_one_taste_share_items():
    data = make(400, 400, 8000, 0, 0.5)
    dense = np.zeros((400, 400), dtype=np.float32)
    dense[data.rows, data.indices] = 1
    energy = np.linalg.svd(dense, compute_uv=False) ** 2
    shuffled = np.random.default_rng(0).permuted(dense, axis=0)  # same popularity, no tastes
    noise = np.linalg.svd(shuffled, compute_uv=False) ** 2
    assert energy[1:20].sum() > 1.5 * noise[1:20].sum()


@pytest.mark.parametrize("numbers", [(0, 5, 5), (5, 0, 5), (5, 8, 4), (5, 8, 11), (5, 8, 6, 0, 4)])
def test_impossible_numbers_are_refused(numbers):
    with pytest.raises(ConfigError, match=r"must lie between|need n_users"):
        make(*numbers)
