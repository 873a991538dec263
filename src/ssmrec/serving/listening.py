"""Where the service listens, and how many connections it may have."""

from __future__ import annotations

import errno
import socket
import sys
from contextlib import suppress

from ssmrec.errors import ConfigError

FULL = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
"""Faults that mean that no further connection can be taken now."""


class Listener(socket.socket):
    """Asked for connections in a row, it tells once that none can be taken, then that there are no more.

    asyncio asks 2048 times in a row, and for each such fault it logs a traceback and asks again a second later.
    """

    full = False

    def accept(self) -> tuple[socket.socket, object]:
        if self.full:
            self.full = False
            raise BlockingIOError
        try:
            return super().accept()
        except OSError as error:
            self.full = error.errno in FULL
            raise


def listening(host: str, port: int) -> Listener:
    """A socket that listens; port 0 takes a free one.

    Raises:
        ConfigError: the port is in use or not allowed, or the address is not of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named, else asyncio does not see that it is TCP, and each answer waits 40 ms for its second part.
    place = Listener(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if sys.platform != "win32":  # there it would share a port that is in use
            place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        place.bind((host, port))
        place.listen(2048)
    except (OSError, UnicodeError) as error:
        place.close()
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"cannot listen at {host}, port {port} ({reason}): choose another --port (0 takes a free "
            "one), or a --host of this machine (0.0.0.0 for all of its addresses)"
        ) from None
    return place


def allow_more_files() -> None:
    """Raise this process's limit of open files, and so of connections, to the most it may have itself."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with suppress(OSError, ValueError):  # macOS takes no infinite one
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
