"""Does this loss keep its contract?"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ssmrec.config import build
from ssmrec.losses import Context, Loss, prepare
from ssmrec.models import Vectors
from ssmrec.negatives import Batch, Negatives
from ssmrec.testing.data import gradient, toy

TEMPERATURES = (0.005, 0.1, 1.0, 10.0)
_MANY = 600
"""Terms of which a sum in bfloat16 loses most: 256 + 1 is 256 there."""

_DISAGREES = (
    "the gradient disagrees with finite differences, which are taken in float64: a forward that casts down, as "
    "`.float()` does, or detaches, has no such gradient"
)
Case = tuple[Tensor, Tensor, Tensor | None, Tensor | None]


def check_loss(cls: type[Loss], **settings: Any) -> None:
    """Values, gradients, masks, hooks and extreme inputs; `settings` are those of its `Config`.

    Raises:
        AssertionError: the loss breaks the contract of `ssmrec.losses.Loss`.
    """
    config = build(cls.Config, settings, "loss")
    _hooks(cls, config)
    loss = _attached(cls, config)
    if cls.on_vectors:
        _on_vectors(loss)
        return
    for temperature, dtype in product(TEMPERATURES, (torch.float32, torch.bfloat16)):
        _finite_rows(loss, _logits(5, 7, temperature, dtype), f"at temperature {temperature}")
    _finite_rows(loss, _logits(5, 0, 0.2), "without negatives")
    _finite_rows(loss, _logits(5, 1, 0.2), "with one negative")
    pos, neg, log_q, _ = _logits(5, 7, 0.2)
    _finite_rows(loss, (pos, neg, log_q, torch.ones(5, 7, dtype=torch.bool)), "with all masked")
    _half_is_close(loss)
    _order_and_mask(loss)
    if not cls.holds_factors:
        _gradients(_attached(cls, config).double())
    if getattr(loss, "fused", None) is not None:
        for temperature, in_batch in product(TEMPERATURES, (False, True)):
            _fused_is_plain(loss, temperature, in_batch)


def _logits(rows: int, n: int, temperature: float, dtype: torch.dtype = torch.float32) -> Case:
    """Cosine-range logits that include the extremes -1 and 1, log q, and a mask."""
    generator = torch.Generator().manual_seed(rows + n)
    pos = torch.rand(rows, generator=generator) * 2 - 1
    neg = torch.rand(rows, n, generator=generator) * 2 - 1
    pos[0], neg[0], pos[1], neg[1] = -1, 1, 1, -1
    log_q = torch.rand(n, generator=generator) - 2
    mask = torch.rand(rows, n, generator=generator) < 0.3
    return (pos / temperature).to(dtype), (neg / temperature).to(dtype), log_q, mask


def _attached(cls: type[Loss], config: Any) -> Loss:
    """The loss, attached to the toy data."""
    loss = cls(config)
    loss.attach(toy(), torch.Generator().manual_seed(0))
    return loss


def _batch(rows: int) -> Batch:
    """Pairs spread over the toy data; the user of the first row has almost every item."""
    train = toy()
    at = np.linspace(0, len(train) - 1, rows).astype(np.int64)
    users, items = train.rows[at].astype(np.int64), train.indices[at].astype(np.int64)
    return Batch(torch.from_numpy(users), torch.from_numpy(items))


def _call(loss: Loss, case: Case, ids: Tensor | None = None) -> Tensor:
    """The loss of logits; with the context of a toy batch whose negatives are `ids` if it wants one."""
    pos, neg, log_q, mask = case
    if not loss.needs_context:
        return loss(pos, neg, log_q, mask)
    batch = _batch(len(pos))
    more = loss.more_items(batch, np.random.default_rng(0))
    extra = None if more is None else torch.linspace(-1, 1, more.numel()).view(more.shape).to(pos)
    negatives = torch.arange(neg.shape[1]) % toy().n_items if ids is None else ids
    context = Context(batch.users, batch.items, negatives, extra)
    return loss(pos, neg, log_q, mask, context=context)


def _hooks(cls: type[Loss], config: Any) -> None:
    """Equal generators attach equal state, `state_dict` holds all of it, epochs can begin."""
    one, other = _attached(cls, config), _attached(cls, config)
    for name, tensor in one.state_dict().items():
        same = torch.equal(tensor, other.state_dict()[name])
        assert same, f"equal generators gave different {name}"
    generator = torch.Generator().manual_seed(1)
    table = torch.randn(12 + 30, 4, generator=generator)
    vectors = Vectors(table[:12], table[12:], table[:12], table[12:])
    for epoch in range(1, 4):
        one.before_epoch(epoch, lambda: vectors)
    with torch.no_grad():
        one.after_step()
    batch = _batch(5)
    more, again = (one.more_items(batch, np.random.default_rng(3)) for _ in range(2))
    if more is not None and again is not None:
        assert torch.equal(more, again), "equal generator states named different items"
        fits = more.dtype == torch.int64 and more.dim() == 2 and len(more) == 5
        assert fits, f"more_items must be int64 (B, M), not {more.dtype} {tuple(more.shape)}"
        assert bool(((more >= 0) & (more < 30)).all()), "more_items beyond the catalogue"
    other.load_state_dict(one.state_dict())
    other.trains_model = one.trains_model
    if not cls.on_vectors:
        pos, neg, log_q, mask = _logits(5, 7, 0.2)
        values = [_call(loss, (pos, neg, log_q, mask)) for loss in (one, other)]
        assert torch.equal(*values), "the loss differs after load_state_dict"


def _on_vectors(loss: Loss) -> None:
    """Rows, their order, awkward vectors and gradients of a loss on vectors."""
    generator = torch.Generator().manual_seed(2)
    users, items = (torch.randn(5, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    batch = _batch(5)

    def value(users: Tensor, items: Tensor, rows: Tensor) -> Tensor:
        context = Context(batch.users[rows], batch.items[rows], batch.items[rows])
        similarity = loss.config.similarity
        return loss.from_vectors(prepare(users, similarity), prepare(items, similarity), context)

    rows, turn = torch.arange(5), torch.tensor([3, 0, 4, 1, 2])
    alike = users.clone()
    alike[1], alike[2] = alike[0], 0.0
    for dtype, given in product((torch.float32, torch.bfloat16), (users, alike)):
        for size in (5, 1):
            one, other = (x[:size].to(dtype).requires_grad_() for x in (given, items))
            found = value(one, other, rows[:size])
            assert found.shape == (size,), f"{tuple(found.shape)} is not one value per row"
            assert found.isfinite().all(), f"{dtype}, {size} rows: the loss is not finite"
            finite = all(grad.isfinite().all() for grad in gradient(found.sum(), one, other))
            assert finite, f"{dtype}, {size} rows: the gradient is not finite"
    turned = value(users[turn].float(), items[turn].float(), turn)
    straight = value(users.float(), items.float(), rows)[turn]
    assert torch.allclose(turned, straight, atol=1e-5), "the order of the rows changes the loss"
    loss.double()
    inputs = (users.requires_grad_(), items.requires_grad_())
    right = torch.autograd.gradcheck(lambda u, i: value(u, i, rows), inputs, raise_exception=False)
    assert right, _DISAGREES


def _finite_rows(loss: Loss, case: Case, when: str) -> None:
    pos, neg = case[0].requires_grad_(), case[1].requires_grad_()
    for log_q, mask in ((None, None), case[2:]):
        value = _call(loss, (pos, neg, log_q, mask))
        assert value.shape == pos.shape, f"{when}: {tuple(value.shape)} is not one value per row"
        assert value.isfinite().all(), f"{when}, {pos.dtype}: the loss is not finite"
        finite = all(grad.isfinite().all() for grad in gradient(value.sum(), pos, neg))
        assert finite, f"{when}, {pos.dtype}: the gradient is not finite"


def _half_is_close(loss: Loss) -> None:
    """bfloat16 logits give the float32 loss of the same numbers, within the rounding of bfloat16."""
    eps = torch.finfo(torch.bfloat16).eps
    for temperature, n in product(TEMPERATURES, (0, 1, _MANY)):
        pos, neg, log_q, mask = _logits(5, n, temperature, torch.bfloat16)
        for zero, corrected in product((False, True), repeat=2):
            p, q = (part * (not zero) for part in (pos, neg))
            counts, dropped = (log_q, mask) if corrected else (None, None)
            half = _call(loss, (p, q, counts, dropped)).float()
            whole = _call(loss, (p.float(), q.float(), counts, dropped))
            off = (half - whole).abs()
            assert bool((off <= eps * (1 + whole.abs() + 1 / temperature)).all()), (
                f"at temperature {temperature}, {n} negatives: bfloat16 logits move the loss by "
                f"{off.max().item():.3g}; take float32 before sums and exponentials"
            )


def _order_and_mask(loss: Loss) -> None:
    pos, neg, log_q, mask = _logits(5, 7, 0.2)
    assert log_q is not None and mask is not None
    value = _call(loss, (pos, neg, log_q, mask))
    turn = torch.randperm(7, generator=torch.Generator().manual_seed(0))
    turned = _call(loss, (pos, neg[:, turn], log_q[turn], mask[:, turn]), turn)
    assert torch.allclose(value, turned, atol=1e-5), "the order of the negatives changes the loss"
    other = neg.masked_fill(mask, 37.0).requires_grad_()
    changed = _call(loss, (pos, other, log_q, mask))
    assert torch.allclose(value, changed, atol=1e-5), "masked negatives change the loss"
    (grad,) = gradient(changed.sum(), other)
    assert not grad[mask].any(), "masked negatives get a gradient"


def _gradients(loss: Loss) -> None:
    pos, neg, log_q, mask = _logits(3, 4, 0.5, torch.float64)
    inputs = (pos.requires_grad_(), neg.requires_grad_())
    for given in ((None, None), (log_q, mask)):
        right = torch.autograd.gradcheck(
            lambda p, n, given=given: _call(loss, (p, n, given[0], given[1])),
            inputs,
            raise_exception=False,
        )
        assert right, _DISAGREES


def _fused_is_plain(loss: Any, temperature: float, in_batch: bool) -> None:
    generator = torch.Generator().manual_seed(3)
    u, pos, neg = (F.normalize(torch.randn(6, 8, generator=generator), dim=1) for _ in range(3))
    u, neg = (u / temperature).requires_grad_(), pos if in_batch else neg
    pos, neg = pos.requires_grad_(), neg.requires_grad_()
    masked = torch.tensor([[0, 0, 2, 5], [1, 3, 0, 2]])
    dense = Negatives(None if in_batch else torch.arange(6), None, masked).mask((6, 6))
    log_q = torch.rand(6, generator=generator) - 2
    plain = loss((u * pos).sum(1), u @ neg.T, log_q, dense)
    weight = torch.rand(6, generator=generator)
    wanted = gradient((plain * weight).sum(), u, pos, neg)
    for how, given in (("pairs", masked), ("a mask, as on a GPU", dense)):
        at = f"at temperature {temperature}, masked by {how}"
        fast = loss.fused(u, pos, neg, log_q, given, in_batch)
        close = torch.allclose(fast, plain, rtol=1e-4, atol=1e-5 / temperature)
        assert close, f"fused and plain values differ {at}"
        found = gradient((fast * weight).sum(), u, pos, neg)
        for one, other in zip(found, wanted, strict=True):
            close = torch.allclose(one, other, rtol=1e-3, atol=1e-4 / temperature)
            assert close, f"fused and plain gradients differ {at}"
