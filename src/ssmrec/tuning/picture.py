"""The picture of a search: one HTML page that works offline."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from ssmrec.reporting.page import write_page
from ssmrec.reporting.parts import (
    LOG,
    Chart,
    Column,
    Page,
    Row,
    Section,
    Table,
    Text,
    curve,
    figure,
)
from ssmrec.training import label
from ssmrec.tuning.record import Done, best_of, counts
from ssmrec.tuning.spaces import Choice, Part, Range, labels
from ssmrec.tuning.task import Task, recipe

_WHOLE, _GIVEN_UP, _BEST = (
    ("@0", "solid", "circle"),
    ("@muted", "dot", "x"),
    ("@1", "solid", "star"),
)
_WIDE = {"type": "log", "dtick": 1, "tickformat": "~e"}
"""A logarithmic axis with ticks at powers of ten."""
_MOST_CURVES = 40
"""Learning curves on one chart: more could not be told apart. The best trials are shown."""


def search_page(task: Task, trials: Sequence[Done], path: Path) -> None:
    """Write the page of a search to `path`.

    Args:
        task: what is searched. trials: those that ended, at least one of them complete.

    Raises:
        SsmrecError: plotly is not installed.
        RunError: the file cannot be written.
    """
    write_page(picture(task, trials), path)


def picture(task: Task, trials: Sequence[Done]) -> Page:
    """History of the search, each setting against the metric, learning curves, all trials."""
    best = best_of(trials)
    assert best is not None
    run = task.best(best.params, best.epoch)
    at = f" in epoch {best.epoch}" if best.epoch else ""
    facts = [
        f"{counts(trials)}, {sum(trial.seconds for trial in trials):,.0f} s in all",
        f"best: validation {task.metric} {best.value:.4f}{at}, trial {best.number}. It is the highest of "
        "many, so a little too good; no trial has seen the test part.",
    ]
    return Page(
        f"Search for {label(run)} on {run.data.source}",
        [
            Section("The search", "", [_history(task, trials, best), *_learning(task, trials, best)]),
            Section(
                "The settings", f"Each setting against validation {task.metric}, all others as they came.",
                [_against(task, trials, best, key, part) for key, part in task.space.items()],
            ),
            Section("The trials", "", [_table(task, trials), _settings(run)]),
        ],
        facts,
    )  # fmt: skip


def _history(task: Task, trials: Sequence[Done], best: Done) -> Chart:
    """Every trial in its order, and the best value so far."""
    so_far, highest = [], None
    for trial in trials:
        if trial.value is not None and (highest is None or trial.value > highest):
            highest = trial.value
        so_far.append(highest)
    line = curve("best so far", [t.number for t in trials], so_far, ("@1", "solid", "circle"),
                 "%{y:.4f}", mode="lines")  # fmt: skip
    line["line"]["shape"] = "hv"
    points = _points(trials, lambda trial: trial.number, "trial %{x}: %{y:.4f}")
    return Chart(
        f"{task.metric} of each trial",
        f"The best, {best.value:.4f}, came with trial {best.number} of {len(trials)}: a line that still "
        "rises at its end asks for more trials. Crosses were given up early, at their best until then.",
        figure([line, *points], "trial", f"{task.metric} (validation)", x={"tickformat": ",d"}),
    )  # fmt: skip


def _learning(task: Task, trials: Sequence[Done], best: Done) -> list[Chart]:
    """The learning curves of the best trials, the best one on top."""
    ranked = sorted((t for t in trials if t.curve), key=lambda t: -(t.reached or 0.0))
    shown = [trial for trial in ranked[:_MOST_CURVES] if trial is not best]
    if not ranked:
        return []
    traces = [_learned(trial, _WHOLE if trial.value is not None else _GIVEN_UP) for trial in shown]
    if best.curve:
        traces.append(_learned(best, _BEST, name=f"trial {best.number}, the best", showlegend=True))
        traces[-1]["line"]["width"] = 3
    few = f" Only the best {_MOST_CURVES} trials are shown." if len(ranked) > _MOST_CURVES else ""
    chart = Chart(
        f"{task.metric} over epochs",
        f"Dotted trials were given up early. Trials that still rise at their end want more epochs.{few}",
        figure(traces, "epoch", f"{task.metric} (validation)",
               x={"rangemode": "tozero", "tickformat": ",d"}),
    )  # fmt: skip
    return [chart]


def _learned(
    trial: Done, look: tuple[str, str, str], name: str = "", **more: Any
) -> dict[str, Any]:
    trace = curve(
        name or f"trial {trial.number}", list(trial.curve), list(trial.curve.values()), look,
        "epoch %{x}: %{y:.4f}", **{"mode": "lines", "showlegend": False, "opacity": 0.6, **more},
    )  # fmt: skip
    trace["line"]["width"] = 1
    return trace


def _against(task: Task, trials: Sequence[Done], best: Done, key: str, part: Part) -> Chart:
    """One setting against the metric."""
    points = _points(trials, lambda trial: _shown(trial.params[key], part), "%{x}: %{y:.4f}")
    points.append(
        {"type": "scatter", "mode": "markers", "name": "best", "hoverinfo": "skip",
         "x": [_shown(best.params[key], part)], "y": [best.value],
         "marker": {"symbol": "circle-open", "size": 15, "color": "@1", "line": {"width": 2}}}
    )  # fmt: skip
    axis: dict[str, Any] = {}
    if isinstance(part, Choice):
        axis = {"type": "category", "categoryorder": "array"}
        axis["categoryarray"] = [_shown(value, part) for value in part.values]
    elif part.log:
        axis = LOG if part.high / part.low < 100 else _WIDE
    return Chart(
        key,
        f"Searched: {part}. Best: {_told(best.params[key])}.{_edge(best.params[key], part)}",
        figure(points, key, f"{task.metric} (validation)", x=axis),
        height=260,
    )


def _edge(value: Any, part: Part) -> str:
    """A word of advice where the best value lies at an end of its range."""
    if not isinstance(part, Range):
        return ""
    if part.whole:
        near = value in part.ends
    else:
        share = (value - part.low) / (part.high - part.low)
        if part.log:
            share = math.log(value / part.low) / math.log(part.high / part.low)
        near = share < 0.05 or share > 0.95
    return " It lies at the end of its range: a wider one may have better." if near else ""


def _points(trials: Sequence[Done], at: Any, hover: str) -> list[dict[str, Any]]:
    """Complete trials as dots, those given up as crosses."""
    traces = []
    for name, look, state in (("complete", _WHOLE, "complete"), ("given up", _GIVEN_UP, "pruned")):
        some = [trial for trial in trials if trial.state == state and trial.reached is not None]
        if some:
            traces.append(
                curve(name, [at(t) for t in some], [t.reached for t in some], look,
                      "trial %{customdata}, " + hover, mode="markers",
                      customdata=[t.number for t in some])
            )  # fmt: skip
    return traces


def _shown(value: Any, part: Part) -> Any:
    """A place on the axis: numbers of a range as they are, choices as words."""
    return value if isinstance(part, Range) else _told(value)


def _told(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _table(task: Task, trials: Sequence[Done]) -> Table:
    names = labels(task.space)
    columns = [
        Column(task.metric, "validation", best=True), Column("epoch", "chosen"), Column("epochs"),
        Column("time", "seconds", digits=1),
    ]  # fmt: skip
    columns += [Column(names[key], digits=_digits(part)) for key, part in task.space.items()]
    rows = []
    for trial in trials:
        params = [_cell(trial.params[key]) for key in task.space]
        remark = {"pruned": "given up early", "failed": trial.reason}.get(trial.state, "")
        cells = [trial.reached, trial.epoch, trial.epochs, trial.seconds, *params]
        rows.append(
            Row(f"trial {trial.number}", cells, remark=remark, reference=trial.value is None)
        )
    return Table(
        "All trials",
        "A trial that was given up early shows its best value until then. Click a heading to sort.",
        columns, rows, "trial",
    )  # fmt: skip


def _digits(part: Part) -> int:
    """Decimals that show at least three digits of every number in a range."""
    if not isinstance(part, Range) or part.low <= 0:
        return 4
    return max(1, 2 - math.floor(math.log10(part.low)))


def _cell(value: Any) -> Any:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return value if number else _told(value)


def _settings(run: Any) -> Text:
    body = yaml.safe_dump(recipe(run), sort_keys=False, allow_unicode=True)
    return Text("The best settings (recipe.yaml)", body)
