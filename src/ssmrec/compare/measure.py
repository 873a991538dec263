"""What is measured of a trained run, and what is kept beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from importlib import metadata
from statistics import median
from typing import Any

import numpy as np

from ssmrec.analysis.popularity import (
    exposure_of_lists,
    ndcg_by_group,
    popularity_groups,
    recall_by_group,
)
from ssmrec.analysis.subject import Lists, Subject
from ssmrec.compare.methods import Job, own_parts
from ssmrec.compare.plan import Plan
from ssmrec.compare.store import FORMAT, Outcome
from ssmrec.data import Interactions, Split
from ssmrec.evaluation import METRIC_VERSION, Result, evaluate, parse_metric
from ssmrec.ranking.vectors import ranking_vectors
from ssmrec.training import Trained

GROUPS = 10
"""Groups of items with equal shares of the training pairs, as in figures 1 and 5 of Wu et al."""


def measured(
    plan: Plan,
    job: Job,
    trained: Trained,
    fingerprint: str,
    split: Split,
    at_a_time: int = 1,
) -> Outcome:
    """Test metrics of a run, or validation metrics of a trial.

    Where `at_a_time` trainings share a machine, seconds are not those of one alone, and `device` says so.
    """
    if job.trial is None:
        held_out, seen, metrics = split.test, [trained.train, trained.seen], plan.metrics
    else:
        held_out, seen, metrics = split.valid, [trained.train], (plan.metric,)
    assert held_out is not None
    result = _ranked(trained, held_out, seen, metrics)
    facts = trained.metrics
    shared = f", one of {at_a_time} trainings at a time" if at_a_time > 1 else ""
    kept = ("protocol", "selected_on", "best_epoch", "epochs", "stopped", "similarity", "seconds")
    record = {
        **head(job),
        "metrics": result.values,
        "counts": result.counts,
        **{name: facts[name] for name in kept},
        "device": facts.get("device", "cpu") + shared,
        "data_fingerprint": fingerprint,
        "data_read": _read(split),
        "held_out_fingerprint": held_out.fingerprint,
    }
    if epochs := [epoch["train_seconds"] for epoch in trained.history]:
        record["seconds"] = {**facts["seconds"], "epoch": median(epochs)}
    if job.trial is not None:
        return Outcome(record)
    subject = Subject(trained, held_out, seen)
    lists = subject.lists(parse_metric(plan.metric).k)
    record |= {"lists": _spread(subject, lists), "groups": _by_group(subject, lists)}
    return Outcome(record, result.user_index, result.per_user)


def _read(split: Split) -> dict[str, int]:
    """What does not depend on the seed that splits: rows of each file, users and items."""
    found = {name: n for name, n in split.counts.items() if name.endswith("rows_read")}
    return {**found, "users": split.train.n_users, "items": split.train.n_items}


def _ranked(
    trained: Trained, held_out: Interactions, seen: list[Interactions], metrics: Sequence[str]
) -> Result:
    users, items = ranking_vectors(trained.model, trained.config.ranking.similarity)  # type: ignore[arg-type]
    allowed = trained.train.item_degrees > 0
    return evaluate(users, items, held_out, seen, metrics, allowed=allowed)


def _spread(subject: Subject, lists: Lists) -> dict[str, float]:
    """How the places of the lists are spread over the items; nothing without any."""
    if not (lists.ids >= 0).any():
        return {}
    return asdict(exposure_of_lists(lists.ids, subject.train.item_degrees))


def _by_group(subject: Subject, lists: Lists) -> dict[str, list[float | None]]:
    """What each group of items adds to recall and NDCG, and the mean length of its final vectors.

    From the tail to the head; None for an empty group, and no lengths for a model without vectors.
    """
    groups = popularity_groups(subject.train.item_degrees, GROUPS)
    split = (lists.ids, lists.hits, lists.relevant, groups, GROUPS)
    found: dict[str, list[float | None]] = {
        "recall": recall_by_group(*split).by_group.tolist(),
        "ndcg": ndcg_by_group(*split).by_group.tolist(),
    }
    if subject.final is not None:
        lengths = np.linalg.norm(subject.final.items, axis=1)
        inside = [lengths[groups == group] for group in range(GROUPS)]
        found["length"] = [float(part.mean()) if len(part) else None for part in inside]
    return found


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
        **({"own_parts": own} if (own := own_parts(job.config)) else {}),
    }
