"""Made-up interactions of any size: popularity and activity tails, and tastes that can be learned."""

from __future__ import annotations

import numpy as np
import polars as pl

from ssmrec.data.interactions import Array, Interactions
from ssmrec.data.vocabulary import Vocabulary
from ssmrec.errors import ConfigError

_HEAD = 10
"""Flattens the first ranks of the popularity tail (Zipf-Mandelbrot), as real catalogues do."""
_HOME, _SECOND = 0.5, 0.2
"""Share of a user's draws from the favourite and the second group of items; the rest is from all."""
_ACTIVITY = 1.0
"""Standard deviation of log activity over users."""
_BLOCK = 4_000_000
"""Pairs made at once: bounds the memory beyond the result."""
_ROUNDS = 8
"""Rounds of redrawing repeats by taste; after them the missing pairs are drawn uniformly."""


def synthetic(
    n_users: int, n_items: int, n_interactions: int, seed: int = 0, exponent: float = 0.9
) -> Interactions:
    """Seeded random interactions with long tails and latent groups.

    Popularity falls with rank r as (r + 10)^-exponent, activity is log-normal, and items lie in
    groups: half of a user's pairs come from a favourite group, a fifth from a second one. Memory
    beyond the result is about 0.3 GB, whatever the size.

    Args:
        n_users: users, ids 0 to n_users - 1; each has at least one item.
        n_items: items, ids 0 to n_items - 1; unpopular ones may have no user.
        n_interactions: distinct pairs, met exactly; n_users to n_users * max(1, n_items // 4).
        seed: equal seeds give equal tables.
        exponent: of the popularity tail, 0 (flat) to 3.

    Raises:
        ConfigError: a number is out of range.
    """
    most = max(1, n_items // 4)
    if n_users < 1 or n_items < 1 or not 0 <= exponent <= 3:
        raise ConfigError(
            "synthetic data need n_users and n_items of 1 or more and an exponent from 0 to 3, "
            f"not {n_users}, {n_items} and {exponent}"
        )
    if not n_users <= n_interactions <= n_users * most:
        raise ConfigError(
            f"n_interactions={n_interactions} must lie between {n_users} (one a user) and "
            f"{n_users * most} (a quarter of the items for each user)"
        )
    generator = np.random.default_rng(seed)
    indptr = np.zeros(n_users + 1, dtype=np.int64)
    np.cumsum(_activity(n_users, n_interactions, most, generator), out=indptr[1:])
    groups = max(1, min(50, n_items // 20))
    taste = generator.integers(groups, size=(n_users, 2), dtype=np.int32)
    item_of_rank = generator.permutation(n_items).astype(np.int32)
    indices = np.empty(n_interactions, dtype=np.int32)
    first = 0
    while first < n_users:
        last = int(np.searchsorted(indptr, indptr[first] + _BLOCK, side="right")) - 1
        last = min(max(last, first + 1), n_users)
        degrees = np.diff(indptr[first : last + 1])
        indices[indptr[first] : indptr[last]] = _items_of(
            degrees, taste[first:last], groups, exponent, item_of_rank, generator
        )
        first = last
    users, items = (Vocabulary(pl.Series(np.arange(n, dtype=np.int64))) for n in (n_users, n_items))
    return Interactions(users, items, indptr, indices)


def _activity(n_users: int, total: int, most: int, generator: np.random.Generator) -> Array:
    """Items of each user, int64 (n_users,), 1 to `most`, with sum `total`."""
    weight = generator.lognormal(sigma=_ACTIVITY, size=n_users)
    degrees = np.clip((weight / weight.sum() * total).astype(np.int64), 1, most)
    while lacking := total - int(degrees.sum()):
        open_to = np.flatnonzero(degrees < most if lacking > 0 else degrees > 1)
        chosen = generator.choice(open_to, min(abs(lacking), len(open_to)), replace=False)
        degrees[chosen] += np.sign(lacking)
    return degrees


def _items_of(
    degrees: Array,
    taste: Array,
    groups: int,
    exponent: float,
    item_of_rank: Array,
    generator: np.random.Generator,
) -> Array:
    """Distinct items of each of a block of users, ascending within a user, int32 (sum of degrees,)."""
    n_items = len(item_of_rank)
    keys = np.empty(0, dtype=np.int64)
    missing, rounds = degrees, 0
    while missing.any():
        row = np.repeat(np.arange(len(degrees)), missing)
        if rounds < _ROUNDS:
            item = item_of_rank[_ranks(taste[row], groups, n_items, exponent, generator)]
        else:
            item = generator.integers(n_items, size=len(row))
        keys = np.concatenate([keys, row * n_items + item])
        keys.sort()
        keys = keys[np.append(True, keys[1:] != keys[:-1])]
        missing = degrees - np.bincount(keys // n_items, minlength=len(degrees))
        rounds += 1
    return (keys % n_items).astype(np.int32)


def _ranks(
    taste: Array, groups: int, n_items: int, exponent: float, generator: np.random.Generator
) -> Array:
    """A popularity rank for each row of `taste` (n, 2). Rank r lies in group r modulo `groups`."""
    n = len(taste)
    source = generator.random(n)
    ranks = _tail(generator.random(n), n_items, exponent)
    group = np.where(source < _HOME, taste[:, 0], taste[:, 1])
    # The same draw moved to the nearest rank of the group keeps the tail within every group.
    moved = ranks - ranks % groups + group
    moved = np.where(moved < n_items, moved, moved - groups)
    return np.where(source < _HOME + _SECOND, moved, ranks)


def _tail(uniform: Array, n: int, exponent: float) -> Array:
    """Ranks 0 to n - 1 with density (rank + head)^-exponent, by the inverse of its integral."""
    low, high = float(_HEAD), float(_HEAD + n)
    if abs(exponent - 1) < 1e-9:
        value = low * (high / low) ** uniform
    else:
        power = 1 - exponent
        value = (low**power + uniform * (high**power - low**power)) ** (1 / power)
    return np.clip((value - low).astype(np.int64), 0, n - 1)
