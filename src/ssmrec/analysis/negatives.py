"""Hard negatives: how a loss spreads its gradient over the negatives of a row.

Shapes: B rows (a user with one positive), N negatives each; `live` bool (B, N) marks the candidates that count.
Logits l are similarity / temperature. Weights are |dL/dl_j|, the pull of the loss on one negative's logit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ssmrec.analysis.subject import Drawn, Subject, Table, scores_at, unit
from ssmrec.evaluation.metrics import contains
from ssmrec.negatives import Uniform
from ssmrec.negatives.drawn import UniformConfig

Array = np.ndarray

FEWEST, SPARE = 100, 1000
"""A run that draws fewer than 100 negatives a row is shown over 1000 uniform ones: 1 % must be one item."""

HARDEST = (0.01, 0.05, 0.1)
"""Shares of a row's negatives, the most similar ones, whose part of the gradient is reported."""


def weight_curve(x: Array, temperature: float) -> Array:
    """g(x) = sqrt(1 - x^2) exp(x / tau): length of the pull of a negative at cosine x on the user.

    Up to a factor of the row (Eq 13 of Wu et al., TOIS 2024). It rises to `weight_peak` and falls to 0 at
    x = 1, where candidates are likely to be false negatives.
    """
    x = np.asarray(x, dtype=np.float64)
    return np.sqrt(np.maximum(1 - x * x, 0)) * np.exp(x / temperature)


def weight_peak(temperature: float) -> float:
    """x* = (sqrt(tau^2 + 4) - tau) / 2, where g is largest: the root of 1 - x^2 = tau x."""
    # The same number without the difference of nearly equal ones at high temperatures.
    return 2 / (float(np.sqrt(temperature**2 + 4)) + temperature)


def ssm_weights(pos: Array, neg: Array, live: Array) -> Array:
    """Sampled softmax: P_j = e^{l_j} / (e^{l+} + sum_k e^{l_k}), the derivative of Eq 5 by l_j.

    Args:
        pos: (B,) logits of the positives; neg: (B, N) of the negatives, log q subtracted where the run
            does so.
        live: bool (B, N).

    Returns:
        (B, N), 0 where not live; a row sums to 1 - P_+, the weight on its positive.
    """
    neg = np.where(live, neg, -np.inf)
    top = np.maximum(pos, neg.max(1, initial=-np.inf))
    powers = np.exp(neg - top[:, None])
    return powers / (np.exp(pos - top) + powers.sum(1))[:, None]


def bpr_weights(pos: Array, neg: Array, live: Array) -> Array:
    """BPR: sigmoid(l_j - l+) / n for the n live negatives of a row (Eq 26)."""
    count = np.maximum(live.sum(1, keepdims=True), 1)
    return np.where(live, sigmoid(neg - pos[:, None]), 0) / count


def bce_weights(pos: Array, neg: Array, live: Array) -> Array:
    """BCE: sigmoid(l_j) / (1 + n) for the n live negatives of a row (Eq 25); `pos` plays no part."""
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

    Returns:
        float64 (1 + N, d), the positive's share first; the rows add up to the gradient.
    """
    raw = np.vstack([positive, negatives]).astype(np.float64)
    length = np.linalg.norm(user)
    unit, items = user / length, raw / np.linalg.norm(raw, axis=1, keepdims=True)
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
    """
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
    """
    inside = np.clip(values, edges[0], edges[-1])
    found, _ = np.histogram(inside, edges, weights=weights)
    total = found.sum()
    return found / total if total > 0 else np.zeros(len(edges) - 1)


def negatives_section(subject: Subject, rows: int, seed: int) -> dict[str, Any] | None:
    """Weights over one batch of the run's sampler, as `run` documents them; None without vectors."""
    if subject.final is None or subject.solved:
        return None
    own, drawn, name = _drawn(subject, rows, seed)
    scores = _Scores(subject, subject.final, drawn)
    cosine = subject.similarity == "cosine"
    peak = weight_peak(subject.temperature) if cosine else None
    stages = [("final", subject.trained.metrics["best_epoch"], scores)]
    if subject.start is not None:
        stages.insert(0, ("start", 0, _Scores(subject, subject.start, drawn)))
    return {
        "temperature": subject.temperature,
        "similarity": subject.similarity,
        "sampler": name,
        "own": own is drawn,
        "rows": len(drawn.users),
        "candidates": float(drawn.live.sum(1).mean()),
        "curve": _curve(subject.temperature) if cosine else None,
        "histogram": _histograms(subject, drawn, scores),
        "beyond_peak": None if peak is None else _beyond(scores, drawn, peak),
        "stages": [
            {"stage": name, "epoch": epoch} | each.measured(subject.temperature)
            for name, epoch, each in stages
        ],
        "temperatures": [
            {"temperature": t, "peak": weight_peak(t) if cosine else None} | scores.measured(t)
            for t in temperature_grid(subject.temperature)
        ],
        "false_negatives": _false_negatives(subject, own),
    }


def hardness(subject: Subject, rows: int, seed: int) -> dict[str, dict[str, float]]:
    """Per loss how its gradient spreads over the batch's negatives, at the subject's vectors."""
    assert subject.final is not None
    _, drawn, _ = _drawn(subject, rows, seed)
    return _Scores(subject, subject.final, drawn).measured(subject.temperature)


