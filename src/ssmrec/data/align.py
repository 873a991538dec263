"""Pairs that come from elsewhere: are they pairs, and do their indices mean the same ids?"""

from __future__ import annotations

import logging
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


def aligned(pairs: Interactions, like: Interactions) -> Interactions:
    """`pairs` over the vocabularies of `like`, matched by id; ids of different type match as text.

    Pairs with a user or an item that `like` lacks are left out, told, and counted as `unknown_pairs`.

    Raises:
        DataError: no pair is left.
    """
    if same_ids(pairs, like):
        return pairs
    user = _index(like.users, pairs.users)[pairs.rows]
    item = _index(like.items, pairs.items)[pairs.indices]
    keep = (user >= 0) & (item >= 0)
    unknown = int((~keep).sum())
    if not keep.any():
        raise DataError(
            f"none of the {len(keep)} pairs has a user and an item the model knows: users are such as "
            f"{pairs.users.ids[:2].to_list()} here, {like.users.ids[:2].to_list()} in the model"
        )
    if unknown:
        logger.warning("%d of %d pairs have ids the model does not know", unknown, len(keep))
    return Interactions.from_pairs(
        user[keep], item[keep], like.users, like.items,
        None if pairs.timestamps is None else pairs.timestamps[keep],
        None if pairs.weights is None else pairs.weights[keep],
        {**pairs.counts, **({"unknown_pairs": unknown} if unknown else {})},
    )  # fmt: skip


def _index(known: Vocabulary, asked: Vocabulary) -> np.ndarray:
    """Index in `known` of each id of `asked`, int32 (len(asked),); -1 for none."""
    ids = asked.ids
    if ids.dtype != known.ids.dtype:  # as text, so that "007" is not 7
        known, ids = Vocabulary(known.ids.cast(pl.String)), ids.cast(pl.String)
    return known.encode(ids)
