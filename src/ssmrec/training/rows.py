"""From the vectors of a batch to the loss of each row: similarity, temperature, candidates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ssmrec.data import Interactions
from ssmrec.errors import ConfigError
from ssmrec.kernels.softmax import has_kernel
from ssmrec.losses import Context, Loss, prepare
from ssmrec.negatives import Batch, Negatives, Sampler, kept
from ssmrec.training.ahead import too_long
from ssmrec.training.device import sent

if TYPE_CHECKING:
    from ssmrec.training.step import Places


def mean_loss(
    loss: Loss,
    sampler: Sampler,
    negatives: Negatives,
    places: Places,
    users: Tensor,
    items: Tensor,
    generator: torch.Generator | None,
    weights: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Mean loss of the batch from distinct vectors, and where its candidates lie among the items.

    `weights` (B,) multiply the losses of the rows; they are 1 on average over all pairs.
    """
    item_at = places.item_at
    if sampler.mixes:
        rows = _mixed(loss, sampler, negatives, places, users, items, generator)
        return mean(rows, weights), item_at
    user_rows = F.embedding(places.user_at, prepare(users, loss.config.similarity))
    item_rows = prepare(items, loss.config.similarity)
    if sampler.chooses:
        negatives, item_at = _choose(sampler, negatives, user_rows, item_rows, item_at)
    named = None
    if loss.needs_context or loss.on_vectors:
        named = Batch(places.users[places.user_at], places.items[item_at])
    user_rows = user_rows / loss.config.temperature
    rows = loss_rows(loss, user_rows, item_rows, item_at, negatives, named, places.extra_at)
    return mean(rows, weights), item_at


def pair_weights(train: Interactions, power: float) -> np.ndarray | None:
    """How much the loss of each pair counts, float32 (n,), 1 on average; None for a power of 0.

    Raises:
        ConfigError: there is a power, and the pairs have no weights.
    """
    if power == 0:
        return None
    if train.weights is None:
        raise ConfigError(
            f"train.weight_power={power:g}: the training pairs have no weights; name their column with "
            "data.weight, weigh events with data.event_weights, or set data.duplicates=count"
        )
    weights = train.weights.astype(np.float64) ** power
    return (weights / weights.mean()).astype(np.float32)


def mean(rows: Tensor, weights: Tensor | None) -> Tensor:
    """The mean of rows (B,), each times its weight if they have any.

    Raises:
        ConfigError: the loss gave something else than one value per row.
    """
    if rows.dim() != 1:
        raise ConfigError(
            f"the loss gave {tuple(rows.shape)}, not one value per row: leave out its mean or sum over them"
        )
    return rows.mean() if weights is None else (rows * sent(weights, rows.device)).mean()


def _mixed(
    loss: Loss,
    sampler: Sampler,
    negatives: Negatives,
    places: Places,
    users: Tensor,
    items: Tensor,
    generator: torch.Generator | None,
) -> Tensor:
    """Loss of each row, (B,), against one vector that the sampler mixes; vectors (n, d) or (n, L, d)."""
    size = len(places.user_at)
    users, items = (x if x.dim() == 3 else x[:, None] for x in (users, items))
    user, rows = _taken(users, places.user_at), _taken(items, places.item_at)
    pool = rows[size:].view(size, -1, *rows.shape[1:])
    mask = negatives.mask((size, pool.shape[1]), user.device)
    mixed = sampler.mix(user, rows[:size], pool, mask, generator)
    user, pos, neg = (prepare(x.sum(1), loss.config.similarity) for x in (user, rows[:size], mixed))
    user = user / loss.config.temperature
    none = None if mask is None else mask.all(1, keepdim=True)
    return loss((user * pos).sum(1), (user * neg).sum(1, keepdim=True), None, none)


def _taken(vectors: Tensor, at: Tensor) -> Tensor:
    """vectors[at] of (n, L, d), whose gradients are added up in one order (those of indexing are not)."""
    return F.embedding(at, vectors.flatten(1)).view(-1, *vectors.shape[1:])


