"""One self-contained HTML page of tables and charts: works offline, asks the network for nothing."""

from __future__ import annotations

import json
import math
from importlib import metadata, resources
from pathlib import Path
from typing import Any

from ssmrec.errors import RunError, SsmrecError
from ssmrec.reporting.markup import escaped, section_markup
from ssmrec.reporting.parts import Chart, Page
from ssmrec.training.run import write_text

_SAFETY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:; base-uri 'none'; form-action 'none'"
)
"""The browser itself refuses whatever would leave the page."""


def write_page(page: Page, path: Path) -> None:
    """Write `page` to `path`, whole or not at all; it takes the place of a link.

    Raises:
        SsmrecError: plotly is not installed.
        RunError: the file cannot be written.
    """
    text = render(page)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
    except OSError as error:
        raise RunError(
            f"{path}: cannot be written ({error.strerror or error}); choose another --out"
        ) from None


def render(page: Page) -> str:
    """The page as HTML text."""
    charts = [
        part for section in page.sections for part in section.parts if isinstance(part, Chart)
    ]
    numbered = {id(chart): number for number, chart in enumerate(charts)}
    sections = [section for section in page.sections if section.parts]
    links = "".join(
        f'<a href="#s{n}">{escaped(section.title)}</a>' for n, section in enumerate(sections)
    )
    body = "".join(section_markup(n, section, numbered) for n, section in enumerate(sections))
    facts = "".join(f"<li>{escaped(fact)}</li>" for fact in page.facts)
    warnings = "".join(f"<p>{escaped(warning)}</p>" for warning in page.warnings)
    notes = "".join(f"<li>{escaped(note)}</li>" for note in page.notes)
    if notes:
        notes = f"<section><h2>Notes</h2><ul>{notes}</ul></section>\n"
    figures = json.dumps([clean(chart.figure) for chart in charts], allow_nan=False)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_SAFETY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escaped(page.title)}</title>\n<style>\n{_asset('page.css')}</style>\n</head>\n<body>\n"
        f"<header><h1>{escaped(page.title)}</h1><ul class=facts>{facts}</ul>"
        + (f"<div class=warning role=note>{warnings}</div>" if warnings else "")
        + f"<nav>{links}</nav></header>\n<main>\n{body}{notes}</main>\n"
        f"<footer>ssmrec {metadata.version('ssmrec')}. This page is one file and works offline."
        "</footer>\n<noscript><p class=warning>The charts need JavaScript; the tables do not."
        "</p></noscript>\n"
        f'<script type="application/json" id="figures">{_in_script(figures)}</script>\n'
        f"<script>{plotly_js()}</script>\n<script>\n{_asset('page.js')}</script>\n</body>\n</html>\n"
    )


def plotly_js() -> str:
    """The source of plotly.js, about 5 MB.

    Raises:
        SsmrecError: plotly is not installed.
    """
    require_plotly()
    from plotly.offline import get_plotlyjs

    return get_plotlyjs()


def require_plotly() -> None:
    """Raise a SsmrecError where plotly is not installed."""
    try:
        import plotly.offline  # noqa: F401
    except ImportError:
        raise SsmrecError(
            "HTML pages need plotly, which is not installed: pip install 'ssmrec[report]'"
        ) from None


def _asset(name: str) -> str:
    return (resources.files("ssmrec.reporting") / name).read_text(encoding="utf-8")


def _in_script(text: str) -> str:
    """JSON inside a script element: no `<` can end the element or open a comment."""
    return text.replace("<", "\\u003c")


def clean(value: Any) -> Any:
    """JSON values without NaN and infinity (None stands for them: a gap in a chart)."""
    if isinstance(value, dict):
        return {str(key): clean(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [clean(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
