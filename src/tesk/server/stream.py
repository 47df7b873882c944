"""A response that goes on while an executor writes, and ends when its reader or the server goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

__all__ = ["StreamedLog"]

_HEADERS = {
    "x-content-type-options": "nosniff",  # a log must never run as a page
    "x-accel-buffering": "no",  # nginx would hold lines back
    "cache-control": "no-store",
}


class StreamedLog(Response):
    """`chunks` as text/plain. Ends early, but in order, once `stopping` is set; None: when the chunks do."""

    media_type = "text/plain"

    def __init__(self, chunks: AsyncIterator[bytes], stopping: asyncio.Event | None) -> None:
        super().__init__(headers=_HEADERS)
        del self.headers["content-length"]
        self.chunks = chunks
        self.stopping = stopping

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the chunks end, the client goes or the server stops."""
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        try:
            if scope["method"] != "HEAD":
                await self._pump_until_gone(receive, send)
        finally:
            close = getattr(self.chunks, "aclose", None)
            if close is not None:
                await close()
        await send({"type": "http.response.body", "body": b""})

    async def _pump_until_gone(self, receive: Receive, send: Send) -> None:
        pump = asyncio.create_task(self._pump(send))
        watches: list[asyncio.Task[Any]] = [asyncio.create_task(_gone(receive))]
        if self.stopping is not None:
            watches.append(asyncio.create_task(self.stopping.wait()))
        tasks = [pump, *watches]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        if not pump.cancelled():
            pump.result()

    async def _pump(self, send: Send) -> None:
        async for chunk in self.chunks:
            if chunk:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
