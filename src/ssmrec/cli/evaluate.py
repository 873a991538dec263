"""`ssmrec evaluate`: measure a finished run again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from torch import Tensor

from ssmrec.analysis.popularity import exposure_of_lists
from ssmrec.analysis.subject import Subject
from ssmrec.cli.others import facts as facts_of_others
from ssmrec.cli.others import of_others
from ssmrec.cli.others import told as told_of_others
from ssmrec.data import DataConfig, Interactions, Split, prepare
from ssmrec.data.align import widened
from ssmrec.data.named import files_of
from ssmrec.data.remote import exists, located
from ssmrec.errors import ConfigError, DataError
from ssmrec.evaluation import Result, best_possible, most_popular, parse_metric
from ssmrec.evaluation import evaluate as evaluate_vectors
from ssmrec.ranking.corrections import corrected_vectors, correction
from ssmrec.ranking.vectors import ranking_vectors
from ssmrec.recommender import PYTHON
from ssmrec.reporting.tables import caption, metrics_table
from ssmrec.training import Trained, label, load_run

_ANY_DATA = ", or measure all the same with --any-data"


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
        str | None,
        typer.Option(help="Where the run's data lies now, if it was moved; a test file beside it."),
    ] = None,
    any_data: Annotated[
        bool, typer.Option("--any-data", help="Go on although the data differ from the run's.")
    ] = False,
    correct: Annotated[
        list[str] | None,
        typer.Option(
            help="Correct popularity: tten, edge or dap, as in edge:strength=0.5; repeat to compare."
        ),
    ] = None,
    lists: Annotated[
        list[Path] | None,
        typer.Option(
            help="Lists of another recommender, a file with columns user, item and rank or score, judged "
            "on the same users; repeat."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Full-ranking metrics of a run, beside most-popular and the best possible values.

    Examples:

      ssmrec evaluate runs/shop --metric ndcg@10 --metric recall@50

      ssmrec evaluate runs/shop --lists theirs.parquet    # is it better than what we have?
    """
    _check_words(on, similarity, metrics or ())
    made = {asked: correction(asked) for asked in correct or ()}  # refused before anything is read
    trained, fingerprint = load_run(run)
    if data is None and _learned(trained, on):
        raise ConfigError(
            f"{run}: --on valid: after its epoch was chosen the model was trained on the validation pairs "
            "too (train.protocol=refit), so they say nothing of it; its values then are in metrics.json"
        )
    rank: Any = similarity or trained.config.ranking.similarity
    vectors = {"": ranking_vectors(trained.model, rank)}
    for asked in made:
        vectors[asked] = corrected_vectors(trained.model, trained.train, rank, asked)
    held_out = held_out_pairs(trained, on, data, None if any_data else fingerprint)
    names = metrics or trained.config.evaluation.names
    seen = [trained.train, trained.seen] if on == "test" else [trained.train]
    subject = Subject(trained, held_out, seen)
    allowed = trained.train.item_degrees > 0

    def measured(pair: tuple[Tensor, Tensor]) -> Result:
        return evaluate_vectors(*pair, held_out, seen, names, allowed=allowed)

    others = of_others(lists or (), held_out, seen, names)
    results = {asked: measured(pair) for asked, pair in vectors.items()}
    own = results[""]
    spreads = (
        {asked: _lists(subject, pair, names) for asked, pair in vectors.items()} if made else {}
    )
    ranks = {"": rank, **{asked: each.ranked_by(rank) for asked, each in made.items()}}
    if as_json:
        kept = ("protocol", "selected_on", "best_epoch", "similarity")
        facts = {key: trained.metrics[key] for key in kept}
        facts["similarity"] = {**facts["similarity"], "rank": rank}
        if any_data:  # maybe not the run's own
            facts["data"] = data or trained.config.data.source
        if made:
            facts["lists"] = spreads[""]
            facts["corrected"] = {
                asked: {"rank": ranks[asked], on: results[asked].values, "lists": spreads[asked]}
                for asked in made
            }
        if others:
            facts["others"] = facts_of_others(others, own, on)
        typer.echo(json.dumps({on: own.values, "counts": own.counts, **facts}, indent=2))
        return
    rows = {
        **{asked or label(trained.config): found.values for asked, found in results.items()},
        **{file: other.values for file, other in others.items()},
        "most popular": measured(most_popular(trained.train)).values,
        "best possible": best_possible(held_out, seen, names, allowed),
    }
    console, shown = Console(), names if metrics else _widest(names)
    console.print(metrics_table(rows, shown, on))
    console.print(caption(trained.metrics, rank), markup=False, highlight=False)
    typer.echo(
        ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in own.counts.items())
    )
    for line in told_of_others(others, own, label(trained.config), shown):
        typer.echo(line)
    for asked, spread in spreads.items():
        by = f"{ranks[asked]} of the corrected vectors" if asked else rank
        typer.echo(f"{asked or label(trained.config)}, ranked by {by}: {_told(spread)}")


