"""`ssmrec recommend`: top-N lists from a finished run."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import polars as pl
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ssmrec.data import item_titles
from ssmrec.errors import ConfigError, DataError, RunError
from ssmrec.recommender import PYTHON, Recommender

logger = logging.getLogger("ssmrec")


def recommend(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    users: Annotated[
        list[str] | None,
        typer.Option(
            "--users", "-u", help="User ids, or a file with one id a line; repeat. Default: all."
        ),
    ] = None,
    more: Annotated[list[str] | None, typer.Argument(help="More user ids.")] = None,
    top: Annotated[int, typer.Option(help="Length of the lists.", min=1)] = 10,
    out: Annotated[
        Path | None, typer.Option(help="Write a .parquet or .csv file instead of a table.")
    ] = None,
    unknown: Annotated[
        str, typer.Option(help="Users that were not trained on: skip, popular or error.")
    ] = "skip",
    include_seen: Annotated[
        bool, typer.Option("--include-seen", help="Also list items the user already has.")
    ] = False,
) -> None:
    """Recommend items, best first; items the user already has are left out.

    Examples:

      ssmrec recommend runs/shop --users 17850 13047 --top 10

      ssmrec recommend runs/shop --users users.txt --top 20 --out recs.parquet
    """
    if out is not None and out.suffix not in (".parquet", ".csv"):
        raise ConfigError(f"--out {out}: must end in .parquet or .csv")
    recommender = Recommender.load(run)
    wanted = _ids([*(users or []), *(more or [])])
    _check_known(recommender, wanted)
    frame = recommender.recommend(
        wanted,
        top,
        include_seen=include_seen,
        unknown=unknown,  # type: ignore[arg-type]
    )
    if out is None:
        source = recommender.config_.data.source
        _show(frame, None if source == PYTHON else item_titles(source))
    most = int((recommender.trained_.train.item_degrees > 0).sum())
    if top > most:
        logger.warning("--top %d: the run knows %d items, so the lists are shorter", top, most)
    if out is None:
        return
    try:
        frame.write_parquet(out) if out.suffix == ".parquet" else frame.write_csv(out)
    except OSError as error:
        raise RunError(f"{out}: cannot be written ({error})") from None
    count = frame["user"].n_unique()
    typer.echo(f"{len(frame):,} recommendations for {count:,} users in {out}")


def _check_known(recommender: Recommender, wanted: list[str] | None) -> None:
    """Nothing to do for anyone is an error, whatever the policy; a mistyped file looks like that."""
    train = recommender.trained_.train
    if wanted is None:
        return
    index = train.users.encode(wanted)
    if not (train.user_degrees[index[index >= 0]] > 0).any():
        shown = ", ".join(wanted[:3]) + (" ..." if len(wanted) > 3 else "")
        raise DataError(
            f"--users {shown}: neither a file nor ids of users the run was trained on "
            f"(such as {', '.join(str(name) for name in train.users.ids.head(2))})"
        )


def _ids(values: list[str]) -> list[str] | None:
    """Ids given directly, and those of files, one a line; None for none."""
    found: list[str] = []
    for value in values:
        path = Path(value)
        if not path.is_file():
            found.append(value)
            continue
        try:
            lines = path.read_text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path}: cannot be read as ids, one a line ({error})") from None
        found += [line.strip() for line in lines if line.strip()]
    if values and not found:
        raise DataError(f"{', '.join(values)}: no user ids in it")
    return list(dict.fromkeys(found)) if values else None


def _show(frame: pl.DataFrame, titles: pl.DataFrame | None) -> None:
    table = Table("user", "rank", "item", *(["title"] if titles is not None else []), "score")
    if titles is not None:
        titles = titles.with_columns(pl.col("item").cast(frame["item"].dtype))
        frame = frame.join(titles, on="item", how="left", maintain_order="left")
    last = None
    for row in frame.head(200).iter_rows(named=True):
        title = [Text(str(row["title"] or ""))] if titles is not None else []
        if last not in (None, row["user"]):
            table.add_section()
        last = row["user"]
        table.add_row(
            Text(str(row["user"])),
            str(row["rank"]),
            Text(str(row["item"])),
            *title,
            f"{row['score']:.4f}",
        )
    Console().print(table)
    if len(frame) > 200:
        typer.echo(f"... {len(frame) - 200:,} more rows: write them all with --out recs.parquet")
