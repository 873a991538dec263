"""`ssmrec index` and `ssmrec export`: vectors for search in and outside of ssmrec."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ssmrec.serving.export import export_vectors
from ssmrec.serving.index import build, recall
from ssmrec.serving.live import Live
from ssmrec.serving.service import version_of


def index(
    run: Annotated[Path, typer.Argument(help="Run folder; the index is written into it.")],
    kind: Annotated[str, typer.Option(help="usearch, faiss or hnsw.")] = "usearch",
    top: Annotated[
        int, typer.Option(help="Length of the lists recall is measured on.", min=1)
    ] = 20,
    out: Annotated[
        Path | None,
        typer.Option(help="Write it elsewhere; ssmrec serve wants it in the run folder."),
    ] = None,
) -> None:
    """Build an index for approximate search, and print how much of the exact lists it finds.

    Example:

      ssmrec index runs/shop --kind usearch
    """
    ranker = Live.load(run).ranker
    made = build(ranker, kind, version_of(run))
    found = recall(made, ranker, top)
    made.save(out or run)
    typer.echo(
        f"{kind}: {made.size:,} items, finds {found:.2%} of the exact top {top}; "
        f"written to {(out or run) / f'index.{kind}'}"
    )
    if out is not None and out.resolve() != run.resolve():
        typer.echo(f"to serve it: copy index.{kind} and index.{kind}.json from there into {run}")


def export(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    out: Annotated[Path, typer.Option(help="Folder to write to.")],
    form: Annotated[str, typer.Option("--format", help="parquet or npy.")] = "parquet",
) -> None:
    """Write the vectors of users and items with their ids; inner products are the scores.

    Example:

      ssmrec export runs/shop --out vectors --format npy
    """
    counts = export_vectors(Live.load(run).ranker, out, form)
    typer.echo(f"{counts['users']:,} users and {counts['items']:,} items in {out}")
