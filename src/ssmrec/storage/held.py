"""A folder that one process at a time writes a run to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ssmrec.errors import RunError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold `folder`, which exists; the system lets go of it when this process ends, however that comes.

    Where the system or its disk knows no locks, nothing is held.

    Raises:
        RunError: another process holds it, or this one does already.
    """
    if fcntl is None:
        yield
        return
    place = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(
                f"{folder}: another command writes its run there now; wait for it, or choose another --out"
            ) from None
        except OSError:
            pass
        yield
    finally:
        os.close(place)
