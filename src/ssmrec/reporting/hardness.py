"""Hard negatives on an analysis page: where the gradient of a loss comes from.

The dictionaries are those of `ssmrec.analysis.run`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import log10
from typing import Any

from ssmrec.reporting.bound import temperature_axis
from ssmrec.reporting.parts import Chart, Column, Row, Section, Table, bars, curve, figure
from ssmrec.reporting.runs import rival

Values = Mapping[str, Any]

LOSSES = {
    "ssm": ("sampled softmax", ("@0", "solid", "circle")),
    "ssm_plain": ("sampled softmax without log q", ("@5", "dashdot", "x")),
    "bpr": ("BPR", ("@1", "dash", "square")),
    "bce": ("BCE", ("@2", "dot", "diamond")),
}
HARDEST = {"hardest_1": 0.01, "hardest_5": 0.05, "hardest_10": 0.1}

_FEW = 10
"""With fewer negatives in a row it means little which are the hardest."""


def negatives_section(results: Values) -> Section:
    """How the negatives of a batch lie, and how each loss weighs them."""
    found: Values = results.get("negatives") or {}
    if not found:
        return Section("Hard negatives", "", [])
    count = f"{found['candidates']:,.0f} negative{'' if found['candidates'] == 1 else 's'} each"
    drawn = f"drawn by {found['sampler']}"
    if not found.get("own", True):
        drawn = f"drawn by {found['sampler']} for this page, because the run itself draws too few to compare"
    lead = (
        f"{found['rows']:,} rows of a training batch, {count}, {drawn}; trained with {found['similarity']} at "
        f"temperature {found['temperature']:g}."
    )
    parts: list[Any] = [_histogram(found)]
    if found["candidates"] >= _FEW:
        parts += [_pull(found), _hardest(found["stages"]), _temperatures(found), _stages(results)]
    else:
        lead += " So few negatives cannot be told apart by hardness."
    parts.append(_false_negatives(results))
    return Section("Hard negatives", lead, parts)


def _losses(values: Values) -> list[tuple[str, str, tuple[str, str, str]]]:
    """(key, name, look) of the losses that `values` holds."""
    return [(key, name, look) for key, (name, look) in LOSSES.items() if values.get(key)]


def _histogram(found: Values) -> Chart:
    """Shares of negatives and positives by similarity, under the curve g."""
    h, weight = found["histogram"], found.get("curve")
    x, widths = _bins(h["edges"])
    traces = [
        bars("negatives", x, h["negatives"], "@0", "cosine %{x:.2f}: %{y:.1%}", width=widths, opacity=0.7),
        _steps("positives", x, h["positives"], ("@2", "solid", "circle")),
    ]  # fmt: skip
    if h.get("false_negatives"):
        traces.append(_steps("false negatives", x, h["false_negatives"], ("@3", "dot", "circle")))
    caption = "How similar to their user the negatives of a batch are, and the positives."
    more: dict[str, Any] = {}
    if weight:
        traces.append(
            curve("g(x), right axis", weight["x"], weight["g"], ("@1", "solid", "circle"),
                  "g(%{x:.2f}) = %{y:.3f} of its maximum", mode="lines", yaxis="y2")
        )  # fmt: skip
        more["yaxis2"] = {
            "overlaying": "y", "side": "right", "showgrid": False, "tickmode": "linear",
            "tick0": 0, "dtick": 0.25, "range": [0, 1.05],
            "title": {"text": "g(x), share of its maximum", "standoff": 8},
        }  # fmt: skip
        caption = (
            "g(x) = √(1 - x²) exp(x/τ) is the pull of one negative at similarity x on its user; it is "
            f"largest at {weight['peak']:.2f}, and {found['beyond_peak']['negatives']:.1%} of the negatives "
            "lie beyond, where pulls fade because false negatives are likely."
        )
    return Chart(
        "Similarity of the negatives" + (" under the weight curve" if weight else ""), caption,
        figure(traces, "cosine of user and item", "share of the pairs",
               x=_span(x, h, weight["peak"] if weight else -1.0), bargap=0,
               y={"tickformat": ".0%", "rangemode": "tozero"}, **more),
    )  # fmt: skip


def _pull(found: Values) -> Chart:
    """Where, along the similarity, the pull of each loss comes from."""
    h = found["histogram"]
    x, _ = _bins(h["edges"])
    number = _steps("number of negatives", x, h["negatives"], ("@muted", "solid", "circle"))
    traces = [{**number, "fill": "tozeroy", "fillcolor": "rgba(128,128,128,0.25)"}]
    traces += [_steps(name, x, h[key], look) for key, name, look in _losses(h)]
    means = ", ".join(
        f"{name} {sum(a * b for a, b in zip(x, h[key], strict=True)):.2f}"
        for key, name, _ in (("negatives", "all negatives", None), *_losses(h))
    )
    return Chart(
        "Where the pull of each loss comes from",
        "The further a line lies to the right of the grey area, the more that loss learns from hard "
        f"negatives. Mean similarity: {means}.",
        figure(traces, "cosine of user and negative", "share of the pull",
               x=_span(x, h), y={"tickformat": ".0%"}),
    )  # fmt: skip


def _hardest(stages: Sequence[Values]) -> Chart:
    """Share of the gradient on the hardest negatives, at the first stage and at the last."""
    x = [f"hardest {share:.0%}" for share in HARDEST.values()]
    last = stages[-1]
    traces = []
    for key, name, (colour, _, _) in _losses(last):
        for stage in stages:
            first = stage is not last
            fill = {"shape": "/", "fgcolor": colour, "bgcolor": "rgba(0,0,0,0)"} if first else {}
            traces.append(
                bars(name, x, [stage[key].get(share) for share in HARDEST], colour,
                     "%{x}: %{y:.1%}", marker={"color": colour, "pattern": fill}, legendgroup=key,
                     showlegend=not first)
            )  # fmt: skip
    traces.append(
        curve("all alike", x, list(HARDEST.values()), ("@ink", "solid", "line-ew-open"), "%{y:.0%}",
              mode="markers", marker={"symbol": "line-ew-open", "size": 40, "color": "@ink",
                                      "line": {"width": 2}})
    )  # fmt: skip
    said = ", ".join(f"{name} {last[key]['hardest_5']:.0%}" for key, name, _ in _losses(last))
    hatched = "Hatched: before the first step. " if len(stages) > 1 else ""
    return Chart(
        "Share of the gradient on the hardest negatives",
        f"The hardest 5 % of a row's negatives carry, in the final model: {said}. {hatched}The short line: "
        "the share if all weighed the same.",
        figure(traces, "negatives most similar to their user", "share of the gradient",
               y={"tickformat": ".0%", "rangemode": "tozero"}, barmode="group"),
        height=360,
    )  # fmt: skip


def _temperatures(found: Values) -> Chart:
    """Effective number of negatives over the temperature, the vectors kept as they are."""
    points = found["temperatures"]
    x, own = [each["temperature"] for each in points], found["temperature"]
    traces = [
        curve(name, x, [(each.get(key) or {}).get("effective") for each in points], look,
              "τ = %{x:.3g}: %{y:,.1f} negatives")
        for key, name, look in _losses(points[0])
    ]  # fmt: skip
    rule = {"type": "line", "x0": own, "x1": own, "yref": "paper", "y0": 0, "y1": 1,
            "line": {"color": "@muted", "dash": "dot", "width": 1}}  # fmt: skip
    note = {"x": log10(own), "yref": "paper", "y": 1, "yanchor": "bottom", "showarrow": False,
            "text": f"this run: τ = {own:g}"}  # fmt: skip
    return Chart(
        "Effective number of negatives against the temperature",
        "A low temperature lets few negatives carry the gradient of sampled softmax; at the run's own it is "
        f"{found['stages'][-1]['ssm']['effective']:,.0f} of {found['candidates']:,.0f}. Where log q is "
        "subtracted, a high one leaves the weight to rare items.",
        figure(traces, "temperature τ", "effective number, e to the entropy", x=temperature_axis(points),
               y={"rangemode": "tozero"}, shapes=[rule], annotations=[note], margin={"t": 28}),
    )  # fmt: skip


def _stages(results: Values) -> Table:
    columns = [
        Column("entropy", "nats", digits=2), Column("evenness", "0 to 1", digits=3),
        Column("effective", "number of negatives", digits=1),
        *(Column(f"hardest {share:.0%}", "share of gradient", digits=3) for share in HARDEST.values()),
        Column("total", "weight of a row", digits=3),
    ]  # fmt: skip
    keys = ("entropy", "evenness", "effective", *HARDEST, "total")
    name, other = rival(results)
    sets = [("", results), (f"{name}: ", other)]
    rows = []
    for prefix, values in sets:
        negatives = values.get("negatives") or {}
        if negatives.get("candidates", 0) < _FEW:
            continue
        for stage in negatives["stages"]:
            at = f"{stage['stage']}, epoch {stage['epoch']}"
            rows += [
                Row(
                    f"{prefix}{loss} ({at})",
                    [stage[key].get(k) for k in keys],
                    reference=bool(prefix),
                )
                for key, loss, _ in _losses(stage)
            ]
    return Table(
        "How each loss spreads its gradient over a row's negatives",
        "Evenness 1: all negatives weigh the same. The weights are those of each loss's gradient at this "
        "run's vectors and temperature.",
        columns, rows, "loss (stage)",
    )  # fmt: skip


def _false_negatives(results: Values) -> Table:
    heads = {
        "known": ("in the user's training pairs", "share of candidates"),
        "masked": ("masked by the run", "share of candidates"),
        "held_out": ("held out for the user", "share of candidates"),
        "weight": ("weight of those not masked", "share of SSM's weight"),
    }
    name, other = rival(results)
    rows = []
    for label, values in (((results.get("run") or {}).get("label"), results), (name, other)):
        shares = (values.get("negatives") or {}).get("false_negatives")
        if shares:
            rows.append(Row(str(label), [shares.get(k) for k in heads], reference=values is other))
    columns = [Column(head, unit, digits=5) for head, unit in heads.values()]
    return Table(
        "False negatives",
        "Candidates that the user in truth chose, or goes on to choose: the gradient on them is wrong.",
        columns, rows, "run",
    )  # fmt: skip


def _steps(
    name: str, x: Sequence[float], y: Sequence[float], look: tuple[str, str, str]
) -> dict[str, Any]:
    """A histogram's outline."""
    colour, dash, _ = look
    line = {"color": colour, "dash": dash, "width": 2, "shape": "hvh"}
    return curve(name, x, y, look, "cosine %{x:.2f}: %{y:.1%}", mode="lines", line=line)


def _bins(edges: Sequence[float]) -> tuple[list[float], list[float]]:
    """Middles and widths."""
    return [(a + b) / 2 for a, b in pairwise(edges)], [b - a for a, b in pairwise(edges)]


def _span(x: Sequence[float], h: Values, peak: float = -1.0) -> dict[str, Any]:
    """The part of the axis where there is anything to see, `peak` within it."""
    keys = [key for key in h if key != "edges" and h[key]]
    full = [n for n in range(len(x)) if any((h[key][n] or 0) > 1e-4 for key in keys)]
    if not full:
        return {}
    step = x[1] - x[0] if len(x) > 1 else 1.0
    return {"range": [x[full[0]] - step, max(x[full[-1]] + step, min(1.0, peak + step))]}
