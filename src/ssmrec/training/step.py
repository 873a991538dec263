"""From a batch to its loss: rows, similarity, temperature, loss, regularisation."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ssmrec.kernels.softmax import has_kernel
from ssmrec.losses import Loss, prepare
from ssmrec.models import Backbone
from ssmrec.negatives import Batch, Negatives, Sampler


def objective(
    model: Backbone, loss: Loss, sampler: Sampler, batch: Batch, negatives: Negatives, l2: float
) -> tuple[Tensor, Tensor]:
    """Mean loss of the batch, and the L2 term to add to it; both scalars.

    The L2 term is l2 * 0.5 * the sum of squared layer-0 rows of the batch (users, positives and drawn
    negatives, a row counted as often as it occurs) / B: `l2` means the same as in the authors' sums.
    """
    users, user_at = _distinct(batch.users)
    ids = (
        batch.items
        if negatives.ids is None
        else torch.cat([batch.items, negatives.ids.reshape(-1)])
    )
    items, item_at = _distinct(ids)
    device = next(model.parameters()).device
    vectors = model.vectors(users.to(device), items.to(device))
    rows = loss_rows(
        loss,
        F.embedding(
            user_at.to(device),
            prepare(vectors.users, loss.config.similarity) / loss.config.temperature,
        ),
        prepare(vectors.items, loss.config.similarity),
        item_at,
        negatives,
    )
    if l2 == 0:
        return rows.mean(), rows.new_zeros(())
    counted = item_at if sampler.regularised else item_at[: len(batch)]
    penalty = _squares(vectors.ego_users, user_at) + _squares(vectors.ego_items, counted)
    return rows.mean(), (0.5 * l2 / len(batch)) * penalty


def loss_rows(
    loss: Loss, users: Tensor, items: Tensor, item_at: Tensor, negatives: Negatives
) -> Tensor:
    """Loss of each row, (B,).

    Args:
        users: (B, d) prepared user vectors, divided by the temperature.
        items: (n, d) prepared vectors of the distinct items.
        item_at: positions in `items` of the B positives, then of the negatives as they lie in `ids`.
        negatives: what the sampler drew.
    """
    size = len(users)
    device = users.device
    item_at = item_at.to(device)
    pos, neg_at = F.embedding(item_at[:size], items), item_at[size:]
    log_q = None if negatives.log_q is None else negatives.log_q.to(device)
    own = negatives.ids is not None and negatives.ids.dim() == 2
    if not own:
        in_batch = negatives.ids is None
        neg = pos if in_batch else F.embedding(neg_at, items)
        fused = getattr(loss, "fused", None)
        if fused is not None and has_kernel(device, users.dtype):
            return fused(users, pos, neg, log_q, negatives.masked, in_batch)
        neg_logits = users @ neg.T
    else:
        neg = F.embedding(neg_at, items).view(size, -1, items.shape[1])
        neg_logits = torch.bmm(neg, users[:, :, None]).squeeze(2)
    mask = negatives.mask((size, neg_logits.shape[1]))
    mask = None if mask is None else mask.to(device)
    return loss((users * pos).sum(1), neg_logits, log_q, mask)


def _distinct(ids: Tensor) -> tuple[Tensor, Tensor]:
    """Distinct ids, and the position of each id among them."""
    found, at = np.unique(ids.numpy(), return_inverse=True)
    return torch.from_numpy(found), torch.from_numpy(at)


def _squares(rows: Tensor, at: Tensor) -> Tensor:
    """Sum of squared lengths of rows[at]."""
    counts = torch.bincount(at, minlength=len(rows)).to(rows.device, rows.dtype)
    return (rows.pow(2).sum(1) * counts).sum()
