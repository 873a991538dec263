"""The command line, run in this process."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from ssmrec.cli import main


@contextmanager
def logging_kept() -> Iterator[None]:
    """The command sets up logging for its process; here other tests follow."""
    root, ours = logging.getLogger(), logging.getLogger("ssmrec")
    handlers, level = root.handlers[:], ours.level
    root.handlers = []
    try:
        yield
    finally:
        root.handlers = handlers
        ours.setLevel(level)


def ssmrec(*words: object, cwd: Path, columns: str | None = None) -> tuple[int, str, str]:
    """Run the command in `cwd`, on a terminal of so many columns; exit code, stdout, stderr."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["ssmrec", *map(str, words)])
        if columns is not None:
            patch.setenv("COLUMNS", columns)
        patch.chdir(cwd)
        with redirect_stdout(out), redirect_stderr(err), logging_kept():
            try:
                main()
            except SystemExit as end:
                code = int(end.code or 0)
    return code, out.getvalue(), err.getvalue()
