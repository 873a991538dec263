"""Weights of negatives: equal to autograd's gradients, and what is said of their spread."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ssmrec.analysis.weights import (
    WEIGHTS,
    concentration,
    histogram,
    temperature_grid,
    user_pulls,
    weight_curve,
    weight_peak,
)
from ssmrec.errors import ConfigError, DataError
from ssmrec.losses import LOSSES


@pytest.mark.parametrize("name", ["ssm", "bpr", "bce"])
@pytest.mark.parametrize("scale", [0.1, 3.0, 60.0])
def test_weights_are_the_gradients_of_the_losses(name, scale):
    random = np.random.default_rng(0)
    pos, neg = scale * random.normal(size=6), scale * random.normal(size=(6, 9))
    live = random.random((6, 9)) < 0.7
    live[0], live[1] = True, False
    log_q = random.normal(size=9) if name == "ssm" else np.zeros(9)
    loss = LOSSES[name](LOSSES[name].Config())
    logits = torch.tensor(neg, requires_grad=True)
    loss(torch.tensor(pos), logits, torch.tensor(log_q), torch.tensor(~live)).sum().backward()
    found = WEIGHTS[name](pos, neg - log_q, live)
    # torch's softplus is linear above 20, so its gradient is off by e^-20 there.
    assert found == pytest.approx(logits.grad.numpy(), rel=1e-8, abs=1e-14)
    assert (found[~live] == 0).all()


def test_ssm_weights_of_a_row_and_its_positive_add_up_to_one():
    found = WEIGHTS["ssm"](np.array([1.0]), np.array([[0.0, 2.0]]), np.ones((1, 2), bool))
    powers = np.exp([1.0, 0.0, 2.0])
    assert found[0] == pytest.approx(powers[1:] / powers.sum())


@pytest.mark.parametrize("temperature", [0.05, 0.2, 1.0])
def test_pulls_add_up_to_the_gradient_by_the_user(temperature):
    """Eq 10 to 12, against autograd through the normalisation."""
    random = np.random.default_rng(1)
    user, positive, negatives = (
        random.normal(size=5),
        random.normal(size=5),
        random.normal(size=(7, 5)),
    )
    u, p, n = (torch.tensor(v) for v in (user, positive, negatives))
    u.requires_grad_()
    unit = F.normalize(u, dim=0)
    scores = torch.cat([F.normalize(p, dim=0)[None], F.normalize(n, dim=1)]) @ unit / temperature
    (torch.logsumexp(scores, 0) - scores[0]).backward()
    pulls = user_pulls(user, positive, negatives, temperature)
    assert pulls.sum(0) == pytest.approx(u.grad.numpy(), rel=1e-9, abs=1e-12)
    # Lengths of the negatives' pulls go as g(x), Eq 13.
    x = (F.normalize(n, dim=1) @ unit).detach().numpy()
    ratio = np.linalg.norm(pulls[1:], axis=1) / weight_curve(x, temperature)
    assert ratio == pytest.approx(np.full(7, ratio[0]))


@pytest.mark.parametrize(("temperature", "peak"), [(0.1, 0.9512), (0.2, 0.9050)])
def test_the_curve_is_highest_at_its_peak(temperature, peak):
    assert weight_peak(temperature) == pytest.approx(peak, abs=5e-5)
    assert weight_peak(temperature) == pytest.approx(
        (np.sqrt(temperature**2 + 4) - temperature) / 2
    )
    x = np.linspace(-1, 1, 200_001)
    assert x[weight_curve(x, temperature).argmax()] == pytest.approx(
        weight_peak(temperature), abs=1e-5
    )
    assert weight_curve(np.array([-1.0, 1.0]), temperature).tolist() == [0, 0]


def test_concentration_of_equal_and_of_single_weights():
    live, hardness = np.ones((3, 200), bool), np.tile(np.arange(200.0), (3, 1))
    equal = concentration(np.full((3, 200), 0.25), hardness, live)
    assert equal["effective"] == pytest.approx(200) and equal["evenness"] == pytest.approx(1)
    assert [equal[f"hardest_{q}"] for q in (1, 5, 10)] == pytest.approx([0.01, 0.05, 0.1])
    assert equal["total"] == 50
    single = np.zeros((3, 200))
    single[:, -1] = 2  # the hardest one
    found = concentration(single, hardness, live)
    assert found["effective"] == 1 and found["entropy"] == 0 and found["hardest_1"] == 1
    assert concentration(single, -hardness, live)["hardest_10"] == 0


def test_concentration_by_hand_leaves_out_what_is_not_live():
    weights = np.array([[3.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    live = np.array([[True, True, False], [False, False, False]])
    found = concentration(weights, np.array([[1.0, 2.0, 9.0]] * 2), live)
    entropy = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
    assert found["entropy"] == pytest.approx(entropy)
    assert found["evenness"] == pytest.approx(entropy / np.log(2))
    assert found["hardest_10"] == 0.25  # one of two negatives, the one of hardness 2
    assert concentration(np.zeros((2, 3)), weights, live) == {}


def test_histogram_shares():
    edges = np.linspace(-1, 1, 5)
    assert histogram(np.array([-1.0, 0.1, 0.2, 1.0 + 1e-12]), edges).tolist() == [
        0.25,
        0,
        0.5,
        0.25,
    ]
    weighted = histogram(np.array([-0.9, 0.9]), edges, np.array([3.0, 1.0]))
    assert weighted.tolist() == [0.75, 0, 0, 0.25]
    assert histogram(np.array([]), edges).tolist() == [0, 0, 0, 0]


def test_temperature_grid_is_geometric_about_the_runs_own():
    grid = temperature_grid(0.2)
    assert grid[4] == 0.2 and grid[0] == pytest.approx(0.05) and grid[-1] == pytest.approx(0.8)


@pytest.mark.parametrize("temperature", [1e-8, 1e-4, 0.2, 1e8])
def test_the_curve_is_1_at_its_peak_at_any_temperature(temperature):
    peak = weight_peak(temperature)
    assert 0 < peak < 1 and weight_curve(np.array(peak), temperature) == pytest.approx(1)
    found = weight_curve(np.array([-1.1, -1, 0.9, 1, 1.1]), temperature)
    assert (found[[0, 1, 3, 4]] == 0).all() and 0 <= found[2] < 1


def test_the_curve_is_g_over_its_largest_value():
    x = np.array([-0.3, 0.4, 0.9])
    g = np.sqrt(1 - x**2) * np.exp(x / 0.2)
    assert weight_curve(x, 0.2) / weight_curve(x[:1], 0.2) == pytest.approx(g / g[0])


@pytest.mark.parametrize("temperature", [0, -0.1, float("nan"), float("inf")])
def test_a_temperature_that_is_none_is_refused(temperature):
    one = np.ones(2)
    for call in (
        lambda: weight_peak(temperature),
        lambda: weight_curve(np.array([0.5]), temperature),
        lambda: temperature_grid(temperature),
        lambda: user_pulls(one, one, one[None], temperature),
    ):
        with pytest.raises(ConfigError, match="temperature must be above 0 and finite, not"):
            call()


def test_vectors_and_weights_that_are_none_are_refused():
    one, zero = np.ones(2), np.zeros(2)
    for vectors in ((zero, one, one[None]), (one, zero, one[None]), (one, one, zero[None])):
        with pytest.raises(DataError, match="length zero has no cosine"):
            user_pulls(*vectors, 0.2)
    live = np.array([[True, False]])
    for weights in ([[-1.0, 0.0]], [[1.0, 0.5]]):
        with pytest.raises(DataError, match="at least 0, and 0 where a candidate is not live"):
            concentration(np.array(weights), np.ones((1, 2)), live)
    with pytest.raises(DataError, match="at least 0, and 0 where"):
        concentration(np.array([[np.nan, 0.0]]), np.ones((1, 2)), live)
    with pytest.raises(DataError, match=r"hardness must have the shape \(1, 2\), not \(2,\)"):
        concentration(np.array([[1.0, 0.0]]), np.ones(2), live)


@pytest.mark.parametrize("name", WEIGHTS)
def test_masks_and_logits_of_other_shapes_are_refused(name):
    pos, neg, live = np.ones(2), np.zeros((2, 3)), np.ones((2, 3), bool)
    with pytest.raises(DataError, match="live must be bool, not int64"):
        WEIGHTS[name](pos, neg, live.astype(int))
    with pytest.raises(DataError, match=r"pos must have the shape \(2,\), not \(1,\)"):
        WEIGHTS[name](pos[:1], neg, live)


def test_a_histogram_shares_out_numbers_only():
    edges, values = np.linspace(-1, 1, 5), np.array([0.1, 0.2])
    for bad, weights, message in (
        (np.array([0.1, np.nan]), None, "values of a histogram must be numbers"),
        (values, np.array([1.0, -1.0]), "the weight of value 1 is -1.0, and must be at least 0"),
        (values, np.ones(3), r"weights must have the shape \(2,\), not \(3,\)"),
    ):
        with pytest.raises(DataError, match=message):
            histogram(bad, edges, weights)
