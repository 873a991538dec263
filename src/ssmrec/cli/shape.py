"""Mistakes in words and options as one line, like every other error."""

from __future__ import annotations

import re
import sys
from typing import Any

import typer
from typer.core import TyperGroup

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


class Commands(TyperGroup):
    """The commands; a mistake in their words is `error: ...` on one line and exit code 2."""

    def main(self, *args: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        """Run, and leave with the exit code."""
        try:
            code = super().main(*args, standalone_mode=False, **extra)
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


def one_line(error: Any) -> str:
    """`--top: must be at least 1; see ssmrec recommend --help`."""
    text = " ".join(error.format_message().split()).rstrip(".")
    for theirs, ours in _WORDS:
        text = re.sub(theirs, ours, text)
    context = getattr(error, "ctx", None)
    below = ""
    if context is not None:  # however the program was started: `python -m ssmrec` is ssmrec as well
        below = context.command_path.removeprefix(context.find_root().info_name)
    return f"{text[0].lower()}{text[1:]}; see ssmrec{below} --help"
