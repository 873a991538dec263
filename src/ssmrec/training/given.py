"""Which settings of a run are not the defaults: told when it begins, and written to its folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ssmrec.training.config import RunConfig, closed_form, completed

USED_SOLVED = ("protocol", "threads", "budget", "choose_model", "device")
"""The settings of `train` that a model in closed form uses or tells of itself; of loss and sampler
it uses none."""
CHOOSING = ("train.patience", "train.eval_every", "train.metric")
"""Settings of the choice of an epoch."""


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


def unused(config: RunConfig) -> dict[str, list[str]]:
    """Settings that are not the defaults and have no effect, by the reason, such as `ease: solved`."""
    own = differing(config)
    if config.loss["name"] == completed({"model": config.model}).loss["name"]:
        own.pop("loss.name")
    name, protocol = config.model["name"], config.train.protocol
    found = {
        f"{name}: solved in closed form": [key for key in own if for_steps(key)],
        f"train.protocol={protocol} chooses no epoch": [key for key in own if key in CHOOSING],
        f"train.protocol={protocol} carves no validation pairs": (
            ["data.split.valid"] if own.get("data.split.valid") else []
        ),
        "train.stable_rank=0": [key for key in own if key == "train.stable_rank_epochs"],
    }
    solved, fixed, whole, plain = found
    if not closed_form(config):
        found.pop(solved)
    if protocol != "fixed" or closed_form(config):
        found.pop(fixed)
    if protocol in ("valid", "refit"):
        found.pop(whole)
    if config.train.stable_rank > 0 or closed_form(config):
        found.pop(plain)
    return {reason: keys for reason, keys in found.items() if keys}


def for_steps(key: str) -> bool:
    """Whether a setting is one that a model in closed form does not use."""
    section, _, name = key.partition(".")
    return section in ("loss", "negatives") or (section == "train" and name not in USED_SOLVED)


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted key."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        inner = isinstance(value, Mapping)
        found |= flat(value, f"{prefix}{key}.") if inner else {prefix + key: value}
    return found
