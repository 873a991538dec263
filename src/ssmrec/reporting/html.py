"""HTML pages: of many runs side by side, and of the analyses of one run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ssmrec.analysis.notes import warnings_of
from ssmrec.reporting.bound import bound_section
from ssmrec.reporting.charts import learning_curves, quality_against_time
from ssmrec.reporting.corrections import corrections_section
from ssmrec.reporting.course import course_section
from ssmrec.reporting.hardness import negatives_section
from ssmrec.reporting.markup import number
from ssmrec.reporting.page import write_page
from ssmrec.reporting.parts import Column, Page, Row, Section, Table, Text
from ssmrec.reporting.popularity import groups_of_runs, popularity_section
from ssmrec.reporting.runs import RunRecord, differing, measured, of_one_data, rival
from ssmrec.reporting.studies import over_seeds, study_charts
from ssmrec.reporting.tables import ON_TEST
from ssmrec.reporting.vectors import geometry_section, magnitude_section
from ssmrec.training.loop import BROKEN_OFF

_KIND = {"valid": "validation"}


def report_page(runs: Sequence[RunRecord], path: Path, left_out: Sequence[str] = ()) -> None:
    """Write the page of `runs` to `path`; `left_out` are lines on runs it could not show.

    Raises:
        SsmrecError: plotly is not installed.
        RunError: the file cannot be written.
    """
    sources = list(dict.fromkeys(run.source for run in runs))
    title = f"{len(runs)} runs on {', '.join(sources)}" if len(runs) > 1 else f"Run {runs[0].name}"
    page = Page(
        title,
        [
            Section("Results", "", _joined(runs)),
            Section("Studies", "", study_charts(runs, _main_metric(runs))),
            Section("Learning", "", learning_curves(runs)),
            groups_of_runs(runs),
            Section("How they were measured", "", [_protocols(runs), *_time(runs)]),
            Section("Settings", "", _settings(runs)),
        ],
        facts=_data(runs),
        warnings=[*_warnings(runs), *left_out],
    )
    write_page(page, path)


def analysis_page(results: Mapping[str, Any], path: Path) -> None:
    """Write the page of the analyses of one run to `path`.

    Args:
        results: the dictionary of `ssmrec.analysis.run`, which is also `analysis.json`; a part that is
            missing or None is left out.
        path: the HTML file.

    Raises:
        SsmrecError: plotly is not installed.
        RunError: the file cannot be written.
    """
    run, settings = results.get("run") or {}, results.get("settings") or {}
    other, against = rival(results)
    label = run.get("label", "run")
    made = f"protocol {run.get('protocol')}, {run.get('epochs')} epochs"
    if run.get("loss") is None:
        made = "solved in closed form, or a blend"
    facts = [
        f"run folder {run.get('folder')}, data {run.get('data')}: {number(run.get('users'))} users, "
        f"{number(run.get('items'))} items, {number(run.get('train_pairs'))} training pairs",
        f"{made}; measured on {measured(results)}, lists of {settings.get('k')}",
    ]
    if against:
        facts.append(f"held against {other}, run folder {against['run'].get('folder')}")
    sections = [
        popularity_section(results), corrections_section(results), negatives_section(results),
        bound_section(results), course_section(results), magnitude_section(results),
        geometry_section(results),
    ]  # fmt: skip
    page = Page(
        f"Analysis of {label}", sections, facts, warnings_of(results),
        notes=list(results.get("notes") or []),
    )  # fmt: skip
    write_page(page, path)


def _data(runs: Sequence[RunRecord]) -> list[str]:
    """A line on each distinct data set."""
    lines = {}
    for run in runs:
        counts = run.metrics.get("counts") or {}
        sizes, test = counts.get("data") or {}, counts.get("test") or {}
        line = (
            f"{run.source}: {number(sizes.get('users'))} users, {number(sizes.get('items'))} items"
        )
        if test:
            line += (
                f"; test: {number(test['held_out_pairs'])} pairs of {number(test['users'])} users"
            )
        lines.setdefault(run.fingerprint, line)
    return list(dict.fromkeys(lines.values()))


def _warnings(runs: Sequence[RunRecord]) -> list[str]:
    found = []
    if not of_one_data(runs):
        found.append("The runs were trained on different data: their figures do not compare.")
    elif _parted(runs):
        found.append("Each seed drew its own split of the data: compare means over seeds.")
    if len({run.metrics.get("metric_version") for run in runs}) > 1:
        found.append("The runs were measured by different metric definitions: evaluate them again.")
    chosen = [run.name for run in runs if run.metrics["selected_on"] == "test"]
    if chosen:
        found.append(f"{', '.join(chosen)}: {ON_TEST}")
    return found


def _parted(runs: Sequence[RunRecord]) -> bool:
    """Whether not all learned from the very same pairs."""
    return len({run.fingerprint for run in runs}) > 1


def _joined(runs: Sequence[RunRecord]) -> list[Table]:
    """The table of all runs, and that of the methods that have several seeds."""
    ndcg = _main_metric(runs)
    pair = [name for name in (f"recall@{ndcg.partition('@')[2]}", ndcg) if _measured(runs, name)]
    seeds = over_seeds(runs, pair)
    return [_results(runs), *([seeds] if seeds else [])]


def _measured(runs: Sequence[RunRecord], metric: str) -> bool:
    return any(metric in (run.metrics.get("test") or {}) for run in runs)


def _main_metric(runs: Sequence[RunRecord]) -> str:
    """NDCG on test of the longest lists, or what was measured instead; empty without a test part."""
    names = [name for run in runs for name in (run.metrics.get("test") or {})]
    ndcg = [name for name in names if name.startswith("ndcg@")] or names
    return max(ndcg, key=lambda name: int(name.partition("@")[2]), default="")


def _results(runs: Sequence[RunRecord]) -> Table:
    """Every metric of every run on test and validation, with most-popular and the best possible."""
    mixed, comparable = not of_one_data(runs), not _parted(runs)
    parts = [part for part in ("test", "valid") if any(run.metrics.get(part) for run in runs)]
    names = {n: None for part in parts for run in runs for n in (run.metrics.get(part) or {})}
    wanted = [(part, name) for part in parts for name in names]
    lengths = sorted({name.partition("@")[2] for name in names}, key=int, reverse=True)
    columns = []
    for part, name in wanted:
        metric, _, k = name.partition("@")
        kind = _KIND.get(part, part)
        columns.append(Column(metric, f"@{k}, {kind}", (kind, k), best=comparable))
    columns = [
        *([Column("data")] if mixed else []),
        *columns,
        Column("training", "seconds", digits=1),
    ]

    def row(label: str, source: str, values: Any, seconds: float | None, **more: Any) -> Row:
        cells = [(values(part) or {}).get(name) for part, name in wanted]
        return Row(label, [*([source] if mixed else []), *cells, seconds], **more)

    rows = [
        row(
            run.name,
            run.source,
            run.metrics.get,
            run.metrics["seconds"]["train"],
            run=n,
            remark=_remark(run),
        )
        for n, run in enumerate(runs)
    ]
    for label, source, test in _references(runs):
        rows.append(row(label, source, {"test": test}.get, None, reference=True))
    best = "; the highest of the runs is bold" if comparable else ""
    return Table(
        "Metrics",
        f"Means over users, 0 to 1{best}. All items are ranked, known ones left out. Click a heading to "
        "sort; the boxes show or hide a run in the charts.",
        columns, rows, "run", {"part": [_KIND.get(p, p) for p in parts], "list length": lengths},
    )  # fmt: skip


def _remark(run: RunRecord) -> str:
    remarks = []
    if run.metrics["selected_on"] == "test":
        whose = "a part's epoch" if run.metrics.get("stopped") == "blended" else "epoch"
        remarks.append(f"{whose} chosen on TEST")
    if run.metrics.get("stopped") in BROKEN_OFF:
        remarks.append(run.metrics["stopped"])
    unfinished = run.metrics.get("unfinished", {})
    remarks += [f"{stopped}: {', '.join(parts)}" for stopped, parts in unfinished.items()]
    return ", ".join(remarks)


def _references(runs: Sequence[RunRecord]) -> list[tuple[str, str, dict[str, float]]]:
    """Most-popular and best possible on test with their data, once for each distinct set of values."""
    out = []
    for key, label in (("most_popular", "most popular"), ("best_possible", "best possible")):
        found: dict[str, tuple[RunRecord, dict[str, float]]] = {}
        for run in runs:
            values = (run.metrics.get("reference") or {}).get(key)
            if values:
                found.setdefault(str(sorted(values.items())), (run, values))
        for run, values in found.values():
            name = label if len(found) == 1 else f"{label} (as in {run.name})"
            out.append((name, run.source, values))
    return out


def _protocols(runs: Sequence[RunRecord]) -> Table:
    """Who chose the epoch, on what, and at what cost."""
    columns = [
        Column("model + loss"), Column("data"), Column("protocol"), Column("epoch"),
        Column("chosen on"), Column("stopped by"), Column("trained with"), Column("ranked by"),
        Column("users averaged", "test"), Column("training", "seconds", digits=1),
        Column("evaluation", "seconds", digits=1), Column("peak memory", "MiB"),
    ]  # fmt: skip
    rows = []
    for n, run in enumerate(runs):
        m = run.metrics
        memory = m.get("peak_memory_bytes")
        users = ((m.get("counts") or {}).get("test") or {}).get("users")
        fixed = m["protocol"] == "fixed" and not run.solved
        epoch = None if run.solved else m["epochs"] if fixed else m["best_epoch"]
        cells = [
            run.parts, run.source, m["protocol"], epoch,
            "set beforehand" if fixed else _KIND.get(m["selected_on"], m["selected_on"]),
            m["stopped"], m["similarity"]["train"], m["similarity"]["rank"], users,
            float(m["seconds"]["train"]), float(m["seconds"]["eval"]),
            None if memory is None else round(memory / 2**20),
        ]  # fmt: skip
        rows.append(Row(run.name, cells, run=n, remark=_remark(run)))
    return Table(
        "Protocol and cost",
        "valid: validation pairs chose the epoch; refit: the same, then trained once more on train and "
        "validation; fixed: epochs set beforehand; published: chosen on test, not an honest estimate.",
        columns, rows, "run",
    )  # fmt: skip


def _time(runs: Sequence[RunRecord]) -> list[Any]:
    chart = quality_against_time(runs, _main_metric(runs))
    return [chart] if chart else []


def _settings(runs: Sequence[RunRecord]) -> list[Any]:
    """A table of what differs, and the complete settings folded."""
    parts: list[Any] = [_differences(runs)] if len(runs) > 1 else []
    for run in runs:
        body = yaml.safe_dump(
            {**run.settings, "versions": run.versions, "data fingerprint": run.fingerprint},
            sort_keys=False, allow_unicode=True,
        )  # fmt: skip
        parts.append(Text(f"All settings of {run.name} ({run.folder})", body))
    return parts


def _differences(runs: Sequence[RunRecord]) -> Table:
    """Settings that differ; the shorter side of runs and settings lies across the page."""
    found = {key: [_setting(value) for value in values] for key, values in differing(runs).items()}
    title, same = "Settings that differ", "Everything else is the same in all runs."
    if not found:
        return Table(
            title, "None.", [], [Row(run.name, [], run=n) for n, run in enumerate(runs)], "run"
        )
    if len(runs) < len(found):
        rows = [Row(key, values) for key, values in found.items()]
        return Table(title, same, [Column(run.name) for run in runs], rows, "setting")
    rows = [
        Row(run.name, [values[n] for values in found.values()], run=n) for n, run in enumerate(runs)
    ]
    return Table(title, same, [Column(key) for key in found], rows, "run")


def _setting(value: Any) -> Any:
    """A setting as it would be typed; floats keep their shortest form."""
    if value is None:
        return None
    if isinstance(value, list):
        return f"[{', '.join(str(each) for each in value)}]"
    return str(value).lower() if isinstance(value, bool) else str(value)
