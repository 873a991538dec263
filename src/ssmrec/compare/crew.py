"""Who does the jobs of a plan: this process, or several at a time, each with a training of its own."""

from __future__ import annotations

import logging
import multiprocessing
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol

import numba

from ssmrec.compare.attempt import Attempt, Attempts
from ssmrec.compare.methods import PARTS, Job
from ssmrec.compare.plan import Plan
from ssmrec.compare.store import Store
from ssmrec.errors import ConfigError, RunError, SsmrecError
from ssmrec.training import Listener
from ssmrec.training.device import use_threads
from ssmrec.training.peers import current

logger = logging.getLogger("ssmrec")

_LOOK = 0.2
"""Seconds after which who waits looks up: a wait without end hears no Ctrl-C once polars is loaded."""
_PATIENCE = 3.0
"""Seconds of waiting for trainings to stop after which it is told that they are waited for."""
Ended = list[tuple[Job, Attempt]]


class Crew(Protocol):
    """Does jobs."""

    def begin(self, job: Job) -> None:
        """Begin a job; at most as many may go on as were asked for."""

    def ended(self) -> Ended:
        """Wait until jobs come to their end: which, and what came of each; none if none goes on."""
        ...


@contextmanager
def crew(
    plan: Plan,
    store: Store,
    listener: Listener,
    at_a_time: int,
    start: Callable[[], None] | None = None,
) -> Iterator[Crew]:
    """Those who do `at_a_time` jobs at a time.

    On the way out with an error, such as Ctrl-C, trainings that go on stop at their next step and keep their
    checkpoints.

    Args:
        plan, store: what is done, and where it is kept.
        listener: hears of a training in this process; of others only notes and warnings.
        at_a_time: how many trainings may go on.
        start: as in `run_plan`.
    """
    if at_a_time == 1:
        yield _Alone(Attempts(plan, store, listener))
        return
    several = _Several(plan, store, listener, at_a_time, start)
    try:
        yield several
    finally:
        several.stop()


class _Alone:
    """A job is done as soon as it begins."""

    def __init__(self, attempts: Attempts) -> None:
        self.attempts, self.done = attempts, Ended()

    def begin(self, job: Job) -> None:
        self.done.append((job, self.attempts(job)))

    def ended(self) -> Ended:
        done, self.done = self.done, []
        return done


class _Hand:
    """One of several processes, as the first one knows it.

    What is told through its pipe is all that the two share: a lock would stay with a process that is killed.
    """

    def __init__(self, facts: Sequence[Any]) -> None:
        # Not forked: neither CUDA nor the threads of OpenMP would live on in the child.
        spawn = multiprocessing.get_context("spawn")
        self.pipe, theirs = spawn.Pipe()
        self.process = spawn.Process(target=_work, args=(theirs, *facts), daemon=True)
        self.job: Job | None = None
        self.ready = False
        try:
            with _undisturbed():
                self.process.start()
        except (AssertionError, OSError) as error:  # a daemon may begin none
            raise RunError(f"a process for another training cannot be started: {error}") from None
        finally:
            theirs.close()

    def lost(self, store: Store) -> RunError:
        """Why it came to its end, in words."""
        self.process.join()
        code = self.process.exitcode or 0
        if code >= 0 and not self.ready:
            return RunError(
                "a process for another training could not start (what it says stands above): a program that "
                'runs several at a time is a file, and begins them below `if __name__ == "__main__":`'
            )
        how = f"by signal {-code}" if code < 0 else f"with code {code}"
        return RunError(
            f"a process of the comparison was killed {how}, as it happens where memory runs out: what is "
            f"finished is kept in {store.out}, and the same command goes on, with fewer at a time if memory "
            "was short"
        )


