"""Weights: how a loss spreads its gradient over the negatives of a row; arrays in, arrays out.

Shapes: B rows (a user with one positive), N negatives each; `live` bool (B, N) marks the candidates that count.
Logits l are similarity / temperature. Weights are |dL/dl_j|, the pull of the loss on one negative's logit.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ssmrec.analysis.checks import check_least, check_masks, check_rows, check_shape
from ssmrec.errors import ConfigError, DataError

Array = np.ndarray

HARDEST = (0.01, 0.05, 0.1)
"""Shares of a row's negatives, the most similar ones, whose part of the gradient is reported."""


def weight_curve(x: Array, temperature: float) -> Array:
    """g(x) / g(x*), g(x) = sqrt(1 - x^2) exp(x / tau): the pull of a negative at cosine x on the user.

    g is its length up to a factor of the row (Eq 13 of Wu et al., TOIS 2024), too large a number at low
    temperatures. Over its largest value it rises to 1 at x* (`weight_peak`) and falls to 0 at x = 1, where
    candidates are likely to be false negatives.

    Args:
        x: cosines of any shape; what rounding put beyond -1 and 1 counts as these.
        temperature: tau, above 0.

    Raises:
        ConfigError: no such temperature.
    """
    x, peak = np.clip(np.asarray(x, dtype=np.float64), -1, 1), weight_peak(temperature)
    # 1 - x*^2 = tau x*, without the difference of nearly equal numbers.
    return np.sqrt((1 - x * x) / (temperature * peak)) * np.exp((x - peak) / temperature)


def weight_peak(temperature: float) -> float:
    """x* = (sqrt(tau^2 + 4) - tau) / 2 in (0, 1), where g is largest: the root of 1 - x^2 = tau x.

    Raises:
        ConfigError: the temperature is not above 0.
    """
    _check_temperature(temperature)
    # The same number without the difference of nearly equal ones at high temperatures.
    return 2 / (math.hypot(temperature, 2) + temperature)


def _check_temperature(temperature: float) -> None:
    if not 0 < temperature < math.inf:
        raise ConfigError(f"the temperature must be above 0 and finite, not {temperature}")


def ssm_weights(pos: Array, neg: Array, live: Array) -> Array:
    """Sampled softmax: P_j = e^{l_j} / (e^{l+} + sum_k e^{l_k}), the derivative of Eq 5 by l_j.

    Args:
        pos: (B,) logits of the positives; neg: (B, N) of the negatives, log q subtracted where the run
            does so.
        live: bool (B, N).

    Returns:
        (B, N), 0 where not live; a row sums to 1 - P_+, the weight on its positive.

    Raises:
        DataError: the shapes do not fit, or `live` is not bool.
    """
    check_rows(pos, neg, live)
    neg = np.where(live, neg, -np.inf)
    top = np.maximum(pos, neg.max(1, initial=-np.inf))
    powers = np.exp(neg - top[:, None])
    return powers / (np.exp(pos - top) + powers.sum(1))[:, None]


def bpr_weights(pos: Array, neg: Array, live: Array) -> Array:
    """BPR: sigmoid(l_j - l+) / n for the n live negatives of a row (Eq 26); arguments as for `ssm_weights`."""
    check_rows(pos, neg, live)
    count = np.maximum(live.sum(1, keepdims=True), 1)
    return np.where(live, sigmoid(neg - pos[:, None]), 0) / count


def bce_weights(pos: Array, neg: Array, live: Array) -> Array:
    """BCE: sigmoid(l_j) / (1 + n) for the n live negatives of a row (Eq 25); `pos` plays no part."""
    check_rows(pos, neg, live)
    return np.where(live, sigmoid(neg), 0) / (1 + live.sum(1, keepdims=True))


WEIGHTS: dict[str, Callable[[Array, Array, Array], Array]] = {
    "ssm": ssm_weights,
    "bpr": bpr_weights,
    "bce": bce_weights,
}
"""Each takes logits pos (B,), neg (B, N) and live (B, N), and returns (B, N), at least 0."""


def sigmoid(x: Array) -> Array:
    """1 / (1 + e^-x) without overflow."""
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, small) / (1 + small)


