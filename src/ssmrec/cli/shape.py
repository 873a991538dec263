"""Commands loaded when they are called; mistakes in words and options as one line, like every other error."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from ssmrec.errors import ConfigError

_WORDS = (
    (r"Invalid value for '([^']+)'(?: / '[^']+')*: ", r"\1: "),
    (r"Input should be a valid integer\b.*", "must be a whole number"),
    (r"Input should be a valid number\b.*", "must be a number"),
    (r"Input should be greater than or equal to ", "must be at least "),
    (r"Input should be less than or equal to ", "must be at most "),
    (r"Input should be greater than ", "must be above "),
    (r"Input should be less than ", "must be below "),
    (r"\. Did you mean ", ", did you mean "),
    (r" \(Possible options?: (--[\w-]+)\)", r", did you mean \1?"),
    (r" \(Possible options?: (.*)\)", r"; choose from: \1"),
)
"""The phrases of typer and pydantic, and ours."""

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_TAKES = {"to", "data", "new_data", "source", "query", "test", "valid", "set_"}
"""The parameters that may be an address, or hold one, and look at it themselves."""


class Commands(TyperGroup):
    """The commands; a mistake in their words is `error: ...` on one line and exit code 2.

    Those it holds have a name and a text only, which is what help and the completion of words need; to
    load them all would take seconds (they need torch).
    """

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The command that the words name, loaded, and the words after its name."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command and _loaded(str(name)), rest

    def invoke(self, ctx: Any) -> Any:
        """Run; Ctrl-C that a command does not answer by itself is one word."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            raise

    def main(self, *args: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        """Run, and leave with the exit code."""
        try:  # named so however it was started: completion of words for `python -m ssmrec` would be python's
            code = super().main(*args, **{**extra, "prog_name": "ssmrec", "standalone_mode": False})
        except typer.Abort:
            sys.exit(1)
        except Exception as error:  # the classes of click, wherever typer keeps them
            if not hasattr(error, "format_message"):
                raise
            if type(error).__name__ == "NoArgsIsHelpError":
                error.show()  # type: ignore[attr-defined]
            else:
                print(f"error: {one_line(error)}", file=sys.stderr)
            sys.exit(getattr(error, "exit_code", 2))
        sys.exit(code if isinstance(code, int) else 0)


def later() -> None:
    """Stands for a command that is not loaded."""


def _loaded(name: str) -> Any:
    """The command of `ssmrec.cli.NAME`: its `app`, or else its function NAME; no path of it is an address."""
    module = import_module(f"ssmrec.cli.{name}")
    app = getattr(module, "app", None)
    if app is None:
        app = typer.Typer(add_completion=False)
        app.command(name)(getattr(module, name))
    command = get_command(app)
    for part in (command, *getattr(command, "commands", {}).values()):
        for param in part.params:
            if param.name not in _TAKES:
                param.process_value = partial(_processed, param, param.process_value)
    return command


def _processed(param: Any, process: Callable[..., Any], ctx: Any, value: Any) -> Any:
    """What `process` makes of the words of a parameter, of which none may be an address."""
    found = process(ctx, value)
    several = isinstance(value, (list, tuple))
    pairs = zip(value, found, strict=True) if several and found else [(value, found)]
    for word, made in pairs:
        if isinstance(word, str) and _ADDRESS.match(word):
            _refuse_address(param, ctx, word, isinstance(made, Path))
    return found


def _refuse_address(param: Any, ctx: Any, word: str, path: bool) -> None:
    """Refuse an address in the place of a path, and that of a database in the place of an id as well.

    Raises:
        ConfigError: names the option that takes it, and shows no password.
    """
    from ssmrec.serving.address import KINDS, is_database, shown  # not above: loads torch

    told, database = shown(word).partition("?")[0], is_database(word)
    sure = word.lower().startswith(tuple(f"{kind}://" for kind in KINDS)) or shown(word) != word
    if not (path or (database and sure)):
        return
    place = max(param.opts, key=len) if param.opts[0].startswith("-") else param.name.upper()
    if not database:
        raise ConfigError(f"{place}: {told} is an address, and no file or folder of this machine")
    writes = param.name == "out" and any(other.name == "to" for other in ctx.command.params)
    advice = "write to it with --to" if writes else (
        "`ssmrec train` reads one with --query, `recommend` and `export` write to one with --to"
    )  # fmt: skip
    raise ConfigError(f"{place}: {told} is a database, and no file, folder or id; {advice}")


def one_line(error: Any) -> str:
    """`--top: must be at least 1; see ssmrec recommend --help`."""
    text = " ".join(error.format_message().split()).rstrip(".")
    for theirs, ours in _WORDS:
        text = re.sub(theirs, ours, text)
    context = getattr(error, "ctx", None)
    path = "ssmrec" if context is None else context.command_path
    option = getattr(error, "option_name", None)
    if option and option in _of_all(context):
        return f"{option} stands before the command, as in `ssmrec {option}{path[6:]} ...`"
    return f"{text[0].lower()}{text[1:]}; see {path} --help"


def _of_all(context: Any) -> set[str]:
    """The options of the program, which stand before the words of a command."""
    return {name for option in context.find_root().command.params for name in option.opts}
