"""Blending finished runs over the same pairs: weights chosen on validation, one model of all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from ssmrec.blending.weights import Weights, choose_weights
from ssmrec.data import Interactions, Split
from ssmrec.data.align import same_ids
from ssmrec.errors import ConfigError, DataError, RunError
from ssmrec.models import Blend
from ssmrec.models.blend import scores_by_itself
from ssmrec.training.config import RankingConfig, RunConfig, label, make_model, resolve
from ssmrec.training.judges import judges, told_judges
from ssmrec.training.listener import Listener
from ssmrec.training.loop import BROKEN_OFF, State
from ssmrec.training.protocols import Trained, measure, summary, tested, train_run


def blend(
    runs: Sequence[Trained],
    split: Split,
    weights: Sequence[float] | None = None,
    refit: bool = False,
    listener: Listener | None = None,
    names: Sequence[str] = (),
) -> Trained:
    """One model whose scores are the weighted sum of those of `runs`, each standardised (`Blend`).

    Weights are chosen on the validation pairs (`choose_weights`). The metric, `train.metric`, and all
    settings but the model are those of the first of `runs`. Test, if there is one, is looked at once.

    Args:
        runs: at least two, which learned from the same pairs.
        split: the pairs they came from.
        weights: above 0, one a run; None: chosen.
        refit: train the runs again, on train and validation together, as the protocol `refit` does.
        names: of the runs, for messages.

    Raises:
        ConfigError, DataError: as `check_blend`; validation pairs are needed and there are none that the
            runs do not know.
        RunError: no run makes the best one better.
        KeyboardInterrupt: a refit was interrupted.
    """
    listener = listener or Listener()
    labels = [label(run.config) for run in runs]
    told = [f"{n} ({own})" for n, own in zip(names, labels, strict=True)] if names else labels
    names = names or labels
    check_blend(runs, weights, refit, names)
    judged = split.valid is not None and _equal(runs[0].train, split.train)
    if not judged and (weights is None or refit):
        raise ConfigError(_not_judged(runs[0], split, weights is None))
    some = None
    if judged and split.valid is not None:
        some = judges(runs[0].config, split.valid)
        if weights is None and (few := told_judges(runs[0].config, split.valid)):
            listener.note(few)
    found = dict(enumerate(weights or ())) or choose_weights(
        runs, replace(split, valid=some), listener, told
    )
    if len(found) == 1:
        best = names[next(iter(found))]
        raise RunError(f"no other run makes {best} better on validation: use it alone")
    protocol = "refit" if refit else runs[0].config.train.protocol
    config = _settings(runs, found, protocol)
    used = [runs[number] for number in found]
    model = _made(config, used)
    valid = measure(config, model, split.train, some, [split.train])
    if refit:
        used = [refitted(run, split, listener) for run in used]
        model = _made(config, used)
    state = State(stopped="blended")
    metrics = {
        "test": None,
        "valid": valid and valid["values"],
        **summary(config, state, state, []),
        "selected_on": _selected_on(used, chosen=weights is None),
        "unfinished": _unfinished(used),
        "counts": {"data": dict(split.counts), "test": None, "valid": valid and valid["counts"]},
        "reference": None,
        "seconds": {
            kind: sum(run.metrics["seconds"][kind] for run in used) for kind in ("train", "eval")
        },
    }
    train, seen = (_with_all([getattr(run, part) for run in used]) for part in ("train", "seen"))
    return tested(Trained(config, model, train, seen, [], metrics), split.test, listener)


def _with_all(pairs: Sequence[Interactions]) -> Interactions:
    """The first of the same pairs, with the timestamps and weights that any of them has."""
    more = {}
    for kind in ("timestamps", "weights"):
        if getattr(pairs[0], kind) is None:
            more[kind] = next((x for one in pairs if (x := getattr(one, kind)) is not None), None)
    return replace(pairs[0], **more)


def check_blend(
    runs: Sequence[Trained], weights: Sequence[float] | None, refit: bool, names: Sequence[str]
) -> None:
    """Refuse what cannot be blended, whatever the data.

    Raises:
        ConfigError: fewer than two runs, one of them twice, weights that do not fit them, a blend to
            be trained again.
        DataError: the runs learned from different pairs.
        RunError: a run to be trained again was not finished.
    """
    if len(runs) < 2 or len({id(run.model) for run in runs}) < len(runs):
        raise ConfigError("a blend is made of at least two runs, each named once")
    if weights is not None and not _fit(weights, len(runs)):
        raise ConfigError(
            f"weights: there must be {len(runs)} numbers above 0, one for each run (got "
            f"{', '.join(map(str, weights))})"
        )
    for run, name in zip(runs, names, strict=True):
        if not _same_pairs(run, runs[0]):
            raise DataError(
                f"{name} and {names[0]} learned from different pairs: blend runs of the same data, split "
                "(where it is random, the same seed) and protocol"
            )
        if refit and isinstance(run.model, Blend):
            raise ConfigError(f"{name} is a blend: to train again, name its runs in its place")
        if refit and run.metrics["stopped"] in BROKEN_OFF:
            raise RunError(
                f"{name} was not finished ({run.metrics['stopped']}), so that its best epoch is not known: "
                "train it to its end, or blend without a refit"
            )


def _fit(weights: Sequence[float], count: int) -> bool:
    return len(weights) == count and all(math.isfinite(w) and w > 0 for w in weights)


def _same_pairs(one: Trained, other: Trained) -> bool:
    """Whether two runs learned from, and know, the same pairs of the same ids."""
    return _equal(one.train, other.train) and _equal(one.seen, other.seen)


def _equal(a: Interactions, b: Interactions) -> bool:
    """Whether both hold the same pairs of the same ids, whatever their timestamps."""
    return (
        same_ids(a, b)
        and np.array_equal(a.indptr, b.indptr)
        and np.array_equal(a.indices, b.indices)
    )


def _not_judged(run: Trained, split: Split, choosing: bool) -> str:
    """Why weights cannot be chosen, or runs not be trained again."""
    what = "weights are chosen on" if choosing else "a refit adds the"
    if split.valid is None:
        why = "there are none"
    else:
        why = f"under train.protocol={run.config.train.protocol} the runs have learned from them"
    remedy = "blend runs of train.protocol=valid, or " + (
        "name the weights" if choosing else "leave the refit out"
    )
    return f"{what} validation pairs, and {why}: {remedy}"


def _made(config: RunConfig, runs: Sequence[Trained]) -> Blend:
    """The model of `config`, whose parts are `runs`."""
    model = make_model(config, runs[0].train, torch.Generator())
    assert isinstance(model, Blend)
    for part, run in zip(model.parts, runs, strict=True):
        shared = scores_by_itself(part)  # n x n numbers may not fit twice
        part.load_state_dict(run.model.state_dict(), assign=shared)
    model.measure()
    return model


def _settings(runs: Sequence[Trained], weights: Weights, protocol: str) -> RunConfig:
    """Settings of the blend: those of the first run, with the model and what is chosen there."""
    top = max(weights.values())
    total = sum(weight / top for weight in weights.values())
    parts = [
        {
            "name": label(runs[number].config),
            "weight": float(f"{weight / top / total:.6g}"),
            "settings": runs[number].config.model_dump(mode="json"),
            "epochs": runs[number].epochs_afresh,
        }
        for number, weight in weights.items()
    ]
    first = runs[0].config
    changed = {
        "model": {"name": "blend", "parts": parts},
        "ranking": RankingConfig(similarity="dot"),
        "train": first.train.model_copy(update={"protocol": protocol, "choose_model": False}),
    }
    return resolve(first.model_copy(update=changed))


def refitted(run: Trained, split: Split, listener: Listener) -> Trained:
    """The run trained again on all pairs, for as many epochs as were best on validation."""
    train = run.config.train.model_copy(update={"protocol": "refit", "budget": None})
    config = run.config.model_copy(update={"train": train})
    again = train_run(config, replace(split, test=None), listener, selected=run)
    if again.metrics["stopped"] == "interrupted":
        raise KeyboardInterrupt
    return again


def _selected_on(runs: Sequence[Trained], chosen: bool) -> str:
    """Which pairs had a say in the blend."""
    found = {run.metrics["selected_on"] for run in runs}
    if "test" in found:
        return "test"
    return "valid" if chosen or "valid" in found else runs[0].metrics["selected_on"]


def _unfinished(runs: Sequence[Trained]) -> dict[str, list[str]]:
    """The parts that were broken off, those of a blend too, by how."""
    found: dict[str, list[str]] = {}
    for run in runs:
        stopped = run.metrics["stopped"]
        own = {stopped: [label(run.config)]} if stopped in BROKEN_OFF else {}
        for how, parts in (own or run.metrics.get("unfinished", {})).items():
            found.setdefault(how, []).extend(parts)
    return found
