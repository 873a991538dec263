"""What stands before every request: an answer at the end of the service; headers, count and time of answers."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


async def refuse(send: Send, status: int, detail: str) -> None:
    """Answer in JSON, as the routes do, and close the connection."""
    content = json.dumps({"detail": detail}).encode()
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


class Marked:
    """Browsers take an answer for the type it names, and keep none that does not say that they may."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        async def marked(message: Any) -> None:
            if message["type"] == "http.response.start":
                headers = [*message["headers"], (b"x-content-type-options", b"nosniff")]
                if all(name.lower() != b"cache-control" for name, _ in headers):
                    headers.append((b"cache-control", b"no-store"))
                message = {**message, "headers": headers}
            await send(message)

        await self.app(scope, receive, marked)


class Ending:
    """Answers 503 where the server cancels a question, which it does at its end to those that take too long."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        begun = False

        async def watched(message: Any) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except asyncio.CancelledError:
            if not begun:
                await refuse(send, 503, "the service is stopping; ask again")


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
