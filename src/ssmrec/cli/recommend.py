"""`ssmrec recommend`: top-N lists from a finished run."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from ssmrec.cli.lists import Side, assert_any, ids_of, named
from ssmrec.cli.titles import titles_or_none
from ssmrec.data import load
from ssmrec.errors import ConfigError
from ssmrec.ranking import Choice, Ranker, as_ids
from ssmrec.ranking.corrections import corrected_vectors
from ssmrec.reporting.cells import score
from ssmrec.serving.bulk import SUFFIXES, blocks, write_lists
from ssmrec.serving.live import Live
from ssmrec.serving.sql import write_table

logger = logging.getLogger("ssmrec")


def recommend(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    users: Annotated[
        list[str] | None,
        typer.Option(
            "--users",
            "-u",
            help="User ids, or a file of them, as for --allow; repeat. Default: all.",
        ),
    ] = None,
    more: Annotated[list[str] | None, typer.Argument(help="More user ids.")] = None,
    everybody: Annotated[
        bool, typer.Option("--all", help="All users, as without --users.")
    ] = False,
    top: Annotated[int, typer.Option(help="Length of the lists.", min=1)] = 10,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Write a .parquet or .csv file instead of a table, or .jsonl with a line a user."
        ),
    ] = None,
    to: Annotated[
        str | None, typer.Option(help="Write to a database, such as sqlite:///shop.db, instead.")
    ] = None,
    table: Annotated[
        str | None,
        typer.Option(help="Table of --to; its rows are replaced. Default: recommendations."),
    ] = None,
    unknown: Annotated[
        str | None,
        typer.Option(
            help="Users that were not trained on: skip, popular or error. Default: skip, and an error "
            "where it is all of them."
        ),
    ] = None,
    include_seen: Annotated[
        bool, typer.Option("--include-seen", help="Also list items the user already has.")
    ] = False,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            help="Only these items: an id, or a file with one a line or a column of them; repeat."
        ),
    ] = None,
    deny: Annotated[list[str] | None, typer.Option(help="Never these items; likewise.")] = None,
    candidates: Annotated[
        Path | None, typer.Option(help="File of (user, item): each user's only candidates.")
    ] = None,
    liked: Annotated[
        list[str] | None,
        typer.Option(help="A new user's items, ids or a file, in the place of --users."),
    ] = None,
    correct: Annotated[
        str | None,
        typer.Option(help="Correct popularity: tten, edge or dap, as in edge:strength=0.5."),
    ] = None,
) -> None:
    """Recommend items, best first; items the user already has are left out.

    Examples:

      ssmrec recommend runs/shop --users 17850 13047 --top 10

      ssmrec recommend runs/shop --all --top 100 --out recs.parquet

      ssmrec recommend runs/shop --liked 1680 --liked 1011

      ssmrec recommend runs/shop --all --to postgresql://localhost/shop --table recs
    """
    if out is not None and out.suffix not in SUFFIXES:
        raise ConfigError(f"--out {out}: must end in {', '.join(SUFFIXES)}")
    names = [*(users or []), *(more or [])]
    _check_asked(names, everybody, liked, candidates, out, to)
    if liked and unknown is not None:
        raise ConfigError("--unknown is for --users: leave it out with --liked")
    if table is not None and to is None:
        raise ConfigError("--table is a table of --to: name the database, or leave it out")
    live = Live.load(run)
    ranker = live.ranker if correct is None else _corrected(live, correct, liked)
    items = Side(ranker, "item")
    choice = ranker.choice(
        top,
        include_seen=include_seen,
        allow=ids_of(allow or [], "--allow", items),
        deny=ids_of(deny or [], "--deny", items, empty=True),
        candidates=None if candidates is None else load(candidates).frame(),
    )
    if liked:
        asked, frames = 1, iter([_new_user(live, liked, choice)])
    else:
        people = Side(ranker, "user")
        wanted = ids_of(names, "--users", people, needed=False)
        if wanted and unknown is None:
            popular = "; for strangers there is --unknown popular"
            assert_any(wanted, f"--users {named(names)}", people, popular)
        ids = None if wanted is None else as_ids(wanted)
        asked = len(ranker.known_users if ids is None else ids)
        frames = shown(blocks, ranker, ids, choice, unknown or "skip")
        if ids is not None:
            kind = _kind(ranker, ids, strangers=unknown == "popular")
            frames = (frame.with_columns(pl.col("user").cast(kind)) for frame in frames)
    if everybody and not include_seen:
        _tell_held_out(live)
    if out is not None or to is not None:
        table = table or "recommendations"
        rows, count = write_lists(out, frames) if out else write_table(str(to), table, frames)
        whom = f"{count:,}" if count == asked else f"{count:,} of {asked:,}"
        typer.echo(f"{rows:,} recommendations for {whom} users in {out or table}")
    else:
        frame = pl.concat(frames)
        rows = len(frame)
        _show(frame, titles_or_none(live.trained))
    _tell_short(top, int(ranker.known_items.sum()), int(choice.allowed.sum()), rows)


def _kind(ranker: Ranker, users: pl.Series, strangers: bool) -> pl.DataType:
    """The type of the users that are listed: the run's, or text where one of its strangers is no integer."""
    kind = ranker.train.users.ids.dtype
    listed = users if strangers else users.filter(pl.Series(ranker.find_users(users) >= 0))
    same = listed.cast(kind, strict=False).cast(pl.String) == listed  # "007" is not 7
    return kind if same.fill_null(False).all() else pl.String()


