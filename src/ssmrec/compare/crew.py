"""Who does the jobs of a plan: this process, or several at a time, each with a training of its own."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from logging.handlers import QueueHandler, QueueListener
from multiprocessing.connection import wait
from threading import Thread
from typing import Any

import numba

from ssmrec.compare.attempt import Attempt, Attempts
from ssmrec.compare.methods import Job
from ssmrec.compare.plan import Plan
from ssmrec.compare.store import Store
from ssmrec.errors import RunError
from ssmrec.training import Listener
from ssmrec.training.device import use_threads
from ssmrec.training.peers import current

Begin = Callable[[Job], "Future[Attempt]"]


@contextmanager
def crew(
    plan: Plan,
    store: Store,
    listener: Listener,
    at_a_time: int,
    start: Callable[[], None] | None = None,
) -> Iterator[Begin]:
    """What begins a job: here and at once, or in the first of `at_a_time` processes that is free.

    On the way out with an error, such as Ctrl-C, trainings that go on stop at their next step and keep their
    checkpoints.

    Args:
        plan, store: what is done, and where it is kept.
        listener: hears of a training in this process; of others only their warnings are logged.
        at_a_time: how many trainings may go on.
        start: as in `run_plan`.
    """
    if at_a_time == 1:
        attempts = Attempts(plan, store, listener)

        def here(job: Job) -> Future[Attempt]:
            done: Future[Attempt] = Future()
            done.set_result(attempts(job))
            return done

        yield here
        return
    # Not forked: neither CUDA nor the threads of OpenMP would live on in the child.
    spawn = multiprocessing.get_context("spawn")
    stop, told = spawn.Event(), spawn.Queue()
    log = QueueListener(told, *logging.getLogger().handlers, respect_handler_level=True)
    facts = plan, store.out, at_a_time, stop, told, start
    pool = ProcessPoolExecutor(at_a_time, spawn, _Worker.begin, facts)
    log.start()
    try:
        yield lambda job: pool.submit(_Worker.attempt, job)
        pool.shutdown()
    except BrokenProcessPool:
        raise RunError(
            "a process of the comparison was killed, as it happens where memory runs out, or could not start: "
            f"what is finished is kept in {store.out}, and the same command goes on, with fewer at a time "
            "if memory was short"
        ) from None
    finally:
        stop.set()
        _end(pool)
        log.stop()


def _end(pool: ProcessPoolExecutor) -> None:
    """Wait for the trainings to stop; whoever is interrupted again ends them."""
    try:
        pool.shutdown(cancel_futures=True)
    except KeyboardInterrupt:
        for process in multiprocessing.active_children():
            process.terminate()
        raise


class _Stopped(Listener):
    """Breaks a training off, as Ctrl-C does, once it is to stop; warnings are logged."""

    def __init__(self, stop: Any) -> None:
        self.stop = stop

    def step(self, epoch: int, done: int, total: int, loss: float) -> None:
        self._look()

    def evaluating(self, done: int, total: int) -> None:
        self._look()

    def _look(self) -> None:
        if self.stop.is_set():
            raise KeyboardInterrupt


class _Worker:
    """The state of one of several processes."""

    attempts: Attempts

    @classmethod
    def begin(
        cls,
        plan: Plan,
        out: Any,
        at_a_time: int,
        stop: Any,
        told: Any,
        start: Callable[[], None] | None,
    ) -> None:
        """Share the threads, hear of the end, log to the process that began this one."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process hears it, and tells all
        Thread(target=_outlive, daemon=True).start()
        logging.getLogger().handlers[:] = [QueueHandler(told)]
        current().threads = max(1, numba.config.NUMBA_NUM_THREADS // at_a_time)  # type: ignore[attr-defined]
        use_threads(current().threads)
        if start is not None:
            start()
        cls.attempts = Attempts(plan, Store(out), _Stopped(stop), at_a_time)

    @classmethod
    def attempt(cls, job: Job) -> Attempt:
        """As `Attempts`."""
        return cls.attempts(job)


def _outlive() -> None:
    """End this process with the one that began it."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
