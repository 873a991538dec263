"""Losses: hand values, closed-form gradients, torch's own functions; the public battery on all."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from operations import operations
from ssmrec.config import build
from ssmrec.errors import ConfigError
from ssmrec.losses import LOSSES, Context, Loss, corrected, prepare
from ssmrec.losses.base import live
from ssmrec.testing import check_loss, toy


def make(name: str, **values):
    return LOSSES[name](build(LOSSES[name].Config, values, "loss"))


def logits(rows: int = 6, n: int = 9, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    pos = 3 * torch.randn(rows, generator=generator, dtype=torch.float64)
    neg = 3 * torch.randn(rows, n, generator=generator, dtype=torch.float64)
    return pos.requires_grad_(), neg.requires_grad_()


@pytest.mark.parametrize("name", LOSSES)
def test_battery(name):
    check_loss(LOSSES[name])


@pytest.mark.parametrize(
    ("name", "config"), [*((name, {}) for name in LOSSES), ("bsl", {"mode": "multi"})]
)
def test_gradients_are_added_up_in_one_order(attached, context, name, config):
    """None goes back through indexing: rows that occur again would be added as threads come to them."""
    loss, asked = attached(name, **config), context(6, 9)
    loss.before_epoch(1, lambda: pytest.fail("no vectors are needed")) if name == "bc" else None
    pos, neg = (x.detach().float().requires_grad_() for x in logits())
    if loss.on_vectors:
        value = loss.from_vectors(neg, neg.flip(0), asked)
    else:
        value = loss(pos, neg, **({"context": asked} if loss.needs_context else {}))
    names = operations(value)
    assert len(names) > 2 and "IndexBackward0" not in names


@pytest.mark.parametrize(
    ("name", "want"),
    [
        ("ssm", math.log(math.e**2 + math.e + 1) - 2),
        ("softmax", math.log(math.e**2 + math.e + 1) - 2),
        ("bpr", (math.log1p(math.exp(-1)) + math.log1p(math.exp(-2))) / 2),
        ("bce", (math.log1p(math.exp(-2)) + math.log1p(math.e) + math.log(2)) / 3),
    ],
)
def test_positive_2_negatives_1_and_0(name, want):
    value = make(name)(torch.tensor([2.0]), torch.tensor([[1.0, 0.0]]))
    assert value.item() == pytest.approx(want, rel=1e-6)


@pytest.mark.parametrize("name", ["ssm", "softmax"])
def test_ssm_gradient_is_the_softmax_weight(name):
    """dL/dl_j = w_j, dL/dl+ = -(sum of w_j), with w the softmax of positive and negatives."""
    pos, neg = logits()
    make(name)(pos, neg).sum().backward()
    weight = torch.softmax(torch.cat([pos[:, None], neg], 1), dim=1)[:, 1:]
    torch.testing.assert_close(neg.grad, weight, rtol=1e-12, atol=0)
    torch.testing.assert_close(pos.grad, -weight.sum(1), rtol=1e-12, atol=0)


def test_bpr_equals_torch_logsigmoid_and_its_gradient():
    pos, neg = logits()
    value = make("bpr")(pos, neg)
    torch.testing.assert_close(value, -F.logsigmoid(pos[:, None] - neg).mean(1))
    value.sum().backward()
    torch.testing.assert_close(neg.grad, torch.sigmoid(neg - pos[:, None]) / 9)


def test_bce_equals_torch_binary_cross_entropy():
    pos, neg = logits()
    both = torch.cat([pos[:, None], neg], dim=1)
    target = torch.zeros_like(both)
    target[:, 0] = 1
    want = F.binary_cross_entropy_with_logits(both, target, reduction="none").mean(1)
    torch.testing.assert_close(make("bce")(pos, neg), want)


def test_masked_negatives_leave_the_mean_too():
    """BPR and BCE divide by the negatives that count, and nothing is left of an empty row."""
    pos, neg = logits(rows=2, n=4)
    mask = torch.tensor([[False, True, False, True], [True] * 4])
    for name in ("bpr", "bce"):
        loss = make(name)
        value = loss(pos, neg, None, mask)
        kept = loss(pos[:1], neg[:1, [0, 2]])
        torch.testing.assert_close(value[:1], kept)
        empty = 0.0 if name == "bpr" else F.softplus(-pos[1]).item()
        assert value[1].item() == pytest.approx(empty)
    assert live(neg, mask).tolist() == [2, 0]
    assert live(neg, None).tolist() == [4, 4]


def test_ssm_with_one_negative_is_bpr():
    pos, neg = logits(n=1)
    torch.testing.assert_close(make("ssm")(pos, neg), make("bpr")(pos, neg))


def test_full_softmax_is_cross_entropy_over_the_catalogue():
    scores = torch.randn(5, 11, dtype=torch.float64)
    target = torch.tensor([0, 10, 3, 3, 7])
    mask = F.one_hot(target, 11).bool()
    value = make("softmax")(scores[mask], scores, None, mask)
    torch.testing.assert_close(value, F.cross_entropy(scores, target, reduction="none"))


def test_case_12_log_q_is_subtracted():
    """Equal scores 0, q = (0.5, 0.1): logits (0.69315, 2.30259), softmax (0.16667, 0.83333)."""
    out = corrected(torch.zeros(1, 2), torch.tensor([0.5, 0.1]).log(), None)
    torch.testing.assert_close(out, torch.tensor([[0.69315, 2.30259]]), rtol=0, atol=1e-5)
    torch.testing.assert_close(out.softmax(1), torch.tensor([[1 / 6, 5 / 6]]))


def test_case_13_same_user_twice_in_the_batch():
    scores = torch.tensor([[2.0, 1, 0], [1, 2, 0], [0.5, 0.5, 1]])
    own = torch.eye(3, dtype=torch.bool)
    known = own.clone()
    known[0, 1] = known[1, 0] = True
    value = make("ssm")(scores.diagonal(), scores, None, known)
    want = torch.tensor([0.12693, 0.12693, 0.79438])
    torch.testing.assert_close(value, want, rtol=0, atol=1e-5)
    assert value.mean().item() == pytest.approx(0.34941, abs=1e-5)
    plain = make("ssm")(scores.diagonal(), scores, None, own)
    assert plain.mean().item() == pytest.approx(0.53653, abs=1e-5)


def test_case_14_a_repeated_item_counts_once_for_its_own_rows_and_twice_for_others():
    """Columns (a, a, c), scores all 0: rows 1 and 2 hold a and c, row 3 holds c, a, a."""
    mask = torch.tensor([[1, 1, 0], [1, 1, 0], [0, 0, 1]], dtype=torch.bool)
    value = make("ssm")(torch.zeros(3), torch.zeros(3, 3), None, mask)
    torch.testing.assert_close(value, torch.tensor([2.0, 2.0, 3.0]).log())


def test_case_15_tiny_temperature():
    for name in ("ssm", "bpr"):
        for sign, want in ((-1, 400.0), (1, 0.0)):
            pos = torch.tensor([sign / 0.005], requires_grad=True)
            neg = torch.tensor([[-sign / 0.005]], requires_grad=True)
            value = make(name)(pos, neg)
            value.sum().backward()
            assert value.item() == pytest.approx(want, abs=1e-30)
            assert pos.grad.isfinite().all() and neg.grad.isfinite().all()


@pytest.mark.parametrize("name", ["ssm", "softmax", "bpr", "bce"])
def test_half_precision_logits_are_summed_in_float32(name):
    """1000 equal bfloat16 negatives: a running bfloat16 sum would stop at 256."""
    pos, neg = torch.zeros(1, dtype=torch.bfloat16), torch.zeros(1, 1000, dtype=torch.bfloat16)
    value = make(name)(pos, neg)
    want = math.log(1001) if name in ("ssm", "softmax") else math.log(2)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(want, rel=1e-5)


@settings(max_examples=50, deadline=None)
@given(st.floats(-50, 50), st.integers(0, 1000))
def test_ssm_depends_on_differences_only(shift, seed):
    pos, neg = logits(seed=seed)
    loss = make("ssm")
    torch.testing.assert_close(loss(pos + shift, neg + shift), loss(pos, neg), rtol=0, atol=1e-9)


def test_cosine_is_unit_length_and_zero_stays_zero():
    vectors = torch.tensor([[3.0, 4.0], [0.0, 0.0], [1e-6, 0.0]], requires_grad=True)
    out = prepare(vectors, "cosine")
    torch.testing.assert_close(out, torch.tensor([[0.6, 0.8], [0.0, 0.0], [1.0, 0.0]]))
    out.sum().backward()
    assert vectors.grad.isfinite().all()
    assert prepare(vectors, "dot") is vectors
    with pytest.raises(ConfigError, match="unknown similarity 'cos', did you mean 'cosine'"):
        prepare(vectors, "cos")  # type: ignore[arg-type]


def test_defaults_of_each_family():
    shared = {"similarity": "cosine", "prefixes": (), "temperature": 0.2}
    assert make("ssm").config.model_dump() == shared
    assert make("bpr").config.model_dump() == shared | {"similarity": "dot", "temperature": 1.0}
    assert LOSSES["softmax"].default_negatives == {"name": "all"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"temperature": 0.0}, "loss.temperature: must be above 0"),
        ({"temprature": 0.1}, "unknown key loss.temprature, did you mean 'loss.temperature'"),
        ({"similarity": "euclid"}, "loss.similarity"),
    ],
)
@pytest.mark.parametrize("name", ["ssm", "bpr"])
def test_settings_are_checked(name, values, message):
    with pytest.raises(ConfigError, match=message):
        make(name, **values)


def test_numpy_agrees_on_random_input():
    """SSM with log q and mask, written out with numpy in float64."""
    pos, neg = logits(seed=3)
    log_q = torch.linspace(-2, 1, 9, dtype=torch.float64)
    mask = torch.arange(54).view(6, 9) % 4 == 0
    p, l = pos.detach().numpy(), neg.detach().numpy() - log_q.numpy()  # noqa: E741
    e = np.where(mask.numpy(), 0, np.exp(l)).sum(1)
    want = np.log(np.exp(p) + e) - p
    np.testing.assert_allclose(make("ssm")(pos, neg, log_q, mask).detach(), want, rtol=1e-12)


def in_a_loop(loss: Loss, context: Context | None, pos, neg) -> torch.Tensor:
    """What a training loop of one's own does with a loss."""
    if loss.on_vectors:
        assert context is not None
        vectors = F.normalize(neg.float(), dim=1)
        return loss.from_vectors(vectors, vectors, context)
    return loss(pos, neg, context=context) if loss.needs_context else loss(pos, neg)


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_that_needs_the_training_pairs_says_so(name):
    loss, (pos, neg) = make(name), logits()
    at = torch.arange(len(pos))
    context = Context(at, at, torch.arange(neg.shape[1]), neg if name == "dpl" else None)
    if LOSSES[name].attach is not Loss.attach and name != "mscl":  # which draws with them only
        with pytest.raises(ConfigError, match=r"after loss.attach\(train, generator\)$"):
            in_a_loop(loss, context, pos, neg)
    loss.attach(toy(), torch.Generator().manual_seed(0))
    assert in_a_loop(loss, context, pos, neg).isfinite().all()


@pytest.mark.parametrize("name", [n for n in LOSSES if LOSSES[n].needs_context and n != "bsl"])
def test_a_loss_that_needs_a_context_says_so(name):
    with pytest.raises(ConfigError, match=r"call loss.attach\(.*context=Context\("):
        make(name)(*logits())


@pytest.mark.parametrize("name", [n for n in LOSSES if LOSSES[n].on_vectors])
def test_a_loss_on_vectors_says_what_to_call(name):
    with pytest.raises(ConfigError, match=r"call loss.attach\(.*loss.from_vectors\("):
        make(name)(*logits())


def test_what_a_loss_lacks_is_still_an_attribute_error():
    loss = make("popdcl")
    assert not hasattr(loss, "fused") and getattr(loss, "mass", None) is None
    with pytest.raises(AttributeError, match="PopDCL has no 'mass'"):
        _ = loss.mass
    with pytest.raises(AttributeError, match="object has no attribute 'mass'"):
        _ = make("bpr").mass
