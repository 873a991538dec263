"""The rows of a batch that one of several processes computes the loss of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from ssmrec.negatives import Batch, Negatives
from ssmrec.training.step import Places


def bounds(count: int, rank: int, size: int, multiple: int = 1) -> slice:
    """The part of `count` things that process `rank` of `size` takes; parts differ by one `multiple`."""
    groups = -(-count // multiple)
    start, stop = (groups * at // size * multiple for at in (rank, rank + 1))
    return slice(min(start, count), min(stop, count))


def rows_of(
    batch: Batch, negatives: Negatives, places: Places, part: slice
) -> tuple[Batch, Negatives, Places]:
    """A slice of a batch's rows, contrasted with the same candidates as in the whole batch.

    What was in-batch becomes a list of shared candidates, the items of the whole batch, in which a
    row's own positive is masked. `log_q` stays that of the whole batch. Users, items and the counts
    of `places`, which L2 reads, stay those of the whole batch as well.
    """
    size = len(batch)
    at = places.item_at
    if negatives.ids is None:
        kept, drawn_at = _in_batch(batch, negatives, part), at[:size]
    elif negatives.ids.dim() == 1:
        kept = replace(negatives, masked=_masked(negatives.masked, part))
        drawn_at = at[size:]
    else:
        log_q = negatives.log_q
        kept = Negatives(
            negatives.ids[part],
            log_q if log_q is None or log_q.dim() == 1 else log_q[part],
            _masked(negatives.masked, part),
        )
        drawn_at = at[size:].view(size, -1)[part].reshape(-1)
    extra = None if places.extra_at is None else places.extra_at[part]
    mine = replace(
        places, user_at=places.user_at[part], item_at=torch.cat([at[:size][part], drawn_at]),
        extra_at=extra,
    )  # fmt: skip
    weights = None if batch.weights is None else batch.weights[part]
    return Batch(batch.users[part], batch.items[part], weights), kept, mine


def _in_batch(batch: Batch, negatives: Negatives, part: slice) -> Negatives:
    own = torch.arange(part.start, part.stop)
    pairs = torch.stack([own - part.start, own])
    masked = _masked(negatives.masked, part)
    if masked is not None:
        pairs = torch.cat([masked, pairs], dim=1)
        pairs = pairs[:, pairs[0].argsort(stable=True)]
    return Negatives(batch.items, negatives.log_q, pairs)


def _masked(masked: Tensor | None, part: slice) -> Tensor | None:
    """The masked pairs of a slice of the rows, their rows counted from its start."""
    if masked is None:
        return None
    first, last = torch.searchsorted(
        masked[0].contiguous(), torch.tensor([part.start, part.stop], device=masked.device)
    ).tolist()
    return masked[:, first:last] - torch.tensor([[part.start], [0]], device=masked.device)


class Summing(torch.autograd.Function):
    """`apply(users, items, add)` -> (users, items); the gradients of both go through `add`, in place.

    Every process has the same vectors and the loss of some rows: the sum over the processes is the
    gradient of the whole loss, the same everywhere, and no gradient of a table is exchanged.
    """

    @staticmethod
    def forward(ctx, users: Tensor, items: Tensor, add: Callable[[Tensor], Tensor]):  # type: ignore[override]
        ctx.add, ctx.cut = add, len(users)
        return users.view_as(users), items.view_as(items)

    @staticmethod
    def backward(ctx, *grads: Tensor):  # type: ignore[override]
        both = ctx.add(torch.cat(grads))
        return both[: ctx.cut], both[ctx.cut :], None