@torch.no_grad()
def _choose(
    sampler: Sampler, drawn: Negatives, users: Tensor, items: Tensor, item_at: Tensor
) -> tuple[Negatives, Tensor]:
    """The candidates the sampler keeps, and the positions in `items` of positives and candidates."""
    size = len(users)
    pos_at, pool_at = item_at[:size], item_at[size:]
    assert drawn.ids is not None
    if drawn.ids.dim() == 1:
        scores = users @ F.embedding(pool_at, items).T
        pool_at = pool_at.expand(size, -1)
    else:
        pool_at = pool_at.view(size, -1)
        scores = torch.bmm(F.embedding(pool_at, items), users[:, :, None]).squeeze(2)
    mask = drawn.mask(tuple(scores.shape), users.device)  # type: ignore[arg-type]
    if mask is not None:
        scores.masked_fill_(mask, -torch.inf)
    positive = (users * F.embedding(pos_at, items)).sum(1)
    columns = sampler.choose(positive, scores)
    left_at = pool_at.gather(1, columns).reshape(-1)
    return kept(drawn, columns, mask), torch.cat([pos_at, left_at])


def loss_rows(
    loss: Loss,
    users: Tensor,
    items: Tensor,
    item_at: Tensor,
    negatives: Negatives,
    named: Batch | None = None,
    extra_at: Tensor | None = None,
) -> Tensor:
    """Loss of each row, (B,).

    Args:
        users: (B, d) prepared user vectors, divided by the temperature.
        items: (n, d) prepared vectors of the distinct items.
        item_at: positions in `items` of the B positives, then of the negatives as they lie in `ids`.
        negatives: what the sampler drew.
        named: the users (B,) of the rows and the items of `item_at`, by their ids on the device, for a loss
            that reads a context.
        extra_at: (B, M) positions in `items` of what `loss.more_items` named.
    """
    size = len(users)
    device = users.device
    pos, neg_at = F.embedding(item_at[:size], items), item_at[size:]
    asked: dict[str, Context] = {}
    if loss.needs_context or loss.on_vectors:
        assert named is not None
        asked["context"] = _context(named, negatives, users, items, extra_at)
        if loss.on_vectors:
            return loss.from_vectors(users, pos, **asked)
    log_q = None if negatives.log_q is None else sent(negatives.log_q, device)
    own = negatives.ids is not None and negatives.ids.dim() == 2
    if not own:
        in_batch = negatives.ids is None
        neg = pos if in_batch else F.embedding(neg_at, items)
        fused = getattr(loss, "fused", None)
        if fused is not None and has_kernel(users):
            return fused(users, pos, neg, log_q, negatives.masked, in_batch)
        neg_logits = users @ neg.T
    else:
        neg = F.embedding(neg_at, items).view(size, -1, items.shape[1])
        if neg.shape[1] == 1:  # a product of matrices takes several times as long for one
            neg_logits = (neg * users[:, None]).sum(2)
        else:
            neg_logits = torch.bmm(neg, users[:, :, None]).squeeze(2)
    mask = negatives.mask((size, neg_logits.shape[1]), device)
    return loss((users * pos).sum(1), neg_logits, log_q, mask, **asked)


def _context(
    named: Batch, negatives: Negatives, users: Tensor, items: Tensor, extra_at: Tensor | None
) -> Context:
    own, drawn = named.items[: len(users)], named.items[len(users) :]
    ids = own if negatives.ids is None else drawn.view(negatives.ids.shape)
    extra = None
    if extra_at is not None:
        extra = torch.bmm(F.embedding(extra_at, items), users[:, :, None]).squeeze(2)
    return Context(named.users, own, ids, extra)


def cut(vectors: Tensor, width: int) -> Tensor:
    return vectors if width == vectors.shape[-1] else vectors[..., :width]


def widths(loss: Loss, dim: int) -> tuple[int, ...]:
    """The lengths of vectors that the loss is averaged over."""
    widths = loss.config.prefixes or (dim,)
    if max(widths) > dim:
        raise ConfigError(too_long(max(widths), dim))
    return widths
