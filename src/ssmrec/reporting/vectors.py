"""Vectors on an analysis page: length against degree, the lemma on message passing, the spectrum.

The dictionaries are those of `ssmrec.analysis.run`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ssmrec.reporting.parts import (
    LOG,
    LOOKS,
    Chart,
    Column,
    Row,
    Section,
    Table,
    curve,
    figure,
    shortened,
)
from ssmrec.reporting.runs import rival

Values = Mapping[str, Any]

VECTORS = {
    "final": ("final", ("@0", "solid", "circle")),
    "ego": ("layer 0 (ego)", ("@1", "dash", "square")),
    "start": ("before training", ("@2", "dot", "diamond")),
}
_DEGREE = {"items": "users of the item in training", "users": "items of the user in training"}


def magnitude_section(results: Values) -> Section:
    """Length of the vectors against the degree of their nodes."""
    found: Values = results.get("magnitude") or {}
    sides = dict.fromkeys(each["side"] for each in found.get("nodes") or [])
    parts: list[Any] = [_norms(side, found["nodes"], results) for side in sides]
    if found.get("message"):
        parts.append(_message(found["message"]))
    if (found.get("lemma") or {}).get("cases"):
        parts.append(_lemma(found["lemma"]))
    if found.get("ranking"):
        parts.append(_ranking(results, found["ranking"]))
    return Section(
        "Magnitude and degree",
        "Cosine ignores the length of a vector; the inner product ranks long item vectors higher.", parts,
    )  # fmt: skip


def geometry_section(results: Values) -> Section:
    """The shape of the embedding on the sphere, and its spectrum."""
    found: Values = results.get("geometry") or {}
    parts = [_spectrum(results), _sphere(results), _ranks(results)] if found else []
    return Section("Alignment, uniformity and spectrum", "", parts)


def _norms(side: str, nodes: Sequence[Values], results: Values) -> Chart:
    """Mean length in each bin of degree; a band holds the middle half of the final vectors."""
    own = [each for each in nodes if each["side"] == side]
    traces: list[dict[str, Any]] = []
    for each in own:
        name, look = VECTORS[each["vectors"]]
        if each["vectors"] == "final":
            traces += _band(each["bins"])
        traces.append(_by_degree(name, each["bins"], "mean", look))
    said = ", ".join(
        f"{VECTORS[each['vectors']][0]} {each['spearman']:.2f}"
        for each in own
        if each.get("spearman") is not None
    )
    return Chart(
        f"Length of the vectors of {side}",
        f"Rank correlation of length and degree: {said}. The band holds the middle half of the final "
        "vectors.",
        figure(traces, _DEGREE[side], "length of the vector", x=LOG, y={"rangemode": "tozero"}),
    )  # fmt: skip


def _by_degree(
    name: str, bins: Sequence[Values], key: str, look: tuple[str, str, str], **more: Any
) -> dict[str, Any]:
    return curve(
        name, [each["degree"] for each in bins], [each[key] for each in bins], look,
        "degree %{x:.1f}: %{y:.4g} (%{customdata:,} nodes)",
        customdata=[each["nodes"] for each in bins], **more,
    )  # fmt: skip


def _band(bins: Sequence[Values]) -> list[dict[str, Any]]:
    x = [each["degree"] for each in bins]
    edge = {"type": "scatter", "mode": "lines", "x": x, "line": {"width": 0}, "hoverinfo": "skip",
            "showlegend": False}  # fmt: skip
    return [
        {**edge, "y": [each["q25"] for each in bins]},
        {**edge, "y": [each["q75"] for each in bins], "fill": "tonexty", "fillcolor": "rgba(86,180,233,0.25)"},
    ]  # fmt: skip


def _message(stages: Sequence[Values]) -> Chart:
    """Squared length of one message, measured on the run, and what the lemma says."""
    traces = []
    for stage, look in zip(stages, LOOKS, strict=False):
        bins, name = stage["bins"], stage["stage"]
        traces.append(_by_degree(f"measured, {name}", bins, "measured", look, mode="markers"))
        traces.append(_by_degree(f"lemma, {name}", bins, "lemma", look, mode="lines"))
    return Chart(
        "Squared length of one message",
        "Where the marks rise, message passing lengthens the vectors of popular items; the lemma's line "
        "takes neighbours as independent and may lie off where they are not.",
        figure(traces, _DEGREE["items"], "mean squared length", x=LOG, y=LOG),
    )


def _lemma(lemma: Values) -> Chart:
    """The lemma's closed form against Monte Carlo under its own assumptions."""
    traces = []
    for case, look in zip(lemma["cases"], LOOKS, strict=False):
        rows = case["rows"]
        x, name = [row["degree"] for row in rows], f"mean {case['mean']:g}"
        errors = {"type": "data", "array": [2 * row["standard_error"] for row in rows], "color": look[0],
                  "thickness": 1}  # fmt: skip
        closed, simulated = [row["closed_form"] for row in rows], [row["simulated"] for row in rows]
        hover = "degree %{x}: %{y:.4g}"
        traces.append(curve(f"closed form, {name}", x, closed, look, hover, mode="lines"))
        traces.append(
            curve(f"simulated, {name}", x, simulated, look, hover, mode="markers", error_y=errors)
        )
    return Chart(
        "The lemma checked by simulation",
        "Marks (two standard errors) lie on the lines: expected squared length grows with degree only where "
        "the neighbours' mean is not zero.",
        figure(traces, "degree of the item", "expected squared length", x=LOG,
               y=LOG),
    )  # fmt: skip


