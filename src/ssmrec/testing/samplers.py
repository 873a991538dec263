"""Does this sampler keep its contract?"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ssmrec.config import build
from ssmrec.data import Interactions
from ssmrec.negatives import Batch, Negatives, Sampler, kept
from ssmrec.testing.data import toy


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
        if sampler.chooses:
            drawn = _choice(sampler, drawn, batch)
            _shapes(drawn, batch, train.n_items)
        if sampler.mixes:
            _mixture(sampler, drawn, batch)
        if getattr(config, "exclude_known", False):
            _no_known_item(drawn, batch, train)
    same = all(map(np.array_equal, before, (train.indptr, train.indices)))
    assert same, "the sampler changed the training data"


def _choice(sampler: Sampler, drawn: Negatives, batch: Batch) -> Negatives:
    """What the sampler keeps of its draw under random scores."""
    assert drawn.ids is not None, "a sampler that chooses must draw ids"
    shape = len(batch), drawn.ids.shape[-1]
    generator = torch.Generator().manual_seed(0)
    scores, mask = torch.randn(shape, generator=generator), drawn.mask(shape)
    if mask is not None:
        scores = scores.masked_fill(mask, -torch.inf)
    columns = sampler.choose(torch.randn(shape[0], generator=generator), scores)
    assert columns.dtype == torch.int64 and columns.dim() == 2, "choose must give int64 (B, n)"
    assert len(columns) == len(batch), "choose must give one row of columns per row of the batch"
    assert bool(((columns >= 0) & (columns < shape[1])).all()), "choose names columns that are not"
    twice = columns.sort(1).values
    assert bool((twice[:, 1:] != twice[:, :-1]).all()), "choose keeps a candidate twice"
    return kept(drawn, columns, mask)


def _mixture(sampler: Sampler, drawn: Negatives, batch: Batch) -> None:
    """What the sampler makes of random vectors of its draws in two layers."""
    assert drawn.ids is not None and drawn.ids.dim() == 2, (
        "a sampler that mixes must draw (B, N) ids"
    )
    size, n = drawn.ids.shape
    generator = torch.Generator().manual_seed(0)
    users, positives = (torch.randn(size, 2, 5, generator=generator) for _ in range(2))
    draws = torch.randn(size, n, 2, 5, generator=generator, requires_grad=True)
    one, again = (
        sampler.mix(
            users, positives, draws, drawn.mask((size, n)), torch.Generator().manual_seed(1)
        )
        for _ in range(2)
    )
    assert one.shape == (size, 2, 5), "mix must give one vector a row in each layer, (B, L, d)"
    assert torch.equal(one, again), "equal generators gave different mixtures"
    assert one.requires_grad, "mix stops the gradient"


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
