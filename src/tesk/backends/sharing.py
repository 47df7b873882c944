"""An executor's streams, read once for all who follow them (docs/decisions/0015-followers.md)."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable
from typing import Generic, Protocol, TypeVar

from tesk.backends.base import LogStream

__all__ = ["Followers", "Place", "Source"]

K = TypeVar("K")

_READ_SIZE = 1 << 14
"""What one follower holds of a stream at most, beside what its connection does."""

_AT_ONCE, _PAUSE_SECONDS = 20, 0.01
"""How many followers hear news before others of the server get a turn: to send a piece takes each 0.1 ms."""


class Place(Protocol):
    """How far one follower has read a stream."""

    def read(self, size: int) -> bytes:
        """At most `size` bytes more, or a line that says how many are missing; b"" when there is nothing more now."""


class Source(Protocol):
    """What is read for all followers of one executor."""

    async def run(self, tell: Callable[[], None]) -> None:
        """Return when nothing more comes. `tell` is called whenever places may read more."""

    def place(self, stream: LogStream) -> Place:
        """The beginning of a stream, as far as it is still there."""

    def close(self) -> None:
        """Free what is held; nobody reads any more."""


class Followers(Generic[K]):
    """Who follows what: a source runs from the first that asks for it by its key until the last that goes."""

    def __init__(self) -> None:
        self._shared: dict[K, _Shared] = {}

    async def follow(self, key: K, stream: LogStream, make: Callable[[], Source]) -> AsyncGenerator[bytes]:
        """The stream of the source `key`, which is made where nobody follows it yet, to its end.

        Raises what the source raises. Close the generator when you leave it early.
        """
        shared = self._shared.get(key)
        if shared is None:
            shared = self._shared[key] = _Shared(make())
        shared.followers += 1
        try:
            async for data in shared.read(stream):
                yield data
        finally:
            shared.followers -= 1
            if not shared.followers:
                del self._shared[key]
                await shared.end()


class _Shared:
    """A source that runs."""

    def __init__(self, source: Source) -> None:
        self.followers = 0
        self._source = source
        self._told = 0
        self._waiting: OrderedDict[asyncio.Future[None], int] = OrderedDict()
        """Who has read all, the longest first, and how often there had been news by then."""
        self._waking: asyncio.Handle | None = None
        self._running = asyncio.create_task(source.run(self._tell))
        self._running.add_done_callback(lambda _: self._tell())

    async def read(self, stream: LogStream) -> AsyncGenerator[bytes]:
        place = self._source.place(stream)
        while True:
            told, over = self._told, self._running.done()
            while data := place.read(_READ_SIZE):
                yield data
            if over:
                self._running.result()
                return
            await self._news_since(told)

    async def end(self) -> None:
        self._running.cancel()
        try:
            await asyncio.gather(self._running, return_exceptions=True)
        finally:
            self._source.close()

    async def _news_since(self, told: int) -> None:
        if told < self._told:
            return
        one = asyncio.get_running_loop().create_future()
        self._waiting[one] = told
        try:
            await one
        finally:
            self._waiting.pop(one, None)

    def _tell(self) -> None:
        self._told += 1
        if self._waking is None:
            self._wake()

    def _wake(self) -> None:
        """Have some of those who wait read on, and the others a little later."""
        self._waking = None
        for _ in range(_AT_ONCE):
            one, told = next(iter(self._waiting.items()), (None, self._told))
            if one is None or told == self._told:
                return
            self._waiting.popitem(last=False)
            if not one.done():
                one.set_result(None)
            if self._waking is None:
                self._waking = asyncio.get_running_loop().call_later(_PAUSE_SECONDS, self._wake)