def _drawn(subject: Subject, rows: int, seed: int) -> tuple[Drawn, Drawn, str]:
    """What the run's sampler draws, what is shown, and the name of the sampler that is shown."""
    own = subject.draw(rows, seed)
    if own.candidates.shape[1] >= FEWEST:
        return own, own, subject.config.negatives["name"]
    spare = Uniform(UniformConfig(n=SPARE, full_users="skip"), subject.train)
    return own, subject.draw(rows, seed, spare), "uniform"


def temperature_grid(temperature: float) -> list[float]:
    """Nine temperatures from a quarter of the run's own to four times it, in steps of sqrt(2)."""
    return [temperature * 2 ** (step / 2) for step in range(-4, 5)]


class _Scores:
    """Similarities of a batch's rows under one table of vectors."""

    def __init__(self, subject: Subject, table: Table, drawn: Drawn) -> None:
        self.drawn, self.temperature = drawn, subject.temperature
        self.losses = [*WEIGHTS, *(["ssm_plain"] if drawn.log_q.any() else [])]
        users, items = table.users, table.items
        units = unit(users), unit(items)
        self.cosine = scores_at(*units, drawn.users, drawn.candidates)
        self.cosine_pos = (units[0][drawn.users] * units[1][drawn.items]).sum(1)
        if subject.similarity == "cosine":
            self.neg, self.pos = self.cosine, self.cosine_pos
            self.lever = np.sqrt(np.maximum(1 - self.cosine**2, 0))
        else:
            self.neg = scores_at(users, items, drawn.users, drawn.candidates)
            self.pos = (users[drawn.users] * items[drawn.items]).sum(1)
            self.lever = np.linalg.norm(items, axis=1)[drawn.candidates]

    def weights(self, loss: str, temperature: float) -> Array:
        """Weights of `loss`. Only `ssm` subtracts log q, as only softmax is estimated with it."""
        log_q = self.drawn.log_q if loss == "ssm" else 0
        pos, neg = self.pos / temperature, self.neg / temperature
        return WEIGHTS[loss.removesuffix("_plain")](pos, neg - log_q, self.drawn.live)

    def measured(self, temperature: float) -> dict[str, dict[str, float]]:
        live = self.drawn.live
        return {
            loss: concentration(self.weights(loss, temperature), self.neg, live)
            for loss in self.losses
        }

    def pulls(self, loss: str) -> Array:
        """Length of each negative's pull on the user's vector, up to a factor of the row."""
        return self.weights(loss, self.temperature) * self.lever


def _curve(temperature: float) -> dict[str, Any]:
    x = np.linspace(-1, 1, 201)
    peak = weight_peak(temperature)
    g = weight_curve(x, temperature) / weight_curve(np.array(peak), temperature)
    return {"x": x.tolist(), "g": g.tolist(), "peak": peak}


def _histograms(subject: Subject, drawn: Drawn, scores: _Scores) -> dict[str, Any]:
    edges = np.linspace(-1, 1, 51)
    live, values = drawn.live, scores.cosine[drawn.live]
    wrong = live & (known_candidates(subject, drawn) | _held_out(subject, drawn))
    shares = {
        "negatives": histogram(values, edges),
        "positives": histogram(scores.cosine_pos, edges),
        **{loss: histogram(values, edges, scores.pulls(loss)[live]) for loss in scores.losses},
    }
    return {
        "edges": edges.tolist(),
        **{name: share.tolist() for name, share in shares.items()},
        "false_negatives": histogram(scores.cosine[wrong], edges).tolist() if wrong.any() else None,
    }


def _beyond(scores: _Scores, drawn: Drawn, peak: float) -> dict[str, float]:
    far, pulls = (scores.cosine > peak) & drawn.live, scores.pulls("ssm")
    return {
        "negatives": float(far.sum() / max(drawn.live.sum(), 1)),
        "ssm": float(pulls[far].sum() / max(pulls.sum(), 1e-300)),
    }


def known_candidates(subject: Subject, drawn: Drawn) -> Array:
    """Candidates that are training items of their row's user, the diagonal left out."""
    found = contains(subject.train, drawn.users[:, None], drawn.candidates)
    return found & ~drawn.own


def _held_out(subject: Subject, drawn: Drawn) -> Array:
    found = contains(subject.held_out, drawn.users[:, None], drawn.candidates)
    return found & ~known_candidates(subject, drawn)


def _false_negatives(subject: Subject, drawn: Drawn) -> dict[str, float]:
    assert subject.final is not None
    known, held_out = known_candidates(subject, drawn), _held_out(subject, drawn)
    weights = _Scores(subject, subject.final, drawn).weights("ssm", subject.temperature)
    candidates = max(int((~drawn.own).sum()), 1)
    return {
        "known": float(known.sum() / candidates),
        "held_out": float(held_out.sum() / candidates),
        "masked": float((~drawn.live & ~drawn.own).sum() / candidates),
        "weight": float(weights[known | held_out].sum() / max(weights.sum(), 1e-300)),
    }
