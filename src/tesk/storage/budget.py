"""Memory that transfers share, so that many at once take no more than a few."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

__all__ = ["Budget"]


class Budget:
    """`size` bytes, lent in the order in which they are asked for, so that a large loan is not passed by small ones
    for ever.
    """

    def __init__(self, size: int) -> None:
        self._size = self._free = size
        self._line = asyncio.Lock()
        self._returned = asyncio.Event()

    @asynccontextmanager
    async def lent(self, size: int) -> AsyncIterator[None]:
        """Wait until `size` bytes are free (all of them, where it is more), and hold them for the block."""
        loan = min(size, self._size)
        async with self._line:
            while self._free < loan:
                self._returned.clear()
                await self._returned.wait()
            self._free -= loan
        try:
            yield
        finally:
            self._free += loan
            self._returned.set()
