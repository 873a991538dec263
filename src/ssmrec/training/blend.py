"""Blending finished runs over the same pairs: weights chosen on validation, one model of all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssmrec.data import Split
from ssmrec.errors import ConfigError, DataError
from ssmrec.evaluation import evaluate
from ssmrec.models import Blend, HistoryRows
from ssmrec.models.blend import blended
from ssmrec.ranking.vectors import ranking_vectors
from ssmrec.training.ahead import no_validation
from ssmrec.training.config import RankingConfig, RunConfig, label, make_model, resolve
from ssmrec.training.listener import Listener
from ssmrec.training.loop import State
from ssmrec.training.protocols import Trained, measure, summary, tested, train_run

STEP = 0.1
"""Between the weights that are tried for a part: all from 0.1 to 0.9, then half a step around the best."""

Sides = tuple[Tensor, Tensor]


def blend(
    runs: Sequence[Trained],
    split: Split,
    weights: Sequence[float] | None = None,
    refit: bool = False,
    listener: Listener | None = None,
) -> Trained:
    """One model whose scores are the weighted sum of those of `runs`, each standardised (`Blend`).

    Weights are chosen by `train.metric` of the first run on the validation pairs: the best run comes
    first, and each of the others, from the better to the worse, is given the weight that is best beside
    what is there already, or is left out where none is. Test, if there is one, is looked at once.

    Args:
        runs: at least two, which learned from the same pairs.
        split: the pairs they came from.
        weights: above 0, one a run; None: chosen.
        refit: train the runs again, on train and validation together, as the protocol `refit` does.

    Raises:
        ConfigError: runs or weights that cannot be blended; weights to choose, or a refit to make, and no
            validation pairs that the runs do not know.
        DataError: the runs learned from different pairs.
    """
    listener = listener or Listener()
    _check(runs, weights)
    judged = split.valid is not None and _learned(runs[0], split)
    if weights is None or refit:
        _check_judged(runs[0], split, judged)
    found = _chosen(runs, split, listener) if weights is None else dict(enumerate(weights))
    used, shares = [runs[number] for number in found], list(found.values())
    config = _settings(used, shares, "refit" if refit else runs[0].config.train.protocol)
    model = _made(config, used)
    valid = measure(config, model, split.train, split.valid, [split.train]) if judged else None
    if refit:
        used = [_refitted(run, split, listener) for run in used]
        model = _made(config, used)
    state = State(stopped="blended")
    metrics = {
        "test": None,
        "valid": valid and valid["values"],
        **summary(config, state, state, []),
        "selected_on": _selected_on(used, chosen=weights is None),
        "counts": {"data": dict(split.counts), "test": None, "valid": valid and valid["counts"]},
        "reference": None,
        "seconds": {
            kind: sum(run.metrics["seconds"][kind] for run in used) for kind in ("train", "eval")
        },
    }
    blended = Trained(config, model, used[0].train, used[0].seen, [], metrics)
    return tested(blended, split.test)


def _check(runs: Sequence[Trained], weights: Sequence[float] | None) -> None:
    if len(runs) < 2:
        raise ConfigError("a blend is made of at least two runs")
    if weights is not None and (len(weights) != len(runs) or min(weights) <= 0):
        raise ConfigError(
            f"weights: there must be one above 0 for each of the {len(runs)} runs (got "
            f"{', '.join(map(str, weights))})"
        )
    for run in runs:
        if isinstance(run.model.vectors().users, HistoryRows):
            raise ConfigError(
                f"{label(run.config)} has scores of its own and no vectors, so that it cannot be blended: "
                "take svd in its place"
            )
        if not _same_pairs(run, runs[0]):
            raise DataError(
                f"{label(run.config)} and {label(runs[0].config)} learned from different pairs: blend runs "
                "of the same data, split and protocol"
            )


def _learned(run: Trained, split: Split) -> bool:
    """Whether the run learned from the train part of `split`, and from nothing else."""
    return np.array_equal(run.train.indptr, split.train.indptr) and np.array_equal(
        run.train.indices, split.train.indices
    )


def _same_pairs(one: Trained, other: Trained) -> bool:
    """Whether two runs learned from, and know, the same pairs of the same ids."""
    return all(
        a.users.ids.equals(b.users.ids)
        and a.items.ids.equals(b.items.ids)
        and np.array_equal(a.indptr, b.indptr)
        and np.array_equal(a.indices, b.indices)
        for a, b in ((one.train, other.train), (one.seen, other.seen))
    )


def _check_judged(run: Trained, split: Split, judged: bool) -> None:
    """Validation pairs must be there that the runs have not learned from."""
    protocol = run.config.train.protocol
    if split.valid is None:
        raise ConfigError(no_validation(protocol))
    if not judged:
        raise ConfigError(
            f"weights are chosen on validation pairs, and under train.protocol={protocol} the runs have "
            "learned from these: blend runs of --protocol valid (with --refit they are then trained again on "
            "all pairs), or name the weights"
        )


def _chosen(runs: Sequence[Trained], split: Split, listener: Listener) -> dict[int, float]:
    """Weight of each run that is of use, by its number; they add up to 1."""
    assert split.valid is not None
    valid, metric = split.valid, runs[0].config.train.metric
    known = split.train.item_degrees > 0
    sides = [_sides(run) for run in runs]

    def value(weights: dict[int, float]) -> float:
        parts = [
            blended(*sides[number], torch.from_numpy(known), weight)
            for number, weight in weights.items()
        ]
        users, items = (torch.cat(side, dim=1) for side in zip(*parts, strict=True))
        found = evaluate(
            users, items, valid, [split.train], [metric],
            allowed=known, progress=listener.evaluating,
        )  # fmt: skip
        return found.values[metric]

    alone = {number: value({number: 1.0}) for number in range(len(runs))}
    first, *others = sorted(alone, key=lambda number: -alone[number])
    weights, best = {first: 1.0}, alone[first]
    listener.note(f"{label(runs[first].config)}: {metric} {best:.4f} on validation")
    for number in others:
        share, found = _best_share(partial(_beside, weights, number), value)
        name = label(runs[number].config)
        if found <= best:
            listener.note(f"{name}: adds nothing ({metric} {alone[number]:.4f} alone), left out")
            continue
        weights, best = _beside(weights, number, share), found
        listener.note(
            f"with {share:.2f} of {name} ({alone[number]:.4f} alone): {metric} {best:.4f}"
        )
    return weights


def _beside(weights: dict[int, float], number: int, share: float) -> dict[int, float]:
    """The weights with one more run that has `share` of all."""
    return {**{run: weight * (1 - share) for run, weight in weights.items()}, number: share}


def _best_share(
    weights: Callable[[float], dict[int, float]], value: Callable[[dict[int, float]], float]
) -> tuple[float, float]:
    """The share whose weights have the highest value, and that value."""
    tried = {share: value(weights(share)) for share in (n * STEP for n in range(1, 10))}
    top = max(tried, key=lambda share: tried[share])
    tried |= {share: value(weights(share)) for share in (top - STEP / 2, top + STEP / 2)}
    top = max(tried, key=lambda share: tried[share])
    return top, tried[top]


def _sides(run: Trained) -> Sides:
    similarity: Any = run.config.ranking.similarity
    return ranking_vectors(run.model, similarity)


def _made(config: RunConfig, runs: Sequence[Trained]) -> Blend:
    """The model of `config`, whose parts are `runs`."""
    model = make_model(config, runs[0].train, torch.Generator())
    assert isinstance(model, Blend)
    model.fill([_sides(run) for run in runs])
    return model


def _settings(runs: Sequence[Trained], weights: Sequence[float], protocol: str) -> RunConfig:
    """Settings of the blend: those of the first run, with the model and what is chosen there."""
    total = sum(weights)
    parts = [
        {"name": label(run.config), "weight": weight / total, "settings": run.config.model_dump(mode="json")}
        for run, weight in zip(runs, weights, strict=True)
    ]  # fmt: skip
    dim = sum(_sides(run)[1].shape[1] for run in runs)
    first = runs[0].config
    changed = {
        "model": {"name": "blend", "dim": dim, "parts": parts},
        "ranking": RankingConfig(similarity="dot"),
        "train": first.train.model_copy(update={"protocol": protocol, "choose_model": False}),
    }
    return resolve(first.model_copy(update=changed))


def _refitted(run: Trained, split: Split, listener: Listener) -> Trained:
    """The run trained again on all pairs, for as many epochs as were best on validation."""
    train = run.config.train.model_copy(update={"protocol": "refit"})
    config = run.config.model_copy(update={"train": train})
    return train_run(config, replace(split, test=None), listener, selected=run)


def _selected_on(runs: Sequence[Trained], chosen: bool) -> str:
    """Which pairs had a say in the blend."""
    found = {run.metrics["selected_on"] for run in runs}
    if "test" in found:
        return "test"
    return "valid" if chosen or "valid" in found else runs[0].metrics["selected_on"]
