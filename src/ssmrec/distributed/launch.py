"""`ssmrec launch`: torchrun with our own last word."""

from __future__ import annotations

import logging
import math
import os
import signal
import tempfile
from collections.abc import Mapping, Sequence

from ssmrec.distributed.meeting import Meeting
from ssmrec.distributed.place import LOST, RESTARTS, cores
from ssmrec.errors import ConfigError, RunError

logger = logging.getLogger("ssmrec")

_GOES_ON = "the same command with --resume goes on from the last checkpoint, if there is one"
_WAIT = 300.0


def launch(
    processes: int,
    command: Sequence[str],
    hosts: int = 1,
    host: int = 0,
    meeting: str | None = None,
    wait: float | None = None,
    restarts: int = 0,
) -> int:
    """Run `ssmrec COMMAND` in several processes of this machine; the exit code of the first that failed.

    After Ctrl-C it is 130, as that of a command in one process.

    Args:
        processes: on this machine.
        command: what follows `ssmrec`, such as `["train", "clicks.parquet"]`.
        hosts: number of machines; host: number of this one; meeting: `name:port` of machine 0.
        wait: seconds that the machines wait for each other; None: 300.
        restarts: how often to start all again after one was lost; they go on from the checkpoint.

    Raises:
        ConfigError: numbers that do not fit, or a port that is in use.
        RunError: another machine did not come, or a process was killed, so that it could say nothing.
    """
    if hosts > 1 and (meeting is None or not 0 <= host < hosts):
        raise ConfigError(
            f"--hosts {hosts} needs --host 0 to {hosts - 1}, the number of this machine, and "
            "--meeting NAME:PORT of machine 0"
        )
    if hosts == 1 and (host or meeting is not None or wait is not None):
        raise ConfigError(
            "--host, --meeting and --wait are for several machines: say how many, --hosts 2"
        )
    wait = _WAIT if wait is None else wait
    if not 1 <= wait < math.inf:
        raise ConfigError(f"--wait {wait:g}: must be a second at least")
    place = None if meeting is None else Meeting.at(meeting, hosts, wait)
    share = str(max(1, cores() // processes))
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ.setdefault(name, share)
    # They are started by `python -m`, which would run a yaml.py of the current folder in the place of yaml.
    os.environ["PYTHONSAFEPATH"] = "1"
    where = ["--standalone"] if place is None else [
        f"--nnodes={hosts}", f"--node-rank={host}", f"--rdzv-endpoint={meeting}",
        "--rdzv-backend=static", "--rdzv-id=ssmrec", f"--rdzv-conf=timeout={int(wait)}",
        f"--max-restarts={restarts}",
    ]  # fmt: skip
    if place is not None:
        place.come(host)
    words = [f"--nproc-per-node={processes}", *where, "--module", "ssmrec", *command]
    most = restarts if hosts == 1 else 0  # on several machines torchrun restarts
    for restart in range(most + 1):
        os.environ[RESTARTS] = str(restart)
        code, killed = _run(words, place)
        if not killed or restart == most:
            break
        logger.warning("%s: all are started again", killed)
    if killed:
        raise RunError(f"{killed}: {_GOES_ON}; --restarts N starts all again at once")
    return code


def _run(words: Sequence[str], place: Meeting | None) -> tuple[int, str]:
    """torchrun with `words`: its exit code, and which process was killed, if one was.

    torchrun's own restarts would repeat mistakes of the command as well; they are for several machines.
    """
    from torch.distributed import DistError
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    for name in list(logging.root.manager.loggerDict):
        if name.startswith("torch.distributed"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # the processes tell it
    try:
        with tempfile.TemporaryDirectory(prefix="ssmrec-") as logs:  # torchrun would leave it
            run(parse_args([f"--log-dir={logs}", *words]))
    except SignalException as error:
        logger.warning("stopped: %s", _GOES_ON)
        return 128 + int(error.sigval), ""
    except ChildFailedError as error:
        return _meaning({rank: failure.exitcode for rank, failure in error.failures.items()})
    except DistError as error:
        if place is None:
            raise
        raise place.failed(error) from None
    return 0, ""


def _meaning(codes: Mapping[int, int]) -> tuple[int, str]:
    """The command's exit code, and which process was killed, if that is why it ended.

    torchrun itself ends by SIGTERM what still runs after a process has failed.

    Args:
        codes: exit codes of the processes that failed; -15 is SIGTERM.
    """
    own = [code for code in codes.values() if code > 0 and code != LOST]
    killed = [
        f"process {rank} was killed ({signal.Signals(-code).name})"
        for rank, code in codes.items() if code < 0 and not (own and code == -signal.SIGTERM)
    ]  # fmt: skip
    return next(iter(own), 2), next(iter(killed), "")
