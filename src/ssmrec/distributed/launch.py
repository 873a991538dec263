"""`ssmrec launch`: torchrun with our own last word."""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Sequence

from ssmrec.distributed.place import RESTARTS
from ssmrec.errors import ConfigError, RunError

logger = logging.getLogger("ssmrec")

_GOES_ON = "the same command with --resume goes on from the last checkpoint, if there is one"


def launch(
    processes: int,
    command: Sequence[str],
    hosts: int = 1,
    host: int = 0,
    meeting: str | None = None,
    restarts: int = 0,
) -> int:
    """Run `ssmrec COMMAND` in several processes of this machine; the exit code of the first that failed.

    After Ctrl-C it is 130, as that of a command in one process.

    Args:
        processes: on this machine.
        command: what follows `ssmrec`, such as `["train", "clicks.parquet"]`.
        hosts: number of machines; host: number of this one; meeting: `name:port` of machine 0.
        restarts: how often to start all again after one was lost; they go on from the checkpoint.

    Raises:
        ConfigError: numbers that do not fit.
        RunError: a process was killed, so that it could say nothing.
    """
    if hosts > 1 and (meeting is None or not 0 <= host < hosts):
        raise ConfigError(
            f"--hosts {hosts} needs --host 0 to {hosts - 1}, the number of this machine, and "
            "--meeting NAME:PORT of machine 0"
        )
    if hosts == 1 and (host or meeting is not None):
        raise ConfigError("--host and --meeting are for several machines: say how many, --hosts 2")
    if meeting is not None:
        _assert_place(meeting)
    share = str(max(1, (os.cpu_count() or 1) // processes))
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ.setdefault(name, share)
    where = ["--standalone"] if hosts == 1 else [
        f"--nnodes={hosts}", f"--node-rank={host}", f"--rdzv-endpoint={meeting}",
        "--rdzv-backend=static", "--rdzv-id=ssmrec", f"--max-restarts={restarts}",
    ]  # fmt: skip
    words = [f"--nproc-per-node={processes}", *where, "--module", "ssmrec", *command]
    most = restarts if hosts == 1 else 0  # on several machines torchrun restarts
    for restart in range(most + 1):
        os.environ[RESTARTS] = str(restart)
        code, killed = _run(words)
        if not killed or restart == most:
            break
        logger.warning("%s: all are started again", killed)
    if killed:
        raise RunError(f"{killed}: {_GOES_ON}; --restarts N starts all again at once")
    return code


def _run(words: Sequence[str]) -> tuple[int, str]:
    """torchrun with `words`: its exit code, and which process was killed, if one was.

    torchrun's own restarts would repeat mistakes of the command as well; they are for several machines.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    for name in list(logging.root.manager.loggerDict):
        if name.startswith("torch.distributed"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # the processes tell it
    try:
        run(parse_args(list(words)))
    except SignalException as error:
        logger.warning("stopped: %s", _GOES_ON)
        return 128 + int(error.sigval), ""
    except ChildFailedError as error:
        codes = {rank: failure.exitcode for rank, failure in error.failures.items()}
        killed = [
            f"process {rank} was killed ({signal.Signals(-code).name})"
            for rank, code in codes.items() if code < 0
        ]  # fmt: skip
        return next((code for code in codes.values() if code > 0), 2), next(iter(killed), "")
    return 0, ""


def _assert_place(meeting: str) -> None:
    """Refuse what is no `NAME:PORT` of a machine that can be found; torch would ask for ever."""
    name, _, port = meeting.rpartition(":")
    if not name or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ConfigError(
            f"--meeting {meeting}: must be NAME:PORT of machine 0, the port from 1 to 65535"
        )
    try:
        socket.getaddrinfo(name.strip("[]"), int(port))
    except OSError as error:
        raise ConfigError(
            f"--meeting {meeting}: no machine of that name is known here ({error.strerror or error})"
        ) from None
