"""Compiled loops over several threads, and why a forked process has none.

The threads of GNU OpenMP do not survive a fork: a parallel loop in the child would end it without a word, and
those who wait for it, such as `multiprocessing.Pool.map`, would wait for ever.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from typing import Any

import numba
from numba.np.ufunc.parallel import threading_layer

from ssmrec.errors import RunError

_lost = False
"""Whether this process was forked from one whose threads of GNU OpenMP had been started."""


def parallel(function: Callable[..., Any]) -> Callable[..., Any]:
    """`numba.njit` with `prange` over threads, kept on disk, without the interpreter's lock.

    Called in a process that lost its threads it raises a RunError; `__wrapped__` is the compiled function.
    """
    compiled = numba.njit(parallel=True, cache=True, nogil=True)(function)

    @wraps(function)
    def checked(*args: Any) -> Any:
        refuse_lost()
        return compiled(*args)

    checked.__wrapped__ = compiled
    return checked


def refuse_lost() -> None:
    """Refuse to begin what needs threads that a fork has taken away.

    Raises:
        RunError: this process was forked from one that had started threads.
    """
    if _lost:
        raise RunError(
            "this process was forked from one that had started threads, which do not survive that: start "
            "workers by multiprocessing.get_context('spawn'), or by joblib, whose loky does so"
        )


def _after_fork() -> None:
    global _lost
    try:
        _lost = threading_layer() == "omp" and _vendor() == "GNU"
    except ValueError:  # no threads have been started
        _lost = False


def _vendor() -> str:
    # Not everywhere there; where the layer is omp it is loaded already.
    return import_module("numba.np.ufunc.omppool").openmp_vendor


if hasattr(os, "register_at_fork"):  # not on Windows, which forks nothing
    os.register_at_fork(after_in_child=_after_fork)
