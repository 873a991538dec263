"""Hard negatives: how the losses weigh what a run's sampler draws. Shapes are those of `weights`."""

from __future__ import annotations

from typing import Any

import numpy as np

from ssmrec.analysis.subject import Drawn, Subject, Table, scores_at, unit
from ssmrec.analysis.weights import (
    WEIGHTS,
    concentration,
    histogram,
    temperature_grid,
    weight_curve,
    weight_peak,
)
from ssmrec.evaluation.metrics import contains
from ssmrec.negatives import Uniform
from ssmrec.negatives.drawn import UniformConfig

Array = np.ndarray

FEWEST, SPARE = 100, 1000
"""A run that draws fewer than 100 negatives a row is shown over 1000 uniform ones: 1 % must be one item."""


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
    g = weight_curve(x, temperature)
    return {"x": x.tolist(), "g": g.tolist(), "peak": weight_peak(temperature)}


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
