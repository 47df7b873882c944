"""The server's end of the line to a keeper: a socket, a line of JSON a message (tesk.backends.local.keeping.keeper)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tesk.backends.local.engine import EngineUnavailable
from tesk.taskmaster.steps import AttemptLost

__all__ = ["Line", "connect", "listen"]

START_TIMEOUT = 20.0
MESSAGE_LIMIT = 1 << 20
END_TIMEOUT = 60.0
ENDED = "the keeper ended that watched the executor"


class Line:
    """What one keeper is told, and what it tells of the executors that it runs."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, running: set[str]) -> None:
        self._writer = writer
        self._gone = {one: asyncio.Event() for one in running}
        self._broken = False
        self._listener = asyncio.create_task(self._listen(reader))

    @classmethod
    async def open(cls, sock: socket.socket) -> Line:
        """Await the keeper's first word; raises EngineUnavailable with its reason, or when none comes."""
        reader, writer = await asyncio.open_connection(sock=sock, limit=MESSAGE_LIMIT)
        try:
            async with asyncio.timeout(START_TIMEOUT):
                first = await reader.readline()
            answer = json.loads(first or b"{}")
        except (TimeoutError, ConnectionError):
            answer = {"failed": f"its keeper did not start within {START_TIMEOUT:.0f} s"}
        if "ready" not in answer:
            writer.close()
            raise EngineUnavailable(answer.get("failed", "its keeper ended at once"))
        return cls(reader, writer, set(answer["running"]))

    @property
    def broken(self) -> bool:
        """Whether the keeper has ended."""
        return self._broken

    @property
    def running(self) -> set[str]:
        """The executors of which some process may be left."""
        return {name for name, gone in self._gone.items() if not gone.is_set()}

    def run(self, name: str, run: dict[str, Any]) -> None:
        """Start an executor."""
        if self._broken:
            raise AttemptLost(ENDED)
        self._gone[name] = asyncio.Event()
        self._send({"id": name, "run": run})

    def kill(self, name: str) -> None:
        """End an executor, with all its processes."""
        self._send({"id": name, "kill": True})

    async def end(self) -> None:
        """End the keeper, and every executor with it; then hang up."""
        self._send({"end": True})
        await asyncio.wait([self._listener], timeout=END_TIMEOUT)
        await self.close()

    async def gone(self, name: str) -> None:
        """Wait until no process of an executor is left; raises AttemptLost when the keeper ended before."""
        gone = self._gone[name]
        await gone.wait()
        del self._gone[name]
        if self._broken:
            raise AttemptLost(ENDED)

    async def close(self) -> None:
        """Hang up."""
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()
        self._listener.cancel()
        await asyncio.wait([self._listener])

    def _send(self, message: dict[str, Any]) -> None:
        if not self._broken:
            self._writer.write(json.dumps(message).encode() + b"\n")

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                if (gone := self._gone.get(json.loads(line)["id"])) is not None:
                    gone.set()
        self._broken = True
        for gone in self._gone.values():
            gone.set()


def listen(directory: Path) -> socket.socket:
    """A socket in `directory` by which a later server finds a keeper."""
    for one in (directory.parent, directory):
        one.mkdir(exist_ok=True, mode=0o700)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _short(directory) as short:
            listener.bind(f"{short}/{secrets.token_hex(8)}")
        listener.listen()
    except BaseException:
        listener.close()
        raise
    return listener


async def connect(directory: Path) -> list[Line]:
    """The lines to all keepers that live; the sockets of those that do not are removed."""
    found = []
    for path in sorted(directory.iterdir()) if directory.is_dir() else ():
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with _short(directory) as short:
                sock.connect(f"{short}/{path.name}")
        except ConnectionRefusedError:
            sock.close()
            path.unlink()
            continue
        except BaseException:
            sock.close()
            raise
        try:
            found.append(await Line.open(sock))
        except EngineUnavailable:
            continue  # it was just ending
    return found


@contextlib.contextmanager
def _short(directory: Path) -> Iterator[str]:
    """A path to `directory` that is short enough for a socket's address (108 bytes)."""
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{opened}"
    finally:
        os.close(opened)
