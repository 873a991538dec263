"""Corrections of popularity in an analysis: accuracy beside exposure, as a table and on the page.

The dictionaries are those of `ssmrec.analysis.run`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group

from ssmrec.reporting.cells import number, share, titled
from ssmrec.reporting.parts import LOOKS, Chart, Column, Row, Section, Table, curve, figure

Values = Mapping[str, Any]

KEPT = 0.95
"""The share of the run's NDCG that a point must keep to be named."""

_HOVER = (
    "%{customdata[0]}<br>NDCG %{y:.4f}, tail %{x:.1%}<br>"
    "mean popularity %{customdata[1]:,.1f}, coverage %{customdata[2]:.1%}"
)
_SIZES = (6, 8, 10, 12, 14)
_TITLE = "Corrections of popularity: accuracy and exposure"


def corrections_table(result: Values) -> Group:
    """The terminal's table, of a result that has corrections."""
    rows = [
        [name, number(p["ndcg"]), number(p["recall"]), number(p["mean_popularity"], 1),
         share(p["tail_share"]), share(p["coverage"])]
        for name, p in _rows(result)
    ]  # fmt: skip
    return titled(
        f"{_TITLE}, lists of {result['settings']['k']}",
        f"""Each row ranks by what --correct of that name makes, nothing is learned. Tail: share of the
        places, in %, that go to the {_tail(result)} least popular items; coverage: share of the items that
        are in a list. {_named(result)}""",
        ["", "ndcg", "recall", "popularity", "tail", "coverage"], rows,
    )  # fmt: skip


def corrections_section(results: Values) -> Section:
    """Chart and table of the trade; empty unless it was asked for and a correction fits the run."""
    found: Values = results.get("corrections") or {}
    if not any(line["points"] for line in found.get("lines", ())):
        return Section(_TITLE, "", [])
    settings = results["settings"]
    warning = (
        " These are figures on test: a strength that is chosen by them is chosen on test."
        if settings["on"] == "test" else ""
    )  # fmt: skip
    return Section(
        _TITLE,
        "Other vectors made from the same model after training, as --correct of ssmrec evaluate and ssmrec "
        f"recommend makes them; nothing is learned.{warning}",
        [_chart(results), _table(results)],
    )


def _chart(results: Values) -> Chart:
    found, k = results["corrections"], results["settings"]["k"]
    traces = [
        _trace(f"{line['name']}, by {line['rank']}", line["points"], look)
        for line, look in zip(found["lines"], LOOKS, strict=False)
        if line["points"]
    ]
    plain = {"asked": "no correction", **found["uncorrected"]}
    star = {"color": "@ink", "symbol": "star", "size": 15}
    traces.append(_trace(_own(results), [plain], LOOKS[0], mode="markers", marker=star))
    return Chart(
        f"NDCG@{k} against the share of the tail",
        f"Up is more accurate, to the right more places go to the {_tail(results)} least popular items; the "
        f"larger a mark, the stronger the correction. {_named(results)}",
        figure(traces, "share of the places that go to the tail", f"NDCG@{k}",
               x={"tickformat": ".1~%"}),
        height=420,
    )  # fmt: skip


def _trace(
    name: str, points: Sequence[Values], look: tuple[str, str, str], **more: Any
) -> dict[str, Any]:
    x, y = ([point[key] for point in points] for key in ("tail_share", "ndcg"))
    marker = {
        "color": look[0],
        "symbol": look[2],
        "size": list(_SIZES[: len(points)]),
        "opacity": 1,
    }
    told = [[point["asked"], point["mean_popularity"], point["coverage"]] for point in points]
    return curve(name, x, y, look, _HOVER, **{"marker": marker, "customdata": told, **more})


def _table(results: Values) -> Table:
    k = results["settings"]["k"]
    columns = [
        Column("ndcg", f"@{k}", best=True), Column("recall", f"@{k}", best=True),
        Column("mean popularity", "users of a listed item", digits=1),
        Column("tail", "share of places", digits=3), Column("coverage", "share of items", digits=3),
        Column("Gini", "0 to 1", digits=3),
    ]  # fmt: skip
    keys = ("ndcg", "recall", "mean_popularity", "tail_share", "coverage", "gini")
    rows = [Row(name, [point[key] for key in keys]) for name, point in _rows(results)]
    return Table(
        "Every correction and strength",
        "The first column is what --correct takes. tten goes from dot at 0 to cosine at 1, edge begins with "
        "cosine, dap with the run itself.",
        columns, rows, "ranked with",
    )  # fmt: skip


def _rows(results: Values) -> list[tuple[str, Values]]:
    found = results["corrections"]
    points = [(point["asked"], point) for line in found["lines"] for point in line["points"]]
    return [(_own(results), found["uncorrected"]), *points]


def _own(results: Values) -> str:
    return f"no correction, by {results['run']['similarity']['rank']}"


def _tail(results: Values) -> str:
    return f"{results['popularity']['tail']:.0%}"


def _named(results: Values) -> str:
    """Which point gives the tail most among those that keep most of the run's accuracy."""
    found = results["corrections"]
    own = found["uncorrected"]
    points = [point for _, point in _rows(results)[1:] if point["ndcg"] >= KEPT * own["ndcg"]]
    best = max(points, key=lambda point: point["tail_share"], default=own)
    if best["tail_share"] <= own["tail_share"]:
        return f"Nothing that keeps {KEPT:.0%} of the run's NDCG gives the tail more places."
    return (
        f"Of those that keep {KEPT:.0%} of the run's NDCG, {best['asked']} gives the tail most: "
        f"{best['tail_share']:.1%} of the places, {own['tail_share']:.1%} without."
    )
