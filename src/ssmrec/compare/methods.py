"""A plan expanded: the methods of its tables, the runs of a method, and their names."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

import yaml

from ssmrec.compare.plan import Entry, Plan, nested
from ssmrec.config import merged, nearest
from ssmrec.data.named import locate
from ssmrec.errors import ConfigError, DataError
from ssmrec.losses import LOSSES
from ssmrec.models import MODELS
from ssmrec.models.blend import MADE_OF_RUNS
from ssmrec.negatives import SAMPLERS
from ssmrec.training import RunConfig, resolve

PARTS: dict[str, Mapping[str, Any]] = {"model": MODELS, "loss": LOSSES, "negatives": SAMPLERS}
_FREE = ("evaluation", "train.threads", "train.device")
"""Settings that leave a result what it is: they are not part of a run's name."""


@dataclass(frozen=True)
class Method:
    """One row of a table on one data set.

    Args:
        data, model, loss: labels; the loss of a closed form is empty.
        study: dotted key to value.
        values: settings of its runs, but for seed and tuned ones.
        grid: the trials of its tuning, each dotted key to value; empty when nothing is tuned.
    """

    data: str
    model: str
    loss: str
    study: Mapping[str, Any]
    values: Mapping[str, Any]
    grid: tuple[Mapping[str, Any], ...] = ()

    @property
    def label(self) -> str:
        """Such as `lightgcn + ssm, temperature=0.1`."""
        parts = " + ".join(part for part in (self.model, self.loss) if part)
        return ", ".join([parts, *shown(self.study)])


