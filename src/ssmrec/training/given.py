"""Which settings of a run are not the defaults: told when it begins, and written to its folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ssmrec.losses import LOSSES
from ssmrec.models import MODELS
from ssmrec.training.config import RunConfig, closed_form, completed
from ssmrec.training.peers import current

USED_SOLVED = ("protocol", "threads", "choose_model", "device", "valid_users")
"""The settings of `train` that a model in closed form uses or tells of itself; of loss and sampler
it uses none."""
SWITCHES = (
    ("train.stable_rank", 0, "train.stable_rank_epochs"),
    ("model.ssl_weight", 0, "model.ssl_temperature"),
    ("negatives.exclude_known", False, "negatives.full_users"),
)
"""A setting, the value that switches something off, and the setting that is then without effect."""
CHOOSING = ("train.patience", "train.eval_every", "train.metric")
"""Settings of the choice of an epoch."""
PARTS = ("model", "loss", "negatives")
_FAR = 100.0


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
            [k for k in ("data.split.valid", "train.valid_users") if own.get(k)]
        ),
    }
    solved, fixed, whole = found
    if not closed_form(config) or name == "blend":  # its settings are those of its models
        found.pop(solved)
    if protocol != "fixed" or closed_form(config):
        found.pop(fixed)
    if protocol in ("valid", "refit"):
        found.pop(whole)
    if not closed_form(config):
        found |= _switched_off(config, own)
    if current().alone:
        found["one process alone"] = [key for key in own if key.startswith("distributed.")]
    elif not MODELS[name].message_passing:
        found[f"model={name} passes no messages"] = [
            k for k in own if k == "distributed.propagation"
        ]
    return {reason: keys for reason, keys in found.items() if keys}


def _switched_off(config: RunConfig, own: Mapping[str, Any]) -> dict[str, list[str]]:
    """The keys of `own` that another setting leaves without a use, by that one."""
    settings, loss = flat(config.model_dump(mode="json")), config.loss["name"]
    off = {
        f"{key}={str(value).lower()}": [idle] if idle in own else []
        for key, value, idle in SWITCHES
        if key in settings and settings[key] == value
    }
    if LOSSES[loss].on_vectors:
        off[f"loss={loss} has no use for negatives"] = [
            k for k in own if k.startswith("negatives.")
        ]
    return off


def remedy(config: RunConfig) -> str:
    """What to change where numbers were no longer finite: those far from their defaults, or the usual two."""
    plain = completed({part: {"name": getattr(config, part)["name"]} for part in PARTS})
    defaults = flat(plain.model_dump(mode="json"))
    far = {
        key: value
        for key, value in differing(config).items()
        if key.partition(".")[0] in (*PARTS, "train") and _far(value, defaults[key])
    }
    if far:
        told = ", ".join(f"{key}={value} ({defaults[key]})" for key, value in far.items())
        return f"bring nearer to the default: {told}"
    if closed_form(config):
        return "raise model.l2" if "l2" in config.model else "drop rare users and items"
    return "lower train.lr" + (" or raise loss.temperature" if "temperature" in config.loss else "")


def _far(value: Any, default: Any) -> bool:
    """Whether a number, or one of a list, is a hundred times its default, or a hundredth."""
    if isinstance(value, list) and isinstance(default, list):
        return any(map(_far, value, default))
    if not isinstance(value, float) or not isinstance(default, float) or not value:
        return False
    return not abs(default) / _FAR < abs(value) < (abs(default) or 1.0) * _FAR


def weighs(settings: Mapping[str, Any]) -> bool:
    """Whether weights of the pairs count in a training with these settings, or in one of a blend's models."""
    parts = settings["model"].get("parts", ())
    own = settings["train"].get("weight_power", 0)  # which older folders do not have
    return own > 0 or any(weighs(part["settings"]) for part in parts)


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
