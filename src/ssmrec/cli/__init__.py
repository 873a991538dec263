"""The command line: one file a verb; parsing and printing only."""

from __future__ import annotations

import logging
import sys
from importlib import metadata
from typing import Annotated

import typer

from ssmrec.cli import data, demo, evaluate, recipes, recommend, settings, train
from ssmrec.errors import SsmrecError

app = typer.Typer(
    help="Recommenders from implicit feedback, with the sampled softmax loss at the centre.\n\n"
    "Begin with: ssmrec demo",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(name="demo")(demo.demo)
app.command(name="train")(train.train)
app.command(name="evaluate")(evaluate.evaluate)
app.command(name="recommend")(recommend.recommend)
app.command(name="recipes")(recipes.recipes)
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
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_version)
    ] = False,
) -> None:
    logging.basicConfig(format="%(message)s", stream=sys.stderr, force=True)
    logging.getLogger("ssmrec").setLevel(logging.WARNING if quiet else logging.INFO)


def main() -> None:
    """Run the command line; an error a user can mend is one line and exit code 2."""
    try:
        app()
    except SsmrecError as error:
        if "--debug" in sys.argv:
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
