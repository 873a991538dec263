"""A batch split by rows, without any process: parts, and losses that can be split."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from ssmrec.config import merged
from ssmrec.distributed.rows import bounds, rows_of
from ssmrec.losses import LOSSES, prepare
from ssmrec.negatives import Batch, Negatives
from ssmrec.training import Trainer, resolve
from ssmrec.training.rows import loss_rows
from ssmrec.training.step import Places


@pytest.mark.parametrize("count", [0, 1, 2, 7, 32, 33, 100])
@pytest.mark.parametrize("size", [1, 2, 3, 8])
@pytest.mark.parametrize("multiple", [1, 16])
def test_the_parts_make_the_whole(count, size, multiple):
    parts = [bounds(count, rank, size, multiple) for rank in range(size)]
    assert parts[0].start == 0 and parts[-1].stop == count
    assert all(a.stop == b.start for a, b in pairwise(parts))
    assert all(part.start % multiple == 0 or part.start == count for part in parts)
    lengths = [part.stop - part.start for part in parts]
    assert max(lengths) - min(lengths) <= multiple


@pytest.mark.parametrize("negatives", [None, "in_batch"])
@pytest.mark.parametrize("name", [name for name, cls in LOSSES.items() if cls.row_by_row])
def test_losses_that_are_admitted_go_row_by_row(tastes, name, negatives):
    """The rows of three parts, one after the other, are the rows of the whole batch."""
    asked = {"model": {"name": "mf", "dim": 8}, "loss": {"name": name}, "train": {"threads": 1}}
    if negatives:
        asked = merged(
            asked, {"negatives": {"name": negatives, "log_q": True, "exclude_known": True}}
        )
    trainer = Trainer(resolve(asked), tastes.train, 1)
    loss, draws = trainer.loss, np.random.default_rng(1)
    pairs = draws.permutation(len(tastes.train))[:50]
    sides = tastes.train.rows[pairs], tastes.train.indices[pairs]
    weights = torch.from_numpy(draws.random(50, dtype=np.float32))
    batch = Batch(*(torch.from_numpy(side.astype(np.int64)) for side in sides), weights)
    with torch.no_grad():
        loss.before_epoch(1, trainer.model.vectors)
    drawn = trainer.sampler.draw(batch, draws)
    places = Places.of(batch, drawn, loss.more_items(batch, draws))
    vectors = trainer.model.vectors(places.users, places.items)
    users, items = (prepare(x, loss.config.similarity) for x in (vectors.users, vectors.items))

    def values(part: slice) -> torch.Tensor:
        own, kept, at = rows_of(batch, drawn, places, part)
        assert own.weights is not None and torch.equal(own.weights, weights[part])
        return losses(kept, at)

    def losses(drawn: Negatives, at: Places) -> torch.Tensor:
        named = Batch(places.users[at.user_at], places.items[at.item_at])
        rows = users[at.user_at] / loss.config.temperature
        return loss_rows(loss, rows, items, at.item_at, drawn, named, at.extra_at)

    whole = losses(drawn, places)
    parts = torch.cat([values(bounds(50, rank, 3)) for rank in range(3)])
    torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-6)


def test_every_loss_is_either_admitted_or_known_to_need_one_process():
    assert {name for name, cls in LOSSES.items() if not cls.row_by_row} == {
        "bsl", "directau", "mawu", "advinfonce", "adap_tau", "bc", "invcf",
    }  # fmt: skip
