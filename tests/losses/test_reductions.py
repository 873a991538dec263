"""At the settings where one loss becomes another, the two agree in value and gradient."""

from __future__ import annotations

import math

import pytest
import torch

from ssmrec.losses import Context
from ssmrec.losses.base import PlainLossConfig

SSM = ("ssm", {})
PAIRS = {
    "BSL with exponent 1 is SL": (("bsl", {"exponent": 1.0}), ("sl", {})),
    "SCE with alpha 1 is SSM": (("sce", {"alpha": 1.0}), SSM),
    "MMCL with one margin is CCL": (
        ("mmcl", {"margins": [0.4], "weights": [1.0], "pos_weight": 1.0, "neg_weight": 30.0}),
        ("ccl", {"margin": 0.4, "weight": 30.0}),
    ),
    "HCL with beta 0 is DCL": (("hcl", {"hardness": 0.0}), ("dcl", {})),
    "DCL with tau+ 0 is SSM": (("dcl", {"positive_rate": 0.0, "temperature": 0.01}), SSM),
    "HCL with tau+ 0 is IHN": (
        ("hcl", {"hardness": 0.7, "positive_rate": 0.0, "temperature": 0.01}),
        ("ihn", {"hardness": 0.7}),
    ),
    "IHN with beta 0 is SSM": (("ihn", {"hardness": 0.0}), SSM),
    "gBCE with t 0 is BCE": (("gbce", {"calibration": 0.0}), ("bce", {})),
    "PSL with exp is SL at twice the temperature": (
        ("psl", {"temperature": 0.3, "surrogate": "exp"}),
        ("sl", {}, 0.5),
    ),
}


def same(one, other):
    """Values and gradients by both inputs of two functions of logits agree."""
    results = []
    for function in (one, other):
        generator = torch.Generator().manual_seed(4)
        pos, neg = torch.randn(6, generator=generator), torch.randn(6, 9, generator=generator)
        inputs = [x.double().requires_grad_() for x in (pos, neg)]
        rows = function(*inputs)
        results.append([rows, *torch.autograd.grad(rows.sum(), inputs)])
    for mine, theirs in zip(*results, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-9)


@pytest.fixture
def call(attached, context):
    """`call(name, settings, scale)`: that loss as a function of logits (times scale)."""

    def function(name, settings, scale=1.0, prepare=None, **more):
        loss = attached(name, **settings).double()
        if prepare is not None:
            prepare(loss)
        asked = {"context": context(6, 9, more.get("extra"))} if loss.needs_context else {}
        log_q, mask = more.get("log_q"), more.get("mask")
        return lambda pos, neg: loss(scale * pos, scale * neg, log_q, mask, **asked)

    return function


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("masked", [False, True])
def test_pair(call, pair, masked):
    mask = torch.rand(6, 9, generator=torch.Generator().manual_seed(8)) < 0.4 if masked else None
    one, other = PAIRS[pair]
    same(call(*one, mask=mask), call(*other, mask=mask))


@pytest.mark.parametrize("pair", ["DCL with tau+ 0 is SSM", "HCL with tau+ 0 is IHN"])
def test_debiased_losses_take_log_q(call, pair):
    log_q = torch.linspace(-2, 1, 9, dtype=torch.float64)
    one, other = PAIRS[pair]
    same(call(*one, log_q=log_q), call(*other, log_q=log_q))


def test_sce_with_one_share_of_the_catalogue_is_uniform_log_q(call):
    """alpha = n_items / N: 30 items, 9 negatives."""
    log_q = torch.full((9,), math.log(9 / 30), dtype=torch.float64)
    same(call("sce", {"alpha": 30 / 9}), call("ssm", {}, log_q=log_q))


def test_advinfonce_with_equal_weights_is_ssm(call):
    def equal(loss):
        loss.hard_users.data.zero_()

    mask = torch.arange(54).view(6, 9) % 4 == 0
    for given in (None, mask):
        same(
            call("advinfonce", {"k_neg": 1.0}, prepare=equal, mask=given),
            call("ssm", {}, mask=given),
        )


