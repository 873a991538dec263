"""`ssmrec launch`: torchrun with our own last word."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence

from ssmrec.errors import ConfigError


def launch(
    processes: int,
    command: Sequence[str],
    hosts: int = 1,
    host: int = 0,
    meeting: str | None = None,
    restarts: int = 0,
) -> int:
    """Run `ssmrec COMMAND` in several processes of this machine; the exit code of the first that failed.

    Args:
        processes: on this machine.
        command: what follows `ssmrec`, such as `["train", "clicks.parquet"]`.
        hosts: number of machines; host: number of this one; meeting: `name:port` of machine 0.
        restarts: how often to start all again after one was lost; they go on from the checkpoint.

    Raises:
        ConfigError: numbers that do not fit.
    """
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    if hosts > 1 and (meeting is None or not 0 <= host < hosts):
        raise ConfigError(
            f"--hosts {hosts} needs --host 0 to {hosts - 1}, the number of this machine, and "
            "--meeting NAME:PORT of machine 0"
        )
    share = str(max(1, (os.cpu_count() or 1) // processes))
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ.setdefault(name, share)
    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)  # the processes tell it
    where = ["--standalone"] if hosts == 1 else [
        f"--nnodes={hosts}", f"--node-rank={host}", f"--rdzv-endpoint={meeting}",
        "--rdzv-backend=static", "--rdzv-id=ssmrec",
    ]  # fmt: skip
    words = [f"--nproc-per-node={processes}", f"--max-restarts={restarts}", *where]
    try:
        run(parse_args([*words, "--module", "ssmrec", *command]))
    except ChildFailedError as error:
        codes = [failure.exitcode for failure in error.failures.values()]
        return next((code for code in codes if code > 0), 1)
    return 0
