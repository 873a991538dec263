"""Where the machines of one training find each other: seen to before torch, which would wait without a word."""

from __future__ import annotations

import logging
import os
import socket
import time
from contextlib import suppress
from dataclasses import dataclass

from ssmrec.errors import ConfigError, RunError

logger = logging.getLogger("ssmrec")

_AGAIN = 0.5
"""Seconds between two tries to reach machine 0."""
_ANSWER = 5.0
"""Seconds that one try may take."""


@dataclass(frozen=True)
class Meeting:
    """A port of machine 0, at which the other machines look for it.

    Args:
        name, port: of machine 0. hosts: number of machines. wait: seconds to wait for all to be there.
    """

    name: str
    port: int
    hosts: int
    wait: float

    @classmethod
    def at(cls, text: str, hosts: int, wait: float) -> Meeting:
        """From `NAME:PORT`.

        Raises:
            ConfigError: it is of another form, or no machine of that name is known.
        """
        name, _, port = text.rpartition(":")
        if not name or not port.isdecimal() or not 0 < int(port) < 2**16:
            raise ConfigError(
                f"--meeting {text}: must be NAME:PORT of machine 0, the port from 1 to 65535"
            )
        found = cls(name.strip("[]"), int(port), hosts, wait)
        try:
            socket.getaddrinfo(found.name, found.port)
        except OSError as error:
            raise ConfigError(
                f"--meeting {text}: no machine of that name is known here ({error.strerror or error})"
            ) from None
        return found

    def __str__(self) -> str:
        return f"{self.name}:{self.port}"

    def come(self, host: int) -> None:
        """Tell what is waited for. Machine 0 sees that the port is free, the others that it listens.

        Raises:
            ConfigError: the port cannot be opened.
            RunError: machine 0 has not come in time.
        """
        if host == 0:
            self._assert_free()
            others = "1 other machine" if self.hosts == 2 else f"{self.hosts - 1} other machines"
            logger.info("waiting for %s at %s, for %g s at most", others, self, self.wait)
            return
        logger.info("waiting for machine 0 at %s, for %g s at most", self, self.wait)
        end = time.monotonic() + self.wait
        while not self._listens():
            if time.monotonic() >= end:
                raise RunError(
                    f"--meeting {self}: nobody was there within {self.wait:g} s: start "
                    "machine 0 (--host 0), check its name, the port and what closes it, or --wait longer"
                )
            time.sleep(_AGAIN)

    def failed(self, error: Exception) -> RunError:
        """What to say of a failure of torch to bring all together."""
        reason = str(error).strip().splitlines()[0]
        return RunError(
            f"--meeting {self}: the {self.hosts} machines do not reach each other ({reason}): start each with "
            "its own --host and the same --hosts, or --wait longer"
        )

    def _assert_free(self) -> None:
        try:
            socket.create_server(("", self.port)).close()
        except OSError as error:
            raise ConfigError(
                f"--meeting {self}: the port cannot be opened here "
                f"({os.strerror(error.errno or 0)}): take another one, on all machines"
            ) from None

    def _listens(self) -> bool:
        with suppress(OSError):
            socket.create_connection((self.name, self.port), _ANSWER).close()
            return True
        return False
