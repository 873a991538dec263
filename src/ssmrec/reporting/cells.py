"""Titled tables with a reading aid, and how their cells are written."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text


def titled(
    title: str,
    caption: str,
    heads: Sequence[str],
    rows: Iterable[Sequence[str]],
    last: bool = False,
) -> Group:
    """A table with what it shows above and how to read it below; `last` sets the last row apart.

    The caption may be written over several lines; it is shown as one paragraph.
    """
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for at, head in enumerate(heads):
        side = "left" if at == 0 or head == "loss" else "right"
        table.add_column(Text(head), justify=side)
    lines = [[Text(cell) for cell in row] for row in rows]
    for at, line in enumerate(lines):
        table.add_row(*line, end_section=last and at == len(lines) - 2)
    return Group(Text(title, style="bold"), table, Text(" ".join(caption.split()), style="dim"))


def number(value: float | None, digits: int = 4) -> str:
    """A number with `digits` decimals, a dash for None."""
    return "-" if value is None else f"{value:,.{digits}f}"


def score(value: float) -> str:
    """A score with 4 decimals; one below 0.1 with 4 significant digits, as lists may hold nothing else.

    The page of the service (page.html) writes them likewise.
    """
    small = 0 < abs(value) < 0.1
    return f"{value:.{3 - math.floor(math.log10(abs(value))) if small else 4}f}"


def share(value: float | None) -> str:
    """A share in per cent, without the sign; small ones keep a digit more."""
    if value is None:
        return "-"
    return f"{100 * value:.{1 if abs(value) >= 0.0995 or value == 0 else 2}f}"


def extent(bin_: dict[str, Any]) -> str:
    """The degrees of a bin: 3, 4-7, or a dash for an empty one."""
    low, high = bin_["degree_min"], bin_["degree_max"]
    return "-" if low is None else str(low) if low == high else f"{low}-{high}"
