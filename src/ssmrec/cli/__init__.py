"""The command line: one file a command; parsing and printing only."""

from __future__ import annotations

import errno
import logging
import os
import re
import sys
from collections.abc import Sequence
from importlib import metadata
from io import TextIOBase
from itertools import pairwise
from typing import Annotated, TextIO

import typer

from ssmrec.cli.plugins import load_plugins
from ssmrec.cli.shape import Commands, later
from ssmrec.errors import ConfigError, SsmrecError, memory_ran_out


class _Closed(TextIOBase):
    """In the place of a standard output that is closed: what is written is not lost in silence."""

    def write(self, text: str) -> int:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF), "standard output")


class _Stderr(logging.StreamHandler[TextIO]):
    """Writes to what stderr is now: while a bar is shown, lines go above it."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stderr


COMMANDS = {
    "demo": "Train LightGCN with sampled softmax on the bundled shop data, compare, and recommend.",
    "train": "Train a recommender and write a run folder.",
    "launch": "Train in several processes: `ssmrec launch -n 2 train ...`, as torchrun does it.",
    "update": "Train on from a run, with new users, items and pairs: a warm start.",
    "blend": "Blend finished runs into one: often better than the best of them.",
    "evaluate": "Full-ranking metrics of a run, beside most-popular and the best possible values.",
    "analyze": "Popularity bias, hard negatives, the metric bound, magnitude and geometry of a run.",
    "recommend": "Recommend items, best first; items the user already has are left out.",
    "similar": "Show the items most like an item, by the cosine of their vectors.",
    "explain": "Show why a user is recommended items: what the user has that speaks for them most.",
    "serve": "Serve recommendations over HTTP, with a small page at /, until stopped.",
    "index": "Build an index for approximate search, and print how much of the exact lists it finds.",
    "export": "Write the vectors of users and items with their ids; inner products are the scores.",
    "report": "Many runs side by side on one self-contained HTML page.",
    "recipes": "List the shipped recipes, or print one.",
    "compare": "Train data sets x backbones x losses x seeds, and print one table.",
    "tune": "Search for the settings that are best on validation pairs.",
    "settings": "Every setting: default, allowed values, meaning.",
    "data": "Data sets: facts, list, download.",
}
"""What `ssmrec --help` shows. The command `x` is `ssmrec.cli.x`, which is loaded when it is called."""

app = typer.Typer(
    cls=Commands,
    help="Recommenders from implicit feedback, with the sampled softmax loss at the centre.\n\n"
    "Begin with: ssmrec demo",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _name, _text in COMMANDS.items():
    app.command(_name, help=_text)(later)


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
    logging.basicConfig(format="%(message)s", handlers=[_Stderr()], force=True)
    logging.getLogger("ssmrec").setLevel(logging.WARNING if quiet else logging.INFO)
    load_plugins(plugin or [])


def main() -> None:
    """Run the command line; an error a user can mend is one line and exit code 2."""
    try:
        _refuse_empty(sys.argv[1:])
        _refuse_unreadable(sys.argv[1:])
        if sys.stdout is None:
            sys.stdout = _Closed()
        if "WORLD_SIZE" in os.environ:  # one of several processes
            from ssmrec.distributed import Place, work

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


def _refuse_unreadable(words: Sequence[str]) -> None:
    """Refuse words that are no text here, such as names of files from a system with another encoding.

    Raises:
        ConfigError: names the word.
    """
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError:
            raise ConfigError(
                f"{word.encode(errors='backslashreplace').decode()}: is no text in the encoding of this system "
                "(UTF-8?): rename the file, or set LANG=C.UTF-8 or PYTHONUTF8=1 where it is UTF-8"
            ) from None


def _said(error: Exception) -> str | None:
    """One line for an error that a user can mend; None for a fault of the program."""
    if isinstance(error, SsmrecError):
        return str(error)
    if isinstance(error, OSError):
        return f"{error.filename or 'standard output, or a file'}: {error.strerror or error}"
    if memory_ran_out(error):
        return (
            "out of memory: lower train.batch_size, negatives.n or model.dim, or drop rare users and "
            "items with data.min_user and data.min_item"
        )
    return None
