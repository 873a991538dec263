"""`ssmrec report`: many runs on one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ssmrec.reporting.html import report_page
from ssmrec.reporting.runs import read_runs
from ssmrec.storage.files import target_of


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Run folders, such as runs/*, or the folder of a comparison."),
    ],
    out: Annotated[
        Path | None, typer.Option(help="The page to write; default: report.html.")
    ] = None,
) -> None:
    """Many runs side by side on one self-contained HTML page.

    Metrics, studies of one setting, learning curves, popularity groups, protocols, settings that differ.

    The page works offline. Popularity groups need `ssmrec analyze` first.

    Unfinished runs are left out with a warning.

    Example:

      ssmrec report runs/* --out report.html

      ssmrec report compare/temperature
    """
    records, left_out = read_runs(runs)
    page = out or Path("report.html")
    report_page(records, page if out is None else target_of(page), left_out)
    count = f"{len(records)} runs" if len(records) > 1 else "1 run"
    typer.echo(f"{count} in {page}")
