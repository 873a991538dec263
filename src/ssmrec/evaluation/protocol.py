"""Full ranking against held-out pairs: who is averaged, what is masked, what is counted."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from ssmrec.data import Interactions
from ssmrec.data.align import extends, over
from ssmrec.errors import ConfigError, DataError
from ssmrec.evaluation.metrics import Metric, contains, find_hits, measure, parse_metric
from ssmrec.kernels.memory import fitting
from ssmrec.kernels.products import PANEL
from ssmrec.ranking.topk import ItemBlocks, Progress, UserLookup, top_k

Array = np.ndarray
logger = logging.getLogger("ssmrec")

LISTS = 1 << 16
"""Most users whose lists are held at once; more would be no faster."""
_PLACE_BYTES = 64
"""What one place of a list takes at most while it is judged: ids, scores, hits and two float64 of a metric."""
Judged = tuple[dict[str, Array], int]
"""Each metric of some users, and how many of them have an empty list."""
Spread = Callable[[Callable[[slice], Judged], int], Judged]
"""Judges so many users by a function that judges a slice of them: several processes can share the work."""


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """Outcome of one evaluation.

    Args:
        values: mean of each metric over the averaged users, 0 to 1.
        per_user: float64 (m,) for each metric, in the order of `user_index`.
        user_index: int64 (m,), the averaged users.
        counts: `users` averaged, of them `users_without_list`; `cold_users` left out for want of
            train items; `held_out_pairs` of the averaged users, of them `cold_pairs` whose item has
            no train interaction; `cold_items`, the distinct items of those; `overlapping_pairs`
            removed from the held-out set because they are among the seen; `unknown_pairs` with an id
            that the model does not know, where the pairs were matched by id (`widened`).
        seconds: time taken, scoring and metrics.
    """

    values: dict[str, float]
    per_user: dict[str, Array]
    user_index: Array
    counts: dict[str, int]
    seconds: float

    def __repr__(self) -> str:
        found = [f"{name} {value:.4f}" for name, value in self.values.items()]
        return f"Result({', '.join(found)}; {len(self.user_index):,} users)"


@dataclass(frozen=True, eq=False)
class Task:
    """Held-out pairs without overlap, and the users whose lists are judged."""

    held_out: Interactions
    user_index: Array
    relevant: Array
    counts: dict[str, int]
    seen: list[Interactions]
    """Over the ids of `held_out`."""

    def only(self, part: slice) -> Task:
        """The task of a slice of the users; its counts are those of all."""
        return replace(self, user_index=self.user_index[part], relevant=self.relevant[part])


def evaluate(
    users: Tensor | UserLookup,
    items: Tensor | ItemBlocks,
    held_out: Interactions,
    seen: Sequence[Interactions],
    metrics: Sequence[str],
    allowed: Array | None = None,
    block: int | None = None,
    progress: Progress | None = None,
    spread: Spread | None = None,
) -> Result:
    """Rank all items for each user and compare with the held-out pairs.

    Averages run over users with at least one held-out item and at least one train item; a user
    whose list is empty counts as 0. Nothing depends on `block`.

    Args:
        users: (n_users, d) vectors of all users; items: (n_items, d). Their dot product ranks. Those
            that no process holds whole are looked up and come in blocks.
        held_out: pairs to be found, over the ids of the vectors, which others may follow: their items
            are missed, their users left out.
        seen: pairs left out of the lists; the first is train.
        metrics: names such as `ndcg@20`.
        allowed: bool (n_items,), items that may be listed; None allows all.
        block: users scored at once; None chooses.
        progress: called with (users done, users in all).
        spread: who judges which users; None: all are judged here.

    Raises:
        ConfigError: unknown metric, or none.
        DataError: shapes do not fit, no user to average over, or a score is not a number.
    """
    start = time.perf_counter()
    asked = parsed(metrics)
    known = seen[0] if seen else held_out
    if len(users) != known.n_users or len(items) != known.n_items:
        raise DataError(
            f"vectors of {len(users)} users and {len(items)} items, but held-out pairs over "
            f"{known.n_users} users and {known.n_items} items: use the same vocabularies"
        )
    task = prepared(held_out, seen)
    long = [f"{metric.name}@{metric.k}" for metric in asked if metric.k > len(items)]
    if long:
        logger.warning("%s: lists longer than the %d items there are", ", ".join(long), len(items))

    def judge(part: slice) -> Judged:
        return _judged(users, items, task.only(part), asked, seen, allowed, block, progress)

    every = len(task.user_index)
    per_user, without = judge(slice(0, every)) if spread is None else spread(judge, every)
    return Result(
        values=means(per_user),
        per_user=per_user,
        user_index=task.user_index,
        counts={**task.counts, "users_without_list": without},
        seconds=time.perf_counter() - start,
    )


def _judged(
    users: Tensor | UserLookup,
    items: Tensor | ItemBlocks,
    task: Task,
    metrics: list[Metric],
    seen: Sequence[Interactions],
    allowed: Array | None,
    block: int | None,
    progress: Progress | None,
) -> Judged:
    """Each metric of each user of the task, and how many lists are empty; some lists at a time."""
    m, k = len(task.user_index), min(max(metric.k for metric in metrics), len(items))
    size = _at_once(k)
    parts, without = [], 0
    for start in range(0, m, size):
        index = task.user_index[start : start + size]
        lists = top_k(
            users[torch.from_numpy(index).to(users.device)],
            items,
            k,
            seen=seen,
            user_index=index,
            allowed=allowed,
            block=block,
            progress=None if progress is None else partial(_told, progress, start, m),
        )
        hits = find_hits(lists.ids, task.held_out, index)
        parts.append(measure(hits, task.relevant[start : start + size], metrics))
        without += int((lists.ids[:, 0] < 0).sum())
    return _joined(parts), without


def _at_once(k: int) -> int:
    """Users whose lists of `k` are judged at once."""
    return PANEL * fitting(LISTS // PANEL, PANEL * _PLACE_BYTES * k)


def in_parts(judge: Callable[[slice], dict[str, Array]], users: int, k: int) -> dict[str, Array]:
    """What `judge` gives for some users at a time whose lists of `k` memory holds."""
    size = _at_once(k)
    return _joined([judge(slice(start, start + size)) for start in range(0, users, size)])


def _joined(parts: Sequence[dict[str, Array]]) -> dict[str, Array]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _told(progress: Progress, start: int, total: int, done: int, _: int) -> None:
    progress(start + done, total)


def best_possible(
    held_out: Interactions,
    seen: Sequence[Interactions],
    metrics: Sequence[str],
    allowed: Array | None = None,
) -> dict[str, float]:
    """What a perfect ranker would reach in `evaluate`, for each metric.

    Below 1 where a user has more held-out items than the list is long (recall), fewer (precision),
    or held-out items that are not `allowed`.

    Raises:
        ConfigError: unknown metric, or none.
        DataError: no user to average over.
    """
    asked = parsed(metrics)
    task = prepared(held_out, seen)
    listable = np.arange(held_out.n_items) < (seen[0] if seen else held_out).n_items
    if allowed is not None:
        listable[listable] = allowed
    reachable = np.bincount(
        task.held_out.rows, weights=listable[task.held_out.indices], minlength=held_out.n_users
    )[task.user_index]
    longest = min(max(metric.k for metric in asked), int(reachable.max()))  # then misses only

    def judge(part: slice) -> dict[str, Array]:
        hits = np.arange(longest) < reachable[part, None]
        return measure(hits, task.relevant[part], asked)

    return means(in_parts(judge, len(reachable), longest))


def most_popular(train: Interactions) -> tuple[Tensor, Tensor]:
    """The popularity baseline as vectors: users (n_users, 1), all one, and items (n_items, 1).

    Their dot product is the number of train users of an item, so the baseline takes the same path
    as a model.
    """
    degrees = torch.from_numpy(train.item_degrees.astype(np.float32))
    return torch.ones(train.n_users, 1), degrees[:, None]


def parsed(metrics: Sequence[str]) -> list[Metric]:
    """The metrics of some names, of which there is one at least."""
    if not metrics:
        raise ConfigError("no metrics asked for: name at least one, such as 'ndcg@20'")
    return [parse_metric(name) for name in metrics]


def prepared(held_out: Interactions, seen: Sequence[Interactions]) -> Task:
    """Who is averaged over, and what is to be found."""
    if not all(extends(held_out, known) for known in seen):
        raise DataError(
            "held-out pairs over other user or item ids than the seen ones: use the same vocabularies"
        )
    seen = [over(known, held_out) for known in seen]
    overlap = np.zeros(len(held_out), dtype=bool)
    for known in seen:
        overlap |= contains(known, held_out.rows, held_out.indices)
    kept = held_out.take(~overlap) if overlap.any() else held_out
    warm = seen[0].user_degrees > 0 if seen else np.ones(held_out.n_users, dtype=bool)
    index = np.flatnonzero((kept.user_degrees > 0) & warm)
    if not len(index):
        raise DataError(
            f"no user to average over: of {len(held_out)} held-out pairs {int(overlap.sum())} are "
            f"among the seen, and no other belongs to a user with train items; "
            "check that ids of both files match"
        )
    cold = warm[kept.rows] & ((seen[0].item_degrees == 0)[kept.indices] if seen else False)
    counts = {
        "users": len(index),
        "cold_users": int(((kept.user_degrees > 0) & ~warm).sum()),
        "held_out_pairs": int(kept.user_degrees[index].sum()),
        "cold_pairs": int(cold.sum()),
        "cold_items": len(np.unique(kept.indices[cold])),
        "overlapping_pairs": int(overlap.sum()),
        **{name: n for name, n in held_out.counts.items() if name == "unknown_pairs"},
    }
    return Task(kept, index, kept.user_degrees[index], counts, seen)


def means(per_user: dict[str, Array]) -> dict[str, float]:
    """The mean of each metric over the users."""
    found = {name: float(values.mean()) for name, values in per_user.items()}
    for name, values in per_user.items():
        assert values.min() >= 0 and values.max() <= 1, f"{name} left the range 0 to 1"
    return found
