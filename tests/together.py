"""The command in several processes of this machine, as torchrun starts it, but forked."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from processes import free_port, starter

LIMIT = 120
"""Seconds after which a test is given up."""


class Together:
    """`ssmrec WORDS` in `size` processes; what process k writes lies in `k.out` and `k.err` of a folder.

    Args:
        words: of the command line. cwd: where it runs, and the folder.
        before: called in each process before the command.
    """

    def __init__(
        self,
        words: Sequence[object],
        cwd: Path,
        size: int = 2,
        before: Callable[[], Any] | None = None,
    ) -> None:
        port, self.cwd, context = free_port(), cwd, starter()
        told = list(map(str, words))
        self.members = [
            context.Process(
                target=_command, args=(told, cwd, rank, size, port, before), daemon=True
            )
            for rank in range(size)
        ]
        for member in self.members:
            member.start()

    def wait(self) -> list[int | None]:
        """Exit codes of all, at their end; minus the number of a signal."""
        for member in self.members:
            member.join(LIMIT)
            assert member.exitcode is not None, "a process does not end"
        return [member.exitcode for member in self.members]

    def said(self, rank: int, stream: str = "err") -> str:
        return (self.cwd / f"{rank}.{stream}").read_text()

    def errors(self) -> list[str]:
        """All lines, of all processes, that tell of an error."""
        return [line for rank in range(len(self.members)) for line in lines(self.said(rank))]


def lines(text: str) -> list[str]:
    """The lines that tell of an error."""
    return [line for line in text.splitlines() if "error" in line.lower() or "Traceback" in line]


def _command(
    words: list[str], cwd: Path, rank: int, size: int, port: int, before: Callable[[], Any] | None
) -> None:
    for number, stream in ((1, "out"), (2, "err")):
        os.dup2(os.open(cwd / f"{rank}.{stream}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1) for number in (1, 2))
    os.chdir(cwd)
    os.environ |= {
        "RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "COLUMNS": "200",
    }  # fmt: skip
    sys.argv = ["ssmrec", *words]
    if before is not None:
        before()
    from ssmrec.cli import main

    main()
