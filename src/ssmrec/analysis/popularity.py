"""Popularity: who gets the places in the lists, and where the hits come from.

Items are ranked by degree (number of training users) and cut into groups that hold equal shares of the
training interactions, so the first group has many items of the tail and the last one a few bestsellers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ssmrec.analysis.checks import check_least, check_masks, check_shape
from ssmrec.analysis.subject import Lists, Subject
from ssmrec.errors import ConfigError, DataError
from ssmrec.training import label

Array = np.ndarray

TAIL = 0.8
"""The tail is this share of the listable items, the least popular ones."""


def popularity_groups(degrees: Array, n: int) -> Array:
    """Group of each item, int64 (n_items,): 0 (tail) to n - 1 (head); -1 for an item without degree.

    Items in ascending order of degree (ties by index) with running sum C_i of degrees and total C:
    group = ceil(n C_i / C) - 1. Ten groups of the published Gowalla and Yelp2018 files have the shares
    of items that section 4.2 of Wu et al. (TOIS 2024) prints. A group may stay empty where one item
    holds more than 1/n of all interactions.

    Args:
        degrees: int (n_items,), at least 0.
        n: number of groups, at least 1.

    Raises:
        ConfigError: `n` below 1.
        DataError: no item has a degree, or one has less than 0.
    """
    if n < 1:
        raise ConfigError(f"the number of popularity groups must be at least 1, not {n}")
    degrees = np.asarray(degrees, dtype=np.int64)
    check_least(degrees, 0, "the degree of item")
    if not degrees.sum():
        raise DataError("no item has an interaction: there is no popularity to group by")
    order = np.argsort(degrees, kind="stable")
    running = np.cumsum(degrees[order])
    groups = np.empty(len(degrees), dtype=np.int64)
    groups[order] = (running * n - 1) // running[-1]
    groups[degrees == 0] = -1
    return groups


@dataclass(frozen=True, eq=False)
class Share:
    """A metric split by item group.

    Args:
        total: mean over the users.
        by_group: float64 (n,), adds up to `total` but for hits on items without a group.
        standard_error: float64 (n,), of each group's value over the users.
    """

    total: float
    by_group: Array
    standard_error: Array


def recall_by_group(ids: Array, hits: Array, relevant: Array, groups: Array, n: int) -> Share:
    """Recall^(g) = mean_u |hits of u in group g| / |T_u| (Eq 29 of Wu et al., TOIS 2024).

    Args:
        ids: int (m, K) listed items, -1 for padding; hits: bool (m, K), held out or not.
        relevant: int (m,), number of held-out items of each user, at least 1; m at least 1.
        groups: int (n_items,), see `popularity_groups`; n: number of groups.

    Raises:
        DataError: as `check_lists`, or a group that is not there.
    """
    check_lists(ids, hits, relevant, len(groups))
    return _by_group(ids, hits, np.ones(ids.shape[1]), relevant, groups, n)


def ndcg_by_group(ids: Array, hits: Array, relevant: Array, groups: Array, n: int) -> Share:
    """NDCG^(g) = mean_u sum over hits in group g of 1 / log2(rank + 1), over the ideal DCG of u.

    The ideal DCG is that of min(K, |T_u|) hits at the top, whatever their groups. Arguments as for
    `recall_by_group`, errors too.
    """
    check_lists(ids, hits, relevant, len(groups))
    gains = 1 / np.log2(np.arange(2, ids.shape[1] + 2))
    ideal = np.cumsum(gains)[np.minimum(ids.shape[1], relevant) - 1]
    return _by_group(ids, hits, gains, ideal, groups, n)


def check_lists(ids: Array, hits: Array, relevant: Array, n_items: int) -> None:
    """Whether there is a mean over users: lists of `n_items` items, arguments as for `recall_by_group`.

    Raises:
        DataError: no user, one without a held-out item or with more hits than these, shapes that do not
            fit, hits that are not bool or on padding, or an item that is not there.
    """
    if not len(ids):
        raise DataError("there is no user to average over")
    if ids.ndim != 2:
        raise DataError(f"ids must have the shape (m, K), not {ids.shape}")
    check_masks(ids.shape, hits=hits)
    check_shape(ids.shape[:1], relevant=relevant)
    check_least(relevant, 1, "the number of held-out items of user")
    _check_items(ids, n_items)
    if hits[ids < 0].any():
        raise DataError("hits must be False where a list holds no item (-1)")
    found = hits.sum(1)
    if (more := np.flatnonzero(found > relevant)).size:
        user = more[0]
        raise DataError(f"user {user} has {found[user]} hits, but {relevant[user]} held-out items")


def _check_items(ids: Array, n_items: int) -> None:
    if ids.size and ids.max() >= n_items:
        raise DataError(f"a list holds item {ids.max()}, but there are {n_items} items")


def _by_group(ids: Array, hits: Array, gains: Array, norm: Array, groups: Array, n: int) -> Share:
    if groups.min() < -1 or groups.max() >= n:
        raise DataError(f"groups must be -1 to {n - 1}, not {groups.min()} to {groups.max()}")
    row, column = np.nonzero(hits)
    # One column more for group -1: a ranker that learned from other pairs may list such items.
    cell = row * (n + 1) + groups[ids[row, column]] + 1
    gained = np.bincount(cell, gains[column] / norm[row], minlength=len(ids) * (n + 1))
    values = gained.reshape(-1, n + 1)
    error = values.std(0, ddof=min(1, len(values) - 1)) / len(values) ** 0.5
    return Share(float(values.sum(1).mean()), values.mean(0)[1:], error[1:])


@dataclass(frozen=True)
class Exposure:
    """How a set of (user, item) pairs is spread over the items.

    Args:
        mean_popularity: mean over users of the mean degree of their items.
        gini: inequality of the items' counts, 0 (all equal) to 1 - 1/n (all pairs on one item).
        coverage: share of the listable items with at least one pair.
        tail_share: share of the pairs whose item is in the tail (`TAIL`).
    """

    mean_popularity: float
    gini: float
    coverage: float
    tail_share: float


def exposure(rows: Array, items: Array, degrees: Array) -> Exposure:
    """Spread of pairs, be they list places, training pairs or held-out pairs.

    Args:
        rows: int (n,), user of each pair; items: int (n,), its item.
        degrees: int (n_items,); items of degree 0 are not listable, pairs on them are left out.

    Raises:
        DataError: no pair is on a listable item, one has an item or user that is not there, or `rows` and
            `items` differ in length.
    """
    check_shape(np.shape(rows), items=items)
    check_least(rows, 0, "the user of pair")
    check_least(items, 0, "the item of pair")
    _check_items(items, len(degrees))
    warm = degrees[items] > 0
    rows, items = rows[warm], items[warm]
    if not len(items):
        raise DataError("no pair is on an item with training interactions")
    places = np.bincount(rows)
    popularity = np.bincount(rows, degrees[items])
    listable = degrees > 0
    counts = np.bincount(items, minlength=len(degrees))[listable]
    return Exposure(
        mean_popularity=float((popularity[places > 0] / places[places > 0]).mean()),
        gini=gini(counts),
        coverage=float((counts > 0).mean()),
        tail_share=float(in_tail(degrees)[items].mean()),
    )


def in_tail(degrees: Array) -> Array:
    """Whether an item is among the `TAIL` least popular listable ones (ties by index), bool (n_items,)."""
    order = np.argsort(degrees, kind="stable")
    order = order[degrees[order] > 0]
    tail = np.zeros(len(degrees), dtype=bool)
    tail[order[: round(TAIL * len(order))]] = True
    return tail


def gini(counts: Array) -> float:
    """Gini coefficient of counts x_1 <= ... <= x_n: sum_i (2 i - n - 1) x_i / (n sum_i x_i).

    It is half the mean absolute difference of two items, over the mean; 0 when all are zero.

    Raises:
        DataError: a count is negative.
    """
    x = np.asarray(counts, dtype=np.float64)
    check_least(x, 0, "the count of item")
    x = np.sort(x)
    n, total = len(x), x.sum()
    return float(((2 * np.arange(1, n + 1) - n - 1) * x).sum() / (n * total)) if total else 0.0


def exposure_of_lists(ids: Array, degrees: Array) -> Exposure:
    """`exposure` of the places of ranked lists: ids int (m, K), -1 for padding; errors are its too."""
    row, column = np.nonzero(ids >= 0)
    return exposure(row, ids[row, column], degrees)


def popularity_section(
    subject: Subject, lists: Lists, others: Mapping[str, tuple[str, Lists]], n: int
) -> dict[str, Any]:
    """Groups, rankers and the data's own spread, as `run` documents them.

    Args:
        lists: those of the run; others: by role (label, lists), all over the run's items.
        n: number of groups.
    """
    degrees = subject.train.item_degrees
    groups = popularity_groups(degrees, n)
    asked = lists.held_out.take(np.isin(lists.held_out.rows, lists.user_index))
    cold = groups[asked.indices] < 0
    wanted = np.bincount(groups[asked.indices[~cold]], minlength=n)
    judged = {"run": (label(subject.config), lists), **others}
    evaluated = np.isin(subject.train.rows, lists.user_index)
    known = subject.train.rows[evaluated], subject.train.indices[evaluated]
    return {
        "groups": [_group(degrees, groups, g) | {"held_out_share": float(wanted[g] / len(asked))}
                   for g in range(n)],
        "cold_held_out_share": float(cold.mean()),
        "tail": TAIL,
        "rankers": [_ranker(role, name, found, degrees, groups, wanted)
                    for role, (name, found) in judged.items()],
        "data": {
            "train": asdict(exposure(*known, degrees)),
            "held_out": asdict(exposure(asked.rows, asked.indices, degrees)),
        },
    }  # fmt: skip


def _group(degrees: Array, groups: Array, g: int) -> dict[str, Any]:
    inside = degrees[groups == g]
    return {
        "group": g + 1,
        "items": len(inside),
        "item_share": len(inside) / int((degrees > 0).sum()),
        "degree_min": int(inside.min()) if len(inside) else None,
        "degree_max": int(inside.max()) if len(inside) else None,
        "train_share": float(inside.sum() / degrees.sum()),
    }


def _ranker(
    role: str, name: str, lists: Lists, degrees: Array, groups: Array, wanted: Array
) -> dict[str, Any]:
    n = len(wanted)
    listed = lists.ids[lists.ids >= 0]
    found, places = (
        np.bincount(groups[items] + 1, minlength=n + 1) for items in (lists.ids[lists.hits], listed)
    )
    split = (lists.ids, lists.hits, lists.relevant, groups, n)
    return {
        "role": role,
        "label": name,
        "recall": _plain(recall_by_group(*split)),
        "ndcg": _plain(ndcg_by_group(*split)),
        "found": [float(a / b) if b else None for a, b in zip(found[1:], wanted, strict=True)],
        "list_share": (places[1:] / len(listed)).tolist(),
        "outside": float(places[0] / len(listed)),
        "lists": asdict(exposure_of_lists(lists.ids, degrees)),
    }


def _plain(share: Share) -> dict[str, Any]:
    return {
        "total": share.total,
        "by_group": share.by_group.tolist(),
        "standard_error": share.standard_error.tolist(),
    }
