"""Tables for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

WARNINGS = {
    "published": "epoch chosen on TEST: comparable with papers that did so, not an honest estimate",
}


def metrics_table(rows: Mapping[str, Mapping[str, float]], names: Sequence[str]) -> Table:
    """One row per ranker, one column per metric."""
    table = Table("", *names)
    for label, values in rows.items():
        cells = (f"{values[name]:.4f}" if name in values else "-" for name in names)
        table.add_row(label, *cells)
    return table


def run_table(metrics: Mapping[str, Any], label: str, names: Sequence[str]) -> Table:
    """Test (and validation) metrics of a run beside most-popular and the best possible values."""
    rows: dict[str, Mapping[str, float]] = {}
    if metrics["test"]:
        rows[f"{label} (test)"] = metrics["test"]
        rows["most popular (test)"] = metrics["reference"]["most_popular"]
        rows["best any ranker could reach (test)"] = metrics["reference"]["best_possible"]
    if metrics["valid"]:
        rows[f"{label} (valid)"] = metrics["valid"]
    table = metrics_table(rows, names)
    table.caption = caption(metrics)
    return table


def caption(metrics: Mapping[str, Any]) -> str:
    """What must stand with every result: protocol, who chose, similarity, seconds."""
    chosen = (
        f"{metrics['epochs']} epochs set beforehand"
        if metrics["protocol"] == "fixed"
        else f"epoch {metrics['best_epoch']} chosen on {metrics['selected_on']}"
    )
    text = (
        f"protocol {metrics['protocol']}: {chosen}; trained with "
        f"{metrics['similarity']['train']}, ranked by {metrics['similarity']['rank']}; "
        f"{metrics['seconds']['train']:.0f} s training, {metrics['seconds']['eval']:.0f} s evaluation"
    )
    if metrics["stopped"] == "interrupted":
        text += "\nINTERRUPTED: the best model until then"
    warning = WARNINGS.get(metrics["protocol"])
    return f"{text}\nWARNING: {warning}" if warning else text
