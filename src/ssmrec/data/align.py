"""Pairs that come from elsewhere: are they pairs, and do their indices mean the same ids?"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from ssmrec.data.interactions import Interactions
from ssmrec.data.vocabulary import Vocabulary
from ssmrec.errors import DataError

logger = logging.getLogger("ssmrec")


def check_pairs(pairs: Any, name: str) -> None:
    """Refuse what is no `Interactions`, such as a data frame.

    Raises:
        DataError: names the argument, its type and the remedy.
    """
    if not isinstance(pairs, Interactions):
        raise DataError(
            f"{name} must be Interactions, not {type(pairs).__name__}: read it with ssmrec.load"
        )


def same_ids(a: Interactions, b: Interactions) -> bool:
    """Whether an index means the same user, and the same item, in both."""
    return a.users == b.users and a.items == b.items


def extends(wider: Interactions, pairs: Interactions) -> bool:
    """Whether the ids of `wider` begin with those of `pairs`, so that an index means the same in both."""
    return same_ids(wider, pairs) or (
        _begins(wider.users, pairs.users) and _begins(wider.items, pairs.items)
    )


def aligned(pairs: Interactions, like: Interactions) -> Interactions:
    """`pairs` over the vocabularies of `like`, matched by id; ids of different type match as text.

    Pairs with a user or an item that `like` lacks are left out, told, and counted as `unknown_pairs`.

    Raises:
        DataError: no pair is left.
    """
    if same_ids(pairs, like):
        return pairs
    user, item = _matched(pairs, like)
    keep = (user >= 0) & (item >= 0)
    counts = _counted(pairs, keep, "they are left out")
    return Interactions.from_pairs(
        user[keep], item[keep], like.users, like.items,
        None if pairs.timestamps is None else pairs.timestamps[keep],
        None if pairs.weights is None else pairs.weights[keep],
        counts,
    )  # fmt: skip


def widened(pairs: Interactions, like: Interactions) -> Interactions:
    """As `aligned`, but pairs with ids that `like` lacks stay: these ids follow those of `like`.

    So an item that a model does not know is one that it misses, as it is where the split that the model
    was trained on held that item out.

    Raises:
        DataError: no pair has a user and an item that `like` knows.
    """
    if same_ids(pairs, like):
        return pairs
    user, item = _matched(pairs, like)
    told = "items it does not know count as missed, users as not there"
    counts = _counted(pairs, (user >= 0) & (item >= 0), told)
    users, user = _appended(like.users, pairs.users, pairs.rows, user)
    items, item = _appended(like.items, pairs.items, pairs.indices, item)
    return Interactions.from_pairs(
        user, item, users, items, pairs.timestamps, pairs.weights, counts
    )


def over(pairs: Interactions, wider: Interactions) -> Interactions:
    """The same pairs over the vocabularies of `wider`, which begin with theirs (`extends`)."""
    if same_ids(pairs, wider):
        return pairs
    more = wider.n_users - pairs.n_users
    indptr = np.pad(pairs.indptr, (0, more), mode="edge")
    return replace(pairs, users=wider.users, items=wider.items, indptr=indptr)


def _matched(pairs: Interactions, like: Interactions) -> tuple[np.ndarray, np.ndarray]:
    """User and item of each pair as indices of `like`, -1 where it lacks them."""
    user = _index(like.users, pairs.users)[pairs.rows]
    item = _index(like.items, pairs.items)[pairs.indices]
    if not ((user >= 0) & (item >= 0)).any():
        raise DataError(
            f"none of the {len(pairs)} pairs has a user and an item the model knows: users are such as "
            f"{pairs.users.ids[:2].to_list()} here, {like.users.ids[:2].to_list()} in the model"
        )
    return user, item


def _counted(pairs: Interactions, known: np.ndarray, told: str) -> dict[str, int]:
    """The counts of `pairs` and `unknown_pairs`, which are told."""
    unknown = int((~known).sum())
    if not unknown:
        return dict(pairs.counts)
    text = "%d of %d pairs have ids the model does not know: %s"
    logger.warning(text, unknown, len(known), told)
    return {**pairs.counts, "unknown_pairs": unknown}


def _appended(
    known: Vocabulary, asked: Vocabulary, column: np.ndarray, index: np.ndarray
) -> tuple[Vocabulary, np.ndarray]:
    """`known` with the ids of `asked` that it lacks, and `index` (-1 for those) of `column` in it."""
    more = np.unique(column[index < 0])
    if not len(more):
        return known, index
    ids, new = known.ids, asked.decode(more)
    if ids.dtype != new.dtype:
        ids, new = ids.cast(pl.String), new.cast(pl.String)
    place = np.searchsorted(more, column) + len(known)
    return Vocabulary(pl.concat([ids, new])), np.where(index < 0, place, index)


def _begins(long: Vocabulary, short: Vocabulary) -> bool:
    if long is short:
        return True
    ids, begin = long.ids[: len(short)], short.ids
    return ids.equals(begin if ids.dtype == begin.dtype else begin.cast(pl.String))


def _index(known: Vocabulary, asked: Vocabulary) -> np.ndarray:
    """Index in `known` of each id of `asked`, int32 (len(asked),); -1 for none."""
    ids = asked.ids
    if ids.dtype != known.ids.dtype:  # as text, so that "007" is not 7
        known, ids = Vocabulary(known.ids.cast(pl.String)), ids.cast(pl.String)
    return known.encode(ids)
