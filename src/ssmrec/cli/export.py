"""`ssmrec export`: vectors for search outside of ssmrec."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ssmrec.errors import ConfigError
from ssmrec.serving.export import export_vectors, store_vectors
from ssmrec.serving.live import Live


def export(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    out: Annotated[Path | None, typer.Option(help="Folder to write to.")] = None,
    form: Annotated[
        str, typer.Option("--format", help="Of the files: parquet or npy.")
    ] = "parquet",
    to: Annotated[
        str | None,
        typer.Option(help="Write to a database, such as postgresql://me@host/shop, instead."),
    ] = None,
    table: Annotated[
        str | None,
        typer.Option(help="Tables TABLE_users and TABLE_items of --to. Default: vectors."),
    ] = None,
) -> None:
    """Write the vectors of users and items with their ids; inner products are the scores.

    Examples:

      ssmrec export runs/shop --out vectors --format npy

      ssmrec export runs/shop --to postgresql://me@host/shop
    """
    if (out is None) == (to is None):
        raise ConfigError("choose one of --out, a folder, and --to, a database")
    if table is not None and to is None:
        raise ConfigError("--table is a table of --to: name the database, or leave it out")
    ranker = Live.load(run).ranker
    if to is None:
        assert out is not None
        counts = export_vectors(ranker, out, form)
        place = str(out)
    else:
        table = table or "vectors"
        counts = store_vectors(ranker, to, table)
        place = f"{table}_users and {table}_items"
    typer.echo(f"{counts['users']:,} users and {counts['items']:,} items in {place}")