def test_bc_without_margin_is_ssm(call):
    """Inner products of 2000 leave a margin of 0; the similarities lie inside -1 to 1."""

    def no_margin(loss):
        loss.user_bias.data.fill_(10.0)
        loss.item_bias.data.fill_(10.0)

    settings = {"bias_dim": 20, "temperature": 0.2}
    same(call("bc", settings, prepare=no_margin), call(*SSM))


def test_dpl_without_correction_is_bpr_with_one_negative(call, logits):
    settings = {"positive_rate": 0.0, "least": 1e-9}
    extra = torch.zeros(6, 2, dtype=torch.float64)

    def first(function):
        return lambda pos, neg: function(pos, neg[:, :1])

    same(first(call("dpl", settings, extra=extra)), first(call("bpr", {})))


def test_sl_at_k_with_weight_1_is_sl(call):
    def far_below(loss):
        loss.threshold.fill_(-1e4)

    same(call("sl_at_k", {}, prepare=far_below), call("sl", {}))


def test_mscl_with_equal_weights_is_half_of_ssm(call):
    ssm = call(*SSM)
    same(call("mscl", {"alpha": 0.5}), lambda pos, neg: 0.5 * ssm(pos, neg))


def test_adap_tau_with_one_weight_is_sl_at_that_temperature(call):
    def common(loss):
        loss.w0.fill_(2.5)
        loss.weight.fill_(2.5)

    same(call("adap_tau", {}, prepare=common), call("sl", {}, 2.5))


def test_ssm_with_one_negative_is_every_softmax_pair(call):
    """SSM, SCE at alpha 1 and IHN at any beta: one negative's weight is 1."""

    def first(function):
        return lambda pos, neg: function(pos, neg[:, :1])

    for name, settings in (("sce", {"alpha": 1.0}), ("ihn", {"hardness": 3.0}), ("bpr", {})):
        same(first(call(name, settings)), first(call(*SSM)))


def test_popdcl_without_corrections_is_ssm_at_a_shifted_positive(attached):
    """A user with one item of degree 1: pop(u) = 1, omega 0, so no M_j; M+ = sigmoid(mean s)."""
    loss = attached("popdcl", temperature=0.5).double()
    loss.mass.fill_(1.0)
    loss.popularity.fill_(1.0)
    users = torch.zeros(3, dtype=torch.int64)
    asked = Context(users, users, torch.arange(4))
    pos = torch.tensor([0.3, -0.2, 0.9], dtype=torch.float64) / 0.5
    neg = torch.rand(3, 4, dtype=torch.float64) / 0.5  # positive similarities: no clamp
    shifted = pos - torch.sigmoid(0.5 * neg.mean(1)) / 0.5
    torch.testing.assert_close(loss(pos, neg, context=asked), attached("ssm")(shifted, neg))


def test_losses_on_similarities_have_no_temperature():
    assert PlainLossConfig.temperature == 1.0
    assert "temperature" not in PlainLossConfig().model_dump()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("in_batch", [False, True])
@pytest.mark.parametrize("size", [1, 5])
def test_kernel_form_of_bsl(attached, in_batch, size, dtype):
    """With every negative of row 0 masked, with log q, and for a batch that has no other row.

    There is no kernel for float64, nor on a GPU for the longest vectors with one more number.
    """
    generator = torch.Generator().manual_seed(size)
    u, pos, neg = (torch.randn(size, 4, generator=generator, dtype=dtype) for _ in range(3))
    u, neg = (5 * u).requires_grad_(), pos if in_batch else neg
    masked = torch.stack([torch.zeros(size, dtype=torch.int64), torch.arange(size)])
    log_q = torch.linspace(-3, 2, size)
    loss = attached("bsl", exponent=1.3)
    dense = torch.zeros(size, size, dtype=torch.bool)
    dense[0] = True
    dense |= torch.eye(size, dtype=torch.bool) if in_batch else False
    results = []
    for rows in (
        loss.fused(u, pos, neg, log_q, masked, in_batch),
        loss((u * pos).sum(1), u @ neg.T, log_q, dense),
    ):
        results.append((rows, *torch.autograd.grad(rows.sum(), u)))
    assert results[0][0][0] == 0 and not results[0][1][0].any()
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
