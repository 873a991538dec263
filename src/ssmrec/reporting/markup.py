"""The parts of a page as HTML text; everything that is not markup is escaped here."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ssmrec.reporting.parts import COLOURS, Chart, Column, Row, Section, Table, Text, run_look


def section_markup(n: int, section: Section, numbered: Mapping[int, int]) -> str:
    """Section number `n`; `numbered` gives the place of each chart among the figures, by its id."""
    lead = f"<p class=lead>{escaped(section.lead)}</p>" if section.lead else ""
    parts, charts = "", ""
    for part in section.parts:
        if isinstance(part, Chart):
            charts += _chart(part, numbered[id(part)])
            continue
        parts, charts = parts + _grid(charts), ""
        parts += _table(part) if isinstance(part, Table) else _text(part)
    return f'<section id="s{n}"><h2>{escaped(section.title)}</h2>{lead}{parts}{_grid(charts)}</section>\n'


def _grid(charts: str) -> str:
    return f"<div class=grid>{charts}</div>" if charts else ""


def _chart(chart: Chart, index: int) -> str:
    return (
        f"<figure><h3>{escaped(chart.title)}</h3>"
        f"<div class=chart data-chart={index} data-height={chart.height} role=img "
        f'aria-label="{escaped(chart.title)}" style="min-height:{chart.height}px"></div>'
        f"<figcaption>{escaped(chart.caption)}</figcaption></figure>"
    )


def _text(text: Text) -> str:
    return f"<details><summary>{escaped(text.title)}</summary><pre>{escaped(text.body)}</pre></details>"


def _table(table: Table) -> str:
    looks = [_Look.of(table, n) for n in range(len(table.columns))]
    heads = "".join(_head(column, look) for column, look in zip(table.columns, looks, strict=True))
    rows = "".join(_row(row, table.columns, looks) for row in table.rows)
    return (
        f"<div class=table><h3>{escaped(table.title)}</h3>{_choices(table.choices)}"
        f"<div class=scroll tabindex=0><table><thead><tr><th scope=col>{escaped(table.first)}</th>{heads}"
        f"</tr></thead><tbody>{rows}</tbody></table></div>"
        f"<p class=caption>{escaped(table.caption)}</p></div>"
    )


@dataclass(frozen=True)
class _Look:
    """What the whole column decides for its cells: alignment, and the value in bold."""

    numeric: bool
    best: float | None

    @classmethod
    def of(cls, table: Table, n: int) -> _Look:
        values = [row.cells[n] for row in table.rows if not row.reference]
        numbers = [v for v in values if _numeric(v) and math.isfinite(v)]
        marked = table.columns[n].best and len(numbers) > 1
        return cls(bool(numbers), max(numbers) if marked else None)


def _numeric(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _choices(choices: Mapping[str, Sequence[str]]) -> str:
    found = ""
    for n, (name, values) in enumerate(choices.items()):
        if len(values) > 1:
            options = "".join(f"<option>{escaped(value)}</option>" for value in (*values, "all"))
            found += f"<label>{escaped(name)} <select data-choice={n}>{options}</select></label>"
    return f"<div class=choices>{found}</div>" if found else ""


def _head(column: Column, look: _Look) -> str:
    unit = f"<small>{escaped(column.unit)}</small>" if column.unit else ""
    kind = " class=number" if look.numeric else ""
    return f"<th scope=col{kind} {_tags(column)}><button>{escaped(column.head)}{unit}</button></th>"


def _tags(column: Column) -> str:
    return " ".join(
        f'data-choice{n}="{escaped(value)}"' for n, value in enumerate(column.shown_for)
    )


def _row(row: Row, columns: Sequence[Column], looks: Sequence[_Look]) -> str:
    cells = "".join(
        _cell(value, column, look, row.reference)
        for value, column, look in zip(row.cells, columns, looks, strict=True)
    )
    remark = f"<span class=remark>{escaped(row.remark)}</span>" if row.remark else ""
    label = f"<span class=name>{escaped(row.label)}</span>"
    if row.run is not None:
        label = (
            f'<label><input type=checkbox checked data-run={row.run} aria-label="show in charts">'
            f"{_swatch(row.run)}{label}</label>"
        )
    kind = " class=reference" if row.reference else ""
    return f"<tr{kind}><th scope=row>{label}{remark}</th>{cells}</tr>"


def _cell(value: Any, column: Column, look: _Look, reference: bool) -> str:
    text, sort = escaped(number(value, column.digits)), ""
    if _numeric(value):
        if value == look.best and not reference:
            text = f"<b>{text}</b>"
        sort = f' data-value="{value}"' if math.isfinite(value) else ""
    kind = " class=number" if look.numeric else ""
    return f"<td{kind}{sort} {_tags(column)}>{text}</td>"


def _swatch(run: int) -> str:
    """The line style of a run, drawn small."""
    dashes = {"solid": "", "dash": "6 3", "dot": "2 2", "dashdot": "6 2 2 2"}
    dash = dashes[run_look(run)[1]]
    return (
        f'<svg class="swatch c{run % COLOURS}" width=26 height=10 aria-hidden=true>'
        f'<line x1=0 y1=5 x2=26 y2=5 stroke=currentColor stroke-width=3 stroke-dasharray="{dash}"/>'
        "</svg>"
    )


def number(value: Any, digits: int = 4) -> str:
    """A cell: whole numbers with thousands separators, others with `digits` decimals."""
    if value is None:
        return "-"
    if not _numeric(value):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.{digits}f}" if math.isfinite(value) else str(value)


def escaped(text: Any) -> str:
    """Text for an element or a quoted attribute."""
    return html.escape(str(text))
