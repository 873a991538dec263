"""The command line: one file a verb; parsing and printing only."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Sequence
from importlib import metadata
from itertools import pairwise
from typing import Annotated

import typer

from ssmrec.cli import (
    analyze,
    blend,
    compare,
    data,
    demo,
    evaluate,
    explain,
    index,
    launch,
    recipes,
    recommend,
    report,
    serve,
    settings,
    similar,
    train,
    tune,
    update,
)
from ssmrec.cli.plugins import load_plugins
from ssmrec.cli.shape import Commands
from ssmrec.distributed import Place, work
from ssmrec.errors import ConfigError, SsmrecError

MEMORY = re.compile("out of memory|not enough memory|can't allocate memory")
"""How torch tells that memory has run out; on a CPU it is a plain RuntimeError."""

app = typer.Typer(
    cls=Commands,
    help="Recommenders from implicit feedback, with the sampled softmax loss at the centre.\n\n"
    "Begin with: ssmrec demo",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(name="demo")(demo.demo)
app.command(name="train")(train.train)
app.command(name="launch", context_settings=launch.SETTINGS)(launch.launch)
app.command(name="update")(update.update)
app.command(name="blend")(blend.blend)
app.command(name="evaluate")(evaluate.evaluate)
app.command(name="analyze")(analyze.analyze)
app.command(name="recommend")(recommend.recommend)
app.command(name="similar")(similar.similar)
app.command(name="explain")(explain.explain)
app.command(name="serve")(serve.serve)
app.command(name="index")(index.index)
app.command(name="export")(index.export)
app.command(name="report")(report.report)
app.command(name="recipes")(recipes.recipes)
app.command(name="compare")(compare.compare)
app.command(name="tune")(tune.tune)
app.command(name="settings")(settings.settings)
app.add_typer(data.app, name="data")


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"ssmrec {metadata.version('ssmrec')}")
        raise typer.Exit


@app.callback()
def root(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Only warnings and results.")
    ] = False,
    plugin: Annotated[
        list[str] | None,
        typer.Option(
            help="A file or module with parts of your own, imported first, as in `ssmrec --plugin "
            "hinge.py train ...`; repeat. Also $SSMREC_PLUGIN.",
            metavar="FILE|MODULE",
        ),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_version)
    ] = False,
) -> None:
    logging.basicConfig(format="%(message)s", stream=sys.stderr, force=True)
    logging.getLogger("ssmrec").setLevel(logging.WARNING if quiet else logging.INFO)
    load_plugins(plugin or [])


def main() -> None:
    """Run the command line; an error a user can mend is one line and exit code 2."""
    try:
        _refuse_empty(sys.argv[1:])
        if (place := Place.found()) is not None and place.size > 1:
            work(app, _said, place)
        app()
    except (SsmrecError, OSError, MemoryError, RuntimeError) as error:
        said = _said(error)
        if said is None or "--debug" in sys.argv:
            raise
        print(f"error: {said}", file=sys.stderr)
        sys.exit(2)


def _refuse_empty(words: Sequence[str]) -> None:
    """An empty path would be the current folder; it comes of a shell variable that is not set.

    Raises:
        ConfigError: names the option, or the word before.
    """
    for before, word in pairwise(["ssmrec", *words]):
        if before == "--delimiter" and word:  # a tab or a blank
            continue
        if not word.strip() or re.fullmatch(r"--[a-z-]+=\s*", word):
            option = word.partition("=")[0] if word.strip() else before
            place = option if option.startswith("-") else f"an argument after {option!r}"
            raise ConfigError(f"{place}: empty; name something, or leave it out")


def _said(error: Exception) -> str | None:
    """One line for an error that a user can mend; None for a fault of the program."""
    if isinstance(error, SsmrecError):
        return str(error)
    if isinstance(error, OSError):
        return f"{error.filename or 'reading or writing'}: {error.strerror or error}"
    if isinstance(error, MemoryError) or MEMORY.search(str(error)):
        return (
            "out of memory: lower train.batch_size, negatives.n or model.dim, or drop rare users and "
            "items with data.min_user and data.min_item"
        )
    return None
