"""What is measured of a trained run, and what is kept beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from importlib import metadata
from statistics import median
from typing import Any

import numpy as np

from ssmrec.analysis.popularity import exposure
from ssmrec.analysis.subject import Subject
from ssmrec.compare.methods import Job
from ssmrec.compare.plan import Plan
from ssmrec.compare.store import FORMAT, Outcome
from ssmrec.data import Interactions, Split
from ssmrec.evaluation import METRIC_VERSION, Result, evaluate, parse_metric
from ssmrec.ranking.vectors import ranking_vectors
from ssmrec.training import Trained


def measured(plan: Plan, job: Job, trained: Trained, fingerprint: str, split: Split) -> Outcome:
    """Test metrics of a run, or validation metrics of a trial."""
    if job.trial is None:
        held_out, seen, metrics = split.test, [trained.train, trained.seen], plan.metrics
    else:
        held_out, seen, metrics = split.valid, [trained.train], (plan.metric,)
    assert held_out is not None
    result = _ranked(trained, held_out, seen, metrics)
    facts = trained.metrics
    kept = ("protocol", "selected_on", "best_epoch", "epochs", "stopped", "similarity", "seconds")
    record = {
        **head(job),
        "metrics": result.values,
        "counts": result.counts,
        **{name: facts[name] for name in kept},
        "data_fingerprint": fingerprint,
        "held_out_fingerprint": held_out.fingerprint,
    }
    if epochs := [epoch["train_seconds"] for epoch in trained.history]:
        record["seconds"] = {**facts["seconds"], "epoch": median(epochs)}
    if job.trial is not None:
        return Outcome(record)
    record["lists"] = _spread(trained, held_out, seen, parse_metric(plan.metric).k)
    return Outcome(record, result.user_index, result.per_user)


def _ranked(
    trained: Trained, held_out: Interactions, seen: list[Interactions], metrics: Sequence[str]
) -> Result:
    users, items = ranking_vectors(trained.model, trained.config.ranking.similarity)  # type: ignore[arg-type]
    allowed = trained.train.item_degrees > 0
    return evaluate(users, items, held_out, seen, metrics, allowed=allowed)


def _spread(
    trained: Trained, held_out: Interactions, seen: list[Interactions], k: int
) -> dict[str, float]:
    """How the places of all lists of length `k` are spread over the items; nothing without any."""
    ids = Subject(trained, held_out, seen).lists(k).ids
    row, column = np.nonzero(ids >= 0)
    if not len(row):
        return {}
    return asdict(exposure(row, ids[row, column], trained.train.item_degrees))


def head(job: Job) -> dict[str, Any]:
    """What a result says of its job, whatever came of it."""
    return {
        "format": FORMAT,
        "metric_version": METRIC_VERSION,
        "title": job.title,
        "data": job.method.data,
        "method": job.method.label,
        "seed": job.seed,
        "trial": None if job.trial is None else dict(job.trial),
        "versions": {name: metadata.version(name) for name in ("ssmrec", "torch", "numpy")},
        "settings": job.config.model_dump(mode="json"),
    }
