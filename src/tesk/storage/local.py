"""Bytes from one descriptor to another on this machine, in threads that a cancelled task can stop."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import TypeVar

__all__ = ["Workers", "copy_bytes", "write_all"]

T = TypeVar("T")

_CHUNK = 64 << 20
_BUFFER = 1 << 20
_NO_COPY_RANGE = frozenset(
    {errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EBADF, errno.EPERM, errno.ETXTBSY}
)


class Workers:
    """A bounded pool of threads for calls that block."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._pool: ThreadPoolExecutor | None = None

    async def run(self, work: Callable[[Event], T], wake: Callable[[], None] | None = None) -> T:
        """What `work` returns. A cancelled caller sets the event and waits for `work` to end, since it uses
        descriptors that the caller is about to close; `wake` is called then, to end what blocks in `work`.
        """
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._count, thread_name_prefix="tesk-storage")
        stop = Event()
        running = self._pool.submit(work, stop)
        ended = asyncio.wrap_future(running)
        try:
            return await asyncio.shield(ended)
        except asyncio.CancelledError:
            stop.set()
            if not running.cancel():
                if wake is not None:
                    wake()
                await _settle(ended)
            raise

    def close(self) -> None:
        """End the idle threads."""
        if self._pool is not None:
            self._pool.shutdown(wait=False)
            self._pool = None


async def _settle(future: asyncio.Future[T]) -> None:
    """Wait for the end of `future` whatever it is, however often the waiting is cancelled."""
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError:
            continue
    if not future.cancelled():
        future.exception()


def copy_bytes(source: int, target: int, stop: Event) -> int:
    """Copy all of `source` to the start of `target` and return the number of bytes; the file system copies,
    or shares blocks, where it can.

    Returns early, with what is copied so far, once `stop` is set.
    """
    at = _copy_range(source, target, stop)
    while not stop.is_set():
        block = os.pread(source, _BUFFER, at)
        if not block:
            break
        write_all(target, block, at)
        at += len(block)
    return at


def write_all(target: int, block: bytes | memoryview, at: int) -> None:
    """Write all of `block` at position `at`."""
    rest = memoryview(block)
    while rest:
        written = os.pwrite(target, rest, at)
        at += written
        rest = rest[written:]


def _copy_range(source: int, target: int, stop: Event) -> int:
    """As much as `copy_file_range` copies; it may end early (a file of /proc, another file system)."""
    at = 0
    if not hasattr(os, "copy_file_range"):
        return at
    while not stop.is_set():
        try:
            copied = os.copy_file_range(source, target, _CHUNK, at, at)
        except OSError as error:
            if error.errno in _NO_COPY_RANGE:
                break
            raise
        if not copied:
            break
        at += copied
    return at
