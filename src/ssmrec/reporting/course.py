"""Over training on an analysis page: the bound, the metric and the hardness of negatives by epoch.

The dictionaries are those of `ssmrec.analysis.run`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ssmrec.reporting.bound import TERMS
from ssmrec.reporting.hardness import LOSSES
from ssmrec.reporting.parts import LOOKS, Chart, Section, curve, figure

Values = Mapping[str, Any]

_EPOCHS = {"rangemode": "tozero", "tickformat": ",d"}
_DRIFT = 1e-3


def course_section(results: Values) -> Section:
    """How bound, metric and hardness went while the run trained; empty unless they were looked at."""
    found: Values = results.get("training") or {}
    if not found:
        return Section("Over training", "", [])
    points = found["points"]
    lead = (
        f"The run trained once more from its seed, looked at after {len(points) - 1} of its epochs."
    )
    if found["difference"] > _DRIFT:
        lead += (
            f" Its vectors ended up to {found['difference']:.2g} away from the run's own: number of "
            "threads, machine or versions differ, or the run was stopped within an epoch."
        )
    sides = (
        ("batch", "sampled candidates"), ("train", "training pairs"), ("held_out", "held-out pairs")
    )  # fmt: skip
    parts = [_bound(points, name, title) for name, title in sides if name in points[-1]["bound"]]
    return Section("Over training", lead, [*parts, _metric(points, found["k"]), _effective(points)])


def _bound(points: Sequence[Values], name: str, title: str) -> Chart:
    """The chain's terms by epoch, without the gain, so that lines stay apart; and the gap of the outer two."""
    x = [point["epoch"] for point in points]
    shown = ("ssm", "log_rank", "neg_log_dcg")
    traces = [
        curve(TERMS[key][0], x, [point["bound"][name][key] for point in points], look,
              "epoch %{x}: %{y:.3f} nats")
        for key, look in zip(shown, LOOKS, strict=False)
    ]  # fmt: skip
    gaps = [point["bound"][name]["gap"] for point in points]
    traces.append(curve("gap", x, gaps, LOOKS[len(shown)], "epoch %{x}: %{y:.3f} nats"))
    first, last = gaps[0], gaps[-1]
    return Chart(
        f"Bound and metric over epochs, {title}",
        "Sampled softmax lies above -log DCG and presses it down; the gap between them went from "
        f"{first:.2f} to {last:.2f} nats.",
        figure(traces, "epoch", "mean over the pairs, nats", x=_EPOCHS),
    )


def _metric(points: Sequence[Values], k: int) -> Chart:
    x = [point["epoch"] for point in points]
    traces = [
        curve(name, x, [point[key] for point in points], look, "epoch %{x}: %{y:.4f}")
        for (key, name), look in zip(
            (("ndcg", f"NDCG@{k}"), ("recall", f"Recall@{k}")), LOOKS, strict=False
        )
    ]
    best = max(points, key=lambda point: point["ndcg"])
    return Chart(
        "Metrics on the held-out pairs over epochs",
        f"NDCG@{k} is highest after epoch {best['epoch']} of those looked at: {best['ndcg']:.4f}. They "
        "were chosen for the picture and choose nothing.",
        figure(traces, "epoch", "mean over users", x=_EPOCHS, y={"rangemode": "tozero"}),
    )


def _effective(points: Sequence[Values]) -> Chart:
    x = [point["epoch"] for point in points]
    traces = [
        curve(name, x, [point["negatives"][key]["hardest_5"] for point in points], look,
              "epoch %{x}: %{y:.1%}")
        for key, (name, look) in LOSSES.items() if key in points[-1]["negatives"]
    ]  # fmt: skip
    first, last = (points[at]["negatives"]["ssm"] for at in (0, -1))
    return Chart(
        "Share of the gradient on the hardest 5 % of negatives over epochs",
        "The weights each loss would give at the vectors of that epoch. Effective number of negatives "
        f"under sampled softmax: {first['effective']:,.0f} at the start, {last['effective']:,.0f} at the end.",
        figure(traces, "epoch", "share of the gradient", x=_EPOCHS,
               y={"tickformat": ".0%", "rangemode": "tozero"}),
    )  # fmt: skip
