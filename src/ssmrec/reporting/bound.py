"""The bound on the ranking metric on an analysis page: -log DCG to sampled softmax, term by term.

The dictionaries are those of `ssmrec.analysis.run`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import Any

from ssmrec.reporting.parts import (
    LOOKS,
    Chart,
    Column,
    Row,
    Section,
    Table,
    bars,
    curve,
    figure,
    plain,
)
from ssmrec.reporting.runs import rival

Values = Mapping[str, Any]

TERMS = {
    "neg_log_dcg": ("-log DCG", "@2"),
    "neg_log_gain": ("-log gain of the positive", "@5"),
    "log_rank": ("log rank of the positive", "@4"),
    "ssm": ("sampled softmax", "@0"),
}


def bound_section(results: Values) -> Section:
    """How close sampled softmax comes to the ranking metric that it bounds."""
    found: Sequence[Values] = results.get("bound") or []
    parts = [_chain(found), _temperatures(found), _table(results, found)] if found else []
    return Section(
        "Bound on the ranking metric",
        "-log DCG ≤ -log gain ≤ log rank ≤ sampled softmax: a lower loss presses on the metric from above.",
        parts,
    )


def _chain(found: Sequence[Values]) -> Chart:
    """The four terms side by side, for each set of positives and candidates."""
    x = ["<br>".join(wrap(plain(each["label"]), 16)) for each in found]
    traces = [
        bars(name, x, [each["terms"][key] for each in found], colour, "%{y:.3f} nats")
        for key, (name, colour) in TERMS.items()
    ]
    last = found[-1]
    return Chart(
        "The chain, term by term",
        "Each term is at most the one to its right; the gap between the first and the last "
        f"({last['gap']:.2f} nats for {last['label']}) is how loose the bound is.",
        figure(traces, "", "mean over the pairs, nats", {"tickangle": 0}, barmode="group"),
    )


def _temperatures(found: Sequence[Values]) -> Chart:
    """The bound over the temperature it is computed at; the vectors stay as they are."""
    traces = [
        curve(
            each["label"],
            [point["temperature"] for point in each["temperatures"]],
            [point["ssm"] for point in each["temperatures"]],
            look,
            "τ = %{x:.3g}: %{y:.3f} nats",
        )
        for each, look in zip(found, LOOKS, strict=False)
    ]
    x = temperature_axis(found[0]["temperatures"])
    said = "; ".join(
        f"{each['label']}: {each['tightest']:.3g}" for each in found if each["tightest"]
    )
    return Chart(
        "The bound of the same vectors at other temperatures",
        "Lowest is tightest: a lower temperature punishes each positive below rank 1 too much, a higher one "
        f"loses the order. Tightest at {said}.",
        figure(traces, "temperature τ", "sampled softmax, nats", x=x),
    )


def temperature_axis(points: Sequence[Values]) -> dict[str, Any]:
    """A logarithmic axis with every second of the temperatures as a tick."""
    values = [point["temperature"] for point in points][::2]
    return {"type": "log", "tickvals": values, "ticktext": [f"{value:.3g}" for value in values]}


def _table(results: Values, found: Sequence[Values]) -> Table:
    columns = [
        Column("pairs"), Column("candidates", digits=0), Column("rank", "median", digits=1),
        Column("-log DCG", digits=3), Column("-log gain", digits=3), Column("log rank", digits=3),
        Column("SSM", digits=3), Column("gap", digits=3), Column("broken", "pairs"),
        Column("Spearman", "SSM, rank", digits=3),
    ]  # fmt: skip
    name, other = rival(results)
    rows = [_row(each["label"], each, False) for each in found]
    rows += [_row(f"{name}: {each['label']}", each, True) for each in other.get("bound") or []]
    return Table(
        "The bound in numbers",
        "The four terms are means over the pairs, in nats, the gap lies between the outer two; gain and "
        "rank are those of the pair's positive. Broken: pairs in which the chain does not hold. Spearman: "
        "how well the loss orders the pairs as their ranks do.",
        columns, rows, "positives, candidates",
    )  # fmt: skip


def _row(label: str, each: Values, muted: bool) -> Row:
    terms = [each["terms"].get(key) for key in TERMS]
    cells = [
        each["pairs"], each["candidates"], each["median_rank"], *terms, each["gap"], each["violations"],
        each["spearman"],
    ]  # fmt: skip
    return Row(label, cells, reference=muted)
