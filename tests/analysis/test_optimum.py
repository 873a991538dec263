"""Eq 9: the closed form of the best score, against the minimum found in two independent ways."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ssmrec.analysis.optimum import (
    centred,
    closed_form_scores,
    expected_loss,
    minimised_scores,
    slope_within,
)
from ssmrec.errors import DataError


def fixed_point(counts: np.ndarray) -> np.ndarray:
    """The stationary point: a_i (1 + a_i) = 1 / (c_i S) with S = sum 1 / (1 + a_k), S by bisection."""
    low, high = 1e-15, float(len(counts))
    for _ in range(200):
        middle = (low + high) / 2
        a = (np.sqrt(1 + 4 / (counts * middle)) - 1) / 2
        low, high = (middle, high) if (counts * a).sum() > 1 else (low, middle)
    return np.log(a)


@pytest.mark.parametrize("size", [1, 2, 25, 200])
@pytest.mark.parametrize("scale", [0.01, 0.5, 20.0])
def test_the_minimum_is_the_stationary_point(size, scale):
    counts = scale * (0.05 + np.random.default_rng(size).pareto(1.5, size))
    assert minimised_scores(counts) == pytest.approx(fixed_point(counts), abs=1e-8)


def test_the_minimum_has_no_gradient_with_all_items_in_the_table():
    """Autograd of Eq 6 with the other items far below: their scores only push further down."""
    counts = np.array([0.3, 1.0, 4.0])
    others = np.array([2.0, 0.5])
    best = np.append(minimised_scores(counts), [-60.0, -60.0])
    table = torch.tensor(best, dtype=torch.float64, requires_grad=True)
    weights = torch.tensor(np.append(counts, others))
    z = (weights * table.exp()).sum()
    torch.log(1 + z / table[:3].exp()).sum().backward()
    gradient = table.grad.numpy()
    assert np.abs(gradient[:3]).max() < 1e-9 and (gradient[3:] > 0).all()


def test_no_other_scores_are_better():
    random = np.random.default_rng(1)
    counts = random.random(8) + 0.1
    best = expected_loss(minimised_scores(counts), counts)
    for size in (1e-3, 0.1, 1.0):
        for _ in range(20):
            other = minimised_scores(counts) + size * random.normal(size=8)
            assert expected_loss(other, counts) > best


def test_eq_9_is_near_where_items_are_drawn_often_and_not_where_rarely():
    counts = np.array([1.0, 2.0, 4.0, 8.0] * 25)
    closed = closed_form_scores(counts)
    assert closed[0] - closed[1] == pytest.approx(
        np.log(201 / 101)
    )  # log (1 + |P| c') / (1 + |P| c)

    def error(scale: float) -> float:
        a, b = closed_form_scores(scale * counts), minimised_scores(scale * counts)
        return float(np.abs((a - a.mean()) - (b - b.mean())).max())

    assert error(10) < 0.002 < error(0.1) < error(1e-4)
    assert error(1e-4) > 0.5  # then the best scores fall with the square root, and Eq 9 is flat


def test_slope_within_removes_what_is_constant_in_a_row():
    rows = np.array([0, 0, 0, 3, 3])
    x = np.array([1.0, 2.0, 4.0, 7.0, 9.0])
    y = -0.5 * x + np.array([100, 100, 100, -7, -7])
    assert slope_within(y, x, rows) == pytest.approx(-0.5)
    assert centred(y, rows)[3:].tolist() == [0.5, -0.5]
    assert np.isnan(slope_within(y, np.ones(5), rows))


@pytest.mark.parametrize("counts", [[], [0.0, 1.0], [-1.0], [np.nan], [np.inf], [1e-30, 1e-30]])
def test_counts_without_a_best_score_are_refused(counts):
    for call in (minimised_scores, lambda c: expected_loss(np.zeros(len(c)), c)):
        with pytest.raises(DataError, match="finite expected counts of 1e-16 at least"):
            call(np.array(counts))


def test_the_closed_form_of_items_that_are_never_drawn():
    assert closed_form_scores(np.array([0.0, 0.5])).tolist() == [0, -np.log(2)]
    for counts in ([-0.1], [np.nan], [np.inf]):
        with pytest.raises(DataError, match="at least 0 and finite"):
            closed_form_scores(np.array(counts))


def test_rare_draws_still_have_their_minimum():
    counts = np.array([1e-16, 1.0])  # a (1 + a) = 1 / (c S), S = 1 / 2 up to 1e-8
    assert minimised_scores(counts) == pytest.approx([np.log(2e16) / 2, 0], abs=1e-6)


def test_values_that_belong_to_no_row_or_count_are_refused():
    rows, three = np.array([0, 0]), np.ones(3)
    calls = (
        lambda: centred(three, rows),
        lambda: slope_within(three, three, rows),
        lambda: slope_within(three[:2], three, rows),
        lambda: expected_loss(three, np.ones(2)),
    )
    for call in calls:
        with pytest.raises(DataError, match=r"must have the shape \(2,\), not \(3,\)"):
            call()