def user_pulls(user: Array, positive: Array, negatives: Array, temperature: float) -> Array:
    """Gradient of cosine sampled softmax by the user's raw vector, candidate by candidate (Eq 10 to 12).

    dl/dz_u = ( c(i) + sum_j c(j) ) / (tau ||z_u||), c(k) = (s_k - (s_u's_k) s_u) (P_k - y_k), s of unit length,
    y = 1 for the positive. ||c(j)|| = P_j sqrt(1 - x_j^2), in proportion to g(x_j).

    Args:
        user: (d,), positive: (d,), negatives: (N, d), raw vectors, not zero.
        temperature: tau, above 0.

    Returns:
        float64 (1 + N, d), the positive's share first; the rows add up to the gradient.

    Raises:
        ConfigError: no such temperature.
        DataError: a vector is zero, so that it has no cosine.
    """
    _check_temperature(temperature)
    raw = np.vstack([positive, negatives]).astype(np.float64)
    length, lengths = np.linalg.norm(user), np.linalg.norm(raw, axis=1, keepdims=True)
    if not (length > 0 and (lengths > 0).all()):
        raise DataError(
            "a vector of length zero has no cosine: leave it out of the pulls on a user"
        )
    unit, items = user / length, raw / lengths
    x = items @ unit
    weights = ssm_weights(
        x[:1] / temperature, x[None, 1:] / temperature, np.ones((1, len(x) - 1), bool)
    )[0]
    signed = np.append(-weights.sum(), weights)
    return signed[:, None] * (items - x[:, None] * unit) / (temperature * length)


def concentration(weights: Array, hardness: Array, live: Array) -> dict[str, float]:
    """How unevenly the weights of a row fall on its negatives; means over rows with any weight.

    With w_j the weights of a row divided by their sum, and n live negatives:

        entropy      -sum_j w_j log w_j, in nats: log n when all weigh the same
        evenness     entropy / log n (1 where n is 1)
        effective    e^entropy, the number of equally weighted negatives with that entropy
        hardest_q    sum of w_j over the ceil(q n / 100) negatives with the largest `hardness`
        total        sum of the weights before division

    Args:
        weights: (B, N), at least 0, 0 where not live.
        hardness: (B, N), what orders the negatives: their similarity to the user.
        live: bool (B, N).

    Returns:
        Empty where no row has any weight.

    Raises:
        DataError: a weight is negative or NaN, or on a candidate that is not live; the shapes do not fit, or
            `live` is not bool.
    """
    check_shape(weights.shape, hardness=hardness)
    check_masks(weights.shape, live=live)
    if not (weights >= 0).all() or weights[~live].any():
        raise DataError(
            "weights of negatives must be at least 0, and 0 where a candidate is not live"
        )
    total = weights.sum(1)
    kept = total > 0
    if not kept.any():
        return {}
    weights, hardness, live = weights[kept], hardness[kept], live[kept]
    shares = weights / total[kept, None]
    count = live.sum(1)
    entropy = -np.where(shares > 0, shares * np.log(np.where(shares > 0, shares, 1)), 0).sum(1)
    evenness = np.where(count > 1, entropy / np.log(np.maximum(count, 2)), 1.0)
    result = {
        "entropy": float(entropy.mean()),
        "evenness": float(evenness.mean()),
        "effective": float(np.exp(entropy).mean()),
    }
    order = np.argsort(np.where(live, -hardness, np.inf), axis=1)
    running = np.cumsum(np.take_along_axis(shares, order, axis=1), axis=1)
    for share in HARDEST:
        last = np.ceil(share * count - 1e-9).astype(np.int64) - 1
        result[f"hardest_{round(100 * share)}"] = float(running[np.arange(len(last)), last].mean())
    return {**result, "total": float(total.mean())}


def histogram(values: Array, edges: Array, weights: Array | None = None) -> Array:
    """Share of `values`, or of their `weights`, in each bin; float64 (len(edges) - 1,), adds up to 1.

    Values outside the edges (cosines a rounding beyond 1) count in the outermost bins. All zero when
    there is nothing to share.

    Raises:
        DataError: a value is NaN, a weight is below 0, or there is not one for each value.
    """
    if np.isnan(values).any():
        raise DataError("values of a histogram must be numbers: one is NaN")
    if weights is not None:
        check_shape(np.shape(values), weights=weights)
        check_least(weights, 0, "the weight of value")
    inside = np.clip(values, edges[0], edges[-1])
    found, _ = np.histogram(inside, edges, weights=weights)
    total = found.sum()
    return found / total if total > 0 else np.zeros(len(edges) - 1)


def temperature_grid(temperature: float) -> list[float]:
    """Nine temperatures from a quarter of the run's own to four times it, in steps of sqrt(2).

    Raises:
        ConfigError: the temperature is not above 0.
    """
    _check_temperature(temperature)
    return [temperature * 2 ** (step / 2) for step in range(-4, 5)]
