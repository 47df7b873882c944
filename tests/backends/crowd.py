"""Many who follow one stream of a real server, over sockets of their own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

__all__ = ["Follower", "crowd"]


class Follower:
    """One connection; `heard` is the stream so far, unless it does not `listen`."""

    def __init__(self) -> None:
        self.heard = b""
        self.listen = True
        self._over = asyncio.Event()

    async def follow(self, url: str, path: str) -> None:
        """Ask, and read to the end of the stream."""
        place = urlsplit(url)
        assert place.hostname is not None
        self._reader, self._writer = await asyncio.open_connection(place.hostname, place.port, limit=1 << 16)
        self._writer.write(f"GET {path} HTTP/1.1\r\nHost: {place.netloc}\r\n\r\n".encode())
        assert (await self._reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        self._reading = asyncio.create_task(self._read())

    async def over(self) -> bytes:
        """The whole stream, once it has ended in order."""
        await self._reading
        return self.heard

    async def leave(self) -> None:
        """Go, wherever the stream is."""
        self._reading.cancel()
        self._writer.transport.abort()

    async def _read(self) -> None:
        while self.listen:
            size = int(await self._reader.readline(), 16)
            self.heard += (await self._reader.readexactly(size + 2))[:-2]
            if not size:
                return


@asynccontextmanager
async def crowd(url: str, path: str, size: int) -> AsyncIterator[list[Follower]]:
    """So many followers of what `path` answers."""
    made = [Follower() for _ in range(size)]
    try:
        for begin in range(0, size, 50):
            await asyncio.gather(*(one.follow(url, path) for one in made[begin : begin + 50]))
        yield made
    finally:
        for one in made:
            await one.leave()
