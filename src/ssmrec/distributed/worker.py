"""One process of several: it joins the others, runs the command, and ends with them."""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import TextIO

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from ssmrec.distributed.group import Together
from ssmrec.distributed.place import LOST, Place, interface_to
from ssmrec.errors import ConfigError, RunError, SsmrecError
from ssmrec.training.peers import joined

VERBS = ("train",)
"""Commands that several processes run together."""
_TURN = timedelta(seconds=1)
"""How long the others leave it to process 0 to tell of an error."""
_GONE = re.compile(
    "connection (closed|reset|refused)( by peer)?|broken pipe|timed out|remote process exited",
    re.IGNORECASE,
)
"""What gloo and NCCL say, among much else, when a process is gone."""


class LostError(RunError):
    """Another process has ended, so that no message comes from it any more."""


def work(app: Callable[[], object], said: Callable[[Exception], str | None], place: Place) -> None:
    """Run the command line as one of several processes; does not return.

    Process 0 writes and tells, the others are silent. After an error one line is printed by the
    process that failed first, and all end with exit code 2, or `LOST`.

    Args:
        app: the command line, which reads `sys.argv`.
        said: one line for an error that a user can mend, None for a fault of the program.
    """
    console = sys.stderr
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # all end at once; the last checkpoint is whole
    if place.rank:
        _silence()
    board = None
    try:
        board = _join(place)
        _check_verb(sys.argv[1:])
        with joined(Together(place)) as peers:
            code = _code(app)
            if code == 0:
                peers.meet()
    except Exception as error:
        lost = _lost(error)
        _fail(lost or error, said, board, place, console)
        if place.rank == 0 and not os.environ.get("TORCHELASTIC_USE_AGENT_STORE"):
            # The store is in this process and not in torchrun's, and the others still look at it.
            time.sleep(2 * _TURN.total_seconds())
        code = LOST if lost else 2
    _end(code, console)


def _join(place: Place) -> Store:
    """Meet the others; the store is where the first error is noted."""
    if place.local_size < place.size and "GLOO_SOCKET_IFNAME" not in os.environ:
        name = interface_to(os.environ["MASTER_ADDR"])
        if name is not None:  # else gloo takes what the machine's own name means, often 127.0.0.1
            os.environ["GLOO_SOCKET_IFNAME"] = name
    if torch.cuda.is_available() and place.local_rank < torch.cuda.device_count():
        torch.cuda.set_device(place.local_rank)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    try:
        store, rank, size = next(iter(rendezvous("env://")))
        store = PrefixStore(
            f"ssmrec/{place.restarts}", store
        )  # nothing of an earlier start is found
        dist.init_process_group(backend, store=store, rank=rank, world_size=size)
    except (RuntimeError, ValueError) as error:
        where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        reason = str(error).splitlines()[0]
        raise RunError(f"{where}: the processes do not find each other ({reason})") from None
    return store


def _check_verb(words: list[str]) -> None:
    verb = next((word for word in words if not word.startswith("-")), None)
    if verb is not None and verb not in VERBS:
        raise ConfigError(
            f"ssmrec {verb} runs in one process: start it without torchrun; several can "
            f"{', '.join(VERBS)}"
        )


def _code(app: Callable[[], object]) -> int:
    """Exit code of the command line, which ends by `SystemExit`."""
    try:
        app()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def _lost(error: Exception) -> LostError | None:
    """One line for what fails while processes talk; the cause is told by the one that failed."""
    gone = None if isinstance(error, SsmrecError) else _GONE.search(str(error))
    if gone is None or not isinstance(error, RuntimeError):
        return None
    return LostError(
        f"another process of this training has ended ({gone[0].lower()}); repeat the command with "
        "--resume to go on from the last checkpoint"
    )


def _fail(
    error: Exception,
    said: Callable[[Exception], str | None],
    board: Store | None,
    place: Place,
    console: TextIO,
) -> None:
    """Print the error if no process has printed one yet."""
    if board is not None and not _first(board, place):
        return
    text = said(error)
    if text is None or "--debug" in sys.argv:
        import traceback

        traceback.print_exception(error, file=console)
        return
    alone = isinstance(error, SsmrecError) and not isinstance(error, LostError)
    where = f"process {place.rank}: " if place.rank and alone else ""
    print(f"error: {where}{text}", file=console)


def _first(board: Store, place: Place) -> bool:
    """Whether no other process has told of an error; process 0 tells of what all of them meet."""
    mine = str(place.rank)
    if place.rank:
        with suppress(RuntimeError):  # none has within that time
            board.wait(["error"], _TURN)
    try:
        return board.compare_set("error", "", mine).decode() == mine
    except RuntimeError:  # the store has gone with its machine
        return True


def _silence() -> None:
    """Nothing of this process is shown but an error of its own."""
    logging.disable(logging.CRITICAL)
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115


def _end(code: int, console: TextIO) -> None:
    """Leave at once: after an error, threads of the others' connections would wait for them."""
    for stream in (sys.stdout, sys.stderr, console):
        stream.flush()
    if code == 0 and dist.is_initialized():
        dist.destroy_process_group()
    os._exit(code)
