"""Is one method better than another, over users: paired tests, and Holm's correction for many.

A pair is one user's value under both methods. The null hypothesis of both tests is that the two
methods could change places for any user. P values are two-sided.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from ssmrec.errors import ConfigError, DataError

Array = np.ndarray

ROUNDS = 10_000
"""Random sign patterns; with at most as many possible ones the test is exact."""

_BLOCK = 1 << 22
"""Signs held at once: about 32 MB as float64."""


def randomisation(a: Array, b: Array, rounds: int = ROUNDS, seed: int = 0) -> float:
    """Fisher's paired randomisation test of equal means (Smucker et al., CIKM 2007).

    Each user's two values change places at random; p is the share of the patterns whose mean
    difference is at least as far from 0 as the one seen. All 2^n patterns of the n users that differ
    are counted when these are at most `rounds`; otherwise `rounds` are drawn and the one seen is
    counted among them, so that p is at least 1 / (rounds + 1).

    Args:
        a, b: (n,) values of the same users in the same order.
        rounds: patterns to draw, at least 1.
        seed: decides the draws.

    Returns:
        p, above 0 and at most 1; 1 when no user differs, or there is none.

    Raises:
        DataError: the shapes differ, or a value is not finite.
        ConfigError: `rounds` below 1.
    """
    return _flipped(_differences(a, b), rounds, seed)


def wilcoxon(a: Array, b: Array) -> float:
    """Wilcoxon's signed-rank test; users without a difference are left out.

    With at most 10,000 sign patterns the distribution of the rank sum is exact, ties included;
    beyond, p comes from the normal approximation with tie correction, without continuity correction
    (Hollander, Wolfe & Chicken, 3rd ed., section 3.1).

    a, b and what is returned: as `randomisation`.
    """
    d = _differences(a, b)
    if not len(d):
        return 1.0
    ranks, ties = _ranks(np.abs(d))
    if _few(len(d), ROUNDS):
        return _flipped(ranks * np.sign(d), ROUNDS, 0)
    n = len(d)
    variance = n * (n + 1) * (2 * n + 1) / 24 - float((ties**3 - ties).sum()) / 48
    z = (ranks[d > 0].sum() - n * (n + 1) / 4) / math.sqrt(variance)
    return math.erfc(abs(z) / math.sqrt(2))


TESTS: dict[str, Callable[[Array, Array], float]] = {
    "randomisation": randomisation,
    "wilcoxon": wilcoxon,
}


def holm(p: Sequence[float]) -> list[float]:
    """P values adjusted for their number, step down (Holm, Scand. J. Statist. 1979).

    The i-th smallest of m is multiplied by m - i + 1; none becomes smaller than one before it, or
    larger than 1. Rejecting where the result is at most alpha keeps the chance of any false
    rejection at most alpha. Of no p values there are none.

    Raises:
        DataError: a p value is not 0 to 1.
    """
    values = np.asarray(p, dtype=np.float64)
    if (bad := values[~((values >= 0) & (values <= 1))]).size:
        raise DataError(f"p values must be 0 to 1, not {bad[0]:g}")
    order = np.argsort(values, kind="stable")
    steps = values[order] * np.arange(len(values), 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0) if len(values) else steps
    return adjusted.tolist()


def _differences(a: Array, b: Array) -> Array:
    """The differences that are not 0; the others are the same under every pattern.

    They are whole millionths of the largest value, so that what is equal but for the rounding of float32, or of
    a mean over seeds, is equal.
    """
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1:
        raise DataError(
            f"paired tests need one value of each user under both methods, not {a.shape} and {b.shape}"
        )
    d = a - b
    if not np.isfinite(d).all():
        raise DataError("paired tests need finite values")
    grid = 1e-6 * max(np.abs(a).max(initial=0.0), np.abs(b).max(initial=0.0)) or 1.0
    d = np.rint(d / grid) * grid
    return d[d != 0]


def _few(n: int, rounds: int) -> bool:
    """Whether the 2^n patterns are at most `rounds`."""
    if rounds < 1:
        raise ConfigError(f"rounds of a paired test must be at least 1, not {rounds}")
    return n < rounds.bit_length()


def _flipped(d: Array, rounds: int, seed: int) -> float:
    """Share of sign patterns with |sum| at least the one seen, up to rounding."""
    n = len(d)
    least = abs(float(d.sum())) - 1e-9 * float(np.abs(d).sum())
    if not n:
        return 1.0
    if _few(n, rounds):
        numbers = np.arange(2**n)[:, None]
        signs = 1.0 - 2.0 * (numbers >> np.arange(n) & 1)
        return float(np.mean(np.abs(signs @ d) >= least))
    generator = np.random.default_rng(seed)
    at_once, extreme = max(1, _BLOCK // n), 0
    for start in range(0, rounds, at_once):
        count = min(at_once, rounds - start)
        bits = np.frombuffer(generator.bytes(count * -(-n // 8)), dtype=np.uint8)
        flips = np.unpackbits(bits.reshape(count, -1), axis=1, count=n)
        # sum of the kept minus sum of the flipped = total - 2 * flipped
        extreme += int((np.abs(d.sum() - 2.0 * (flips @ d)) >= least).sum())
    return (extreme + 1) / (rounds + 1)


def _ranks(sizes: Array) -> tuple[Array, Array]:
    """Ranks from 1, equal sizes sharing their mean rank; and the size of each group of equals."""
    _, group, ties = np.unique(sizes, return_inverse=True, return_counts=True)
    mean = np.cumsum(ties) - (ties - 1) / 2
    return mean[group], ties.astype(np.float64)
