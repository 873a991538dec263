"""What a Python program asks for: settings put together, and told where they have no effect; its pairs."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any

from ssmrec.config import as_part, merged
from ssmrec.data import Interactions
from ssmrec.data.align import aligned, check_pairs
from ssmrec.training.config import RunConfig, closed_form, completed
from ssmrec.training.given import flat, unused

logger = logging.getLogger("ssmrec")


PARTS = "model", "loss", "negatives", "ranking", "train", "evaluation"
"""What a `Recommender` is given, and has under these names."""


def parts_of(recommender: Any) -> dict[str, Any]:
    """What a `Recommender` was given, by `PARTS`."""
    return {name: getattr(recommender, name) for name in PARTS}


def own_copy(part: Any) -> Any:
    """A part as it is now: what the caller makes of his mapping later is not this one's."""
    return deepcopy(dict(part)) if isinstance(part, Mapping) else part


def settings_asked(
    parts: Mapping[str, Any], seed: int, source: str, validated: bool
) -> dict[str, Any]:
    """What is asked of a run.

    Args:
        parts: those of `parts_of`.
        seed: decides all randomness. source: what the data are called.
        validated: whether there are validation pairs, which choose the epoch unless `train` says otherwise.

    Raises:
        ConfigError: a part is neither a name nor a mapping.
    """
    protocol = {"protocol": "valid"} if validated else {"protocol": "fixed", "epochs": 20}
    named = ("model", "loss", "negatives")
    return merged(
        {name: {} if parts[name] is None else as_part(parts[name], name) for name in named},
        {"data": {"source": source}, "seed": seed, "train": protocol},
        {name: part or {} for name, part in parts.items() if name not in named},
    )


def for_epochs(config: RunConfig, epochs: int) -> RunConfig:
    """The same settings with another number of epochs.

    Raises:
        ConfigError: `epochs` is out of range.
    """
    return completed(merged(config.model_dump(mode="json"), {"train": {"epochs": epochs}}))


def held_out_of(valid: Interactions | None, known: Interactions) -> Interactions | None:
    """Validation pairs, if there are any, over the ids of `known`, with what a run keeps of its pairs.

    Raises:
        DataError: they are no `Interactions`, or have no id of `known`.
    """
    if valid is None:
        return None
    check_pairs(valid, "valid")
    valid = aligned(valid, known)
    # Those of a loaded run are gone, and a refit puts both together.
    if known.timestamps is None:
        valid = replace(valid, timestamps=None)
    return valid if known.weights is not None else replace(valid, weights=None)


def tell_idle(config: RunConfig, parts: Mapping[str, Any], train: Interactions) -> None:
    """Warn of what the caller has set, and of the weights of his pairs, where it has no effect."""
    own = {name: part for name, part in parts.items() if isinstance(part, Mapping)}
    own |= {name: {"name": part} for name, part in parts.items() if isinstance(part, str)}
    idle = _only(unused(config), flat(own))
    if train.weights is not None and not config.train.weight_power:
        solved = f"{config.model['name']}: solved in closed form"
        alike = "every pair counts alike in training (train.weight_power=0), weights are only kept"
        idle.setdefault(solved if closed_form(config) else alike, []).append("the weights of train")
    for reason, keys in idle.items():
        logger.warning("%s, so without effect: %s", reason, ", ".join(keys))


def _only(idle: Mapping[str, list[str]], own: Collection[str]) -> dict[str, list[str]]:
    """The keys that are among `own`, by the reason."""
    kept = {reason: [key for key in keys if key in own] for reason, keys in idle.items()}
    return {reason: keys for reason, keys in kept.items() if keys}
