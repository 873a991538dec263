"""What a page is made of: sections of tables and charts, as plain values.

Charts are plotly figures as dictionaries `{"data": [...], "layout": {...}}`. A colour is written as
`@0`, `@1` ... (the palette, see `page.css`), `@ink` or `@muted`, so that the page can follow the
reader's light or dark setting. Text from data or names goes through `plain` into a figure; all other
text is escaped when the page is made.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

COLOURS, DASHES = 7, ("solid", "dash", "dot", "dashdot")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star")

LABEL = 46
"""Most characters of a name in a legend."""


@dataclass(frozen=True)
class Chart:
    """A figure, its heading and the sentence that says what to see in it. `height` in pixels."""

    title: str
    caption: str
    figure: dict[str, Any]
    height: int = 320


@dataclass(frozen=True)
class Column:
    """A column of numbers or words.

    Args:
        head: its heading; `unit` stands smaller below it.
        shown_for: one value for each of the table's choices; the column shows when all are chosen.
        best: mark the largest number among the rows that are not references.
        digits: decimals of its numbers.
    """

    head: str
    unit: str = ""
    shown_for: Sequence[str] = ()
    best: bool = False
    digits: int = 4


@dataclass(frozen=True)
class Row:
    """A line of a table.

    Args:
        label: its first cell; `remark` stands in a warning colour below it.
        cells: numbers, words or None, one for each column.
        run: index of the run whose line style and switch stand before the label.
        reference: shown muted, and never marked as the best.
    """

    label: str
    cells: Sequence[Any]
    remark: str = ""
    run: int | None = None
    reference: bool = False


@dataclass(frozen=True)
class Table:
    """Rows under columns; `first` heads the labels.

    `choices` are selections above the table, such as {"list length": ("20", "10")}; the first value
    of each is chosen at first. A choice of one value is not shown.
    """

    title: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    first: str = ""
    choices: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Text:
    """A folded block of plain text, such as settings."""

    title: str
    body: str


@dataclass(frozen=True)
class Section:
    """A heading, a sentence below it, and what is shown."""

    title: str
    lead: str
    parts: Sequence[Chart | Table | Text]


@dataclass(frozen=True)
class Page:
    """A whole page. `facts` stand under the heading, `warnings` in a box below, `notes` at the end."""

    title: str
    sections: Sequence[Section]
    facts: Sequence[str] = ()
    warnings: Sequence[str] = ()
    notes: Sequence[str] = ()


def run_look(run: int) -> tuple[str, str, str]:
    """Colour, dash and marker of the run with this index: the same in all figures.

    No two of 28 runs share colour and dash, nor colour and marker.
    """
    turn = run // COLOURS
    return f"@{run % COLOURS}", DASHES[turn % len(DASHES)], SYMBOLS[(run + turn) % len(SYMBOLS)]


LOOKS = (
    ("@0", "solid", "circle"), ("@1", "dash", "square"), ("@2", "dot", "diamond"),
    ("@3", "dashdot", "x"), ("@4", "longdash", "triangle-up"), ("@5", "longdashdot", "cross"),
)  # fmt: skip
"""Colour, dash and marker for the series of a figure: told apart without colour, too."""


LOG = {"type": "log", "dtick": "D2", "tickformat": "~g"}
"""A logarithmic axis with ticks at 1, 2, 5, 10 ..."""


def curve(
    name: str,
    x: Sequence[Any],
    y: Sequence[Any],
    look: tuple[str, str, str],
    hover: str,
    **more: Any,
) -> dict[str, Any]:
    """A trace of lines and markers.

    Args:
        name: shown in the legend and, before `hover`, at the pointer; escaped here.
        look: colour, dash, marker, as in `LOOKS`.
        hover: plotly's template of what the pointer shows, such as `degree %{x}: %{y:.3f}`.
        more: further keys of the trace.
    """
    colour, dash, symbol = look
    return {
        "type": "scatter", "mode": "lines+markers", "name": plain(name), "x": list(x), "y": list(y),
        "line": {"color": colour, "dash": dash, "width": 2},
        "marker": {"color": colour, "symbol": symbol, "size": 7},
        "hovertemplate": "%{fullData.name}<br>" + hover + "<extra></extra>", **more,
    }  # fmt: skip


def bars(
    name: str, x: Sequence[Any], y: Sequence[Any], colour: str, hover: str, **more: Any
) -> dict[str, Any]:
    """A trace of bars; arguments as for `curve`."""
    return {
        "type": "bar", "name": plain(name), "x": list(x), "y": list(y),
        "hovertemplate": "%{fullData.name}<br>" + hover + "<extra></extra>",
        **{"marker": {"color": colour}, **more},
    }  # fmt: skip


def plain(text: Any) -> str:
    """Text for a figure: plotly reads simple tags in names and labels, so they are escaped."""
    return html.escape(str(text), quote=False)


def shortened(name: str) -> str:
    """A name short enough for a legend: its middle left out."""
    half = LABEL // 2 - 1
    return name if len(name) <= LABEL else f"{name[:half]} … {name[-half:]}"


def figure(
    traces: Sequence[dict[str, Any]],
    x_title: str,
    y_title: str,
    x: dict[str, Any] | None = None,
    y: dict[str, Any] | None = None,
    **layout: Any,
) -> dict[str, Any]:
    """A figure with titled axes; `x`, `y` and `layout` add to plotly's axes and layout."""
    return {
        "data": list(traces),
        "layout": {
            "xaxis": {"title": {"text": x_title}, **(x or {})},
            "yaxis": {"title": {"text": y_title, "standoff": 8}, **(y or {})},
            **layout,
        },
    }
