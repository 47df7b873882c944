"""A load generator that costs little: raw HTTP/1.1 on uvloop, keep-alive, nothing parsed but status and length.

It shares the machine's cores with the server it measures, so every request is bytes made beforehand and every answer
is counted, not kept. `Load.generator_share` says what it took of one core.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import uvloop

__all__ = ["Load", "get", "post", "run", "run_together"]

_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *([0-9]+)")
_DEADLINE_SECONDS = 30.0
"""How long an answer may take before the measurement is given up."""


@dataclass
class Load:
    """What came of one stream of requests: seconds each took, bytes of the last answer."""

    seconds: list[float] = field(default_factory=list)
    wall: float = 0.0
    body: int = 0
    generator_share: float = 0.0

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.seconds) / self.wall

    def percentile(self, part: float) -> float:
        """The time in ms within which `part` of the answers came."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(len(ordered) * part))] * 1000


def get(path: str) -> bytes:
    """A GET request."""
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def post(path: str, body: bytes) -> bytes:
    """A POST request with JSON."""
    about = f"Content-Type: application/json\r\nContent-Length: {len(body)}"
    return f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{about}\r\n\r\n".encode() + body


def run(url: str, requests: Iterator[bytes], connections: int, *, seconds: float = 0, count: int = 0) -> Load:
    """Send `requests` over `connections` at once, each after the answer before, for `seconds` or `count` of them."""
    return run_together(url, [(requests, connections)], seconds=seconds, count=count)[0]


def run_together(
    url: str, streams: list[tuple[Iterator[bytes], int]], *, seconds: float = 0, count: int = 0
) -> list[Load]:
    """Several streams of requests at once, each as in `run`; `count` is each stream's own."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(url, streams, seconds, count))


async def _run(url: str, streams: list[tuple[Iterator[bytes], int]], seconds: float, count: int) -> list[Load]:
    loop = asyncio.get_running_loop()
    place = urlsplit(url)
    assert place.hostname is not None
    assert place.port is not None
    loads = [Load() for _ in streams]
    ends: list[asyncio.Future[None]] = []
    cpu, start = time.process_time(), time.perf_counter()
    until = start + seconds if seconds else None
    for load, (requests, connections) in zip(loads, streams, strict=True):
        more = _more(requests, load, until, count)
        for _ in range(connections):
            ends.append(loop.create_future())
            connection = _Connection(more, load, ends[-1])
            await loop.create_connection(lambda made=connection: made, place.hostname, place.port)  # type: ignore[misc]
    await asyncio.wait_for(asyncio.gather(*ends), (seconds or 300) + _DEADLINE_SECONDS)
    wall = time.perf_counter() - start
    for load in loads:
        load.wall = wall
        load.generator_share = (time.process_time() - cpu) / wall
    return loads


def _more(requests: Iterator[bytes], load: Load, until: float | None, count: int) -> Callable[[], bytes | None]:
    """The next request, None when there is to be no other."""
    sent = 0

    def more() -> bytes | None:
        nonlocal sent
        if (until is not None and time.perf_counter() >= until) or (count and sent >= count):
            return None
        sent += 1
        return next(requests)

    return more


class _Connection(asyncio.Protocol):
    """One keep-alive connection: a request, its answer, the next."""

    def __init__(self, more: Callable[[], bytes | None], load: Load, end: asyncio.Future[None]) -> None:
        self._more = more
        self._load = load
        self._end = end
        self._head = b""
        self._missing = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._next()

    def _next(self) -> None:
        request = self._more()
        if request is None:
            self._transport.close()
            return
        self._began = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        if self._missing:
            self._missing -= len(data)
        else:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return
            length = _LENGTH.search(self._head, 0, end)
            if self._head[9:12] != b"200" or length is None:
                self._fail(f"the server answered {self._head[:500]!r}")
                return
            self._load.body = int(length[1])
            self._missing = self._load.body - (len(self._head) - end - 4)
            self._head = b""
        if self._missing <= 0:
            self._load.seconds.append(time.perf_counter() - self._began)
            self._next()

    def connection_lost(self, error: Exception | None) -> None:
        if not self._end.done():
            if error is not None:
                self._end.set_exception(error)
            else:
                self._end.set_result(None)

    def _fail(self, why: str) -> None:
        if not self._end.done():
            self._end.set_exception(RuntimeError(why))
        self._transport.close()
