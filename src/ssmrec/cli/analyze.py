"""`ssmrec analyze`: why a run ranks as it does."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from ssmrec.analysis.notes import warnings_of
from ssmrec.cli.evaluate import is_own, part_of, split_of
from ssmrec.data.align import aligned
from ssmrec.errors import ConfigError, RunError, SsmrecError
from ssmrec.reporting.progress import ProgressBars
from ssmrec.storage.files import ready, target_of
from ssmrec.training import load_run

logger = logging.getLogger("ssmrec")


def analyze(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    against: Annotated[
        Path | None, typer.Option(help="Another run folder on the same data, to compare with.")
    ] = None,
    groups: Annotated[int, typer.Option(min=1, max=100, help="Number of popularity groups.")] = 10,
    k: Annotated[int, typer.Option("--top", min=1, help="Length of the lists.")] = 20,
    on: Annotated[str, typer.Option(help="The part to measure on: test or valid.")] = "test",
    over_training: Annotated[
        bool,
        typer.Option(
            "--over-training",
            help="Train the run once more, as long as it took, and look on the way.",
        ),
    ] = False,
    corrections: Annotated[
        bool,
        typer.Option(
            "--corrections",
            help="Rank with every correction of popularity at five strengths: accuracy beside exposure.",
        ),
    ] = False,
    data: Annotated[
        str | None,
        typer.Option(help="Where the run's data lies now, if it was moved; a test file beside it."),
    ] = None,
    any_data: Annotated[
        bool, typer.Option("--any-data", help="Go on although the data differ from the run's.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="JSON file; default: analysis.json in the run folder.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(help="HTML page; default: beside the JSON file.")
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, help="Decides which rows and users are looked at.")
    ] = 0,
) -> None:
    """Popularity bias, hard negatives, the metric bound, magnitude and geometry of a run.

    Prints tables and writes analysis.json and analysis.html; docs/analysis.md says how to read them.
    """
    from ssmrec.analysis import Effort, analyze, write_analysis
    from ssmrec.reporting.analysis_tables import analysis_tables

    if on not in ("test", "valid"):
        raise ConfigError(f"--on must be test or valid, not {on!r}")
    named, out = out, out or run / "analysis.json"
    page = html or out.with_suffix(".html")
    if page == out:
        raise ConfigError(f"--out {out}: is where the JSON goes; name the page by --html")
    ours = _load(run, on, data, any_data)
    theirs = None if against is None else _load(against, on, data, any_data)
    for path in (out, page):  # before the work, not after it
        ready(path.parent)
    if html is not None:
        from ssmrec.reporting.page import require_plotly

        require_plotly()
    with ProgressBars() as bars:
        result = analyze(
            ours, theirs, groups=groups, k=k, effort=Effort(seed=seed),
            over_training=over_training, corrections=corrections, listener=bars,
        )  # fmt: skip
    write_analysis(result, out if named is None else target_of(out))
    console = Console()
    for note in (*warnings_of(result), *result["notes"]):
        if note:
            console.print(f"note: {note}", markup=False, highlight=False)
    for table in analysis_tables(result):
        console.print()
        console.print(table)
    made = _page(result, page if html is None else target_of(page))
    written = (out, page) if made else (out,)
    typer.echo(f"\nwritten: {', '.join(map(str, written))}")


def _load(folder: Path, on: str, data: str | None, any_data: bool) -> Any:
    from ssmrec.analysis import Run

    trained, fingerprint = load_run(folder)
    split = split_of(trained, data, None if any_data else fingerprint)
    other = None if is_own(split, fingerprint) else data or trained.config.data.source
    held_out = aligned(part_of(trained, split, on, data), trained.train)
    return Run(trained, held_out, on, str(folder), other)


def _page(result: dict[str, Any], path: Path) -> bool:
    """Write the page; where plotly is missing it is left out, which is told."""
    from ssmrec.reporting.html import analysis_page

    try:
        analysis_page(result, path)
    except RunError:
        raise
    except SsmrecError as error:
        logger.info("no HTML page: %s", error)
        return False
    return True
