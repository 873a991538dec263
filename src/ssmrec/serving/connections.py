"""The connections of the service: how long each is waited for, and what is logged of them.

Needs the extra `serve`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import uvicorn
from uvicorn.protocols.http.auto import AutoHTTPProtocol

HEADER = 10.0
"""Seconds until the header of a request is whole, from the connection or its first byte on."""
UNREAD = 60.0
"""Seconds in which a client must read some of an answer that it has not read."""
STOP = 10
"""Seconds for answers that are under way when the service ends."""


def make_server(
    app: Any, header: float = HEADER, unread: float = UNREAD, stop: int = STOP
) -> uvicorn.Server:
    """A server of `app` that closes connections whose client does nothing, and logs few lines.

    Args:
        header, unread, stop: seconds, see `HEADER`, `UNREAD` and `STOP`.
    """

    class Protocol(Timed, AutoHTTPProtocol):  # pyright: ignore[reportGeneralTypeIssues]
        limits = header, unread

    settings = uvicorn.Config(
        app, http=Protocol, ws="none", log_level="warning", access_log=False,
        timeout_graceful_shutdown=stop,
    )  # fmt: skip
    for name in ("asyncio", "uvicorn.error"):
        logging.getLogger(name).addFilter(SELDOM)
    return uvicorn.Server(settings)


class Timed(asyncio.Protocol):
    """Closes a connection that waits for its client too long; goes before a protocol class of uvicorn.

    Bodies have a limit of their own (`bodies.Bounded`), and a connection that nothing comes on after an
    answer has uvicorn's.
    """

    limits: tuple[float, float]
    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport
    cycle: Any
    """The request that is being read or answered, or the last one; None before the first."""
    _header: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._expect_header()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._expect_header()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._header = _ended(self._header)
        self._unread = _ended(self._unread)

    def on_response_complete(self) -> None:
        super().on_response_complete()  # pyright: ignore[reportAttributeAccessIssue]
        self._expect_reading(self.transport.get_write_buffer_size())

    def _expect_header(self) -> None:
        """More bytes of the same header give it no more time."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._header = _ended(self._header)
        elif self._header is None:
            self._header = self.loop.call_later(self.limits[0], self.transport.close)

    def _expect_reading(self, left: int) -> None:
        if left and self._unread is None:
            self._unread = self.loop.call_later(self.limits[1], self._look, left)

    def _look(self, before: int) -> None:
        self._unread = None
        left = self.transport.get_write_buffer_size()
        if left >= before:
            return self.transport.abort()  # to close would wait for the client to read
        return self._expect_reading(left)


def _ended(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


class Seldom(logging.Filter):
    """Passes each line that clients can cause once in `seconds`, that there are no more files in short."""

    def __init__(self, seconds: float = 10.0) -> None:
        super().__init__()
        self.seconds, self.last = seconds, dict[str, float]()

    def filter(self, record: logging.LogRecord) -> bool:
        text = str(record.msg)
        if "._start_serving(" in text:  # it would take connections again, after the end
            return False
        if text.startswith("socket.accept() out of system resource"):
            reason = record.exc_info[1] if record.exc_info else None
            record.msg = "no more connections can be taken (%s): raise the limit of the service (LimitNOFILE)"
            record.args = (getattr(reason, "strerror", None) or reason,)
            record.exc_info = None
        elif record.levelno >= logging.ERROR:
            return True
        now = time.monotonic()
        if now - self.last.get(record.msg, -self.seconds) < self.seconds:
            return False
        self.last[record.msg] = now
        return True


SELDOM = Seldom()
