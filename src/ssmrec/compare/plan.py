"""What to compare: the schema of a plan, read from YAML."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from ssmrec.config import Config, build, merged, nearest, read_yaml
from ssmrec.errors import ConfigError
from ssmrec.evaluation import parse_metric

Values = Annotated[list[Any], Field(min_length=1)]
SIDES = ("data", "models", "losses")
SECTIONS = {"data": "data", "models": "model", "losses": "loss"}


class Entry(Config):
    """One data set, backbone or loss of a plan.

    Attributes:
        label: how tables and folders call it.
        values: settings of its own section: `data`, `model` or `loss`.
        set: settings of any section that go with it.
        tune: grid to search for it: dotted key to values.
    """

    label: str = Field(min_length=1)
    values: dict[str, Any]
    set: dict[str, Any] = {}
    tune: dict[str, Values] = {}

    @field_validator("label")
    @classmethod
    def _one_line(cls, label: str) -> str:
        if label.splitlines() != [label]:
            raise ValueError("must be one line, as it is a row of the table")
        return label


class When(Config):
    """Labels that a rule is for; an empty list means any.

    Attributes:
        data, model, loss: one label or a list.
    """

    data: tuple[str, ...] = ()
    model: tuple[str, ...] = ()
    loss: tuple[str, ...] = ()

    @field_validator("*", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    def fits(self, data: str, model: str, loss: str) -> bool:
        """Whether this combination is meant."""
        pairs = ((self.data, data), (self.model, model), (self.loss, loss))
        return all(not wanted or label in wanted for wanted, label in pairs)


class Rule(Config):
    """Settings for some combinations only.

    Attributes:
        when: which; all of them when not given.
        set: their settings; later rules win.
        tune: their grid, instead of any other.
        skip: leave them out.
    """

    when: When = When()
    set: dict[str, Any] = {}
    tune: dict[str, Values] = {}
    skip: bool = False


class Plan(Config):
    """Data sets x backbones x losses x values of a study x seeds.

    Attributes:
        base: settings of every run.
        data, models, losses: a name, or a mapping of settings with `label`, `set` and `tune` beside.
        seeds: a list, or how many from 0 on.
        study: dotted key to values: every combination of them is a method of its own.
        tune: dotted key to values: the combination with the best validation `metric` under the first
            seed is taken for all seeds. The grid of a loss goes before that of a backbone, then that
            of a data set, then this one.
        rules: settings of some combinations.
        equal_budgets: refuse grids of different sizes.
        baseline: label of the method that the others are held against, such as `mf + bpr`; empty
            takes the first.
        metrics: columns of the table, such as ndcg@20.
        metric: the one that tunes and is tested.
        test: paired test over users.
        cost: columns with seconds an epoch, epochs and seconds of training.
        groups: further tables by popularity group of the items: recall, NDCG, vector lengths.
    """

    base: dict[str, Any] = {}
    data: tuple[Entry, ...] = Field(min_length=1)
    models: tuple[Entry, ...] = Field(min_length=1)
    losses: tuple[Entry, ...] = Field(min_length=1)
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    study: dict[str, Values] = {}
    tune: dict[str, Values] = {}
    rules: tuple[Rule, ...] = ()
    equal_budgets: bool = True
    baseline: str = ""
    metrics: tuple[str, ...] = Field(default=("recall@20", "ndcg@20"), min_length=1)
    metric: str = "ndcg@20"
    test: Literal["randomisation", "wilcoxon"] = "randomisation"
    cost: bool = False
    groups: bool = False

    @field_validator("seeds", mode="before")
    @classmethod
    def _count_of_seeds(cls, value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, int):
            return value
        if value < 1:
            raise ValueError("must be at least 1, or a list of seeds")
        return range(value)

    @field_validator("metrics", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(value)) < len(value) or min(value) < 0:
            raise ValueError("seeds must be different whole numbers from 0 on")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Plan:
        for name in self.metrics:
            parse_metric(name)
        if self.metric not in self.metrics:
            raise ConfigError(
                f"metric: {self.metric!r} is not among metrics{nearest(self.metric, self.metrics)}"
            )
        labels = {}
        for side in SIDES:
            labels[side] = [entry.label for entry in getattr(self, side)]
            label, count = Counter(labels[side]).most_common(1)[0]
            if count > 1:
                raise ConfigError(
                    f"{side}: {count} entries are called {label!r}: give each a label"
                )
        for number, rule in enumerate(self.rules):
            for side in SIDES:
                for label in getattr(rule.when, SECTIONS[side]):
                    if label not in labels[side]:
                        key = f"rules.{number}.when.{SECTIONS[side]}"
                        raise ConfigError(
                            f"{key}: no {label!r} among {side}{nearest(label, labels[side])}"
                        )
        return self


def read_plan(path: Path) -> Plan:
    """The plan of a YAML file.

    Raises:
        ConfigError: the file cannot be read, or as `make_plan`.
    """
    return make_plan(read_yaml(path, "name a YAML file that says what to compare"))


def make_plan(values: Mapping[str, Any]) -> Plan:
    """A plan from plain values, as YAML gives them.

    Raises:
        ConfigError: an unknown key (the nearest is named), or a value that does not fit.
    """
    values = dict(values)
    for side in SIDES:
        if side in values:
            values[side] = [_entry(entry, side, n) for n, entry in enumerate(_list(values[side]))]
    if "rules" in values:
        values["rules"] = [_rule(rule, n) for n, rule in enumerate(_list(values["rules"]))]
    return build(Plan, values)


def nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """`{"loss.temperature": 0.1}` as `{"loss": {"temperature": 0.1}}`; both ways may be mixed."""
    out: dict[str, Any] = {}
    for key, value in settings.items():
        *parents, last = str(key).split(".")
        level: dict[str, Any] = {last: nested(value) if isinstance(value, Mapping) else value}
        for parent in reversed(parents):
            level = {parent: level}
        out = merged(out, level)
    return out


def _entry(value: Any, side: str, number: int) -> Entry:
    name = "source" if side == "data" else "name"
    given = {name: value} if isinstance(value, str) else value
    where = f"{side}.{number}"
    if not isinstance(given, Mapping) or not isinstance(given.get(name), str):
        raise ConfigError(f"{where}: must be a name, or settings with `{name}` (got {value!r})")
    own = {key: given[key] for key in ("label", "set", "tune") if key in given}
    values = {key: given[key] for key in given if key not in own}
    label = Path(given[name]).stem if side == "data" else given[name]
    return build(Entry, {"label": label, "values": values, **own}, where)


def _rule(value: Any, number: int) -> Rule:
    where = f"rules.{number}"
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where}: must hold `when` and `set`, `tune` or `skip` (got {value!r})")
    when = value.get("when") or {}
    if not isinstance(when, Mapping):
        raise ConfigError(f"{where}.when: must hold data, model or loss (got {when!r})")
    return build(Rule, {**value, "when": build(When, when, f"{where}.when")}, where)


def _list(value: Any) -> Iterable[Any]:
    return value if isinstance(value, (list, tuple)) else [value]
