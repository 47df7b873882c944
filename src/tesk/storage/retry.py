"""Trying again: bounded, later each time, and never for what another try cannot cure."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tesk.storage.errors import StorageError

__all__ = ["Passing", "Tries", "retrying"]

T = TypeVar("T")

_LONGEST_DELAY = 30.0


class Passing(Exception):
    """A fault that may be gone the next time, as the error to raise when it is not; `after` is how many
    seconds the other side asked to be left alone.
    """

    def __init__(self, error: StorageError, after: float | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.after = after


class Tries:
    """How often one transfer may still fail, and how long to wait each time."""

    def __init__(self, retries: int, delay: float, jitter: Callable[[], float] = random.random) -> None:
        self._retries = retries
        self._delay = delay
        self._jitter = jitter
        self._failed = 0

    def renew(self) -> None:
        """The transfer has got on: what failed before does not count any more."""
        self._failed = 0

    def next_delay(self, after: float | None) -> float | None:
        """Seconds to wait before the next try; None when this was the last."""
        if self._failed >= self._retries:
            return None
        delay = self._delay * 2.0**self._failed * (0.5 + self._jitter())
        self._failed += 1
        return min(max(delay, after or 0.0), _LONGEST_DELAY)


async def retrying(attempt: Callable[[], Awaitable[T]], tries: Tries) -> T:
    """What `attempt` returns, tried again while it raises Passing and `tries` are left.

    Raises the StorageError of the last Passing, and every other exception at once.
    """
    while True:
        try:
            return await attempt()
        except Passing as fault:
            delay = tries.next_delay(fault.after)
            if delay is None:
                raise fault.error from fault.__cause__
        await asyncio.sleep(delay)
