"""How fast we ask the API server, and how long we go on asking."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable

__all__ = ["Backoff", "Deadline", "Pace"]


class Pace:
    """At most `qps` requests a second on average, and `burst` at once, over everything that shares this object.

    Who comes first goes first. What is asked for while it is slow waits; nothing is refused.
    """

    def __init__(self, qps: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        if qps <= 0 or burst < 1:
            raise ValueError("qps must be above 0 and burst at least 1")
        self._gap = 1.0 / qps
        self._slack = (burst - 1) * self._gap
        self._clock = clock
        self._next = 0.0

    def reserve(self) -> float:
        """Take the next place, and say in how many seconds it comes."""
        now = self._clock()
        place = max(self._next, now - self._slack)
        self._next = place + self._gap
        return max(0.0, place - now)

    async def take(self) -> None:
        """Return when the next request may go out."""
        wait = self.reserve()
        if wait:
            await asyncio.sleep(wait)


class Backoff:
    """Seconds to wait before each next try: doubling from `first` up to `most`, with jitter of a half."""

    def __init__(self, first: float, most: float, jitter: Callable[[], float] = random.random) -> None:
        self._first = first
        self._most = most
        self._jitter = jitter
        self._failed = 0

    def renew(self) -> None:
        """It went well: begin anew with `first`."""
        self._failed = 0

    def next(self, at_least: float | None = None) -> float:
        """How long to wait now; `at_least` what the other side asked for, as far as `most` allows."""
        delay = self._first * 2.0 ** min(self._failed, 30) * (0.5 + self._jitter())
        self._failed += 1
        return min(max(delay, at_least or 0.0), self._most)


class Deadline:
    """A time after which nothing is tried again; with `again` False, nothing is tried again before it either."""

    def __init__(self, seconds: float, *, again: bool = True, clock: Callable[[], float] = time.monotonic) -> None:
        self._again = again
        self._clock = clock
        self._end = clock() + seconds
        self._backoff = Backoff(0.1, 10.0)

    def left(self) -> float:
        """Seconds until then; below 0 once it is over."""
        return self._end - self._clock()

    async def pause(self, error: Exception, at_least: float | None = None) -> None:
        """Wait, longer each time, before another try; raise `error` instead when there is no time for one."""
        delay = self._backoff.next(at_least)
        if not self._again or delay >= self.left():
            raise error
        await asyncio.sleep(delay)
