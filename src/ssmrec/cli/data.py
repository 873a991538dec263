"""`ssmrec data`: what a data set holds, which sets there are, and how to get them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table

from ssmrec.config import build, override
from ssmrec.data import DataConfig, Interactions, Split, load, prepare, statistics
from ssmrec.data.coded import write_coded
from ssmrec.data.fetch import fetch
from ssmrec.data.named import BUNDLED, NAMED, cache, files_of, search
from ssmrec.errors import ConfigError

app = typer.Typer(
    help="Data sets: facts, list, download.", no_args_is_help=True, add_completion=False
)

LABELS = {
    "density": "{:.5%}",
    "gini": "{:.4f}",
    "per_user_mean": "{:.2f}",
    "per_user_median": "{:g}",
}

Column = Annotated[str | None, typer.Option(help="Column name or position (0, 1, ...).")]


@app.command()
def stats(
    source: Annotated[str, typer.Argument(help="A file, a folder, a pattern of names, or a name.")],
    test: Annotated[str | None, typer.Option(help="File of the test part.")] = None,
    valid: Annotated[str | None, typer.Option(help="File of the validation part.")] = None,
    user: Column = None,
    item: Column = None,
    timestamp: Column = None,
    rating: Column = None,
    weight: Column = None,
    event: Column = None,
    events: Annotated[list[str] | None, typer.Option(help="Keep these events; repeat.")] = None,
    delimiter: Annotated[str | None, typer.Option(help=r"Of text files; \t for a tab.")] = None,
    header: Annotated[bool | None, typer.Option(help="Whether the first line is names.")] = None,
    ids: Annotated[str, typer.Option(help="auto, int or str.")] = "auto",
    format: Annotated[str, typer.Option(help="auto, parquet, csv or adjacency.")] = "auto",
    nulls: Annotated[str, typer.Option(help="error or drop.")] = "error",
    duplicates: Annotated[str, typer.Option(help="first, last, count or error.")] = "first",
    min_rating: Annotated[float | None, typer.Option(help="Keep ratings from here on.")] = None,
    min_user: Annotated[int, typer.Option(help="Pairs each user must have (k-core).")] = 0,
    min_item: Annotated[int, typer.Option(help="Pairs each item must have (k-core).")] = 0,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Any data setting, as in data.min_user=5; repeat.", metavar="KEY=VALUE"
        ),
    ] = None,
) -> None:
    """Users, items, interactions, density, popularity, duplicates, cold ids, time span."""
    values = {k: v for k, v in locals().items() if v is not None and k != "set_"}
    values["events"] = tuple(events or ())
    if delimiter is not None:
        values["delimiter"] = delimiter.replace(r"\t", "\t")
    asked = _data_only(override({"data": values}, set_ or []))
    config: DataConfig = build(DataConfig, asked, "data")
    _show(source, *_read(config))


def _data_only(asked: dict[str, Any]) -> dict[str, Any]:
    if other := sorted(set(asked) - {"data"}):
        raise ConfigError(f"--set {other[0]}: only data settings here, as in data.min_user=5")
    return asked["data"]


@app.command()
def encode(
    source: Annotated[
        str, typer.Argument(help="As of `ssmrec train`: a file, a folder, a pattern.")
    ],
    out: Annotated[Path, typer.Option(help="Folder to write, which `ssmrec train` takes.")],
    memory: Annotated[
        str | None, typer.Option(help="What DuckDB may hold before it goes to disk, such as 4GB.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any data setting; repeat.", metavar="KEY=VALUE"),
    ] = None,
) -> None:
    """Write the rows with numbers for ids of text, on disk: for id tables larger than memory.

    Examples:

      ssmrec data encode clicks/ --out coded --memory 8GB

      ssmrec train coded
    """
    asked = _data_only(override({"data": {"source": source}}, set_ or []))
    counts = write_coded(build(DataConfig, asked, "data"), out, memory)
    typer.echo(f"{out}: " + ", ".join(f"{name} {count:,}" for name, count in counts.items()))


def _read(config: DataConfig) -> tuple[Split | Interactions, dict[str, int]]:
    """The split that a test file gives or settings ask for; else one table."""
    files, asked = files_of(config), config.split.model_fields_set
    if "test" not in files and not asked:
        table = load(config.source, config)
        return table, dict(table.counts)
    if "valid" not in files and "valid" not in asked:
        whole = config.split.model_copy(update={"valid": 0.0})
        config = config.model_copy(update={"split": whole})
    split = prepare(config, seed=0)
    return split, dict(split.counts)


def _show(source: str, data: Split | Interactions, counts: dict[str, int]) -> None:
    table = Table(title=escape(f"{source}: facts"), show_header=False)
    for name, value in statistics(data).items():
        shape = LABELS.get(name, "{:,}" if isinstance(value, int) else "{}")
        table.add_row(name.replace("_", " "), shape.format(value))
    for name, value in counts.items():
        if "dropped" in name or "rows_read" in name:
            table.add_row(name.replace("_", " "), f"{value:,}")
    Console().print(table)


@app.command(name="list")
def list_sets() -> None:
    """The named data sets: size, licence, and where each one lies."""
    table = Table(title="data sets", box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("name", no_wrap=True)
    for size in ("users", "items", "pairs"):
        table.add_column(size, justify="right", no_wrap=True)
    table.add_column("licence")
    table.add_column("where", no_wrap=True)
    for name, facts in NAMED.items():
        sizes = (f"{n:,}" for n in (facts.users, facts.items, facts.pairs))
        table.add_row(name, *sizes, facts.licence, _where(name))
    console = Console()
    console.print(table)
    console.print(f"cache: {cache()}", soft_wrap=True)
    console.print("to fetch: ssmrec data fetch NAME; by hand: the same command says where from")


def _where(name: str) -> str:
    """The place of a named set in a word."""
    folder = search(name)
    if folder is None:
        return "to fetch" if NAMED[name].files else "by hand"
    return {cache(): "cache", BUNDLED: "bundled"}.get(folder.parent, "$SSMREC_DATA")


@app.command(name="fetch")
def fetch_set(name: Annotated[str, typer.Argument(help="A name of `ssmrec data list`.")]) -> None:
    """Download a named set into the cache; a broken download goes on where it stopped."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, Any] = {}

        def tell(file: str, done: int, total: int | None) -> None:
            if file not in tasks:
                tasks[file] = bars.add_task(file, total=total)
            bars.update(tasks[file], completed=done, total=total)

        folder: Path = fetch(name, tell)
    Console().print(f"{name} is in {folder}", soft_wrap=True)
