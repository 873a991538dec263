"""Logits and vectors in bfloat16: every loss is that of float32, but for the rounding of its inputs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ssmrec.config import build
from ssmrec.losses import LOSSES, Context, prepare
from ssmrec.testing import toy

HALF = torch.finfo(torch.bfloat16).eps / 2
"""Most by which rounding to bfloat16 moves a number, as a share of it."""
TEMPERATURES = [0.01, 0.1, 1.0, 10.0]
ROWS, OTHERS = 6, 5

ON_LOGITS = [name for name, loss in LOSSES.items() if not loss.on_vectors]
ON_VECTORS = [name for name, loss in LOSSES.items() if loss.on_vectors]


def made(name: str, temperature: float):
    """The loss at this temperature (if it has one), attached to the toy data."""
    cls = LOSSES[name]
    own = {"temperature": temperature} if "temperature" in cls.Config.model_fields else {}
    loss = cls(build(cls.Config, own, "loss"))
    loss.attach(toy(), torch.Generator().manual_seed(0))
    return loss


def context(n: int, extra: torch.Tensor | None = None) -> Context:
    train = toy()
    at = np.linspace(0, len(train) - 1, ROWS).astype(np.int64)
    users, items = (torch.from_numpy(x[at].astype(np.int64)) for x in (train.rows, train.indices))
    return Context(users, items, torch.arange(n) % train.n_items, extra)


def cosines(n: int, zero: bool = False) -> list[torch.Tensor]:
    """Cosines of positives, negatives and further items; the first rows hold the extremes."""
    random = torch.Generator().manual_seed(n)
    shapes = ((ROWS,), (ROWS, n), (ROWS, OTHERS))
    found = [2 * torch.rand(shape, generator=random) - 1 for shape in shapes]
    found[0][0], found[1][0], found[0][1], found[1][1] = -1, 1, 1, -1
    return [torch.zeros_like(part) for part in found] if zero else found


def value(loss, parts, corrected: bool) -> torch.Tensor:
    """Loss of each row; with log q and a mask, or without both."""
    pos, neg, extra = parts
    n = neg.shape[1]
    random = torch.Generator().manual_seed(7)
    log_q = torch.rand(n, generator=random) - 2 if corrected else None
    mask = torch.rand(ROWS, n, generator=random) < 0.3 if corrected else None
    asked = {"context": context(n, extra)} if loss.needs_context else {}
    return loss(pos, neg, log_q, mask, **asked)


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("name", ON_LOGITS)
def test_bfloat16_logits_give_the_float32_loss_of_the_same_numbers(name, temperature):
    """Without negatives, with one, with many; also of zero vectors. The loss sums in float32."""
    loss = made(name, temperature)
    for n, zero, corrected in ((0, False, False), (1, False, False), (1, False, True), (1, True, False),
                               (300, False, False), (300, False, True), (300, True, True)):  # fmt: skip
        short = [
            (part / loss.config.temperature).bfloat16().requires_grad_()
            for part in cosines(n, zero)
        ]
        out = value(loss, short, corrected)
        want = value(loss, [part.detach().float() for part in short], corrected)
        case = f"{n} negatives, zero {zero}, log q and mask {corrected}"
        assert out.dtype == torch.float32 and out.isfinite().all(), case
        torch.testing.assert_close(
            out, want, rtol=1e-5, atol=1e-5, msg=lambda m, c=case: f"{c}: {m}"
        )
        for grad in torch.autograd.grad(out.sum(), short, allow_unused=True):
            assert grad is None or grad.isfinite().all(), case


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("name", [name for name in ON_LOGITS if not LOSSES[name].holds_factors])
def test_rounding_of_the_logits_moves_the_loss_no_more_than_its_slope_says(name, temperature):
    """|f(rounded l) - f(l)| is at most the rounding times sum |df/dl| |l|; three times for the bend."""
    loss = made(name, temperature)
    exact = [(part / loss.config.temperature).requires_grad_() for part in cosines(40)]
    want = value(loss, exact, True)
    bound = torch.zeros(ROWS)
    for row in range(ROWS):
        grads = torch.autograd.grad(want[row], exact, retain_graph=True, allow_unused=True)
        moved = [(g * x).abs().sum() for g, x in zip(grads, exact, strict=True) if g is not None]
        bound[row] = HALF * sum(moved)
    out = value(loss, [part.detach().bfloat16() for part in exact], True)
    assert ((out - want).abs() <= 3 * bound + 1e-4).all()


@pytest.mark.parametrize("rows", [1, ROWS])
@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("name", ON_VECTORS)
def test_bfloat16_vectors_give_the_float32_loss_of_the_same_numbers(name, zero, rows):
    loss = made(name, 1.0)
    random = torch.Generator().manual_seed(3)
    sides = [torch.randn(rows, 8, generator=random) * (not zero) for _ in range(2)]
    short = [prepare(side.bfloat16(), loss.config.similarity).requires_grad_() for side in sides]
    whole = context(0)
    batch = Context(whole.users[:rows], whole.items[:rows], whole.items[:rows])
    out = loss.from_vectors(*short, batch)
    want = loss.from_vectors(*(side.detach().float() for side in short), batch)
    assert out.dtype == torch.float32 and out.isfinite().all()
    torch.testing.assert_close(out, want, rtol=1e-5, atol=1e-5)
    exact = loss.from_vectors(*(prepare(side, loss.config.similarity) for side in sides), batch)
    torch.testing.assert_close(out, exact, rtol=16 * HALF, atol=16 * HALF)
    for grad in torch.autograd.grad(out.sum(), short):
        assert grad.isfinite().all()
