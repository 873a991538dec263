"""The losses of the literature: values worked out by hand or written out with numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from ssmrec.errors import ConfigError
from ssmrec.losses import LOSSES, Context
from ssmrec.losses.alignment import margined, uniformity
from ssmrec.losses.base import log_sum, shares
from ssmrec.losses.bsl import log_mean_by_user
from ssmrec.testing import toy

E = math.e
PAIR = torch.tensor([2.0], dtype=torch.float64), torch.tensor([[1.0, 0.0]], dtype=torch.float64)
"""Positive logit 2, negative logits 1 and 0."""


def value(loss, pos, neg, *rest, context=None):
    asked = {"context": context} if loss.needs_context else {}
    return loss(pos, neg, *rest, **asked)


@pytest.mark.parametrize(
    ("name", "config", "want"),
    [
        ("sl", {}, math.log(E + 1) - 2),
        ("bsl", {"exponent": 0.5}, 0.5 * math.log(E + 1) - 2),
        ("bsl", {"exponent": 0.5, "mode": "multi"}, 0.5 * math.log((E + 1) / 2) - 2),
        # similarities are the logits: relu(1 - 2) = 0, relu(1 - .4) = .6, relu(0 - .4) = 0
        ("ccl", {"margin": 0.4, "weight": 10}, 10 * (0.6 + 0) / 2),
        ("mmcl", {"margins": [0.4, 0.9], "weights": [0.5, 2], "neg_weight": 10}, 5 * (0.3 + 0.2)),
        # d = tau (s_j - s+) / 2 with tau 1: -1/2 and -1
        ("psl", {"temperature": 1, "surrogate": "exp"}, math.log(E**-0.5 + E**-1)),
        (
            "psl",
            {"temperature": 1, "surrogate": "tanh"},
            math.log(2 + math.tanh(-0.5) + math.tanh(-1)),
        ),
        (
            "psl",
            {"temperature": 1, "surrogate": "atan"},
            math.log(2 + math.atan(-0.5) + math.atan(-1)),
        ),
        ("psl", {"temperature": 1, "surrogate": "relu"}, math.log(0.5 + 1e-6)),
        ("sce", {"alpha": 3}, math.log(E**2 + 3 * E + 3) - 2),
        (
            "dcl",
            {"positive_rate": 0.1, "temperature": 1},
            # e + 1 - 0.1 * 2 * e^2 over 0.9, above the least 2 / e
            math.log(E**2 + (E + 1 - 0.2 * E**2) / 0.9) - 2,
        ),
        (
            "dcl",
            {"positive_rate": 0.5, "temperature": 1},
            math.log(E**2 + 2 / E) - 2,  # e + 1 - e^2 is negative: the least counts
        ),
        (
            "hcl",
            {"positive_rate": 0, "hardness": 1, "temperature": 1},
            math.log(E**2 + (E**2 + 1) / ((E + 1) / 2)) - 2,
        ),
        ("ihn", {"hardness": 2}, math.log(E**2 + (E**3 + 1) / ((E**2 + 1) / 2)) - 2),
        ("mscl", {"alpha": 0.6}, 0.4 * math.log(E**2 + E + 1) - 0.6 * 2),
    ],
)
def test_positive_2_negatives_1_and_0(attached, context, name, config, want):
    loss = attached(name, **config)
    got = value(loss, *PAIR, context=context(1, 2))
    assert got.item() == pytest.approx(want, rel=1e-6)


def test_dcl_has_its_least_below_all_logits_too(attached):
    """Inner products -3 and (-4, -3.5) at tau 0.5: G is 2 e^-2, far above e^-6. Without negatives: 0."""
    loss = attached("dcl", similarity="dot", temperature=0.5, positive_rate=0.1)
    pos = torch.tensor([-6.0, -1000.0], requires_grad=True)
    mask = torch.tensor([[False, False], [True, True]])
    got = loss(pos, torch.tensor([[-8.0, -7.0], [-8.0, -7.0]]), None, mask)
    want = math.log(E**-6 + 2 * E**-2) + 6
    assert got.tolist() == pytest.approx([want, 0], rel=1e-6)
    got.sum().backward()
    assert pos.grad[1] == 0


def test_psl_surrogates_inside_their_range(attached):
    """Cosines 0.5 and (0.1, -0.7) at tau 0.5: d = -0.2, -0.6, and each sigma squared."""
    pos = torch.tensor([0.5], dtype=torch.float64) / 0.5
    neg = torch.tensor([[0.1, -0.7]], dtype=torch.float64) / 0.5
    for surrogate, sigma in [
        ("tanh", lambda d: math.tanh(d) + 1),
        ("atan", lambda d: math.atan(d) + 1),
        ("relu", lambda d: d + 1),
    ]:
        loss = attached("psl", temperature=0.5, surrogate=surrogate)
        want = math.log(sigma(-0.2) ** 2 + sigma(-0.6) ** 2)
        assert loss(pos, neg).item() == pytest.approx(want, rel=1e-12)


def test_bsl_multi_averages_the_positives_of_a_user(attached):
    """Rows of users 7, 3, 7: log of the mean of e^1 and e^3 for the two rows of 7."""
    pos = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    users = torch.tensor([7, 3, 7])
    both = math.log((E + E**3) / 2)
    got = log_mean_by_user(pos, users)
    torch.testing.assert_close(got, torch.tensor([both, 2.0, both], dtype=torch.float64))
    neg = torch.zeros(3, 2, dtype=torch.float64)
    loss = attached("bsl", mode="multi", exponent=1.3)
    asked = Context(users, users, torch.arange(2))
    torch.testing.assert_close(loss(pos, neg, context=asked), -got)


def test_sl_at_k_weights_by_the_users_threshold(attached):
    """Similarity 0.4 (logit 2 at tau 0.2), thresholds 0.1 and 0.9, tau_beta 0.5."""
    loss = attached("sl_at_k", temperature=0.2, quantile_temperature=0.5)
    loss.threshold[3], loss.threshold[5] = 0.1, 0.9
    pos, neg = torch.tensor([2.0, 2.0]), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    asked = Context(torch.tensor([3, 5]), torch.tensor([0, 0]), torch.arange(2))
    sl = math.log(E + 1) - 2
    weights = [1 / (1 + math.exp(-0.3 / 0.5)), 1 / (1 + math.exp(0.5 / 0.5))]
    want = torch.tensor([weight * sl for weight in weights])
    pos, neg = pos.requires_grad_(), neg.requires_grad_()
    found = loss(pos, neg, context=asked)
    torch.testing.assert_close(found, want)
    found.sum().backward()  # the weight counts as a constant
    torch.testing.assert_close(pos.grad, -torch.tensor(weights))
    shares = torch.tensor([E, 1]) / (E + 1)
    torch.testing.assert_close(neg.grad, torch.tensor(weights)[:, None] * shares)


def test_gbce_by_hand(attached):
    """k = 2 of 29 other items, t = 0.75: beta = a (t (1 - 1/a) + 1/a) with a = 2 / 29."""
    alpha = 2 / 29
    beta = alpha * (0.75 * (1 - 1 / alpha) + 1 / alpha)
    positive = -math.log((1 / (1 + math.exp(-2))) ** beta)
    want = (positive + math.log(1 + E) + math.log(2)) / 3
    assert attached("gbce")(*PAIR).item() == pytest.approx(want, rel=1e-12)


def test_advinfonce_by_hand(attached):
    """Tables made so that <a_u, b_j> = log 3 and 0: p = 3/4, 1/4; k_neg 5, N 2."""
    loss = attached("advinfonce", k_neg=5, hardness_dim=1).double()
    with torch.no_grad():
        loss.hard_users[2], loss.hard_items[8], loss.hard_items[9] = 1.0, math.log(3), 0.0
    asked = Context(torch.tensor([2]), torch.tensor([1]), torch.tensor([8, 9]))
    want = math.log(E**2 + 10 * (0.75 * E + 0.25)) - 2
    assert loss(*PAIR, context=asked).item() == pytest.approx(want, rel=1e-12)
    own = Context(asked.users, asked.items, torch.tensor([[8, 9]]))
    assert loss(*PAIR, context=own).item() == pytest.approx(want, rel=1e-12)


def test_adap_tau_by_hand(attached):
    loss = attached("adap_tau").double()
    loss.w0.fill_(4.0)
    loss.weight[2] = 3.0
    pos = torch.tensor([0.5], dtype=torch.float64)
    neg = torch.tensor([[0.2, -0.4]], dtype=torch.float64)
    asked = Context(torch.tensor([2]), torch.tensor([1]), torch.tensor([8, 9]))
    want = math.log(math.exp(0.6) + math.exp(-1.2)) - 2.0
    assert loss(pos, neg, context=asked).item() == pytest.approx(want, rel=1e-12)
    at_one = math.log(math.exp(0.2) + math.exp(-0.4)) - 0.5
    assert loss.total[2].item() == pytest.approx(at_one) and loss.count[2].item() == 1
    empty = loss(pos, neg, None, torch.ones(1, 2, dtype=torch.bool), context=asked)
    assert empty.item() == 0  # and says nothing of the user's mean loss
    assert loss.total[2].item() == pytest.approx(at_one) and loss.count[2].item() == 1


def test_bc_by_hand(attached):
    """Cosine 0.6 at margin 0.3: cos(acos(0.6) + 0.3) = 0.6 cos 0.3 - 0.8 sin 0.3."""
    loss = attached("bc", temperature=0.5, bias_dim=1).double()
    inner = math.log(0.7 / 0.3)  # 1 - sigmoid(inner) = 0.3
    with torch.no_grad():
        loss.user_bias.fill_(1.0)
        loss.item_bias.fill_(inner)
    pos = torch.tensor([0.6], dtype=torch.float64) / 0.5
    neg = torch.tensor([[0.2, -0.4]], dtype=torch.float64) / 0.5
    asked = Context(torch.tensor([2]), torch.tensor([1]), torch.tensor([8, 9]))
    own = math.exp((0.6 * math.cos(0.3) - 0.8 * math.sin(0.3)) / 0.5)
    want = -math.log(own / (own + math.exp(0.4) + math.exp(-0.8)))
    assert loss(pos, neg, context=asked).item() == pytest.approx(want, rel=1e-9)


def test_popdcl_by_hand(attached, make_interactions):
    """Degrees of the items: 2, 1, 1. User 0 has items 0 and 1: pop(u) = 3 of 4 pairs."""
    train = make_interactions(np.array([[1, 1, 0], [1, 0, 1]]))
    loss = attached("popdcl", train, temperature=0.5).double()
    asked = Context(torch.tensor([0]), torch.tensor([0]), torch.tensor([2, 1]))
    pos, neg = np.array([0.6]), np.array([0.2, -0.4])
    omega = (3 - 1) / (4 - 1)
    up = 1 / (1 + math.exp(-2 / 3 * neg.mean()))
    down = omega / (1 - omega) * np.exp((pos - neg) / 0.5)
    own = math.exp((0.6 - up) / 0.5)
    others = np.exp((np.maximum(neg, 1e-7) - down) / 0.5).sum()
    want = -math.log(own / (own + others))
    got = loss(torch.from_numpy(pos) / 0.5, torch.from_numpy(neg)[None] / 0.5, context=asked)
    assert got.item() == pytest.approx(want, rel=1e-9)


def test_dpl_by_hand(attached):
    """sigma(2 - 1), sigma(2 - 0); other positives 2 and 3: sigma(0), sigma(-1)."""

    def sigma(x):
        return 1 / (1 + math.exp(-x))

    loss = attached("dpl", positive_rate=0.3)
    extra = torch.tensor([[2.0, 3.0]], dtype=torch.float64)
    asked = Context(torch.tensor([2]), torch.tensor([1]), torch.tensor([8, 9]), extra)
    right = (sigma(1) + sigma(2)) / 2 - 0.3 * (0.5 + sigma(-1)) / 2
    assert loss(*PAIR, context=asked).item() == pytest.approx(-math.log(right), rel=1e-12)
    low = torch.tensor([-30.0]), torch.tensor([[1.0, 0.0]])
    assert loss(*low, context=asked).item() == pytest.approx(-math.log(1e-2), rel=1e-6)
    loss.alone[2] = True
    without = -math.log((sigma(1) + sigma(2)) / 2)
    assert loss(*PAIR, context=asked).item() == pytest.approx(without, rel=1e-12)


def test_mscl_averages_further_positives(attached):
    extra = torch.tensor([[3.0, 1.0]], dtype=torch.float64)
    asked = Context(torch.tensor([2]), torch.tensor([1]), torch.tensor([8, 9]), extra)
    want = 0.4 * math.log(E**2 + E + 1) - 0.6 * (2 + 3 + 1) / 3
    got = attached("mscl", alpha=0.6, n_positives=2)(*PAIR, context=asked)
    assert got.item() == pytest.approx(want, rel=1e-12)


def unit(rows, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(rows, 3, generator=generator, dtype=torch.float64), dim=1)


def test_uniformity_is_that_of_pdist_and_repeats_count():
    rows = torch.cat([unit(5), unit(5)[:1]])
    want = torch.pdist(rows).pow(2).mul(-2).exp().mean().log()
    torch.testing.assert_close(uniformity(rows), want, rtol=1e-9, atol=1e-9)
    assert uniformity(rows[:1]).item() == 0
    opposite = torch.tensor([[1.0, 0], [-1, 0]])
    assert uniformity(opposite).item() == pytest.approx(-8)  # the farthest that two can be
    assert uniformity(opposite[[0, 0]]).item() == pytest.approx(0)


def test_directau_is_mean_alignment_plus_gamma_uniformity(attached):
    users, items = unit(6), unit(6, seed=1)
    asked = Context(torch.arange(6), torch.arange(6), torch.arange(6))
    got = attached("directau", gamma=2.0).from_vectors(users, items, asked).mean()
    align = (users - items).norm(dim=1).pow(2).mean()
    want = align + 2.0 * (uniformity(users) + uniformity(items)) / 2
    torch.testing.assert_close(got, want)


def test_mawu_by_hand(attached):
    """Angles 0 and pi/2 with m sums 0 and 1.5: margins 1/2 and 1 - sigmoid(1.5)."""
    loss = attached("mawu", gamma_users=0.5, gamma_items=0.25).double()
    with torch.no_grad():
        loss.user_margin[1], loss.item_margin[2] = 1.0, 0.5
    users = torch.tensor([[1.0, 0], [1, 0]], dtype=torch.float64)
    items = torch.tensor([[1.0, 0], [0, 1]], dtype=torch.float64)
    asked = Context(torch.tensor([0, 1]), torch.tensor([0, 2]), torch.arange(2))
    got = loss.from_vectors(users, items, asked)
    spread = 0.25 * -4  # users at one place: 0; items at distance sqrt 2: log e^{-4}
    margin = 1 - 1 / (1 + math.exp(-1.5))
    want = [spread - math.cos(0.5), spread - math.cos(math.pi / 2 + margin)]
    torch.testing.assert_close(got, torch.tensor(want, dtype=torch.float64), rtol=2e-3, atol=0)


def test_margin_stops_at_the_opposite_direction():
    cosine = torch.tensor([-0.9, 0.5], dtype=torch.float64)
    got = margined(cosine, torch.tensor([1.0, 0.0], dtype=torch.float64))
    torch.testing.assert_close(got, torch.tensor([-1.0, 0.5], dtype=torch.float64))


def test_log_q_turns_a_mean_into_that_over_the_catalogue(attached):
    """Items drawn 3, 1 and 1 times as often: the weights are 1/3, 1 and 1 over their sum."""
    log_q = torch.tensor([3.0, 1, 1]).log()
    weights = shares(torch.zeros(2, 3), log_q, torch.tensor([[False] * 3, [False, False, True]]))
    want = torch.tensor([[1 / 7, 3 / 7, 3 / 7], [1 / 4, 3 / 4, 0]])
    torch.testing.assert_close(weights, want)
    assert shares(torch.zeros(1, 2), None, torch.ones(1, 2, dtype=torch.bool)).tolist() == [[0, 0]]
    neg = torch.tensor([[0.9, 0.5, 0.7]])
    got = attached("ccl", margin=0.0, weight=1.0)(torch.tensor([1.0]), neg, log_q)
    assert got.item() == pytest.approx((0.9 + 3 * 0.5 + 3 * 0.7) / 7)


def test_log_sum_of_nothing_is_finite_and_flat():
    rows = torch.tensor([[1.0, 0.0], [-torch.inf, -torch.inf]], requires_grad=True)
    got = log_sum(rows)
    got.sum().backward()
    assert got[0].item() == pytest.approx(math.log(E + 1))
    assert got[1].isfinite() and rows.grad[1].tolist() == [0, 0]
    assert log_sum(torch.zeros(2, 0)).isfinite().all()


@pytest.mark.parametrize("name", [n for n in LOSSES if not LOSSES[n].on_vectors])
def test_half_precision_logits_give_the_float32_value_of_the_same_numbers(attached, context, name):
    """Also 2000 negatives: a running bfloat16 sum would have stopped long before."""
    generator = torch.Generator().manual_seed(5)
    pos = torch.rand(3, generator=generator).bfloat16()
    neg = torch.rand(3, 2000, generator=generator).bfloat16()
    loss, asked = attached(name), context(3, 2000, torch.zeros(3, 2))
    asked = Context(asked.users, asked.items, asked.negatives % toy().n_items, asked.extra)
    half, full = (
        value(loss, p, n, context=asked) for p, n in ((pos, neg), (pos.float(), neg.float()))
    )
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, full, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["sl", "psl", "sce", "ihn", "sl_at_k"])
@settings(max_examples=20, deadline=None)
@given(shift=st.floats(-20, 20), seed=st.integers(0, 1000))
def test_shift_of_all_scores(attached, logits, context, name, shift, seed):
    """Softmax losses on differences do not see it; SL@K does only through its weight."""
    pos, neg = logits(seed=seed)
    loss, asked = attached(name), context(6, 9)
    if name == "sl_at_k":
        moved = attached(name)
        moved.threshold += shift * moved.config.temperature
    else:
        moved = loss
    one = value(loss, pos, neg, context=asked)
    two = value(moved, pos + shift, neg + shift, context=asked)
    torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("mmcl", {"margins": [0.1, 0.2]}, "2 margins, but 3 weights"),
        ("psl", {"surrogate": "tan"}, "loss.surrogate"),
        ("ccl", {"temperature": 0.1}, "unknown key loss.temperature"),
        ("directau", {"similarity": "dot"}, "loss.similarity"),
        ("dcl", {"positive_rate": 1.0}, "loss.positive_rate"),
    ],
)
def test_settings_are_checked(attached, name, values, message):
    with pytest.raises(ConfigError, match=message):
        attached(name, **values)
