"""What of a request body is read before anything answers: up to a size, and for some seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from ssmrec.serving.middleware import Receive, Send, refuse

SECONDS = 30.0
"""For a body to come, by default."""
DISCARDED = 64 << 20
"""Bytes read of a body that is too large: many clients send all before they look for an answer."""


class Bounded:
    """Refuses a body of more than `most` bytes, declared or sent, or that takes longer than `seconds`.

    One whose length is told in two ways is not read: where it ends is not sure (RFC 9112, 6.1).
    """

    def __init__(self, app: Any, most: int, seconds: float = SECONDS) -> None:
        self.app, self.most, self.seconds = app, most, seconds

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        headers = dict(scope["headers"])
        if b"content-length" in headers and b"transfer-encoding" in headers:
            told = "the body has both a content-length and a transfer-encoding: send one of them"
            return await refuse(send, 400, told)
        declared, body = int(headers.get(b"content-length") or 0), bytearray()
        whole: bool | None = False
        with suppress(TimeoutError):
            async with asyncio.timeout(self.seconds):
                if declared <= self.most or self._worth_reading(declared, headers):
                    whole = await self._fill(body, declared, receive)
        if whole is None:
            return None  # the client left
        if max(declared, len(body)) > self.most:
            return await refuse(send, 413, f"the body has more than {self.most} bytes")
        if not whole:
            told = f"the body did not come within {self.seconds:g} seconds"
            return await refuse(send, 408, told)
        given = False

        async def once() -> Any:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": bytes(body), "more_body": False}

        return await self.app(scope, once, send)

    @staticmethod
    def _worth_reading(declared: int, headers: Mapping[bytes, bytes]) -> bool:
        """Whether the client of a body that is too large may get its answer by that."""
        return declared <= DISCARDED and headers.get(b"expect", b"").lower() != b"100-continue"

    async def _fill(self, body: bytearray, declared: int, receive: Receive) -> bool | None:
        """Read into `body`, little more than `most` bytes; whether it was whole, None if the client left."""
        read, whole = 0, False
        while not whole and read <= max(self.most, DISCARDED):
            message = await receive()
            if message["type"] != "http.request":
                return None
            part = message.get("body", b"")
            read += len(part)
            if max(declared, len(body)) <= self.most:
                body += part
            whole = not message.get("more_body", False)
        return whole
