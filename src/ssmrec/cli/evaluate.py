"""`ssmrec evaluate`: measure a finished run again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ssmrec.data import Interactions, prepare
from ssmrec.errors import ConfigError, DataError
from ssmrec.evaluation import best_possible, most_popular
from ssmrec.evaluation import evaluate as evaluate_vectors
from ssmrec.ranking.vectors import ranking_vectors
from ssmrec.recommender import PYTHON
from ssmrec.reporting.tables import caption, metrics_table
from ssmrec.training import Trained, load_run


def evaluate(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    on: Annotated[str, typer.Option(help="The part to measure on: test or valid.")] = "test",
    metrics: Annotated[
        list[str] | None,
        typer.Option("--metric", help="Such as ndcg@20; repeat. Default: the run's."),
    ] = None,
    similarity: Annotated[
        str | None, typer.Option(help="Rank by dot or cosine instead of the run's.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Where the run's data lies now, if it was moved.")
    ] = None,
    any_data: Annotated[
        bool, typer.Option("--any-data", help="Go on although the data differ from the run's.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Full-ranking metrics of a run, beside most-popular and the best possible values."""
    if on not in ("test", "valid"):
        raise ConfigError(f"--on must be test or valid, not {on!r}")
    if similarity not in (None, "dot", "cosine"):
        raise ConfigError(f"--similarity must be dot or cosine, not {similarity!r}")
    trained, fingerprint = load_run(run)
    held_out = _held_out(trained, on, data, None if any_data else fingerprint)
    seen = [trained.train, trained.seen] if on == "test" else [trained.train]
    names = metrics or trained.config.evaluation.names
    rank = similarity or trained.config.ranking.similarity
    allowed = trained.train.item_degrees > 0
    users, items = ranking_vectors(trained.model, rank)  # type: ignore[arg-type]
    result = evaluate_vectors(users, items, held_out, seen, names, allowed=allowed)
    popular = evaluate_vectors(*most_popular(trained.train), held_out, seen, names, allowed=allowed)
    if as_json:
        kept = ("protocol", "selected_on", "best_epoch", "similarity")
        facts = {key: trained.metrics[key] for key in kept}
        facts["similarity"] = {**facts["similarity"], "rank": rank}
        typer.echo(json.dumps({on: result.values, "counts": result.counts, **facts}, indent=2))
        return
    rows = {
        f"{trained.config.model['name']} + {trained.config.loss['name']}": result.values,
        "most popular": popular.values,
        "best possible": best_possible(held_out, seen, names, allowed),
    }
    console = Console()
    console.print(metrics_table(rows, names if metrics else _widest(names), on))
    console.print(caption(trained.metrics, rank), markup=False, highlight=False)
    typer.echo(
        ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in result.counts.items())
    )


def _held_out(
    trained: Trained, on: str, source: str | None, fingerprint: str | None
) -> Interactions:
    settings = trained.config.data
    if source is None and settings.source == PYTHON:
        raise DataError(
            "this run was trained from Python and knows no data file: name it with --data"
        )
    if source is not None:
        settings = settings.model_copy(update={"source": source})
    split = prepare(settings, trained.config.seed)
    if fingerprint is not None and split.fingerprint != fingerprint:
        raise DataError(
            f"{settings.source}: the data differ from those the run was trained on; "
            "give the right ones with --data, or measure all the same with --any-data"
        )
    part = split.test if on == "test" else split.valid
    if part is None:
        raise DataError(f"{settings.source}: has no {on} part")
    return part


def _widest(names: list[str]) -> list[str]:
    """The metrics at the longest list, so that the table fits the terminal."""
    longest = max(int(name.split("@")[1]) for name in names)
    return [name for name in names if name.endswith(f"@{longest}")]
