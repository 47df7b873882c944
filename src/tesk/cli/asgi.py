"""An httpx transport that calls an ASGI application in this process, piece by piece.

`httpx.ASGITransport` hands out an answer only once it is whole; a log that is followed must come as it is
written.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

import httpx

__all__ = ["AppTransport"]

_LAST_SECONDS = 5.0

Message = MutableMapping[str, Any]
App = Callable[
    [MutableMapping[str, Any], Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]],
    Awaitable[None],
]


class AppTransport(httpx.AsyncBaseTransport):
    """Sends each request to `app`, without a socket."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Call the application; return as soon as its answer has begun."""
        exchange = _Exchange(await request.aread())
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": request.method,
            "scheme": request.url.scheme,
            "path": request.url.path,
            "raw_path": request.url.raw_path.partition(b"?")[0],
            "query_string": request.url.query,
            "root_path": "",
            "headers": [(key.lower(), value) for key, value in request.headers.raw],
            "client": None,
            "server": (request.url.host, request.url.port),
        }
        exchange.run(self._app, scope)
        start = await exchange.next()
        if start is None or start["type"] != "http.response.start":
            await exchange.aclose()
            raise httpx.RemoteProtocolError("the application ended without an answer", request=request)
        return httpx.Response(start["status"], headers=start["headers"], stream=exchange)


class _Exchange(httpx.AsyncByteStream):
    """One request and its answer; also the answer's body."""

    def __init__(self, body: bytes) -> None:
        self._body: bytes | None = body
        self._messages: asyncio.Queue[Message | None] = asyncio.Queue(maxsize=4)
        self._left = asyncio.Event()
        self._work: asyncio.Task[None] | None = None
        self._whole = False

    def run(self, app: App, scope: dict[str, Any]) -> None:
        async def work() -> None:
            try:
                await app(scope, self._receive, self._messages.put)
            finally:
                if not self._left.is_set():
                    await self._messages.put(None)

        self._work = asyncio.create_task(work())

    async def next(self) -> Message | None:
        return await self._messages.get()

    async def _receive(self) -> Message:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (message := await self.next()) is not None:
            yield message.get("body", b"")
            if not message.get("more_body"):
                self._whole = True
                return

    async def aclose(self) -> None:
        """End the application's work on this request."""
        self._left.set()
        if self._work is None:
            return
        if self._whole:
            # all was sent: what is left to do is the application's own
            await asyncio.wait([self._work], timeout=_LAST_SECONDS)
        if not self._work.done():
            self._work.cancel()
            await asyncio.wait([self._work])
        if not self._work.cancelled() and (error := self._work.exception()) is not None:
            raise error
