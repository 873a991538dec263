"""What a search is about: settings to begin with, the space, and what its best trial becomes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ssmrec.config import choose, merged
from ssmrec.errors import ConfigError
from ssmrec.evaluation import parse_metric
from ssmrec.training import RunConfig, differing, resolve
from ssmrec.training.config import closed_form, completed
from ssmrec.training.given import flat
from ssmrec.tuning.spaces import Space, nested, space_of

PRUNERS = {
    "median": "given up when its best so far is below the median of the others at that epoch",
    "hyperband": "many trials get few epochs, the better ones more",
    "none": "every trial is trained to its end",
}
"""When a trial is given up."""

_FREE = ("data.", "train.threads", "train.device")
"""Settings that may change while a search goes on; its data are known by their fingerprint."""


@dataclass(frozen=True)
class Task:
    """What is searched, and from where. Made by `make_task`.

    Args:
        values: settings as asked, `auto` left open: every trial decides it anew.
        space: the settings that are searched.
        pruner: a name of `PRUNERS`.
    """

    values: Mapping[str, Any]
    space: Space
    pruner: str = "median"

    @cached_property
    def metric(self) -> str:
        """What is to be as high as possible on validation."""
        return self.asked().train.metric

    @cached_property
    def epochs(self) -> int:
        """The most epochs of a trial; 0 for a model in closed form."""
        run = self.asked()
        return 0 if closed_form(run) else run.train.epochs

    @cached_property
    def start(self) -> dict[str, Any]:
        """The settings of the space without any tuning, where the space holds them."""
        now = flat(self.asked().model_dump(mode="json"))
        return {key: now[key] for key, part in self.space.items() if part.holds(now.get(key))}

    def starts(self, params: Mapping[str, Any]) -> bool:
        """Whether `params` are the settings without any tuning; False where the space lacks one of them."""
        parts = self.space
        own = {key: parts[key].value(parts[key].named(now)) for key, now in self.start.items()}
        return own == dict(params)

    def asked(self, params: Mapping[str, Any] | None = None) -> RunConfig:
        """Complete settings with those of a trial.

        Raises:
            ConfigError: they do not fit together.
        """
        return completed(merged(self.values, nested(params or {})))

    def trial(self, params: Mapping[str, Any] | None = None) -> RunConfig:
        """The settings of a trial: validation chooses its epoch, and only `metric` is measured."""
        metric = parse_metric(self.metric)
        only = {
            "train": {"protocol": "valid", "choose_model": False},
            "evaluation": {"metrics": [metric.name], "ks": [metric.k]},
        }
        return completed(merged(self.values, nested(params or {}), only))

    def best(self, params: Mapping[str, Any], epoch: int) -> RunConfig:
        """The settings to train with after the search: the protocol is that which was asked for.

        Under `fixed` the number of epochs is the trial's best one.
        """
        run = self.asked(params)
        if run.train.protocol == "fixed" and epoch and not closed_form(run):
            fixed = run.train.model_copy(update={"epochs": epoch})
            return run.model_copy(update={"train": fixed})
        return run

    def record(self, fingerprint: str) -> dict[str, Any]:
        """What must be the same for a search to go on, by key: settings, space, pruner, data."""
        settings = flat(self.trial().model_dump(mode="json"))
        return {
            "data": fingerprint,
            "pruner": self.pruner,
            **{f"space {key}": str(part) for key, part in self.space.items()},
            **{
                key: value
                for key, value in settings.items()
                if not key.startswith(_FREE) and key not in self.space
            },
        }


def make_task(
    values: Mapping[str, Any],
    space: Mapping[str, Any] | None = None,
    fixed: Iterable[str] = (),
    pruner: str = "median",
) -> Task:
    """A search of the shipped space, changed by `space`.

    Args:
        values: settings as given to `resolve`; model and loss are lightgcn and ssm when not named.
        space, fixed: as in `space_of`.
        pruner: a name of `PRUNERS`.

    Raises:
        ConfigError: a setting, or the space, does not fit; or the protocol chooses on test.
    """
    choose(PRUNERS, pruner, "pruner")
    run = resolve(values)
    if run.train.protocol == "published":
        raise ConfigError(
            "tuning chooses on validation, but train.protocol=published on test: take valid, refit or "
            "fixed"
        )
    names = {part: {"name": getattr(run, part)["name"]} for part in ("model", "loss")}
    plain = {"train": {"choose_model": False}}
    values = merged(names, values, plain)
    return Task(values, space_of(values, space, fixed), pruner)


def recipe(run: RunConfig) -> dict[str, Any]:
    """The settings that are not defaults, nested: `resolve` makes the whole of them again."""
    return nested(differing(run))