class _Several:
    """Processes that are begun as they are needed."""

    def __init__(
        self,
        plan: Plan,
        store: Store,
        listener: Listener,
        at_a_time: int,
        start: Callable[[], None] | None,
    ) -> None:
        threads = max(1, numba.config.NUMBA_NUM_THREADS // at_a_time)  # type: ignore[attr-defined]
        self.store, self.listener = store, listener
        self.facts = plan, store.out, at_a_time, threads, logger.getEffectiveLevel(), start
        self.hands: list[_Hand] = []

    def begin(self, job: Job) -> None:
        hand = next((hand for hand in self.hands if hand.job is None), None)
        if hand is None:
            hand = _Hand(self.facts)
            self.hands.append(hand)
        try:
            hand.pipe.send(job)
        except OSError:
            raise hand.lost(self.store) from None
        except Exception as error:  # what cannot be sent says so in many ways
            raise ConfigError(f"{job.title}: cannot be sent to another process ({error})") from None
        hand.job = job

    def ended(self) -> Ended:
        done: Ended = []
        while not done and any(hand.job is not None for hand in self.hands):
            told = wait([hand.pipe for hand in self.hands], _LOOK)
            for hand in self.hands:
                if hand.pipe in told:
                    done += self._heard(hand)
        return done

    def _heard(self, hand: _Hand) -> Ended:
        """What a process tells now."""
        try:
            kind, what = hand.pipe.recv()
        except (EOFError, OSError):
            raise hand.lost(self.store) from None
        job = hand.job
        if kind == "ready":
            hand.ready = True
        elif kind == "done":
            hand.job = None
            return [] if job is None else [(job, what)]
        elif kind == "error":
            raise what
        elif kind == "log":
            name, level, text = what
            logging.getLogger(name).log(level, "%s", text)
        else:
            text = what if job is None else f"{job.title}: {what}"
            (self.listener.warning if kind == "warning" else self.listener.note)(text)
        return []

    def stop(self) -> None:
        """Tell all to stop, and wait for them; whoever is interrupted again ends them at once."""
        try:
            for hand in self.hands:
                hand.pipe.close()  # a training looks whether anybody still listens
            waited = 0.0
            while alive := [hand for hand in self.hands if hand.process.is_alive()]:
                alive[0].process.join(_LOOK)
                waited += _LOOK
                going = sum(hand.job is not None for hand in alive)
                if going and abs(waited - _PATIENCE) < _LOOK / 2:
                    logger.warning("waiting for %d trainings to stop; Ctrl-C ends them", going)
        except KeyboardInterrupt:
            for hand in self.hands:
                hand.process.terminate()
            raise


@contextmanager
def _undisturbed() -> Iterator[None]:
    """A process that begins here hears no Ctrl-C: the first one does, and tells all."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Line(Listener, logging.Handler):
    """The way from one of several processes to the first: what it tells, and whether it is to stop."""

    def __init__(self, pipe: Connection) -> None:
        logging.Handler.__init__(self)
        self.pipe, self.turn = pipe, threading.Lock()

    def tell(self, kind: str, what: object) -> None:
        with self.turn:
            try:
                self.pipe.send((kind, what))
            except OSError:  # nobody listens any more
                raise KeyboardInterrupt from None

    def step(self, epoch: int, done: int, total: int, loss: float) -> None:
        self._look()

    def evaluating(self, done: int, total: int) -> None:
        self._look()

    def note(self, text: str) -> None:
        self.tell("note", text)

    def warning(self, text: str) -> None:
        self.tell("warning", text)

    def emit(self, record: logging.LogRecord) -> None:
        self.tell("log", (record.name, record.levelno, record.getMessage()))

    def _look(self) -> None:
        # While a training goes on nothing is sent to it: what comes is the end of the first process.
        if self.pipe.poll():
            raise KeyboardInterrupt


def _work(
    pipe: Connection,
    plan: Plan,
    out: Any,
    at_a_time: int,
    threads: int,
    level: int,
    start: Callable[[], None] | None,
) -> None:
    """Do the jobs that come through the pipe until it is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    line = _Line(pipe)
    logging.getLogger().handlers[:] = [line]
    logger.setLevel(level)
    try:
        current().threads = threads
        use_threads(threads)
        if start is not None:
            start()
        attempts = Attempts(plan, Store(out), line, at_a_time)
        line.tell("ready", None)
        while True:
            job = pipe.recv()
            _refuse_unknown(job)
            line.tell("done", attempts(job))
    except (EOFError, KeyboardInterrupt):
        return
    except BaseException as error:
        line.tell("error", _fit_to_send(error))


def _refuse_unknown(job: Job) -> None:
    for section, table in PARTS.items():
        name = getattr(job.config, section)["name"]
        if name not in table:
            raise ConfigError(
                f"{job.title}: {section}.name={name} is not known in the process that trains it: register "
                "it in a module that is imported, or by `start=`"
            )


def _fit_to_send(error: BaseException) -> BaseException:
    """The error as it is, or where it was raised: not every one arrives as it was sent."""
    if isinstance(error, SsmrecError):
        return error
    where = "".join(traceback.format_exception(error))
    return RuntimeError(f"in a process of the comparison:\n{where}")
