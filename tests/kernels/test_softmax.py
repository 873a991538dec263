"""The in-place softmax kernel against the plain form in float64."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ssmrec.kernels import softmax
from ssmrec.kernels.softmax import SharedSoftmax, exp_rows, shared_softmax_reference

TEMPERATURES = [0.005, 0.1, 1.0, 10.0]


def compare(b, n, temperature, *, log_q=None, masked=None, in_batch=False, seed=0):
    """Values and weighted gradients of the kernel (float32) and of the definition (float64)."""
    generator = torch.Generator().manual_seed(seed)
    u, pos, neg = (F.normalize(torch.randn(k, 8, generator=generator), dim=1) for k in (b, b, n))
    u = u / temperature
    neg = pos if in_batch else neg
    weight = torch.rand(b, generator=generator) + 0.1
    mask = torch.zeros(b, len(neg), dtype=torch.bool)
    if masked is not None:
        mask[masked[0], masked[1]] = True
    if in_batch:
        mask.fill_diagonal_(True)
    found = []
    for dtype in (torch.float32, torch.float64):
        leaves = [x.to(dtype).requires_grad_() for x in ((u, pos) if in_batch else (u, pos, neg))]
        inputs = [*leaves, leaves[1]][:3]
        q = None if log_q is None else log_q.to(dtype)
        if dtype == torch.float32:
            value = SharedSoftmax.apply(*inputs, q, masked, in_batch)
        else:
            value = shared_softmax_reference(*inputs, q, mask)
        grads = torch.autograd.grad((value * weight.to(dtype)).sum(), leaves)
        found.append((value.detach(), *grads))
    scale = 1 / temperature
    for number, (got, want) in enumerate(zip(*found, strict=True)):
        assert got.dtype == torch.float32 and got.isfinite().all()
        # a logit of size 1 / temperature in float32 is off by up to 1e-7 of it
        torch.testing.assert_close(
            got.double(), want, rtol=1e-4, atol=4e-6 * max(scale, 1) * (scale if number else 1)
        )
    return found[0]


def pairs(b: int, n: int, share: float, seed: int = 5) -> torch.Tensor:
    drawn = np.random.default_rng(seed).random((b, n)) < share
    return torch.from_numpy(np.stack(np.nonzero(drawn)))


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("in_batch", [False, True])
@pytest.mark.parametrize("corrected", [False, True])
@pytest.mark.parametrize("some_masked", [False, True])
def test_equals_the_definition(temperature, in_batch, corrected, some_masked):
    n = 12 if in_batch else 17
    log_q = torch.linspace(-6, 1, n) if corrected else None
    masked = pairs(12, n, 0.3) if some_masked else None
    compare(12, n, temperature, log_q=log_q, masked=masked, in_batch=in_batch)


@pytest.mark.parametrize(("b", "n"), [(1, 1), (1, 7), (6, 1), (1, 0), (6, 0)])
def test_smallest_shapes(b, n):
    value = compare(b, n, 0.1)[0]
    assert (value == 0).all() == (n == 0)


def test_one_row_in_batch_has_no_negative():
    value, grad_u, grad_pos = compare(1, 1, 0.1, in_batch=True)
    assert value.item() == 0 and not grad_u.any() and not grad_pos.any()


@pytest.mark.parametrize("in_batch", [False, True])
def test_all_masked_is_zero_loss_and_zero_gradient(in_batch):
    value, *grads = compare(5, 5, 0.1, masked=pairs(5, 5, 1.1), in_batch=in_batch)
    assert (value == 0).all() and all(not grad.any() for grad in grads)


@pytest.mark.parametrize("in_batch", [False, True])
@pytest.mark.parametrize("temperature", [0.05, 1.0])
def test_blocks_of_rows_change_nothing(monkeypatch, in_batch, temperature):
    log_q, masked = torch.linspace(-3, 0, 13), pairs(13, 13, 0.2)
    settings = {"log_q": log_q, "masked": masked, "in_batch": in_batch}
    whole = compare(13, 13, temperature, **settings)
    monkeypatch.setattr(softmax, "KEEP", 8)
    for block in (1, 30, 60):  # rows per block: 1, 2 and 4, none of which divides 13 but the first
        monkeypatch.setattr(softmax, "_BLOCK", block)
        for got, want in zip(compare(13, 13, temperature, **settings), whole, strict=True):
            torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


def test_case_15_tiny_temperature():
    """Positive -1, negative +1 at 0.005: the loss is 400; the other way round it is below 1e-30."""
    one = torch.tensor([[1.0, 0.0]])
    for sign, want in ((-1, 400.0), (1, 0.0)):
        u = (one / 0.005).requires_grad_()
        value = SharedSoftmax.apply(u, sign * one, -sign * one, None, None, False)
        value.sum().backward()
        assert abs(value.item() - want) <= (1e-30 if want == 0 else 0)
        assert u.grad.isfinite().all()
        assert u.grad[0, 0].item() == pytest.approx(2.0 if want else 0.0, abs=1e-30)


def test_exponential_is_accurate_to_3e_7():
    """Through the kernel: with the positive at 0 as the peak, every entry becomes e^logit."""
    logits = np.linspace(-87, 0, 200_001, dtype=np.float32)[None, :]
    out, peak, total = logits.copy(), np.zeros(1, np.float32), np.ones(1, np.float32)
    nothing = np.empty(0, np.float32)
    starts, columns = np.zeros(2, np.int64), np.empty(0, np.int64)
    exp_rows(out, nothing, 0, False, starts, columns, peak, total)
    exact = np.exp(logits.astype(np.float64))
    assert peak[0] == 0
    assert np.max(np.abs(out - exact) / exact) < 3e-7
    assert total[0] == pytest.approx(exact.sum() + 1, rel=1e-5)


def test_a_masked_column_does_not_set_the_peak():
    """A masked logit of 1e30 must neither overflow nor push the others to zero."""
    u = torch.tensor([[1.0, 0.0]])
    neg = torch.tensor([[1e30, 0.0], [2.0, 0.0]])
    value = SharedSoftmax.apply(u, u.clone(), neg, None, torch.tensor([[0], [0]]), False)
    assert value.item() == pytest.approx(np.log1p(np.e), rel=1e-6)


def test_more_negatives_never_lower_the_loss():
    generator = torch.Generator().manual_seed(0)
    u, pos, neg = (torch.randn(k, 4, generator=generator) for k in (9, 9, 40))
    values = [SharedSoftmax.apply(u, pos, neg[:n], None, None, False) for n in (1, 10, 20, 40)]
    for fewer, more in pairwise(values):
        assert (more >= fewer - 1e-6).all()


@pytest.mark.parametrize("n", [3, 64, 200])
def test_one_candidate_that_is_no_number_makes_the_loss_of_its_rows_none(n):
    """A training that diverged must not go on looking well."""
    u, pos = torch.randn(4, 8), torch.randn(4, 8)
    neg = torch.randn(n, 8)
    neg[n // 2] = torch.nan
    assert SharedSoftmax.apply(u, pos, neg, None, None, False).isnan().all()
    masked = torch.tensor([[1], [n // 2]])
    found = SharedSoftmax.apply(u, pos, neg, None, masked, False)
    assert found.isnan().tolist() == [True, False, True, True]
