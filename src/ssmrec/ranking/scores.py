"""Scores of given pairs, by the one scoring path."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from ssmrec.data.vocabulary import as_ids
from ssmrec.errors import DataError
from ssmrec.kernels.threads import refuse_lost
from ssmrec.ranking.ranker import Ranker
from ssmrec.ranking.topk import tile_scores, tile_shape

Array = np.ndarray


def pair_scores(ranker: Ranker, users: Iterable[Any], items: Iterable[Any]) -> Array:
    """The score of each user for the item beside him, float32 (n,), as the lists have it.

    NaN where the user or the item was not trained on, which a warning tells.

    Args:
        users: external ids (n,). items: external ids (n,).

    Raises:
        DataError: they are not equally many, or no lists of ids.
        RunError: as `refuse_lost`.
    """
    who, what = as_ids(users, "users"), as_ids(items, "items")
    if len(who) != len(what):
        raise DataError(
            f"{len(who)} users and {len(what)} items: give an item for each user, as in a table of pairs"
        )
    refuse_lost()
    user, item = ranker.find_users(who), ranker.find_items(what)
    ranker.tell_unknown(who, user, "scores", ranker.train.users)
    ranker.tell_unknown(what, item, "scores", ranker.train.items)
    out = np.full(len(who), np.nan, dtype=np.float32)
    known = np.flatnonzero((user >= 0) & (item >= 0))
    known = known[np.argsort(user[known], kind="stable")]
    out[known] = _scores(ranker, user[known], item[known])
    return out


def _scores(ranker: Ranker, user: Array, item: Array) -> Array:
    """Scores (n,) of pairs of indices, sorted by user: from tiles, as lists are made from them."""
    out, item = np.empty(len(user), dtype=np.float32), item.astype(np.int64)
    distinct, row = np.unique(user, return_inverse=True)
    index = torch.from_numpy(distinct.astype(np.int64)).to(ranker.users.device)
    vectors, table = ranker.users[index].detach().float(), ranker.items.detach().float()
    at_once, width = tile_shape(vectors, len(table), None)
    for start in range(0, len(distinct), at_once):
        part = slice(*np.searchsorted(row, (start, start + at_once)))
        some = vectors[start : start + at_once]
        for first in range(0, len(table), width):
            at = part.start + np.flatnonzero(item[part] // width == first // width)
            if len(at):
                tile = tile_scores(some, table[first : first + width])
                cells = [
                    torch.from_numpy(x).to(tile.device) for x in (row[at] - start, item[at] - first)
                ]
                out[at] = tile[cells[0], cells[1]].cpu().numpy()
    return out
