"""Ranking metrics for binary relevance, one value a user.

For a user with held-out items T and a ranked list cut at K, with hit(r) = 1 if the item at rank r
(from 1) is in T, else 0:

    recall@K     sum_r hit(r) / |T|
    precision@K  sum_r hit(r) / K
    hit@K        1 if any hit, else 0
    mrr@K        1 / rank of the first hit, 0 without one
    ndcg@K       sum_r hit(r) / log2(r + 1)  over the same sum for hits at ranks 1 to min(K, |T|)
    map@K        sum_r hit(r) * precision@r / min(K, |T|)

`map` is divided by min(K, |T|), as `ndcg` is, so that a list of nothing but hits is worth 1.
trec_eval (`map_cut`, the AP@K of ir-measures) divides by |T|; the two agree when |T| is at most K.
A list shorter than K counts as if filled with misses: precision still divides by K.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ssmrec.config import nearest
from ssmrec.data import Interactions
from ssmrec.errors import ConfigError

Array = np.ndarray

METRIC_VERSION = 1
"""Raised when a definition changes, so that results of different definitions are not compared."""


def _recall(hits: Array, relevant: Array, k: int) -> Array:
    return np.count_nonzero(hits, axis=1) / relevant


def _precision(hits: Array, relevant: Array, k: int) -> Array:
    return np.count_nonzero(hits, axis=1) / k


def _hit(hits: Array, relevant: Array, k: int) -> Array:
    return np.minimum(np.count_nonzero(hits, axis=1), 1.0)


def _mrr(hits: Array, relevant: Array, k: int) -> Array:
    return (hits / _ranks(hits)).max(axis=1, initial=0.0)


def _ndcg(hits: Array, relevant: Array, k: int) -> Array:
    # Running sums in rank order on both sides: a perfect list gives exactly 1, none gives more.
    best = np.minimum(k, relevant)  # hits of a perfect list: k itself may be any number
    ideal = np.cumsum(1 / np.log2(np.arange(2, best.max(initial=1) + 2)))
    gains = np.cumsum(hits / np.log2(_ranks(hits) + 1), axis=1)
    return _last(gains) / ideal[best - 1]


def _map(hits: Array, relevant: Array, k: int) -> Array:
    precisions = hits * np.cumsum(hits, axis=1) / _ranks(hits)
    return _last(np.cumsum(precisions, axis=1)) / np.minimum(k, relevant)


def _ranks(hits: Array) -> Array:
    return np.arange(1, hits.shape[1] + 1)


def _last(sums: Array) -> Array:
    return sums[:, -1] if sums.shape[1] else np.zeros(len(sums))


METRICS: dict[str, Callable[[Array, Array, int], Array]] = {
    "recall": _recall,
    "precision": _precision,
    "ndcg": _ndcg,
    "hit": _hit,
    "mrr": _mrr,
    "map": _map,
}
"""Each takes hits bool (m, at most k), relevant counts (m,) and k, and returns float64 (m,)."""


@dataclass(frozen=True)
class Metric:
    """A metric with its cut-off, such as ndcg@20."""

    name: str
    k: int

    def __str__(self) -> str:
        return f"{self.name}@{self.k}"

    def per_user(self, hits: Array, relevant: Array) -> Array:
        """Value for each user, float64 (m,), 0 to 1.

        Args:
            hits: bool (m, K), whether the item at each rank is held out; only k columns are read.
            relevant: int (m,), number of held-out items of each user, at least 1.
        """
        return METRICS[self.name](hits[:, : self.k], relevant, self.k)


def parse_metric(name: str) -> Metric:
    """Metric named like `ndcg@20`.

    Raises:
        ConfigError: unknown name (the nearest one is named), or a cut-off that is not a plain 1 or more.
    """
    kind, at, cut = name.partition("@")
    if kind not in METRICS:
        word = kind.lower().rstrip("0123456789")
        hint = nearest(word, METRICS, suffix=f"@{cut or kind[len(word) :] or 20}")
        raise ConfigError(f"unknown metric {name!r}{hint}")
    # "@020" would be measured as "@20", and then not be found under the name it was asked for.
    if not (at and cut.isascii() and cut.isdecimal() and len(cut) < 10 and cut[0] != "0"):
        raise ConfigError(
            f"metric {name!r} needs a cut-off from 1 to 999999999, such as '{kind}@20'"
        )
    return Metric(kind, int(cut))


def find_hits(ids: Array, held_out: Interactions, user_index: Array) -> Array:
    """Whether each listed item is held out for its user.

    Args:
        ids: int (m, K) item indices, -1 for padding.
        held_out: the relevant pairs.
        user_index: (m,) rows of `held_out` that the lists belong to.

    Returns:
        bool (m, K).
    """
    return contains(held_out, np.asarray(user_index)[:, None], ids)


def contains(pairs: Interactions, users: Array, items: Array) -> Array:
    """Whether each (user, item) is among `pairs`; shapes broadcast, item -1 is never found.

    Looks at the pairs from the first to the last of `users` only, so that parts of all cost parts.
    """
    first, last = pairs.indptr[[users.min(), int(users.max()) + 1]] if users.size else (0, 0)
    if first == last:
        return np.zeros(np.broadcast_shapes(users.shape, items.shape), dtype=bool)
    # Pairs are sorted by user and item, so their keys are ascending already.
    keys = pairs.rows[first:last].astype(np.int64)
    keys *= pairs.n_items
    keys += pairs.indices[first:last]
    wanted = np.where(items >= 0, users.astype(np.int64) * pairs.n_items + items, -1)
    at = np.searchsorted(keys, wanted)
    return keys[np.minimum(at, len(keys) - 1)] == wanted


def measure(hits: Array, relevant: Array, metrics: Sequence[Metric]) -> dict[str, Array]:
    """Value of each metric for each user, float64 (m,), keyed by name."""
    return {str(metric): metric.per_user(hits, relevant) for metric in metrics}