@dataclass(frozen=True)
class Job:
    """One training.

    Args:
        method: what it belongs to.
        seed: its seed.
        config: complete settings.
        trial: dotted key to value of a trial, which never looks at test; None for a run of the table.
        number: of the trial, from 1.
    """

    method: Method
    seed: int
    config: RunConfig
    trial: Mapping[str, Any] | None = None
    number: int = 0

    @property
    def title(self) -> str:
        """For people: `gowalla: lightgcn + ssm, seed 0`."""
        trial = f", trial {self.number}" if self.trial is not None else ""
        return f"{self.method.data}: {self.method.label}{trial}, seed {self.seed}"

    @property
    def name(self) -> str:
        """Name of the run folder: readable, then `key`."""
        method = self.method
        parts = [method.data, method.model, method.loss, *shown(method.study)]
        slug = "-".join(re.sub(r"[^A-Za-z0-9.=]+", "-", part).strip("-") for part in parts if part)
        trial = f"-t{self.number}" if self.trial is not None else ""
        return f"{slug[:100]}{trial}-s{self.seed}-{self.key}"

    @property
    def key(self) -> str:
        """Eight hexadecimal digits of the settings that decide the outcome and are no defaults.

        So a setting that a later version adds does not make finished runs unknown. Parts of one's own count
        by the file they are written in, so that results of an earlier text of it are not taken for its own.
        """
        own = own_parts(self.config)
        decides = [deciding(_asked(self.config)), self.trial is not None, *([own] if own else [])]
        text = json.dumps(decides, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    def difference(self, settings: Mapping[str, Any]) -> str:
        """The first setting that decides and was another one in `settings`; empty when none was.

        Settings that only one of both knows are of another version, and left out.
        """
        then, now = deciding(settings), deciding(self.config.model_dump(mode="json"))
        for key in sorted(then.keys() & now.keys()):
            if then[key] != now[key]:
                return f"{key}: {then[key]} then, {now[key]} now"
        return ""


def deciding(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings by dotted key, without those that leave a result what it is."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        path = prefix + key
        if path not in _FREE:
            inner = deciding(value, f"{path}.") if isinstance(value, Mapping) else {path: value}
            flat |= inner
    return flat


def own_parts(config: RunConfig) -> dict[str, str]:
    """The parts that are not ssmrec's: the class of each, and a digest of the file it is written in."""
    found = {}
    for section, table in PARTS.items():
        part = table[getattr(config, section)["name"]]
        if part.__module__.partition(".")[0] != "ssmrec":
            file = getattr(sys.modules.get(part.__module__), "__file__", None)
            text = Path(file).read_bytes() if file and Path(file).is_file() else b""
            # A program's own file has another name in the processes that it begins.
            module = part.__module__.replace("__mp_main__", "__main__")
            name = f"{module}.{part.__qualname__}"
            found[section] = f"{name} {hashlib.sha256(text).hexdigest()[:12]}"
    return found


def expand(plan: Plan) -> list[Method]:
    """All methods, by data set, in the plan's order; every setting of every run is checked.

    Raises:
        ConfigError: settings that do not fit (the method is named), unequal budgets, no such
            baseline, two methods of one name, or nothing to run.
    """
    methods = []
    for data, model, loss in itertools.product(plan.data, plan.models, plan.losses):
        closed = _closed(model)
        if closed and loss is not plan.losses[0]:
            continue  # a closed form has no loss
        made = _methods(plan, data, model, None if closed else loss)
        methods.extend(made)
    if not methods:
        raise ConfigError("rules: everything is skipped, nothing is left to run")
    _check_budgets(plan, methods)
    for data in plan.data:
        labels = [method.label for method in methods if method.data == data.label]
        label, count = Counter(labels).most_common(1)[0] if labels else ("", 0)
        if count > 1:
            raise ConfigError(
                f"{data.label}: {count} methods are called {label!r}: give each value of a study once, "
                "and labels that tell all apart"
            )
        if plan.baseline and labels and plan.baseline not in labels:
            hint = nearest(plan.baseline, labels)
            raise ConfigError(f"baseline: no method {plan.baseline!r} on {data.label}{hint}")
    return methods


def trials(plan: Plan, method: Method) -> list[Job]:
    """The trainings that choose a method's tuned settings: validation decides, test is not there."""
    jobs = []
    for number, values in enumerate(method.grid, 1):
        layers = {"train": {"protocol": "valid", "metric": plan.metric}}
        config = configured(method, plan.seeds[0], values, layers)
        jobs.append(Job(method, plan.seeds[0], config, values, number))
    return jobs


def run_of(method: Method, seed: int, tuned: Mapping[str, Any]) -> Job:
    """The training of one seed with the tuned settings."""
    return Job(method, seed, configured(method, seed, tuned))


def configured(method: Method, seed: int, *layers: Mapping[str, Any]) -> RunConfig:
    """Complete settings; a mistake in them names the method.

    Raises:
        ConfigError: as `resolve`.
    """
    try:
        config = resolve(
            merged(method.values, *(nested(layer) for layer in layers), {"seed": seed})
        )
    except ConfigError as error:
        raise ConfigError(f"{method.data}, {method.label}: {error}") from None
    if config.train.protocol in ("valid", "refit") or _has_valid_file(config):
        return config
    # Without a part to choose by, no validation pairs are taken from train.
    whole = config.data.split.model_copy(update={"valid": 0.0})
    return config.model_copy(update={"data": config.data.model_copy(update={"split": whole})})


def shown(values: Mapping[str, Any]) -> list[str]:
    """`temperature=0.1` for each; the whole dotted key where the last word is not enough."""
    lasts = [key.rpartition(".")[2] for key in values]
    keys = lasts if len(set(lasts)) == len(lasts) else list(values)
    return [
        f"{key}={yaml.safe_dump(value, default_flow_style=True, width=inf).splitlines()[0]}"
        for key, value in zip(keys, values.values(), strict=True)
    ]


def combinations(grid: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    """Every combination of one value of each key; one empty one for no keys."""
    for values in itertools.product(*grid.values()):
        yield dict(zip(grid, values, strict=True))


def _methods(plan: Plan, data: Entry, model: Entry, loss: Entry | None) -> Iterator[Method]:
    label = "" if loss is None else loss.label
    rules = [rule for rule in plan.rules if rule.when.fits(data.label, model.label, label)]
    if any(rule.skip for rule in rules):
        return
    own = [{"data": data.values}, {"model": model.values}]
    entries = [data, model]
    if loss is not None:
        own.append({"loss": loss.values})
        entries.append(loss)
    values = merged(
        _base(plan, model, loss), *own, *(nested(part.set) for part in [*entries, *rules])
    )
    grid = next((p.tune for p in reversed([plan, *entries, *rules]) if p.tune), {})
    study = plan.study
    if loss is None:  # nothing but its own settings makes another model of a closed form
        study = {key: values for key, values in study.items() if key.startswith("model.")}
    for chosen in combinations(study):
        left = {key: choices for key, choices in grid.items() if key not in chosen}
        found = Method(
            data.label, model.label, label, chosen, merged(values, nested(chosen)),
            tuple(combinations(left)) if left else (),
        )  # fmt: skip
        _check(found, plan)
        yield found


def _base(plan: Plan, model: Entry, loss: Entry | None) -> dict[str, Any]:
    """The settings of every run, without those of `model` and `loss` that only others of the plan have."""
    base = nested(plan.base)
    for section, table, one, every in (
        ("model", MODELS, model, plan.models), ("loss", LOSSES, loss, plan.losses),
    ):  # fmt: skip
        if one is None or not isinstance(base.get(section), Mapping):
            continue
        fields = {
            name: set(table[name].Config.model_fields)
            for name in (entry.values["name"] for entry in every) if name in table
        }  # fmt: skip
        own = fields.get(one.values["name"], set())
        foreign = set().union(*fields.values()) - own
        base[section] = {key: v for key, v in base[section].items() if key not in foreign}
    return base


def _check(method: Method, plan: Plan) -> None:
    config = configured(method, plan.seeds[0])
    tuning = trials(plan, method)
    where = f"{method.data}, {method.label}"
    if config.model["name"] == "blend":
        raise ConfigError(f"{where}: {MADE_OF_RUNS}")
    if tuning and config.train.protocol == "published":
        raise ConfigError(
            f"{where}: tune chooses on validation, but train.protocol=published on test: take valid, "
            "refit or fixed"
        )
    if tuning and tuning[0].config.data.split.valid == 0 and not _has_valid_file(config):
        raise ConfigError(f"{where}: tune chooses on validation pairs: set data.split.valid=0.1")


def _check_budgets(plan: Plan, methods: Sequence[Method]) -> None:
    sizes = {len(method.grid): method for method in methods}
    if plan.equal_budgets and len(sizes) > 1:
        least, most = min(sizes), max(sizes)
        raise ConfigError(
            f"tune: {sizes[most].label} gets {most} trials and {sizes[least].label} {least}: give "
            "all the same number, or set equal_budgets: false"
        )


def _asked(config: RunConfig) -> dict[str, Any]:
    """The settings that are no defaults, and the names of the parts."""
    asked = config.model_dump(mode="json", exclude_defaults=True)
    for section, table in PARTS.items():
        values: dict[str, Any] = getattr(config, section)
        usual = table[values["name"]].Config().model_dump(mode="json")
        asked[section] = {k: v for k, v in values.items() if k not in usual or usual[k] != v}
    return asked


def _closed(model: Entry) -> bool:
    name = model.values["name"]
    return name in MODELS and MODELS[name].closed_form


def _has_valid_file(config: RunConfig) -> bool:
    try:
        return "valid" in locate(config.data)
    except DataError:  # told when the data are read
        return False
