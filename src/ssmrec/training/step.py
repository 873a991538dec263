"""From a batch to its loss: rows, similarity, temperature, loss, regularisation."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional as F

from ssmrec.errors import ConfigError
from ssmrec.kernels.distinct import distinct
from ssmrec.kernels.softmax import has_kernel
from ssmrec.losses import Context, Loss, prepare
from ssmrec.models import Backbone
from ssmrec.negatives import Batch, Negatives, Sampler, kept
from ssmrec.training.ahead import too_long
from ssmrec.training.peers import current
from ssmrec.training.regularise import Regulariser


@dataclass(frozen=True)
class Places:
    """Where the rows of a batch lie among its distinct users and items.

    Args:
        users: int64 (m,), items: int64 (n,), distinct ids.
        user_at: (B,) position in `users` of each row's user.
        item_at: positions in `items` of the B positives, then of the negatives as they lie in `ids`.
        positives: (p,) positions of the distinct positives.
        user_counts: float32 (m,), item_counts: (n,), how often L2 counts a row.
        extra_at: (B, M) positions of what `loss.more_items` named, or None.
    """

    users: Tensor
    items: Tensor
    user_at: Tensor
    item_at: Tensor
    positives: Tensor
    user_counts: Tensor
    item_counts: Tensor
    extra_at: Tensor | None = None

    @classmethod
    def of(
        cls,
        batch: Batch,
        negatives: Negatives,
        more: Tensor | None = None,
        regularised: bool = True,
    ) -> Places:
        """Places of a batch on the CPU; L2 counts the negatives where `regularised`."""
        users, user_at = _distinct(batch.users)
        parts = [ids.reshape(-1) for ids in (batch.items, negatives.ids, more) if ids is not None]
        items, item_at = _distinct(torch.cat(parts))
        own = len(item_at) - (0 if more is None else more.numel())
        item_at, extra_at = item_at[:own], None if more is None else item_at[own:].view(more.shape)
        of_positives = _counts(item_at[: len(batch)], items)
        return cls(
            users, items, user_at, item_at, of_positives.nonzero()[:, 0], _counts(user_at, users),
            _counts(item_at, items) if regularised else of_positives, extra_at,
        )  # fmt: skip

    def to(self, device: torch.device) -> Places:
        """The same on a device."""
        found = (getattr(self, field.name) for field in fields(self))
        return Places(*(None if x is None else sent(x, device) for x in found))  # type: ignore[arg-type]


def objective(
    model: Backbone,
    loss: Loss,
    sampler: Sampler,
    batch: Batch,
    negatives: Negatives,
    l2: float,
    more: Tensor | None = None,
    generator: torch.Generator | None = None,
    regulariser: Regulariser | None = None,
) -> tuple[Tensor, Tensor]:
    """Mean loss of the batch, and what to add to it (L2, the backbone's own term, the regulariser).

    The L2 term is l2 * 0.5 * the sum of squared layer-0 rows of the batch (users, positives and drawn
    negatives, a row counted as often as it occurs) / B: `l2` means the same as in the authors' sums.
    `more` are the items that `loss.more_items` named, (B, M); L2 leaves them out. `generator` is for
    the backbone's random views of the batch; None takes its plain vectors.
    """
    places = Places.of(batch, negatives, more, sampler.regularised)
    places = places.to(next(model.parameters()).device)
    return objective_at(model, loss, sampler, batch, negatives, places, l2, generator, regulariser)


def objective_at(
    model: Backbone,
    loss: Loss,
    sampler: Sampler,
    batch: Batch,
    negatives: Negatives,
    places: Places,
    l2: float,
    generator: torch.Generator | None = None,
    regulariser: Regulariser | None = None,
) -> tuple[Tensor, Tensor]:
    """`objective` from places that lie on the device of the model."""
    if generator is None:
        vectors, term = model.vectors(places.users, places.items), None
    else:
        vectors, term = model.for_training(places.users, places.items, places.positives, generator)
    added = vectors.users.new_zeros(()) if term is None else term
    if regulariser is not None:
        added = added + regulariser(vectors.users, vectors.items, places.positives)
    users, items = vectors.users, vectors.items
    mine, share = (batch, negatives, places), 1.0
    if not (peers := current()).alone:
        users, items = peers.summing(users, items)
        mine, share = peers.part(batch, negatives, places)
    found = [
        _compared(loss, sampler, *mine, _cut(users, w), _cut(items, w))
        for w in _widths(loss, users.shape[1])
    ]
    value, item_at = torch.stack([mean for mean, _ in found]).mean(), found[-1][1]
    value = value if peers.alone else share * value
    if l2 == 0:
        return value, added
    counts = places.item_counts
    if sampler.chooses:
        chosen = item_at if sampler.regularised else item_at[: len(mine[0])]
        counts = peers.total(_counts(chosen, places.items) * (share > 0))
    penalty = _squares(vectors.ego_users, places.user_counts) + _squares(vectors.ego_items, counts)
    return value, added + (0.5 * l2 / len(batch)) * penalty


def _compared(
    loss: Loss,
    sampler: Sampler,
    batch: Batch,
    negatives: Negatives,
    places: Places,
    users: Tensor,
    items: Tensor,
) -> tuple[Tensor, Tensor]:
    """Mean loss of the batch from distinct vectors, and where its candidates lie among the items."""
    item_at = places.item_at
    user_rows = F.embedding(places.user_at, prepare(users, loss.config.similarity))
    item_rows = prepare(items, loss.config.similarity)
    if sampler.chooses:
        negatives, item_at = _choose(sampler, negatives, user_rows, item_rows, item_at)
    known = batch if loss.needs_context or loss.on_vectors else None
    user_rows = user_rows / loss.config.temperature
    rows = loss_rows(loss, user_rows, item_rows, item_at, negatives, known, places.extra_at)
    return rows.mean(), item_at


def _cut(vectors: Tensor, width: int) -> Tensor:
    return vectors if width == vectors.shape[1] else vectors[:, :width]


def _widths(loss: Loss, dim: int) -> tuple[int, ...]:
    """The lengths of vectors that the loss is averaged over."""
    widths = loss.config.prefixes or (dim,)
    if max(widths) > dim:
        raise ConfigError(too_long(max(widths), dim))
    return widths


@torch.no_grad()
def _choose(
    sampler: Sampler, drawn: Negatives, users: Tensor, items: Tensor, item_at: Tensor
) -> tuple[Negatives, Tensor]:
    """The candidates the sampler keeps, and the positions in `items` of positives and candidates."""
    size, device = len(users), users.device
    pos_at, pool_at = item_at[:size], sent(item_at[size:], device)
    assert drawn.ids is not None
    if drawn.ids.dim() == 1:
        scores = users @ F.embedding(pool_at, items).T
        pool_at = pool_at.expand(size, -1)
    else:
        pool_at = pool_at.view(size, -1)
        scores = torch.bmm(F.embedding(pool_at, items), users[:, :, None]).squeeze(2)
    mask = drawn.mask(tuple(scores.shape))  # type: ignore[arg-type]
    if mask is not None:
        scores.masked_fill_(mask.to(device), -torch.inf)
    positive = (users * F.embedding(pos_at.to(device), items)).sum(1)
    columns = sampler.choose(positive, scores)
    left_at = pool_at.gather(1, columns).reshape(-1).to(item_at.device)
    return kept(drawn, columns.cpu(), mask), torch.cat([pos_at, left_at])


def loss_rows(
    loss: Loss,
    users: Tensor,
    items: Tensor,
    item_at: Tensor,
    negatives: Negatives,
    batch: Batch | None = None,
    extra_at: Tensor | None = None,
) -> Tensor:
    """Loss of each row, (B,).

    Args:
        users: (B, d) prepared user vectors, divided by the temperature.
        items: (n, d) prepared vectors of the distinct items.
        item_at: positions in `items` of the B positives, then of the negatives as they lie in `ids`.
        negatives: what the sampler drew.
        batch: the pairs themselves, for a loss that reads a context.
        extra_at: (B, M) positions in `items` of what `loss.more_items` named.
    """
    size = len(users)
    device = users.device
    item_at = sent(item_at, device)
    pos, neg_at = F.embedding(item_at[:size], items), item_at[size:]
    asked: dict[str, Context] = {}
    if batch is not None:
        asked["context"] = _context(batch, negatives, users, items, extra_at)
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
        neg_logits = torch.bmm(neg, users[:, :, None]).squeeze(2)
    mask = negatives.mask((size, neg_logits.shape[1]))
    mask = None if mask is None else sent(mask, device)
    return loss((users * pos).sum(1), neg_logits, log_q, mask, **asked)


def _context(
    batch: Batch, negatives: Negatives, users: Tensor, items: Tensor, extra_at: Tensor | None
) -> Context:
    device = users.device
    ids = batch.items if negatives.ids is None else negatives.ids
    extra = None
    if extra_at is not None:
        extra = torch.bmm(F.embedding(sent(extra_at, device), items), users[:, :, None]).squeeze(2)
    users_at, items_at, ids_at = (sent(x, device) for x in (batch.users, batch.items, ids))
    return Context(users_at, items_at, ids_at, extra)


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """`tensor` on `device`; a GPU gets it without the CPU waiting for what is queued there."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def _distinct(ids: Tensor) -> tuple[Tensor, Tensor]:
    """Distinct ids, and the position of each id among them."""
    found, at = distinct(ids.numpy())
    return torch.from_numpy(found), torch.from_numpy(at)


def _counts(at: Tensor, rows: Tensor) -> Tensor:
    """How often each of `rows` is meant, float32 (len(rows),)."""
    return torch.bincount(at, minlength=len(rows)).float()


def _squares(rows: Tensor, counts: Tensor) -> Tensor:
    """Sum of squared lengths, each row as often as `counts` says."""
    return (rows.pow(2).sum(1) * counts.to(rows.dtype)).sum()
