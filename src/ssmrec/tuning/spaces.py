"""What is searched: a range or a choice for each setting, shipped with every part or typed by the user.

Both are written in the same words: `0.05..0.5`, `0.05..0.5:log`, `1..4`, or `tanh, atan, relu`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, get_args

import yaml

from ssmrec.config import merged, override
from ssmrec.errors import ConfigError
from ssmrec.losses import LOSSES
from ssmrec.models import MODELS
from ssmrec.negatives import SAMPLERS
from ssmrec.training import RankingConfig, RunConfig, TrainConfig
from ssmrec.training.config import closed_form, completed
from ssmrec.training.given import for_steps

_RANGE = re.compile(r"\s*([^\s,\[\]:]+?)\s*\.\.\s*([^\s,\[\]:]+)\s*(?::\s*(\w+)\s*)?")
_SECTIONS = ("model", "loss", "negatives", "ranking", "train")
_FIXED = (
    "model.name", "loss.name", "negatives.name", "train.protocol", "train.metric", "train.device",
    "train.threads", "train.budget", "train.choose_model",
)  # fmt: skip
"""Settings that name what is searched, judge it or bound its cost: a search is for one value of them."""

_DIGITS = 4
"""Significant digits of what is drawn: more would only make a recipe hard to read."""


@dataclass(frozen=True)
class Range:
    """All numbers from `low` to `high`, both included.

    Args:
        low, high: the ends, low < high.
        log: drawn evenly in the logarithm; the ends are then above 0.
        whole: whole numbers only.
    """

    low: float
    high: float
    log: bool = False
    whole: bool = False

    @property
    def ends(self) -> tuple[Any, ...]:
        """The values that must be valid settings for all to be."""
        return self.low, self.high

    def holds(self, value: Any) -> bool:
        """Whether `value` can be drawn."""
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return number and self.low <= value <= self.high

    def named(self, value: Any) -> Any:
        """`value` as the sampler knows it."""
        return value

    def value(self, drawn: Any) -> Any:
        """The setting for a drawn number: rounded to four digits, within the range."""
        if self.whole:
            return int(drawn)
        return min(max(float(f"{drawn:.{_DIGITS}g}"), self.low), self.high)

    def __str__(self) -> str:
        return f"{self.low:.12g}..{self.high:.12g}{':log' if self.log else ''}"


@dataclass(frozen=True)
class Choice:
    """Any of `values`, at least two; lists are allowed. No order among them is assumed."""

    values: tuple[Any, ...]

    @property
    def ends(self) -> tuple[Any, ...]:
        """The values that must be valid settings: all of them."""
        return self.values

    @property
    def names(self) -> list[Any]:
        """The values as the sampler knows them: it takes scalars only."""
        return [self.named(value) for value in self.values]

    def holds(self, value: Any) -> bool:
        """Whether `value` is one of them."""
        return value in self.values

    def named(self, value: Any) -> Any:
        """`value` as the sampler knows it."""
        own = self.values[self.values.index(value)]  # 1 where the settings say 1.0
        return json.dumps(own) if isinstance(own, list) else own

    def value(self, drawn: Any) -> Any:
        """The setting for a drawn name."""
        return self.values[self.names.index(drawn)]

    def __str__(self) -> str:
        return ", ".join(v if isinstance(v, str) else json.dumps(v) for v in self.values)


Part = Range | Choice
Space = Mapping[str, Part]


def space_of(
    values: Mapping[str, Any], own: Mapping[str, Any] | None = None, fixed: Iterable[str] = ()
) -> dict[str, Part]:
    """The space of a search: what is shipped for its parts, changed and added to by `own`.

    Args:
        values: settings as given to `resolve`.
        own: dotted key to a range or choice, as text or as a list of values.
        fixed: dotted keys, or sections, that are not searched.

    Raises:
        ConfigError: an unknown key (the nearest is named), a value outside of its setting's range, a
            setting that is fixed or not used, or nothing to search.
    """
    run, own, fixed = completed(values), own or {}, list(fixed)
    for key in own:
        _check(key, run)
        if _below(key, fixed):
            raise ConfigError(f"space: {key} is fixed as well as searched: leave one of both out")
    ours = {key: text for key, text in shipped(run).items() if not _below(key, fixed)}
    texts = {**ours, **own}
    if not texts:
        raise ConfigError(
            f"nothing to search for {run.model['name']} with {run.loss['name']}: name settings with "
            "--space, as in --space model.dim=32,64,128"
        )
    space = {key: parse(key, text, _whole(run, key)) for key, text in texts.items()}
    for key, part in space.items():
        for value in part.ends:
            completed(merged(values, nested({key: value})))
    return space


def shipped(run: RunConfig) -> dict[str, str]:
    """The shipped space of resolved settings: dotted key to text.

    A loss or backbone without an entry of its own shares the general one, `other`.
    """
    table = spaces()
    model = _entry(table["model"], run.model["name"])
    if closed_form(run):
        return model
    found = table["every"] | model
    loss = LOSSES[run.loss["name"]]
    if not loss.on_vectors:
        own = "" if run.negatives.get("shared", True) else " a row"
        found |= table["negatives"].get(run.negatives["name"] + own, {})
    found |= _entry(table["loss"], run.loss["name"])
    return {key: text for key, text in found.items() if _field(run, key) is not None}


@cache
def spaces() -> dict[str, dict[str, Any]]:
    """The table `spaces.yaml`: sections every, negatives, loss, model."""
    return yaml.safe_load((resources.files("ssmrec.tuning") / "spaces.yaml").read_text())


def parse(key: str, given: Any, whole: bool = False) -> Part:
    """A range or a choice from its text, or from a list of values.

    Args:
        key: the setting, for messages.
        given: `0.05..0.5:log`, `tanh, atan`, or [0.1, 0.2].
        whole: whether the setting is a whole number.

    Raises:
        ConfigError: neither of both, or a range without numbers in it.
    """
    if isinstance(given, (Range, Choice)):
        return given
    if isinstance(given, str):
        if match := _RANGE.fullmatch(given):
            return _range(key, given, match, whole)
        values = _listed(key, given)
    elif isinstance(given, Sequence):
        values = list(given)
    else:
        values = [given]
    values = [list(value) if isinstance(value, tuple) else value for value in values]
    if len(values) < 2:
        raise ConfigError(
            f"space: {key}={given}: must be a range such as 0.05..0.5 or 0.05..0.5:log, or several "
            "values such as 0.1,0.2; to fix one value, set it"
        )
    if any(value in values[:n] for n, value in enumerate(values)):
        raise ConfigError(f"space: {key}={given}: names a value twice")
    return Choice(tuple(values))


def labels(space: Iterable[str]) -> dict[str, str]:
    """Each dotted key with its last word, or itself where two keys end in the same word."""
    keys = list(space)
    lasts = [key.rpartition(".")[2] for key in keys]
    return {
        key: last if lasts.count(last) == 1 else key for key, last in zip(keys, lasts, strict=True)
    }


def nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """`{"loss.temperature": 0.1}` as `{"loss": {"temperature": 0.1}}`."""
    out: dict[str, Any] = {}
    for key, value in settings.items():
        *parents, last = key.split(".")
        level = out
        for parent in parents:
            level = level.setdefault(parent, {})
        level[last] = value
    return out


def _range(key: str, text: str, match: re.Match[str], whole: bool) -> Range:
    how = match[3]
    try:
        low, high = (int(end) if whole else float(end) for end in match.groups()[:2])
    except ValueError:
        kind = "whole numbers" if whole else "numbers"
        raise ConfigError(f"space: {key}={text}: the ends must be {kind}") from None
    if how not in (None, "log"):
        raise ConfigError(f"space: {key}={text}: after the range comes :log or nothing")
    if not (low < high and math.isfinite(low) and math.isfinite(high)):
        raise ConfigError(f"space: {key}={text}: must go from a lower to a higher number")
    if how and low <= 0:
        raise ConfigError(f"space: {key}={text}: a logarithm needs a range above 0")
    return Range(low, high, how == "log", whole)


def _listed(key: str, text: str) -> list[Any]:
    """Values between commas, each read as YAML."""
    values = override({}, [f"values=[{text}]"])["values"]
    if not isinstance(values, list):
        raise ConfigError(f"space: {key}={text}: is neither a range nor a list of values")
    return [override({}, [f"v={v}"])["v"] if isinstance(v, str) else v for v in values]


def _check(key: str, run: RunConfig) -> None:
    section = key.partition(".")[0]
    if section not in _SECTIONS or key in _FIXED or "." not in key:
        raise ConfigError(
            f"space: {key} cannot be searched, only settings of {', '.join(_SECTIONS)} other than "
            f"{', '.join(_FIXED)}; parts against each other are a matter of ssmrec compare"
        )
    if closed_form(run) and for_steps(key):
        raise ConfigError(
            f"space: {key} has no effect: {run.model['name']} is solved in closed form"
        )


def _below(key: str, fixed: Iterable[str]) -> bool:
    return any(key == other or key.startswith(f"{other}.") for other in fixed)


def _entry(table: Mapping[str, dict[str, str]], name: str) -> dict[str, str]:
    return dict(table.get(name, table["other"]))


def _field(run: RunConfig, key: str) -> Any:
    """The field of a setting; None where the chosen part has no such setting."""
    section, _, name = key.partition(".")
    tables = {"model": MODELS, "loss": LOSSES, "negatives": SAMPLERS}
    if section in tables:
        return tables[section][getattr(run, section)["name"]].Config.model_fields.get(name)
    schema = {"train": TrainConfig, "ranking": RankingConfig}[section]
    return schema.model_fields.get(name)


def _whole(run: RunConfig, key: str) -> bool:
    """Whether a setting is a whole number (or none)."""
    field = _field(run, key)
    return field is not None and (field.annotation is int or int in get_args(field.annotation))