def _check_words(on: str, similarity: str | None, metrics: Sequence[str]) -> None:
    if on not in ("test", "valid"):
        raise ConfigError(f"--on must be test or valid, not {on!r}")
    if similarity not in (None, "dot", "cosine"):
        raise ConfigError(f"--similarity must be dot or cosine, not {similarity!r}")
    for name in metrics:
        parse_metric(name)


def _lists(
    subject: Subject, vectors: tuple[Tensor, Tensor], names: Sequence[str]
) -> dict[str, float]:
    """How popular what is listed is, in the longest lists that were measured."""
    k = max(parse_metric(name).k for name in names)
    ids = subject.ranked(*vectors, k).ids
    return {"k": k, **asdict(exposure_of_lists(ids, subject.train.item_degrees))}


def _told(lists: dict[str, float]) -> str:
    return (
        f"in lists of {lists['k']}, mean popularity {lists['mean_popularity']:,.1f}, "
        f"tail share {lists['tail_share']:.4f}, coverage {lists['coverage']:.4f}"
    )


def held_out_pairs(
    trained: Trained, on: str, source: str | None, fingerprint: str | None
) -> Interactions:
    """The held-out part `on` of a run's data, as `split_of` reads them.

    Its pairs are over the ids of the run, which those that the run does not know follow; they are told.

    Raises:
        DataError: as `split_of`, the data lack that part, or have no id in common with the run.
    """
    part = part_of(trained, split_of(trained, source, fingerprint), on, source)
    return widened(part, trained.train)


def part_of(trained: Trained, split: Split, on: str, source: str | None) -> Interactions:
    """The part `on` of data that `split_of` read from `source`, over their ids."""
    parts = {"test": split.test, "valid": split.valid}
    part = parts[on]
    if part is None:
        told = [
            other for other in parts if parts[other] is not None and not _learned(trained, other)
        ]
        advice = "".join(f"; try --on {other}" for other in told)
        raise DataError(f"{source or trained.config.data.source}: has no {on} part{advice}")
    return part


def _learned(trained: Trained, on: str) -> bool:
    """Whether the model was trained on that held-out part."""
    return on == "valid" and trained.metrics["protocol"] == "refit"


def split_of(
    trained: Trained, source: str | None, fingerprint: str | None, remedy: str = _ANY_DATA
) -> Split:
    """The data of a run, read again from `source` or where the run had them.

    `remedy`: what else can be done where they differ.

    Raises:
        DataError: the data are not found, or have another fingerprint (None: any).
    """
    settings = trained.config.data
    if source is None and settings.source == PYTHON:
        raise DataError(
            "this run was trained from Python and knows no data file: name it with --data"
        )
    if source is not None:
        settings = settings.model_copy(update={"source": source, **_beside(settings, source)})
    try:
        files_of(settings)
    except DataError as error:
        advice = "" if source else "; if the run's data were moved, name their place with --data"
        raise DataError(f"{error}{advice}") from None
    split = prepare(settings, trained.config.seed)
    if fingerprint is not None and not is_own(split, fingerprint):
        if trained.metrics.get("warm_start"):
            raise DataError(
                f"{settings.source}: the run was updated with further data, which are not in there; measure "
                "it by --data FOLDER, with test.* of what came later in it, and --any-data"
            )
        raise DataError(
            f"{settings.source}: the data differ from those the run was trained on; "
            f"give the right ones with --data{remedy}"
        )
    return split


def is_own(split: Split, fingerprint: str) -> bool:
    """Whether they are the data of a run with that fingerprint.

    A run trained from Python knew the parts it was given, and test was none of them.
    """
    return fingerprint in (split.fingerprint, replace(split, test=None).fingerprint)


def _beside(settings: DataConfig, source: str) -> dict[str, str]:
    """Files of test and valid that are no longer where the run had them, where they are beside `source`."""
    place = located(source)
    folder = place if isinstance(place, Path) and place.is_dir() else place.parent
    had = {key: getattr(settings, key) for key in ("test", "valid")}
    moved = {k: located(path) for k, path in had.items() if path and not exists(located(path))}
    found = {key: folder / path.name for key, path in moved.items()}
    return {key: str(path) for key, path in found.items() if exists(path)}


def _widest(names: list[str]) -> list[str]:
    """The metrics at the longest list, so that the table fits the terminal."""
    longest = max(int(name.split("@")[1]) for name in names)
    return [name for name in names if name.endswith(f"@{longest}")]
