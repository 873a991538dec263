"""Tables for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from ssmrec.training.loop import BROKEN_OFF

ON_TEST = "epoch chosen on TEST: comparable with papers that did so, not an honest estimate"


def metrics_table(
    rows: Mapping[str, Mapping[str, float]], names: Sequence[str], title: str = ""
) -> Table:
    """One row per ranker, one column per metric; one list length moves into the title."""
    lengths = {name.partition("@")[2] for name in names}
    heads = list(names)
    if len(lengths) == 1:
        heads = [name.partition("@")[0] for name in names]
        title = f"{title}, lists of {lengths.pop()}" if title else ""
    table = Table("", *heads, title=title or None, title_justify="left")
    for label, values in rows.items():
        cells = (f"{values[name]:.4f}" if name in values else "-" for name in names)
        table.add_row(Text(label), *cells)
    return table


def run_table(metrics: Mapping[str, Any], label: str, names: Sequence[str]) -> Table:
    """Test (and validation) metrics of a run beside most-popular and the best possible values."""
    rows: dict[str, Mapping[str, float]] = {}
    if metrics["test"]:
        rows[label] = metrics["test"]
        rows["most popular"] = metrics["reference"]["most_popular"]
        rows["best possible"] = metrics["reference"]["best_possible"]
    if metrics["valid"]:
        rows["on validation" if rows else label] = metrics["valid"]
    return metrics_table(rows, names, "test" if metrics["test"] else "validation")


def caption(metrics: Mapping[str, Any], rank: str | None = None) -> str:
    """What must stand with every result: protocol, who chose, similarity, seconds.

    `rank` is the similarity that ranked, when it is not the run's own.
    """
    chosen = (
        f"{metrics['epochs']} epochs set beforehand"
        if metrics["protocol"] == "fixed"
        else f"epoch {metrics['best_epoch']} chosen on {metrics['selected_on']}"
    )
    trained = metrics["similarity"]["train"]
    if trained is None:
        chosen = "solved in closed form"
    if "unfinished" in metrics:  # which blends have, however they ended
        chosen = f"a blend, chosen on {metrics['selected_on']}"
    text = (
        f"protocol {metrics['protocol']}: {chosen}; {f'trained with {trained}, ' if trained else ''}"
        f"ranked by {rank or metrics['similarity']['rank']}; "
        f"{metrics['seconds']['train']:.0f} s training, {metrics['seconds']['eval']:.0f} s evaluation"
    )
    if metrics["stopped"] in BROKEN_OFF:
        text += f"\n{metrics['stopped'].upper()}: the best model until then"
    for stopped, parts in metrics.get("unfinished", {}).items():
        text += f"\n{stopped.upper()}: of {', '.join(parts)} the best model until then"
    return f"{text}\nWARNING: {ON_TEST}" if metrics["selected_on"] == "test" else text
