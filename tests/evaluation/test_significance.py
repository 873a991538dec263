"""Paired tests against enumeration, scipy and known shapes; Holm against numbers by hand."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmrec.errors import ConfigError, DataError
from ssmrec.evaluation.significance import TESTS, holm, randomisation, wilcoxon


def enumerated(d) -> float:
    """Every sign pattern, one by one."""
    seen = abs(sum(d))
    sums = [abs(sum(s * x for s, x in zip(signs, d, strict=True))) for signs in
            product([1, -1], repeat=len(d))]  # fmt: skip
    return sum(total >= seen - 1e-12 for total in sums) / len(sums)


def test_randomisation_by_hand():
    """Differences 1, 2, 3: of 8 patterns only +++ and --- reach 6; with 1, 2, -3 all reach 0."""
    zero = np.zeros(3)
    assert randomisation(np.array([1.0, 2, 3]), zero) == 2 / 8
    assert randomisation(np.array([1.0, 2, -3]), zero) == 1.0
    assert (
        randomisation(np.array([1.0, 2, -1]), zero) == 6 / 8
    )  # |sum| >= 2: all but the two with 0


@given(st.lists(st.floats(-1, 1).map(lambda x: round(x, 3)), min_size=1, max_size=8))
@settings(max_examples=40, deadline=None)
def test_few_users_are_counted_exactly(d):
    found = randomisation(np.array(d), np.zeros(len(d)))
    assert found == pytest.approx(enumerated([x for x in d if x]))


def test_drawn_patterns_come_near_the_exact_value():
    d = np.random.default_rng(3).normal(0.35, 1, 13)
    exact = randomisation(d, np.zeros(13), rounds=2**13)
    drawn = randomisation(d, np.zeros(13), rounds=8000, seed=5)
    assert exact == pytest.approx(enumerated(d.tolist()))
    assert 0.05 < exact < 0.6 and drawn == pytest.approx(exact, abs=0.02)
    assert drawn == randomisation(d, np.zeros(13), rounds=8000, seed=5)
    assert drawn != randomisation(d, np.zeros(13), rounds=8000, seed=6)


def test_randomisation_of_many_users_agrees_with_the_t_test():
    """With thousands of users the mean is normal, and both tests say the same."""
    random = np.random.default_rng(0)
    a, b = random.random(5000), random.random(5000)
    a += 0.011
    want = scipy.stats.ttest_rel(a, b).pvalue
    assert 0.01 < want < 0.4
    assert randomisation(a, b, rounds=4000) == pytest.approx(want, abs=0.03)


def test_the_smallest_p_is_one_in_rounds_plus_one():
    a = np.arange(1.0, 101)
    assert randomisation(a, np.zeros(100), rounds=999) == 1 / 1000


@pytest.mark.parametrize("digits", [1, 6])
def test_wilcoxon_of_many_users_is_scipys(digits):
    """One digit makes many ties and zeros, as ndcg does."""
    random = np.random.default_rng(1)
    a, b = random.random(300).round(digits), random.random(300).round(digits)
    a = (a + 0.05).round(digits)
    d = (a - b).round(9)  # what is equal but for rounding is equal
    want = scipy.stats.wilcoxon(d[d != 0], correction=False, method="asymptotic")
    assert wilcoxon(a, b) == pytest.approx(want.pvalue, rel=1e-9)
    assert 1e-6 < want.pvalue < 0.9


def test_wilcoxon_of_few_users_is_scipys_exact_value():
    a, b = np.random.default_rng(4).random((2, 11))
    assert wilcoxon(a, b) == pytest.approx(scipy.stats.wilcoxon(a, b, method="exact").pvalue)


@pytest.mark.parametrize("name", TESTS)
def test_properties_of_every_test(name):
    test = TESTS[name]
    random = np.random.default_rng(2)
    a, b = random.random(60), random.random(60)
    assert test(a, a) == 1.0
    assert test(a, b) == pytest.approx(test(b, a)) and 0 < test(a, b) <= 1
    more = np.r_[a, np.full(50, 0.25)], np.r_[b, np.full(50, 0.25)]
    assert test(*more) == pytest.approx(test(a, b), abs=0.03)  # equal users say nothing
    assert test(a + 0.4, b) < 0.001 < test(a, b)


@pytest.mark.parametrize("name", TESTS)
def test_values_that_do_not_pair_are_refused(name):
    with pytest.raises(DataError, match=r"\(3,\) and \(2,\)"):
        TESTS[name](np.ones(3), np.ones(2))
    with pytest.raises(DataError, match="finite"):
        TESTS[name](np.array([1, np.nan]), np.ones(2))
    with pytest.raises(ConfigError, match="rounds of a paired test must be at least 1, not 0"):
        randomisation(np.ones(2), np.zeros(2), rounds=0)
    assert TESTS[name](np.array([]), np.array([])) == 1.0


def test_holm_by_hand():
    """.01*4, .02*3, .03*2 -> the .06 before it, .04*1 -> .06; in the order given."""
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([0.2]) == [0.2] and holm([]) == []
    for bad, shown in ((float("nan"), "nan"), (-1, "-1"), (2, "2")):
        with pytest.raises(DataError, match=f"p values must be 0 to 1, not {shown}"):
            holm([0.01, bad])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_holm_lies_between_p_and_bonferroni_and_keeps_the_order(p):
    found = np.array(holm(p))
    assert (found >= np.array(p) - 1e-15).all()
    assert (found <= np.minimum(1, len(p) * np.array(p)) + 1e-12).all()
    order = np.argsort(p, kind="stable")
    assert (np.diff(found[order]) >= 0).all()


@pytest.mark.parametrize("kind", [np.float64, np.float32])
def test_rounding_makes_no_difference(kind):
    """Recall in sixths of 12 users, two seeds: by the fractions 0.125, and 28 of 256 patterns."""
    one = [[4, 3, 4, 6, 6, 6, 6, 4, 4, 4, 2, 4]] * 2
    other = [[2, 0, 6, 6, 4, 6, 6, 2, 2, 2, 2, 6], [2, 3, 4, 6, 2, 0, 6, 0, 4, 6, 2, 6]]
    a, b = ((np.array(v) / 6).astype(kind).astype(float).mean(0) for v in (one, other))
    assert randomisation(a, b) == 0.125
    assert wilcoxon(a, b) == 28 / 256
