"""The shape of the embedding: alignment and uniformity on the sphere, and the spectrum.

Alignment and uniformity are those of Wang & Isola (ICML 2020), on vectors of unit length.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ssmrec.analysis.subject import Subject, unit
from ssmrec.data import Interactions
from ssmrec.errors import ConfigError, DataError
from ssmrec.training.seeds import numpy_generator

Array = np.ndarray


def alignment(users: Array, items: Array) -> float:
    """Mean squared distance of matching rows on the sphere, 0 (equal) to 4 (opposite).

    It is 2 - 2 mean cosine. A pair with a zero row, which has no direction, is left out; NaN without a pair.

    Args:
        users, items: (n, d), row by row a positive pair; any length.

    Raises:
        DataError: the two are not of one shape.
    """
    users, items = np.asarray(users), np.asarray(items)
    if users.shape != items.shape:
        raise DataError(f"users {users.shape} and items {items.shape} are no pairs row by row")
    known = _directed(users) & _directed(items)
    if not known.any():
        return float("nan")
    return float(((unit(users[known]) - unit(items[known])) ** 2).sum(1).mean())


def _directed(vectors: Array) -> Array:
    """Rows that `unit` makes as long as 1, bool (n,): the others have no direction."""
    return ~(np.linalg.norm(vectors, axis=1) < 1e-12)


def uniformity(vectors: Array, t: float = 2.0) -> float:
    """log of the mean of exp(-t ||x - y||^2) over all pairs of distinct rows; at most 0, lower is more spread.

    For vectors spread evenly over a sphere of many dimensions it comes near -2 t, its value for
    orthogonal rows.

    Args:
        vectors: (n, d), any length; zero rows, which have no direction, are left out. NaN below two others.
        t: above 0 and finite.

    Raises:
        ConfigError: no such `t`.
    """
    if not 0 < t < math.inf:
        raise ConfigError(f"t of uniformity must be above 0 and finite, not {t}")
    vectors = np.asarray(vectors)
    x = unit(vectors[_directed(vectors)])
    n = len(x)
    if n < 2:
        return float("nan")
    # ||x - y||^2 = 2 - 2 x'y; the diagonal holds the n pairs of a row with itself.
    powers = np.exp(-t * np.maximum(2 - 2 * (x @ x.T), 0))
    return float(np.log((powers.sum() - np.trace(powers)) / (n * (n - 1))))


def singular_values(vectors: Array) -> Array:
    """Singular values of the (n, d) matrix, largest first, float64 (d,); rows are not centred.

    From the d x d Gram matrix in float64, so n may be large; values below 1e-8 of the largest are noise.

    Raises:
        DataError: a value is not a finite number.
    """
    x = np.asarray(vectors, dtype=np.float64)
    if not np.isfinite(x).all():
        raise DataError(
            "the vectors hold values that are not finite numbers: they have no spectrum"
        )
    return np.sqrt(np.maximum(np.linalg.eigvalsh(x.T @ x)[::-1], 0))


def effective_rank(values: Array) -> float:
    """e^H of p_k = sigma_k / sum sigma (Roy & Vetterli, EUSIPCO 2007): 1 to the number of values.

    NaN where all values are zero.

    Args:
        values: (d,), at least 0.

    Raises:
        DataError: a value is negative.
    """
    if (values < 0).any():
        raise DataError(f"singular values must be at least 0, not {values.min()}")
    total = values.sum()
    if total <= 0:
        return float("nan")
    p = values[values > 0] / total
    return float(np.exp(-(p * np.log(p)).sum()))


def mean_share(vectors: Array) -> float:
    """||mean row||^2 over the mean of ||row||^2, 0 to 1: how much all rows point the same way.

    NaN where all rows are zero, or there is none.
    """
    x = np.asarray(vectors, dtype=np.float64)
    square = (x**2).sum(1).mean() if len(x) else 0.0
    return float((x.mean(0) ** 2).sum() / square) if square > 0 else float("nan")


def geometry_section(subject: Subject, pairs: int, nodes: int, seed: int) -> dict[str, Any] | None:
    """Alignment, uniformity and spectrum of the run, as `run` documents them; None without vectors.

    Args:
        pairs: number of pairs that alignment averages over, at most.
        nodes: number of nodes whose pairs uniformity averages over, at most.
    """
    table = subject.final
    if table is None:
        return None
    train, generator = subject.train, numpy_generator(seed, "geometry")
    warm = {"users": train.user_degrees > 0, "items": train.item_degrees > 0}

    def aligned(held: Interactions) -> float:  # pairs of untrained vectors tell nothing
        known = warm["users"][held.rows] & warm["items"][held.indices]
        chosen = generator.permutation(np.flatnonzero(known))[:pairs]
        return alignment(table.users[held.rows[chosen]], table.items[held.indices[chosen]])

    def some(side: str) -> Array:
        return generator.permutation(np.flatnonzero(warm[side]))[:nodes]

    return {
        "alignment": {
            "train": aligned(train),
            "held_out": aligned(subject.held_out),
            "random": alignment(
                table.users[generator.choice(np.flatnonzero(warm["users"]), pairs)],
                table.items[generator.choice(np.flatnonzero(warm["items"]), pairs)],
            ),
        },
        "uniformity": {
            side: uniformity(getattr(table, side)[some(side)]) if warm[side].sum() > 1 else None
            for side in ("users", "items")
        },
        "spectrum": [
            _spectrum(side, kind, getattr(each, prefix + side)[warm[side]])
            for side in ("items", "users")
            for kind, each, prefix in (
                ("final", table, ""), ("ego", table, "ego_"), ("start", subject.start, "")
            )
            if each is not None
        ],
    }  # fmt: skip


def _spectrum(side: str, kind: str, vectors: Array) -> dict[str, Any]:
    values = singular_values(vectors)
    energy = float((values**2).sum())
    return {
        "side": side,
        "vectors": kind,
        "singular_values": values.tolist(),
        "effective_rank": effective_rank(values),
        "first_share": float(values[0] ** 2) / energy if energy else None,
        "mean_share": mean_share(vectors),
    }
