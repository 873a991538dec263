"""What stands before every request: the limit on bodies, and the count and time of answers."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


class Bounded:
    """Refuses a body of more than `most` bytes, declared or sent, before anything reads it."""

    def __init__(self, app: Any, most: int) -> None:
        self.app, self.most = app, most

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        body, whole = b"", False
        while not whole and len(body) <= self.most and not int(declared or 0) > self.most:
            message = await receive()
            if message["type"] != "http.request":
                return None  # the client left
            body += message.get("body", b"")
            whole = not message.get("more_body", False)
        if not whole or len(body) > self.most:
            detail = json.dumps({"detail": f"the body has more than {self.most} bytes"}).encode()
            headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
            await send({"type": "http.response.start", "status": 413, "headers": headers})
            return await send({"type": "http.response.body", "body": detail})
        given = False

        async def once() -> Any:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        return await self.app(scope, once, send)


class Measured:
    """Counts each answer, and times it from the end of its question on, by route; other paths count as one."""

    def __init__(
        self, app: Any, observe: Callable[[str, int, float], None], routes: set[str]
    ) -> None:
        self.app, self.observe, self.routes = app, observe, routes

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        start, code = time.perf_counter(), 0

        async def read() -> Any:
            nonlocal start
            message = await receive()
            start = time.perf_counter()  # a slow client is no slow service
            return message

        async def watched(message: Any) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = message["status"]
            await send(message)

        try:
            await self.app(scope, read, watched)
        except BaseException:
            code = code or 500
            raise
        finally:
            if code:  # else the client left before it had asked
                route = scope["path"] if scope["path"] in self.routes else "other"
                self.observe(route, code, time.perf_counter() - start)
