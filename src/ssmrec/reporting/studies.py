"""Runs that are alike: seeds of one method joined, and studies, runs that differ in one setting alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import mean, stdev
from typing import Any

from ssmrec.reporting.parts import (
    LOG,
    Chart,
    Column,
    Row,
    Table,
    curve,
    figure,
    run_look,
    shortened,
)
from ssmrec.reporting.runs import RunRecord, of_one_data, used

_FREE = ("seed", "train.threads", "train.device", "evaluation.")
"""Settings in which runs of one method may differ."""
_LEAST = 3
"""Values of a setting that make a study."""

Key = tuple[tuple[str, str], ...]


def over_seeds(runs: Sequence[RunRecord], metrics: Sequence[str]) -> Table | None:
    """Mean and standard deviation on test of the methods that have several seeds.

    None without any, or without a metric.
    """
    groups = [group for group in _alike(runs) if len(_seeds(group)) > 1]
    if not groups or not metrics:
        return None
    names = _told_apart(groups)
    columns = [Column("seeds"), *(Column(m, part) for m in metrics for part in ("mean", "± sd"))]
    rows = []
    for name, group in zip(names, groups, strict=True):
        cells: list[Any] = [len(_seeds(group))]
        for metric in metrics:
            cells += _summary(_values(group, metric))
        rows.append(Row(name, cells))
    said = "Runs that differ in nothing but their seed, on test."
    if any(len({run.fingerprint for run in group}) > 1 for group in groups):
        said += " The seed also draws what is held out."
    return Table("Over seeds", said, columns, rows, "method")


def study_charts(runs: Sequence[RunRecord], metric: str) -> list[Chart]:
    """`metric` on test against each number that varies while all other settings stay.

    A study has at least three values of one setting; its runs may have several seeds.
    """
    charts = []
    for key in _numeric(runs):
        lines = [
            group
            for group in _alike(runs, key)
            if len({run.settings[key] for run in group if _values([run], metric)}) >= _LEAST
        ]
        if lines:
            charts.append(_chart(key, lines, metric))
    return charts


def _chart(key: str, lines: Sequence[Sequence[RunRecord]], metric: str) -> Chart:
    traces, best = [], (float("-inf"), 0.0, "")
    for n, (name, group) in enumerate(zip(_told_apart(lines, key), lines, strict=True)):
        by_value: dict[float, list[RunRecord]] = {}
        for run in group:
            by_value.setdefault(run.settings[key], []).append(run)
        points = {
            x: _summary(_values(some, metric)) for x, some in sorted(by_value.items())
            if _values(some, metric)
        }  # fmt: skip
        spread = [sd or 0.0 for _, sd in points.values()]
        bars = {"error_y": {"type": "data", "array": spread}} if any(spread) else {}
        means = [value for value, _ in points.values()]
        hover = f"{key} %{{x}}: %{{y:.4f}}"
        traces.append(curve(shortened(name), list(points), means, run_look(n), hover, **bars))
        best = max(best, *((value, x, name) for x, (value, _) in points.items()))
    xs = [x for trace in traces for x in trace["x"]]
    wide = min(xs) > 0 and max(xs) / min(xs) >= 8
    seeds = (
        " Bars: one standard deviation over seeds." if any("error_y" in t for t in traces) else ""
    )
    one = of_one_data([run for group in lines for run in group])
    highest = f"Highest: {best[0]:.4f} at {best[1]:g} ({best[2]}). " if one else ""
    return Chart(
        f"{metric} against {key}",
        f"{highest}On test: a picture of what the setting does, no way to choose it.{seeds}",
        figure(traces, key, f"{metric} (test)", x=LOG if wide else None),
    )


def _alike(runs: Iterable[RunRecord], without: str = "") -> list[list[RunRecord]]:
    """Runs on the same data whose settings agree, but for seed and the one named, a number."""
    tables = [
        (run, _deciding(run, without)) for run in runs if not without or _number(used(run), without)
    ]
    # Settings that all runs of the same parts have: versions add some.
    known: dict[Key, set[str]] = {}
    for _, table in tables:
        known.setdefault(_parts(table), set(table)).intersection_update(table)
    found: dict[Key, list[RunRecord]] = {}
    for run, table in tables:
        asked = {key: table[key] for key in known[_parts(table)]}
        found.setdefault(tuple((k, str(v)) for k, v in sorted(asked.items())), []).append(run)
    return [part for group in found.values() for part in _by_data(group)]


def _by_data(group: list[RunRecord]) -> list[list[RunRecord]]:
    """The group where it is on one data set, else one for each."""
    if of_one_data(group):
        return [group]
    found: dict[str, list[RunRecord]] = {}
    for run in group:
        found.setdefault(run.fingerprint, []).append(run)
    return list(found.values())


def _parts(table: Mapping[str, Any]) -> Key:
    return tuple(
        (key, str(table.get(key))) for key in ("model.name", "loss.name", "negatives.name")
    )


def _deciding(run: RunRecord, without: str = "") -> dict[str, Any]:
    return {k: v for k, v in used(run).items() if k != without and not k.startswith(_FREE)}


def _numeric(runs: Sequence[RunRecord]) -> list[str]:
    """Settings with at least three different numbers."""
    seen: dict[str, set[float]] = {}
    for run in runs:
        table = used(run)
        for key in table:
            if _number(table, key) and not key.startswith(_FREE):
                seen.setdefault(key, set()).add(table[key])
    return [key for key, values in seen.items() if len(values) >= _LEAST]


def _number(table: Mapping[str, Any], key: str) -> bool:
    """Whether a setting is there and holds a number, which `null` and `auto` are not."""
    return isinstance(table.get(key), (int, float)) and not isinstance(table[key], bool)


def _told_apart(groups: Sequence[Sequence[RunRecord]], without: str = "") -> list[str]:
    """Model and loss of each group, with the settings in which groups of the same parts differ."""
    firsts = [group[0] for group in groups]
    tables = [_deciding(run, without) for run in firsts]
    names = []
    for run, own in zip(firsts, tables, strict=True):
        alike = [
            table for other, table in zip(firsts, tables, strict=True) if other.parts == run.parts
        ]
        differ = [k for k in own if any(table.get(k, own[k]) != own[k] for table in alike)]
        words = [
            f"on {run.source}" if key == "data.source" else f"{key.rpartition('.')[2]}={own[key]}"
            for key in differ
        ]
        names.append(", ".join([run.parts, *words]))
    return names


def _values(runs: Iterable[RunRecord], metric: str) -> list[float]:
    """The value of each seed, their mean where it was run more than once."""
    found: dict[Any, list[float]] = {}
    for run in runs:
        value = (run.metrics.get("test") or {}).get(metric)
        if value is not None:
            found.setdefault(run.settings.get("seed"), []).append(value)
    return [mean(values) for values in found.values()]


def _seeds(runs: Iterable[RunRecord]) -> set[Any]:
    return {run.settings.get("seed") for run in runs}


def _summary(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Mean, and standard deviation (n - 1); None where there are too few values."""
    if not values:
        return None, None
    return mean(values), stdev(values) if len(values) > 1 else None
