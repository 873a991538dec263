"""From a batch to its loss: rows, similarity, temperature, loss, regularisation."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from ssmrec.kernels.distinct import distinct
from ssmrec.kernels.unit import squares
from ssmrec.losses import Loss
from ssmrec.models import Backbone, Vectors
from ssmrec.negatives import Batch, Negatives, Sampler
from ssmrec.training.device import sent
from ssmrec.training.peers import current
from ssmrec.training.regularise import Regulariser
from ssmrec.training.rows import cut, mean_loss, widths


@dataclass(frozen=True, eq=False)
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
        users, user_at = distinct(batch.users.numpy())
        parts = [ids.reshape(-1) for ids in (batch.items, negatives.ids, more) if ids is not None]
        items, every = distinct(torch.cat(parts).numpy())
        item_at, extra_at = np.split(every, [len(every) - (0 if more is None else more.numel())])
        size, n = len(batch), len(items)
        positives = np.arange(item_at[:size].max(initial=-1) + 1)  # they came first
        item_counts = np.bincount(item_at[:size], minlength=n)
        if regularised:
            item_counts += np.bincount(item_at[size + negatives.of_batch :], minlength=n)
        counts = np.bincount(user_at, minlength=len(users)), item_counts
        found = (users, items, user_at, item_at, positives)
        found += tuple(count.astype(np.float32) for count in counts)
        extra = None if more is None else torch.from_numpy(extra_at).view(more.shape)
        return cls(*map(torch.from_numpy, found), extra_at=extra)

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
    """Mean loss of the batch, by its weights, and what to add (L2, the backbone's own term, the regulariser).

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
    vectors, term = _vectors(model, sampler, places, generator)
    added = vectors.users.new_zeros(()) if term is None else term
    users, items = vectors.users, vectors.items
    if regulariser is not None:
        added = added + regulariser(_summed(users), _summed(items), places.positives)
    if negatives.known is not None:  # before anything chooses, and once for all prefixes
        at = places.item_at[: len(batch)] if negatives.ids is None else places.item_at[len(batch) :]
        negatives = negatives.looked_up(places.users[places.user_at], places.items[at])
    mine, share = (batch, negatives, places), 1.0
    if not (peers := current()).alone:
        users, items = peers.summing(users, items)
        mine, share = peers.part(batch, negatives, places)
    own, drawn, at = mine
    found = [
        mean_loss(loss, sampler, drawn, at, cut(users, w), cut(items, w), generator, own.weights)
        for w in widths(loss, users.shape[-1])
    ]
    value, item_at = found[-1]
    if len(found) > 1:
        value = torch.stack([mean for mean, _ in found]).mean()
    value = value if peers.alone else share * value
    if l2 == 0:
        return value, added
    counts = places.item_counts
    if sampler.chooses:
        chosen = item_at if sampler.regularised else item_at[: len(own)]
        counts = peers.total(_counts(chosen, places.items) * (share > 0))
    penalty = squares(vectors.ego_users, places.user_counts) + squares(vectors.ego_items, counts)
    return value, added + (0.5 * l2 / len(batch)) * penalty


def _vectors(
    model: Backbone, sampler: Sampler, places: Places, generator: torch.Generator | None
) -> tuple[Vectors, Tensor | None]:
    """Vectors of the distinct rows, layer by layer where the sampler mixes, and the backbone's term.

    A backbone that trains on other vectors than it ranks by has only those to mix.
    """
    asked = places.users, places.items
    if sampler.mixes and type(model).for_training is Backbone.for_training:
        return model.layers(*asked), None
    if generator is None:
        return model.vectors(*asked), None
    return model.for_training(*asked, places.positives, generator)


def _summed(vectors: Tensor) -> Tensor:
    """(n, d) of layers (n, L, d), or of what is (n, d)."""
    return vectors.sum(1) if vectors.dim() == 3 else vectors


def _counts(at: Tensor, rows: Tensor) -> Tensor:
    """How often each of `rows` is meant, float32 (len(rows),)."""
    return torch.bincount(at, minlength=len(rows)).float()
