"""Which settings of a run are not the defaults: told when it begins, and written to its folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ssmrec.training.config import RunConfig, closed_form, completed

SOLVED = ("loss.", "negatives.", "train.epochs", "train.lr", "train.batch_size", "train.l2")
"""Settings that a model in closed form does not use."""


def differing(config: RunConfig) -> dict[str, Any]:
    """Resolved settings that differ from the defaults of their parts, by dotted key.

    Model, loss and source are always named; the sampler where it is not the one that `auto` takes.
    """
    asked = {part: {"name": getattr(config, part)["name"]} for part in ("model", "loss")}
    chosen = completed(asked).negatives["name"]
    if config.negatives["name"] != chosen:
        asked["negatives"] = {"name": config.negatives["name"]}
    defaults, settings = (flat(run.model_dump(mode="json")) for run in (completed(asked), config))
    named = {"data.source", "model.name", "loss.name"}
    named |= {"negatives.name"} if "negatives" in asked else set()
    return {k: v for k, v in settings.items() if k in named or defaults.get(k) != v}


def unused(config: RunConfig) -> list[str]:
    """Settings that are not the defaults and that the model does not use."""
    if not closed_form(config):
        return []
    return [key for key in differing(config) if key.startswith(SOLVED) and key != "loss.name"]


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted key."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        inner = isinstance(value, Mapping)
        found |= flat(value, f"{prefix}{key}.") if inner else {prefix + key: value}
    return found
