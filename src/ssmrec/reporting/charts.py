"""Charts of many runs, as plotly figures in plain dictionaries (see `parts`)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ssmrec.reporting.parts import LOG, Chart, curve, figure, run_look, shortened
from ssmrec.reporting.runs import RunRecord, of_one_data

PHASES = {"select": "", "train": "", "refit": " (refit)"}


def learning_curves(runs: Sequence[RunRecord]) -> list[Chart]:
    """Loss, and each watched metric, over epochs and over seconds of training."""
    shown = [(n, run) for n, run in enumerate(runs) if run.history]
    if not shown:
        return []
    losses = {run.settings.get("loss.name") for _, run in shown}
    remark = " The losses differ in kind, so only their shapes compare." if len(losses) > 1 else ""
    charts = _pair(shown, "loss", "Training loss", "mean loss of the epoch",
                   "A curve still falling at its end could be trained longer." + remark)  # fmt: skip
    for metric, part in _watched(shown):
        chosen = [(n, run) for n, run in shown if _watches(run, metric, part)]
        said = "Runs on different data do not compare"
        if of_one_data([run for _, run in chosen]):
            highest = max(chosen, key=lambda pair: _peak(pair[1], metric)[1])[1]
            epoch, value = _peak(highest, metric)
            said = f"Highest: {value:.4f}, {highest.name} in epoch {epoch}"
        where = "validation" if part == "valid" else part
        warning = " Chosen on test: too good to be true." if part == "test" else ""
        charts += _pair(
            chosen, metric, f"{metric} on {where}", f"{metric} ({where})",
            f"{said}; a large open marker stands at the epoch each run kept.{warning}",
        )  # fmt: skip
    return charts


def quality_against_time(runs: Sequence[RunRecord], metric: str) -> Chart | None:
    """One point a run: `metric` on test over seconds of training."""
    shown = [(n, run) for n, run in enumerate(runs) if (run.metrics["test"] or {}).get(metric)]
    if len(shown) < 2:
        return None
    traces = []
    for n, run in shown:
        colour, _, symbol = look = run_look(n)
        x, y = run.metrics["seconds"]["train"], run.metrics["test"][metric]
        marker = {"color": colour, "symbol": symbol, "size": 13}
        traces.append(
            curve(shortened(run.name), [x], [y], look, "%{x:.1f} s: %{y:.4f}", mode="markers",
                  marker=marker, meta={"run": n})
        )  # fmt: skip
    said = "among runs on the same data."
    if of_one_data([run for _, run in shown]):
        best = max(shown, key=lambda pair: pair[1].metrics["test"][metric])[1]
        value, took = best.metrics["test"][metric], best.metrics["seconds"]["train"]
        said = f"highest is {best.name} with {value:.4f} after {took:.0f} s."
    seconds = [run.metrics["seconds"]["train"] for _, run in shown]
    wide = min(seconds) > 0 and max(seconds) / min(seconds) > 10
    return Chart(
        f"{metric} on test against training time",
        f"Up and to the left is better; {said}",
        figure(
            traces,
            "seconds of training",
            f"{metric} (test)",
            x=LOG if wide else {"rangemode": "tozero"},
        ),
    )


def _pair(
    shown: Iterable[tuple[int, RunRecord]], key: str, title: str, y_title: str, caption: str
) -> list[Chart]:
    """The same curves over epochs and over seconds."""
    shown = [(n, run) for n, run in shown if any(key in row for row in run.history)]
    if not shown:
        return []
    out = []
    for axis, x_title in (
        ("epoch", "epoch"),
        ("seconds", "seconds of training, evaluations left out"),
    ):
        traces = [trace for n, run in shown for trace in _curves(n, run, key, axis)]
        ticks = {"tickformat": ",d"} if axis == "epoch" else {}
        out.append(
            Chart(
                f"{title} over {'epochs' if axis == 'epoch' else 'time'}",
                caption if axis == "epoch" else _faster(shown, key, caption),
                figure(traces, x_title, y_title, x={"rangemode": "tozero", **ticks}),
            )
        )
    return out


def _faster(shown: Sequence[tuple[int, RunRecord]], key: str, caption: str) -> str:
    if len(shown) == 1:
        return "The same values over the seconds they took."
    quickest = min((run for _, run in shown), key=_seconds_per_epoch)
    return (
        f"The same values over the seconds they took; an epoch is shortest for {quickest.name} "
        f"({_seconds_per_epoch(quickest):.2f} s)."
    )


def _seconds_per_epoch(run: RunRecord) -> float:
    return sum(row["train_seconds"] for row in run.history) / len(run.history)


def _curves(n: int, run: RunRecord, key: str, axis: str) -> list[dict[str, Any]]:
    """A trace for each phase of the run in which `key` was recorded, and the kept epoch."""
    spent, phases = 0.0, {}
    for row in run.history:
        spent += row["train_seconds"]
        if key in row:
            x = row["epoch"] if axis == "epoch" else spent
            phases.setdefault(row.get("phase", "train"), []).append((x, row[key], row["epoch"]))
    look, own = run_look(n), {"meta": {"run": n}, "legendgroup": f"run{n}"}
    traces = []
    for phase, points in phases.items():
        more: dict[str, Any] = {"customdata": [epoch for _, _, epoch in points], **own}
        if phase == "refit":
            more["line"] = {"color": look[0], "dash": "dot", "width": 1}
        traces.append(
            curve(
                shortened(run.name) + PHASES.get(phase, f" ({phase})"), [x for x, _, _ in points],
                [y for _, y, _ in points], look, "epoch %{customdata}: %{y:.4f}", **more,
            )
        )  # fmt: skip
    first = next(iter(phases.values()), [])
    kept = [(x, y) for x, y, epoch in first if epoch == run.metrics["best_epoch"]]
    if key != "loss" and kept:
        ring = {"symbol": "circle-open", "size": 15, "color": look[0], "line": {"width": 2}}
        traces.append(
            {"type": "scatter", "mode": "markers", "showlegend": False, "hoverinfo": "skip",
             "x": [kept[0][0]], "y": [kept[0][1]], "marker": ring, **own}
        )  # fmt: skip
    return traces


def _watched(shown: Iterable[tuple[int, RunRecord]]) -> list[tuple[str, str]]:
    """(metric, part it was measured on) pairs that chose an epoch."""
    pairs = {}
    for _, run in shown:
        metric, part = run.settings.get("train.metric", ""), run.metrics["selected_on"]
        if any(metric in row for row in run.history):
            pairs[metric, part] = None
    return list(pairs)


def _watches(run: RunRecord, metric: str, part: str) -> bool:
    return run.metrics["selected_on"] == part and any(metric in row for row in run.history)


def _peak(run: RunRecord, metric: str) -> tuple[int, float]:
    """Epoch and value of the highest `metric`."""
    rows = [row for row in run.history if metric in row]
    best = max(rows, key=lambda row: row[metric])
    return best["epoch"], best[metric]
