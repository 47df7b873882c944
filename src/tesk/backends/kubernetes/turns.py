"""The taskmaster's side of an executor's turn: two FIFOs in its control directory (docs/decisions/0013-pod.md).

The launcher's side is launcher/turn.c; launcher/hold.c makes the FIFOs. The kernel tells either side of the other's
death.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

from tesk.backends.kubernetes.streams import LauncherEnd, read_end, read_record

__all__ = ["ControlLost", "Turn"]

_PIECE = 65536


class ControlLost(Exception):
    """The launcher died without a word: its container was killed as a whole."""


class Turn:
    """One executor whose control directory is `directory`; made within a running event loop.

    `log_bytes` is what its launcher keeps of each stream.
    """

    def __init__(self, directory: Path, log_bytes: int) -> None:
        self._directory = directory
        self._limit = log_bytes
        self._go = os.open(directory / "go", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._end = os.open(directory / "end", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self._heard = b""
        self._over = False
        self._news = asyncio.Event()
        asyncio.get_running_loop().add_reader(self._end, self._hear)

    async def here(self) -> None:
        """Return once the launcher is there. Raises ControlLost when it died at once.

        From then on nothing else can speak for it: the FIFOs have no names any more.
        """
        while b"\n" not in self._heard:
            await self._more()
        for name in ("go", "end"):
            (self._directory / name).unlink(missing_ok=True)

    def start(self) -> None:
        """Let the command start."""
        self._say(b"g")

    def stop(self) -> None:
        """Have the command ended: SIGTERM, after ten seconds SIGKILL."""
        self._say(b"s")

    def skip(self) -> None:
        """Say that the turn never comes."""
        self._say(b"n")

    async def end(self) -> tuple[LauncherEnd, tuple[str, str]]:
        """How the command ended, and the excerpts of stdout and stderr. Raises ControlLost."""
        while True:
            said, rest = self._parts()
            found = read_end(said.decode("utf-8", "replace")) if said else None
            if found is not None and found.streams is not None:
                return found, found.streams
            if found is not None and (streams := read_record(b"\n" + rest, self._limit)) is not None:
                return found, streams
            await self._more()

    def _parts(self) -> tuple[bytes, bytes]:
        """The end and the record behind the greeting, as far as they have come."""
        _, _, rest = self._heard.partition(b"\n")
        said, newline, record = rest.partition(b"\n")
        return said if newline else b"", record

    def _say(self, order: bytes) -> None:
        with contextlib.suppress(BlockingIOError):  # full of orders that nobody took: it is gone
            os.write(self._go, order)

    def _hear(self) -> None:
        piece = os.read(self._end, _PIECE)
        if not piece:
            self._over = True
            asyncio.get_running_loop().remove_reader(self._end)
        self._heard += piece
        self._news.set()

    async def _more(self) -> None:
        if self._over:
            raise ControlLost
        self._news.clear()
        await self._news.wait()
