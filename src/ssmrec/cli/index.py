"""`ssmrec index`: vectors for fast search."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from ssmrec.serving.index import build, facts_of, recall
from ssmrec.serving.live import Live
from ssmrec.serving.service import version_of
from ssmrec.storage.files import spare


def index(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    kind: Annotated[str, typer.Option(help="usearch, faiss or hnsw.")] = "usearch",
    top: Annotated[
        int, typer.Option(help="Length of the lists recall is measured on.", min=1)
    ] = 20,
    out: Annotated[
        Path | None, typer.Option(help="Another folder to write to than the run's.")
    ] = None,
) -> None:
    """Build an index for approximate search, and print how much of the exact lists it finds.

    Examples:

      ssmrec index runs/shop --kind usearch

      ssmrec serve runs/shop --index usearch
    """
    ranker = Live.load(run).ranker
    file = (out or run) / f"index.{kind}"
    if out is not None and not facts_of(file).is_file():
        spare([file], "ssmrec", "choose another --out, or delete it")
    made = build(ranker, kind, version_of(run))
    found = recall(made, ranker, top)
    made.save(out or run)
    typer.echo(
        f"{kind}: {made.size:,} items, finds {found:.2%} of the exact top {top}; written to {file}"
    )
    typer.echo(
        f"serve it: ssmrec serve {quote(str(run))} --index "
        f"{quote(kind if out is None else str(file))}"
    )