def _ranking(results: Values, found: Sequence[Values]) -> Table:
    k = (results.get("settings") or {}).get("k", "")
    columns = [
        Column("recall", f"@{k}", best=True), Column("ndcg", f"@{k}", best=True),
        Column("mean popularity", "users of a listed item", digits=1),
    ]  # fmt: skip

    def row(prefix: str, each: Values) -> Row:
        used = " (as the run does)" if each.get("used") else ""
        cells = [each["recall"], each["ndcg"], each["mean_popularity"]]
        return Row(f"{prefix}{each['similarity']}{used}", cells, reference=bool(prefix))

    name, other = rival(results)
    theirs = (other.get("magnitude") or {}).get("ranking") or []
    rows = [row("", each) for each in found] + [row(f"{name}: ", each) for each in theirs]
    return Table(
        "The same vectors ranked by cosine and by inner product",
        "The difference is what the length of the item vectors does to the lists.", columns, rows,
        "ranked by",
    )  # fmt: skip


def _spectrum(results: Values) -> Chart:
    """Singular values, each divided by the largest."""
    name, other = rival(results)
    traces = []
    for each in results["geometry"]["spectrum"]:
        kind, (_, dash, _) = VECTORS[each["vectors"]]
        colour = "@0" if each["side"] == "items" else "@1"
        traces.append(_falling(f"{each['side']}, {kind}", each, colour, dash))
    for each in (other.get("geometry") or {}).get("spectrum") or []:
        if each["vectors"] == "final":
            colour = "@3" if each["side"] == "items" else "@4"
            traces.append(
                _falling(f"{each['side']}, {shortened(name)}", each, colour, "longdashdot")
            )
    return Chart(
        "Singular values of the vectors",
        "A steep fall: a few directions carry almost everything; a flat line: all dimensions are used.",
        figure(traces, "number of the singular value", "singular value / largest", y=LOG),
    )


def _falling(name: str, each: Values, colour: str, dash: str) -> dict[str, Any]:
    values = each["singular_values"]
    shares = [value / values[0] for value in values] if values and values[0] else []
    numbers = list(range(1, len(shares) + 1))
    return curve(
        name, numbers, shares, (colour, dash, "circle"), "number %{x}: %{y:.3f}", mode="lines"
    )


def _sphere(results: Values) -> Table:
    names = {"train": "training pairs", "held_out": "held-out pairs", "random": "random pairs"}
    columns = [Column("alignment", text, digits=3) for text in names.values()]
    columns += [Column("uniformity", side, digits=3) for side in ("users", "items")]
    name, other = rival(results)
    rows = []
    for label, values in (((results.get("run") or {}).get("label"), results), (name, other)):
        found = values.get("geometry")
        if found:
            sides = [found["uniformity"].get(side) for side in ("users", "items")]
            cells = [found["alignment"].get(key) for key in names] + sides
            rows.append(Row(str(label), cells, reference=values is other))
    return Table(
        "Alignment and uniformity on the unit sphere",
        "Alignment: mean squared distance of a pair, 0 to 4, lower is closer. Uniformity: lower is more "
        "spread, near -4 at best. Good vectors are low in both.",
        columns, rows, "run",
    )  # fmt: skip


def _ranks(results: Values) -> Table:
    columns = [
        Column("effective rank", "dimensions", digits=1), Column("largest", "share of the squares", digits=3),
        Column("common mean", "share of squared length", digits=3),
    ]  # fmt: skip
    keys = ("effective_rank", "first_share", "mean_share")
    name, other = rival(results)
    rows = [
        Row(f"{prefix}{each['side']}, {VECTORS[each['vectors']][0]}", [each.get(key) for key in keys],
            reference=bool(prefix))
        for prefix, values in (("", results), (f"{name}: ", other))
        for each in (values.get("geometry") or {}).get("spectrum") or []
    ]  # fmt: skip
    return Table(
        "Dimensions in use",
        "Effective rank: how many equal singular values would be as spread. Common mean: how much all vectors "
        "point the same way.",
        columns, rows, "vectors",
    )  # fmt: skip
