"""What an executor writes, kept for all who follow it, in files of a bounded size."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import AsyncGenerator, Callable
from typing import IO
from weakref import WeakSet

from tesk.backends.excerpt import gap
from tesk.backends.kubernetes.streams import StreamName

__all__ = ["SPOOL_BYTES", "SpooledLog"]

SPOOL_BYTES = 10 << 20
"""Of each stream: as much as a node keeps of a container's log, unless its kubelet is told otherwise."""

_AHEAD = 1 << 20
"""How much more is read than the fastest follower has taken."""


class SpooledLog:
    """A `Source` of tesk.backends.sharing: `pieces`, of stdout and stderr each, as they come.

    They are read on while at least one follower keeps up. One that falls back by more than `size` bytes of its stream
    is told how many it has missed.
    """

    def __init__(self, pieces: AsyncGenerator[tuple[bytes, bytes]], size: int = SPOOL_BYTES) -> None:
        self._pieces = pieces
        self._spools: dict[StreamName, _Spool] = {"stdout": _Spool(size), "stderr": _Spool(size)}
        self._places: WeakSet[_Place] = WeakSet()
        self._taken = asyncio.Event()

    async def run(self, tell: Callable[[], None]) -> None:
        """Take the pieces to their end. Raises OSError where they cannot be kept."""
        async with contextlib.aclosing(self._pieces) as pieces:
            async for out, err in pieces:
                self._spools["stdout"].write(out)
                self._spools["stderr"].write(err)
                tell()
                while all(place.behind > _AHEAD for place in self._places):
                    self._taken.clear()
                    await self._taken.wait()

    def place(self, stream: StreamName) -> _Place:
        """The beginning of a stream, as far as it is still there."""
        place = _Place(self._spools[stream], self._taken)
        self._places.add(place)
        return place

    def close(self) -> None:
        """Give the files back."""
        for spool in self._spools.values():
            spool.close()


class _Place:
    """How far one follower has read a spool; `taken` is set each time it reads."""

    def __init__(self, spool: _Spool, taken: asyncio.Event) -> None:
        self._spool = spool
        self._taken = taken
        self._position = 0

    @property
    def behind(self) -> int:
        """How many bytes there are that it has not read."""
        return self._spool.written - self._position

    def read(self, size: int) -> bytes:
        self._taken.set()
        if self.behind > self._spool.size:
            missed = self.behind - self._spool.size // 2  # where the next bytes do not overtake it at once
            self._position += missed
            return gap(missed)
        data = self._spool.read(self._position, size)
        self._position += len(data)
        return data


class _Spool:
    """The last `size` bytes of what was `written`, in a file without a name, from the first byte on."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.written = 0
        self._file: IO[bytes] | None = None

    def write(self, data: bytes) -> None:
        if data and self._file is None:
            self._file = tempfile.TemporaryFile(prefix="tesk-log-", buffering=0)  # noqa: SIM115
        rest = memoryview(data)
        while rest:
            assert self._file is not None
            offset = self.written % self.size
            done = os.pwrite(self._file.fileno(), rest[: self.size - offset], offset)
            self.written += done
            rest = rest[done:]

    def read(self, position: int, size: int) -> bytes:
        """At most `size` bytes from `position` on, which is among those that are kept."""
        if self._file is None or position == self.written:
            return b""
        offset = position % self.size
        return os.pread(self._file.fileno(), min(size, self.size - offset, self.written - position), offset)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
