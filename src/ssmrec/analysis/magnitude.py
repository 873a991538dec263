"""Magnitude and degree: do vector lengths follow popularity, and why message passing makes them.

Cosine training gives no signal to the length of a vector (Claim 3.2.1 of Wu et al., TOIS 2024). One step of
message passing q_i = sum_{u in P_i} |P_i|^-a0 |P_u|^-a1 p_u (Eq 17) does: for neighbours with independent
rows of mean mu and variance sigma^2 per dimension, and degrees independent of them (Eq 23, 24),

    E[q_i^2] = a |P_i|^(1 - 2 a0) + b |P_i|^(2 - 2 a0)                  per dimension,
    a = E[D^(-2 a1)] (sigma^2 + mu^2) - E[D^-a1]^2 mu^2,   b = E[D^-a1]^2 mu^2,

with E[D^-s] = A / (A + s) for degrees from a Pareto law of shape A and minimum 1. With a0 = 1/2 this is
a + b |P_i|: growth with degree needs b > 0, a mean that is not zero. Rows of a fresh Xavier start have mean
zero and b = 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ssmrec.analysis.checks import check_shape
from ssmrec.analysis.subject import Subject
from ssmrec.errors import ConfigError, DataError
from ssmrec.models import Graph
from ssmrec.training.seeds import numpy_generator

Array = np.ndarray

LEMMA_DEGREES = (1, 2, 5, 10, 20, 50, 100)
LEMMA_SHAPE = 3.0
"""Shape of the Pareto law in the simulated cases."""


def spearman(x: Array, y: Array) -> float:
    """Rank correlation, -1 to 1: Pearson's of the ranks, ties sharing their mean rank.

    NaN where either is constant or holds a NaN, or there are fewer than two values.

    Raises:
        DataError: the two are of different lengths.
    """
    if len(x) != len(y):
        raise DataError(
            f"{len(x)} and {len(y)} values are no pairs, so they have no rank correlation"
        )
    if len(x) < 2 or np.isnan(x).any() or np.isnan(y).any():
        return float("nan")
    a, b = (r - r.mean() for r in (mean_ranks(x), mean_ranks(y)))
    scale = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / scale if scale > 0 else float("nan")


def mean_ranks(values: Array) -> Array:
    """Ranks from 1, equal values sharing the mean of their ranks, float64 (n,); NaN counts as the largest."""
    _, at, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return ((2 * last - counts + 1) / 2)[at]


def degree_bins(degrees: Array, n: int = 10) -> Array:
    """Bin of each node, int64: equal widths in log degree between the least and the largest degree.

    Args:
        degrees: int (m,), at least 1, m at least 1.
        n: number of bins, at least 1; a bin may be empty.

    Raises:
        ConfigError: `n` below 1.
        DataError: no degree, or one below 1.
    """
    if n < 1:
        raise ConfigError(f"the number of bins of degree must be at least 1, not {n}")
    _check_degrees(degrees)
    logs = np.log(degrees)
    edges = np.linspace(logs.min(), logs.max(), n + 1)[1:-1]
    return np.searchsorted(edges, logs, side="right")


def _check_degrees(degrees: Array) -> None:
    if not len(degrees) or not (degrees >= 1).all():
        least = degrees.min() if len(degrees) else "none"
        raise DataError(
            f"degrees must be at least 1, not {least}: leave nodes without a neighbour out"
        )


def by_degree(values: Array, degrees: Array, n: int = 10) -> list[dict[str, float]]:
    """`values` summarised in bins of log degree, ascending; empty bins are left out.

    Returns:
        For each bin degree_min, degree_max, degree (mean), nodes, mean, q25 and q75 (quartiles).

    Raises:
        ConfigError, DataError: as `degree_bins`; or `values` is of another length.
    """
    check_shape(np.shape(degrees), values=values)
    bins = degree_bins(degrees, n)
    rows = []
    for number in np.unique(bins):
        inside = bins == number
        low, high = np.quantile(values[inside], (0.25, 0.75))
        rows.append(
            {
                **degree_range(degrees[inside]),
                "mean": float(values[inside].mean()),
                "q25": float(low),
                "q75": float(high),
            }
        )
    return rows


def degree_range(degrees: Array) -> dict[str, float]:
    """Extent of a bin: degree_min, degree_max, degree (mean) and nodes.

    Raises:
        DataError: no degree, or one below 1.
    """
    _check_degrees(degrees)
    return {
        "degree_min": int(degrees.min()),
        "degree_max": int(degrees.max()),
        "degree": float(degrees.mean()),
        "nodes": len(degrees),
    }


def pareto_moment(shape: float, s: float) -> float:
    """E[D^-s] = A / (A + s) for D from a Pareto law of shape A and minimum 1; infinity for s <= -A.

    Raises:
        ConfigError: the shape is not above 0.
    """
    _check_shape(shape)
    return shape / (shape + s) if s > -shape else math.inf


def _check_shape(shape: float) -> None:
    if not shape > 0:
        raise ConfigError(f"the shape of a Pareto law must be above 0, not {shape}")


def lemma_coefficients(
    mean_square: float, variance: float, moment: float, moment_twice: float
) -> tuple[float, float]:
    """a and b of Eq 24.

    Args:
        mean_square: mu^2; variance: sigma^2. Summed over dimensions they give the squared length.
        moment: E[D^-a1]; moment_twice: E[D^(-2 a1)].
    """
    b = moment**2 * mean_square
    return moment_twice * (variance + mean_square) - b, b


def lemma(degrees: Array, a: float, b: float, a0: float = 0.5) -> Array:
    """a d^(1 - 2 a0) + b d^(2 - 2 a0) at degrees d (Eq 23), float64 (m,).

    Raises:
        DataError: no degree, or one below 1.
    """
    d = np.asarray(degrees, dtype=np.float64)
    _check_degrees(d)
    return a * d ** (1 - 2 * a0) + b * d ** (2 - 2 * a0)


def simulate_message(
    degree: int,
    generator: np.random.Generator,
    *,
    alpha: tuple[float, float] = (0.5, 0.5),
    shape: float = 3.0,
    mean: float = 0.0,
    deviation: float = 1.0,
    repeats: int = 2000,
) -> tuple[float, float]:
    """Monte Carlo of E[q_i^2] per dimension under the lemma's assumptions.

    Args:
        degree: number of neighbours |P_i|, at least 1.
        alpha: (a0, a1); shape: A of the Pareto law of the neighbours' degrees.
        mean, deviation: mu and sigma of the normal rows.
        repeats: independent items, each with its own neighbours; at least 2.

    Returns:
        The mean of q_i^2 and its standard error.

    Raises:
        ConfigError: the shape is not above 0, or a number is too small.
    """
    _check_shape(shape)
    if degree < 1 or repeats < 2:
        raise ConfigError(
            f"a simulated message needs degree 1 and 2 repeats at least, not {degree} and {repeats}"
        )
    neighbours = 1 + generator.pareto(shape, (repeats, degree))
    rows = generator.normal(mean, deviation, (repeats, degree))
    squares = ((neighbours ** -alpha[1] * rows).sum(1) * degree ** -alpha[0]) ** 2
    return float(squares.mean()), float(squares.std(ddof=1) / repeats**0.5)


def magnitude_section(
    subject: Subject, similarities: Mapping[str, Mapping[str, float]], seed: int
) -> dict[str, Any]:
    """Norms by degree, the lemma and the ranking similarity, as `run` documents them.

    Args:
        similarities: for `cosine` and `dot`, what `corrections.trade` says of the lists.
    """
    given = subject.config.model.get("alpha")  # iALS and GF-CF have a number of that name
    alpha = (given[0], given[1]) if isinstance(given, (list, tuple)) else (0.5, 0.5)
    return {
        "nodes": _norms(subject),
        "lemma": _lemma_cases(alpha, numpy_generator(seed, "lemma")),
        "message": _messages(subject, alpha),
        "ranking": [
            {
                "similarity": name,
                "used": name == subject.config.ranking.similarity,
                **{key: record[key] for key in ("recall", "ndcg", "mean_popularity")},
            }
            for name, record in similarities.items()
        ],
    }


def _norms(subject: Subject) -> list[dict[str, Any]]:
    train, records = subject.train, []
    kinds = [
        ("final", subject.final, ""),
        ("ego", subject.final, "ego_"),
        ("start", subject.start, ""),
    ]
    for side, degrees in (("items", train.item_degrees), ("users", train.user_degrees)):
        warm = degrees > 0
        for kind, table, prefix in kinds:
            if table is None:
                continue
            lengths = np.linalg.norm(getattr(table, prefix + side)[warm], axis=1)
            records.append({
                "side": side,
                "vectors": kind,
                "spearman": spearman(lengths, degrees[warm]),
                "bins": by_degree(lengths, degrees[warm]),
            })  # fmt: skip
    return records


def _lemma_cases(alpha: tuple[float, float], generator: np.random.Generator) -> dict[str, Any]:
    moments = pareto_moment(LEMMA_SHAPE, alpha[1]), pareto_moment(LEMMA_SHAPE, 2 * alpha[1])
    cases = []
    for mean in (0.0, 0.5):
        a, b = lemma_coefficients(mean**2, 1.0, *moments)
        rows = []
        for degree, value in zip(
            LEMMA_DEGREES, lemma(np.array(LEMMA_DEGREES), a, b, alpha[0]), strict=True
        ):
            found, error = simulate_message(
                degree, generator, alpha=alpha, shape=LEMMA_SHAPE, mean=mean
            )
            rows.append({
                "degree": degree, "closed_form": float(value), "simulated": found,
                "standard_error": error,
            })  # fmt: skip
        cases.append({"mean": mean, "intercept": a, "slope": b, "rows": rows})
    return {"alpha": list(alpha), "shape": LEMMA_SHAPE, "deviation": 1.0, "cases": cases}


def _messages(subject: Subject, alpha: tuple[float, float]) -> list[dict[str, Any]]:
    """One message to each item from the layer-0 rows of its users, measured and by the lemma.

    The lemma takes mean, variance and degree moments over the training pairs: what a random neighbour
    of a random item brings. It then assumes that neighbours of one item have nothing in common.
    """
    train, degrees = subject.train, subject.train.item_degrees
    warm, graph = degrees > 0, Graph(subject.train, alpha, dtype=np.float64)
    weights = train.user_degrees / len(train)
    live = train.user_degrees > 0
    powers = [
        (weights[live] * train.user_degrees[live] ** -s).sum() for s in (alpha[1], 2 * alpha[1])
    ]
    records = []
    for stage, table in (("start", subject.start), ("final", subject.final)):
        if table is None:
            continue
        rows = np.vstack([table.ego_users, np.zeros_like(table.ego_items)])
        received = graph.layer_rows(rows, train.n_users + np.flatnonzero(warm))
        mean_square = float((weights @ table.ego_users) @ (weights @ table.ego_users))
        variance = float(weights @ (table.ego_users**2).sum(1)) - mean_square
        a, b = lemma_coefficients(mean_square, variance, *powers)
        measured = by_degree((received**2).sum(1), degrees[warm])
        predicted = by_degree(lemma(degrees[warm], a, b, alpha[0]), degrees[warm])
        records.append({
            "stage": stage,
            "bins": [
                {key: m[key] for key in ("degree_min", "degree_max", "degree", "nodes")}
                | {"measured": m["mean"], "lemma": p["mean"]}
                for m, p in zip(measured, predicted, strict=True)
            ],
        })  # fmt: skip
    return records
