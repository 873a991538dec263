"""Popularity on the pages: hits by item group, places in the lists, the closed form of the score.

The dictionaries are those of `ssmrec.analysis.run`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ssmrec.reporting.parts import (
    LOG,
    Chart,
    Column,
    Row,
    Section,
    Table,
    bars,
    curve,
    figure,
    run_look,
    shortened,
)
from ssmrec.reporting.runs import RunRecord, measured

Values = Mapping[str, Any]

LOOKS = {
    "run": ("@0", "solid", "circle"),
    "most_popular": ("@ink", "dot", "diamond"),
    "against": ("@1", "dash", "square"),
}
"""Colour, dash and marker by role."""

_MOST_BARS = 4
_GROUPS = {"type": "category"}
_SHARES = {"tickformat": ".0%", "rangemode": "tozero"}


def popularity_section(results: Values) -> Section:
    """Who gets the places in the lists, and where the hits come from."""
    found: Values = results.get("popularity") or {}
    if not found:
        return Section("Popularity", "", [])
    groups, rankers = found["groups"], found["rankers"]
    k = (results.get("settings") or {}).get("k", "")
    parts: list[Any] = []
    for metric in ("ndcg", "recall"):
        series = [(r["label"], LOOKS[r["role"]], r[metric], {}) for r in rankers]
        parts.append(group_chart(groups, series, f"{metric}@{k}", measured(results)))
    parts += [_found(groups, rankers), _places(groups, rankers)]
    parts += [*_theory(found.get("theory") or {}), _spread(found), _groups(groups)]
    return Section(
        "Popularity",
        f"Items in {len(groups)} groups of equal numbers of training interactions, from the tail to the best "
        "sellers: where the hits come from, and who gets the places.",
        parts,
    )


def groups_of_runs(runs: Sequence[RunRecord]) -> Section:
    """Popularity groups side by side, for the runs that were analysed on the same groups and lists."""
    parts: list[Any] = []
    mixed = len({run.fingerprint for run in runs}) > 1
    for groups, members in _same_groups(runs):
        for metric in ("ndcg", "recall"):
            series = [
                (run.name, run_look(n), _ranker(run, "run")[metric], {"meta": {"run": n}})
                for n, run in members
            ]
            popular = _ranker(members[0][1], "most_popular")
            if popular:
                look = ("@muted", "longdash", "x")
                series.append((popular["label"], look, popular[metric], {}))
            analysis = members[0][1].analysis or {}
            where = measured(analysis, members[0][1].source if mixed else "")
            name = f"{metric}@{analysis['settings']['k']}"
            parts.append(group_chart(groups, series, name, where))
    missing = [run.name for run in runs if not _ranker(run, "run")]
    lead = f"Not analysed yet (ssmrec analyze): {', '.join(missing)}." if parts and missing else ""
    return Section("Popularity groups", lead, parts)


def _same_groups(
    runs: Sequence[RunRecord],
) -> list[tuple[Sequence[Values], list[tuple[int, RunRecord]]]]:
    """Groups, and the analysed runs (with their place) that share them, the data and part, and the length."""
    found: dict[str, tuple[Sequence[Values], list[tuple[int, RunRecord]]]] = {}
    for n, run in enumerate(runs):
        if run.analysis and _ranker(run, "run"):
            groups, settings = run.analysis["popularity"]["groups"], run.analysis["settings"]
            other = (run.analysis.get("run") or {}).get("other_data")
            key = str((run.fingerprint, other, settings["k"], settings["on"], groups))
            found.setdefault(key, (groups, []))[1].append((n, run))
    return list(found.values())


def _ranker(run: RunRecord, role: str) -> Values:
    rankers = ((run.analysis or {}).get("popularity") or {}).get("rankers") or []
    return next((each for each in rankers if each["role"] == role), {})


def group_chart(
    groups: Sequence[Values],
    series: Sequence[tuple[str, tuple[str, str, str], Values, Values]],
    metric: str,
    where: str = "test",
) -> Chart:
    """Parts of a metric by item group with standard errors: bars side by side, or lines when many.

    Args:
        groups: as in `popularity.groups`.
        series: label, look, {total, by_group, standard_error}, further keys of the trace.
        metric: its name, such as ndcg@20. where: what it was measured on, as `measured` tells it.
    """
    traces = []
    for name, look, share, more in series:
        more = {"customdata": _described(groups), "error_y": _errors(share), **more}
        shown = (shortened(name), _numbers(groups), share["by_group"])
        hover = "%{y:.4f}<br>%{customdata}"
        if len(series) <= _MOST_BARS:
            traces.append(bars(*shown, look[0], hover, **more))
        else:
            traces.append(curve(*shown, look, hover, **more))
    name, _, share, _ = series[0]
    total, half = share["total"], len(groups) // 2
    said = ""
    if total:
        said = (
            f" {name}: {total:.4f}, of it {share['by_group'][-1] / total:.0%} in the last group "
            f"and {sum(share['by_group'][:half]) / total:.0%} in the first {half}."
        )
    return Chart(
        f"{metric}{'' if where == 'test' else f' on {where}'} by popularity of the items hit",
        f"The {len(groups)} groups of a ranker add up to its {metric}; thin lines are standard errors.{said}",
        figure(traces, _axis(groups), f"part of {metric}", _GROUPS, barmode="group"),
    )


def _errors(share: Values) -> dict[str, Any]:
    errors = share.get("standard_error")
    return {"type": "data", "array": errors, "thickness": 1, "width": 2, "color": "@muted"}


def _found(groups: Sequence[Values], rankers: Sequence[Values]) -> Chart:
    traces = [_line(r["label"], LOOKS[r["role"]], groups, r["found"]) for r in rankers]
    return Chart(
        "Share of each group's held-out pairs that are found",
        "A flat line treats popular and unpopular items alike; one that rises to the right finds best "
        "sellers more often than the rest.",
        figure(traces, _axis(groups), "share of held-out pairs", _GROUPS, _SHARES),
    )


def _places(groups: Sequence[Values], rankers: Sequence[Values]) -> Chart:
    traces = [_line(r["label"], LOOKS[r["role"]], groups, r["list_share"]) for r in rankers]
    held_out = [group["held_out_share"] for group in groups]
    traces.append(_line("held-out pairs", ("@muted", "longdash", "x"), groups, held_out))
    return Chart(
        "Places in the lists",
        "Above the line of the held-out pairs a group is recommended more often than people go on to "
        "choose it, below it less often.",
        figure(traces, _axis(groups), "share of the places", _GROUPS, _SHARES),
    )


def _line(
    name: str, look: tuple[str, str, str], groups: Sequence[Values], y: Sequence[float]
) -> dict[str, Any]:
    hover = "%{y:.1%}<br>%{customdata}"
    return curve(shortened(name), _numbers(groups), y, look, hover, customdata=_described(groups))


def _axis(groups: Sequence[Values]) -> str:
    return f"popularity group, 1 (tail) to {len(groups)} (best sellers)"


def _numbers(groups: Sequence[Values]) -> list[str]:
    return [str(group["group"]) for group in groups]


def _described(groups: Sequence[Values]) -> list[str]:
    return [f"group {g['group']}: {g['items']:,} items, {_range(g)} users each" for g in groups]


def _range(part: Values) -> str:
    low, high = part["degree_min"], part["degree_max"]
    if low is None:
        return "-"
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _spread(found: Values) -> Table:
    columns = [
        Column("mean popularity", "users of a listed item", digits=1), Column("Gini", "0 to 1", digits=3),
        Column("coverage", "share of items", digits=3), Column("tail", "share of places", digits=3),
    ]  # fmt: skip
    keys = ("mean_popularity", "gini", "coverage", "tail_share")
    rows = [Row(r["label"], [r["lists"].get(key) for key in keys]) for r in found["rankers"]]
    for part, name in (("train", "training pairs"), ("held_out", "held-out pairs")):
        values = (found.get("data") or {}).get(part)
        if values:
            rows.append(Row(name, [values.get(key) for key in keys], reference=True))
    tail = f"{found.get('tail', 0.8):.0%}"
    return Table(
        "How the lists are spread over the items",
        f"Gini 0: all items equally often. Coverage: items in at least one list. Tail: the {tail} least "
        "popular items. Last rows: what people did.",
        columns, rows, "lists of",
    )  # fmt: skip


def _groups(groups: Sequence[Values]) -> Table:
    columns = [
        Column("items"), Column("of all items", "share", digits=3), Column("users of an item"),
        Column("training pairs", "share", digits=3), Column("held-out pairs", "share", digits=3),
    ]  # fmt: skip
    rows = [
        Row(str(g["group"]), [g["items"], g["item_share"], _range(g), g["train_share"], g["held_out_share"]])
        for g in groups
    ]  # fmt: skip
    return Table("The groups", "From the tail (1) to the best sellers.", columns, rows, "group")


def _theory(theory: Values) -> list[Chart]:
    """Scores by popularity: the closed form of Eq 9, its numerical check, and the run's."""
    bins = theory.get("bins")
    if not bins:
        return []
    names = {
        "closed_form": ("closed form (Eq 9)", ("@2", "solid", "diamond")),
        "minimised": ("free scores, minimised", ("@1", "dash", "square")),
        "run": ("this run", ("@0", "dot", "circle")),
    }
    x = [each["degree"] for each in bins]
    traces = [
        curve(name, x, [each[key] for each in bins], look, "%{x:.0f} users: %{y:.3f}")
        for key, (name, look) in names.items()
        if any(each[key] is not None for each in bins)
    ]
    slopes = theory.get("slope") or {}
    said = ", ".join(f"{names[k][0]} {v:.2f}" for k, v in slopes.items() if v is not None)
    limit = "" if theory["applies"] else f" It does not hold for this run: {theory['reason']}."
    return [
        Chart(
            "Best score of a positive against its popularity",
            "With free scores and uncorrected negatives, sampled softmax scores an item the lower, the more "
            f"often it is drawn.{limit} Slope on log popularity within users: {said}.",
            figure(traces, "users of the item in training", "score minus the user's mean",
                   x=LOG),
        )
    ]  # fmt: skip
