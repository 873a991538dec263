"""Compiled loops and kernels, each beside the plain definition it is tested against."""

from __future__ import annotations

import atexit
import logging
import shutil
import tempfile

import numba

logger = logging.getLogger("ssmrec")


def _probe() -> None:
    """Stands for the functions of this room."""


def _give_place() -> None:
    """Where numba finds no folder to keep compiled code in, give it one for the time of this process.

    So it is for a user without a home in a read-only installation, as in many containers; numba would end
    every command there. The folder is a new and private one: numba runs what it finds in it.
    """
    try:
        numba.njit(cache=True)(_probe)
    except RuntimeError:
        place = tempfile.mkdtemp(prefix="ssmrec-compiled-")
        atexit.register(shutil.rmtree, place, ignore_errors=True)
        numba.config.CACHE_DIR = place  # type: ignore[attr-defined]
        logger.warning(
            "compiled code cannot be kept, so that every start compiles anew: set NUMBA_CACHE_DIR to a "
            "folder that can be written"
        )


_give_place()
