"""A battery for own parts: does this loss, sampler or backbone keep its contract?

    from ssmrec.testing import check_loss

    check_loss(MyLoss, temperature=0.1)

Every check raises `AssertionError` with a message that says what the part did wrong.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor
from torch.nn import functional as F

from ssmrec.config import build
from ssmrec.data import Interactions, Vocabulary
from ssmrec.losses import Loss
from ssmrec.models import Backbone, Vectors
from ssmrec.negatives import Batch, Negatives, Sampler

TEMPERATURES = (0.005, 0.1, 1.0, 10.0)

Case = tuple[Tensor, Tensor, Tensor | None, Tensor | None]


def toy(n_users: int = 12, n_items: int = 30, seed: int = 0) -> Interactions:
    """Small training data with the awkward cases in it.

    User 0 has all items but the last, the last user has none, and the last item has no user.
    """
    random = np.random.default_rng(seed)
    has = random.random((n_users, n_items)) < np.linspace(0.5, 0.1, n_items)
    has[np.arange(n_users), np.arange(n_users) % (n_items - 1)] = True
    has[0], has[-1], has[:, -1] = True, False, False
    users, items = (Vocabulary(pl.Series(range(n), dtype=pl.Int64)) for n in has.shape)
    user, item = np.nonzero(has)
    return Interactions.from_pairs(user, item, users, items)


def check_loss(cls: type[Loss], **settings: Any) -> None:
    """Values, gradients, masks and extreme inputs of a loss; `settings` are those of its `Config`.

    Raises:
        AssertionError: the loss breaks the contract of `ssmrec.losses.Loss`.
    """
    loss = cls(build(cls.Config, settings, "loss"))
    for temperature, dtype in product(TEMPERATURES, (torch.float32, torch.bfloat16)):
        _finite_rows(loss, _logits(5, 7, temperature, dtype), f"at temperature {temperature}")
    _finite_rows(loss, _logits(5, 0, 0.2), "without negatives")
    _finite_rows(loss, _logits(5, 1, 0.2), "with one negative")
    pos, neg, log_q, _ = _logits(5, 7, 0.2)
    _finite_rows(loss, (pos, neg, log_q, torch.ones(5, 7, dtype=torch.bool)), "with all masked")
    _order_and_mask(loss)
    _gradients(cls(loss.config).double())
    if hasattr(loss, "fused"):
        for temperature, in_batch in product(TEMPERATURES, (False, True)):
            _fused_is_plain(loss, temperature, in_batch)


def check_sampler(cls: type[Sampler], **settings: Any) -> None:
    """Range, repeatability, log q and masks of a sampler; `settings` are those of its `Config`.

    Raises:
        AssertionError: the sampler breaks the contract of `ssmrec.negatives.Sampler`.
    """
    train = toy()
    before = train.indptr.copy(), train.indices.copy()
    config = build(cls.Config, settings, "negatives")
    sampler = cls(config, train)
    order = np.random.default_rng(0).permutation(len(train))[:40]
    first_user = np.arange(train.n_items - 1)  # has all items but one: draws must still end
    for rows in (order, order[:1], first_user):
        user, item = train.rows[rows].astype(np.int64), train.indices[rows].astype(np.int64)
        batch = Batch(torch.from_numpy(user), torch.from_numpy(item))
        drawn, again = (sampler.draw(batch, np.random.default_rng(1)) for _ in range(2))
        for name in ("ids", "log_q", "masked"):
            one, other = getattr(drawn, name), getattr(again, name)
            same = one is other if one is None or other is None else torch.equal(one, other)
            assert same, f"equal generator states gave different {name}"
        _shapes(drawn, batch, train.n_items)
        if getattr(config, "exclude_known", False):
            _no_known_item(drawn, batch, train)
    same = all(map(np.array_equal, before, (train.indptr, train.indices)))
    assert same, "the sampler changed the training data"


def check_backbone(cls: type[Backbone], **settings: Any) -> None:
    """Rows, gradients, seeds and learning of a backbone; `settings` are those of its `Config`.

    Raises:
        AssertionError: the backbone breaks the contract of `ssmrec.models.Backbone`.
    """
    train = toy()
    config = build(cls.Config, settings, "model")

    def make(seed: int) -> Backbone:
        torch.manual_seed(int(np.random.default_rng().integers(2**31)))  # must not matter
        return cls(config, train, torch.Generator().manual_seed(seed))

    model = make(0)
    users, items = torch.tensor([7, 0, 11]), torch.tensor([3, 29, 0, 12])
    full = model.vectors()
    _same_rows(full, model.vectors(users, items), users, items)
    _same_rows(full, model.vectors(users=users), users, torch.arange(train.n_items))
    _same_rows(full, model.vectors(items=items), torch.arange(train.n_users), items)
    sizes = len(full.users), len(full.items)
    assert sizes == (12, 30), "vectors() must give a row for every user and item, cold ones too"
    _same_gradients(model, users, items)
    for mine, other in zip(model.parameters(), make(0).parameters(), strict=True):
        assert torch.equal(mine, other), "equal generators gave different initial weights"
    stranger = make(1)
    stranger.load_state_dict(model.state_dict())
    assert torch.equal(stranger.vectors().users, full.users), "vectors differ after load_state_dict"
    _learns(model, train)


def _logits(rows: int, n: int, temperature: float, dtype: torch.dtype = torch.float32) -> Case:
    """Cosine-range logits that include the extremes -1 and 1, log q, and a mask."""
    generator = torch.Generator().manual_seed(rows + n)
    pos = torch.rand(rows, generator=generator) * 2 - 1
    neg = torch.rand(rows, n, generator=generator) * 2 - 1
    pos[0], neg[0], pos[1], neg[1] = -1, 1, 1, -1
    log_q = torch.rand(n, generator=generator) - 2
    mask = torch.rand(rows, n, generator=generator) < 0.3
    return (pos / temperature).to(dtype), (neg / temperature).to(dtype), log_q, mask


def _grad(value: Tensor, *inputs: Tensor) -> list[Tensor]:
    """Gradients of a scalar, zeros for an input it does not depend on."""
    return list(torch.autograd.grad(value, inputs, allow_unused=True, materialize_grads=True))


def _finite_rows(loss: Loss, case: Case, when: str) -> None:
    pos, neg = case[0].requires_grad_(), case[1].requires_grad_()
    for log_q, mask in ((None, None), case[2:]):
        value = loss(pos, neg, log_q, mask)
        assert value.shape == pos.shape, f"{when}: {tuple(value.shape)} is not one value per row"
        assert value.isfinite().all(), f"{when}, {pos.dtype}: the loss is not finite"
        finite = all(grad.isfinite().all() for grad in _grad(value.sum(), pos, neg))
        assert finite, f"{when}, {pos.dtype}: the gradient is not finite"


def _order_and_mask(loss: Loss) -> None:
    pos, neg, log_q, mask = _logits(5, 7, 0.2)
    assert log_q is not None and mask is not None
    value = loss(pos, neg, log_q, mask)
    turn = torch.randperm(7, generator=torch.Generator().manual_seed(0))
    turned = loss(pos, neg[:, turn], log_q[turn], mask[:, turn])
    assert torch.allclose(value, turned, atol=1e-5), "the order of the negatives changes the loss"
    other = neg.masked_fill(mask, 37.0).requires_grad_()
    changed = loss(pos, other, log_q, mask)
    assert torch.allclose(value, changed, atol=1e-5), "masked negatives change the loss"
    (grad,) = _grad(changed.sum(), other)
    assert not grad[mask].any(), "masked negatives get a gradient"


def _gradients(loss: Loss) -> None:
    pos, neg, log_q, mask = _logits(3, 4, 0.5, torch.float64)
    inputs = (pos.requires_grad_(), neg.requires_grad_())
    for given in ((None, None), (log_q, mask)):
        right = torch.autograd.gradcheck(
            lambda p, n, given=given: loss(p, n, *given), inputs, raise_exception=False
        )
        assert right, "the gradient disagrees with finite differences"


def _fused_is_plain(loss: Any, temperature: float, in_batch: bool) -> None:
    generator = torch.Generator().manual_seed(3)
    u, pos, neg = (F.normalize(torch.randn(6, 8, generator=generator), dim=1) for _ in range(3))
    u, neg = (u / temperature).requires_grad_(), pos if in_batch else neg
    pos, neg = pos.requires_grad_(), neg.requires_grad_()
    masked = torch.tensor([[0, 0, 2, 5], [1, 3, 0, 2]])
    dense = Negatives(None if in_batch else torch.arange(6), None, masked).mask((6, 6))
    log_q = torch.rand(6, generator=generator) - 2
    fast = loss.fused(u, pos, neg, log_q, masked, in_batch)
    plain = loss((u * pos).sum(1), u @ neg.T, log_q, dense)
    close = torch.allclose(fast, plain, rtol=1e-4, atol=1e-5 / temperature)
    assert close, f"fused and plain values differ at temperature {temperature}"
    weight = torch.rand(6, generator=generator)
    grads = (_grad((value * weight).sum(), u, pos, neg) for value in (fast, plain))
    for one, other in zip(*grads, strict=True):
        close = torch.allclose(one, other, rtol=1e-3, atol=1e-4 / temperature)
        assert close, f"fused and plain gradients differ at temperature {temperature}"


def _shapes(drawn: Negatives, batch: Batch, n_items: int) -> None:
    ids = batch.items if drawn.ids is None else drawn.ids
    assert ids.dtype == torch.int64, f"ids must be int64, not {ids.dtype}"
    fits = ids.dim() == 1 or (ids.dim() == 2 and len(ids) == len(batch))
    assert fits, f"ids must be (N,) or (B, N), not {tuple(ids.shape)}"
    assert bool(((ids >= 0) & (ids < n_items)).all()), "ids beyond the catalogue"
    if drawn.log_q is not None:
        assert drawn.log_q.shape == ids.shape, "log_q must have the shape of ids"
        assert drawn.log_q.isfinite().all(), "log_q is not finite"
    if drawn.masked is not None:
        rows, columns = drawn.masked
        assert bool((rows[1:] >= rows[:-1]).all()), "masked pairs are not sorted by row"
        inside = (rows >= 0) & (rows < len(batch)) & (columns >= 0) & (columns < ids.shape[-1])
        assert bool(inside.all()), "masked pairs beyond the (B, N) candidates"


def _no_known_item(drawn: Negatives, batch: Batch, train: Interactions) -> None:
    ids = (batch.items if drawn.ids is None else drawn.ids).expand(len(batch), -1)
    mask = drawn.mask(tuple(ids.shape))  # type: ignore[arg-type]
    known = torch.zeros(train.n_users, train.n_items, dtype=torch.bool)
    known[torch.from_numpy(train.rows).long(), torch.from_numpy(train.indices).long()] = True
    found = known[batch.users[:, None], ids] & ~(torch.tensor(False) if mask is None else mask)
    assert not found.any(), "exclude_known is on, and an item the row's user has is a negative"


def _same_rows(full: Vectors, part: Vectors, users: Tensor, items: Tensor) -> None:
    for name, rows in (("users", users), ("items", items)):
        for side in (name, f"ego_{name}"):
            want, got = getattr(full, side)[rows], getattr(part, side)
            assert got.shape == want.shape, f"{side}: vectors of other rows than those asked for"
            assert got.isfinite().all(), f"{side}: vectors are not finite"
            same = torch.allclose(got, want, rtol=1e-4, atol=1e-6)
            assert same, f"{side}: vectors(users, items) and vectors() differ"


def _same_gradients(model: Backbone, users: Tensor, items: Tensor) -> None:
    def gradients(found: Vectors, user_at: Any, item_at: Any) -> list[Tensor]:
        value = found.users[user_at].sin().sum() + found.items[item_at].cos().sum()
        value = value + found.ego_users[user_at].pow(2).sum() + found.ego_items[item_at].sum()
        return _grad(value, *model.parameters())

    part = gradients(model.vectors(users, items), slice(None), slice(None))
    for one, other in zip(part, gradients(model.vectors(), users, items), strict=True):
        close = torch.allclose(one, other, rtol=1e-3, atol=1e-5)
        assert close, "gradients through vectors(users, items) and vectors() differ"


def _learns(model: Backbone, train: Interactions) -> None:
    """Softmax over all items on the toy data: the loss must fall well below a fair guess."""
    first = int(train.indptr[1])  # user 0 has everything, so there is nothing to learn of him
    best = float(np.log(train.user_degrees[train.rows[first:]]).mean())
    users, items = (torch.from_numpy(x[first:]).long() for x in (train.rows, train.indices))
    chance, reached = float(np.log(train.n_items)), float("inf")
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(60):
        found = model.vectors()
        loss = F.cross_entropy(found.users[users] @ found.items.T, items)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        reached = loss.item()
    assert reached < (best + chance) / 2, (
        f"does not learn: loss {reached:.2f} on toy data, chance {chance:.2f}, best {best:.2f}"
    )