def shown(make: Any, ranker: Ranker, *arguments: Any) -> Iterator[pl.DataFrame]:
    """The blocks of `make`, with a bar on the terminal while they are made."""
    console = Console(stderr=True)
    bars = Progress(
        TextColumn("ranking"), BarColumn(bar_width=24),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f} users"), TimeElapsedColumn(),
        TextColumn("left"), TimeRemainingColumn(), console=console, transient=True,
    )  # fmt: skip
    # Elsewhere an older rich would end it with an empty line.
    with bars if console.is_terminal else nullcontext():
        task = bars.add_task("ranking", total=1)
        yield from make(
            ranker, *arguments, lambda done, total: bars.update(task, completed=done, total=total)
        )


def _check_asked(
    names: list[str],
    everybody: bool,
    liked: list[str] | None,
    candidates: Path | None,
    out: Path | None,
    to: str | None,
) -> None:
    if sum((bool(names), everybody, bool(liked))) > 1:
        raise ConfigError("choose one of --users, --all and --liked")
    if liked and candidates:
        raise ConfigError("--candidates are those of trained users: leave it out with --liked")
    if out is not None and to is not None:
        raise ConfigError("choose one of --out and --to")


def _corrected(live: Live, correct: str, liked: list[str] | None) -> Ranker:
    """The run's ranker after a correction of popularity."""
    if liked:
        raise ConfigError("--correct is for trained users: leave it out with --liked")
    similarity: Any = live.trained.config.ranking.similarity
    vectors = corrected_vectors(live.trained.model, live.trained.train, similarity, correct)
    return Ranker(*vectors, live.trained.train, live.trained.seen)


def _new_user(live: Live, liked: list[str], choice: Choice) -> pl.DataFrame:
    """The list of a user who has the items `liked`; unknown ones are told and left out."""
    ids = as_ids(ids_of(liked, "--liked", Side(live.ranker, "item")) or [])
    frame, left_out = live.fold_in([ids], choice)
    if left_out[0]:
        logger.warning("--liked: not trained on, left out: %s", ", ".join(map(str, left_out[0])))
    return frame.with_columns(user=pl.lit("new user"))


def _tell_held_out(live: Live) -> None:
    """Say that a run knows nothing of its test pairs, so that they are not left out of lists."""
    if count := live.trained.metrics.get("counts", {}).get("data", {}).get("test"):
        logger.info(
            "the %s pairs held out for test are not known to the run, so lists may hold them: "
            "data.split.test=0 learns from all", f"{count:,}",
        )  # fmt: skip


def _tell_short(top: int, known: int, allowed: int, rows: int) -> None:
    """Warn that no list can be as long as asked for, and why; or that there is none."""
    if not rows:
        logger.warning("nothing to recommend: no known user has an item left")
    elif top > allowed:
        why = "the run knows" if allowed == known else "--allow and --deny leave"
        logger.warning("--top %d: %s %d items, so the lists are shorter", top, why, allowed)


def _show(frame: pl.DataFrame, titles: dict[str, str]) -> None:
    table = Table("user", "rank", "item", *(["title"] if titles else []), "score")
    last = None
    for row in frame.head(200).iter_rows(named=True):
        title = [Text(titles.get(str(row["item"]), ""))] if titles else []
        if last not in (None, row["user"]):
            table.add_section()
        last = row["user"]
        table.add_row(
            Text(str(row["user"])),
            str(row["rank"]),
            Text(str(row["item"])),
            *title,
            score(row["score"]),
        )
    Console().print(table)
    if len(frame) > 200:
        typer.echo(f"... {len(frame) - 200:,} more rows: write them all with --out recs.parquet")
