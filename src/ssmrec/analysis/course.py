"""Over training: the run is trained once more from its seed and looked at after some of its epochs."""

from __future__ import annotations

from typing import Any

import numpy as np

from ssmrec.analysis.bound import bound_section
from ssmrec.analysis.negatives import hardness
from ssmrec.analysis.subject import Subject
from ssmrec.evaluation import evaluate
from ssmrec.models import Backbone
from ssmrec.ranking.vectors import ranking_vectors
from ssmrec.training import Listener, Trainer

POINTS = 12


def course_section(
    subject: Subject, k: int, rows: int, users: int, seed: int, listener: Listener | None = None
) -> dict[str, Any] | None:
    """The bound, the metric and the hardness of negatives over epochs, as `run` documents them.

    The training is repeated from the run's seed up to the epoch that was kept, which takes as long
    as it took then. The same rows, users and negatives are looked at every time.

    Returns:
        None for a model in closed form, one without vectors, one that took no epoch, or one that was
        trained on from an earlier run, which is not there to begin with.
    """
    config, metrics = subject.config, subject.trained.metrics
    last = metrics["best_epoch"] if metrics["protocol"] in ("valid", "published") else 0
    last = last or metrics["epochs"]
    if subject.solved or subject.warm or subject.final is None or not last:
        return None
    epochs = last if metrics["protocol"] == "refit" else max(config.train.epochs, last)
    free = config.train.model_copy(update={"budget": None})
    trainer = Trainer(
        config.model_copy(update={"train": free}), subject.train, epochs, None, listener
    )
    trainer.listener.phase("over training", last, str(trainer.device))
    wanted, found = spread(last), [_point(subject, trainer.model, 0, k, rows, users, seed)]

    def look(current: Trainer) -> None:
        epoch = current.state.epoch
        if epoch in wanted:
            point = _point(subject, current.model, epoch, k, rows, users, seed)
            found.append({**point, "loss": current.state.history[-1]["loss"]})
        if epoch == last:
            current.state.stopped = "epochs"

    trainer.run(look)
    if trainer.state.stopped == "interrupted":  # half a course would be shown as the whole
        raise KeyboardInterrupt
    again = subject.at(trainer.model).final
    assert again is not None
    away = max(
        float(np.abs(a - b).max()) for a, b in zip(_both(again), _both(subject.final), strict=True)
    )
    return {"points": found, "k": k, "difference": away}


def spread(last: int, points: int = POINTS) -> list[int]:
    """At most `points` epochs from 1 to `last`, closer together at the beginning, where more happens."""
    if last <= points:
        return list(range(1, last + 1))
    return sorted({round(float(each)) for each in np.geomspace(1, last, points)} | {last})


def _point(
    subject: Subject, model: Backbone, epoch: int, k: int, rows: int, users: int, seed: int
) -> dict[str, Any]:
    at = subject.at(model)
    names = [f"recall@{k}", f"ndcg@{k}"]
    vectors = ranking_vectors(model, subject.config.ranking.similarity)  # type: ignore[arg-type]
    metrics = evaluate(
        *vectors, subject.held_out, subject.seen, names, allowed=subject.train.item_degrees > 0
    ).values
    chains = bound_section(at, rows, users, seed)
    return {
        "epoch": epoch,
        "loss": None,
        "recall": metrics[names[0]],
        "ndcg": metrics[names[1]],
        "bound": {c["name"]: {**c["terms"], "gap": c["gap"]} for c in chains},
        "negatives": hardness(at, rows, seed),
    }


def _both(table: Any) -> tuple[np.ndarray, np.ndarray]:
    return table.users, table.items
