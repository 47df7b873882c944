"""Reports on their way from a pod's taskmaster to the server, beside the log that holds them in any case.

The taskmaster calls, and greets with which attempt it is, signed with a key that only taskmasters and the server have.
Then come the lines of its log (`report_lines`), from the first one on with every call. The server answers the number of
lines that it has taken, and hangs up on whom it does not know.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
from typing import Protocol, cast

from tesk.backends.key import AttemptKey
from tesk.backends.kubernetes.keepalive import keep_alive
from tesk.backends.kubernetes.report_lines import ReportReader
from tesk.taskmaster.report import Report

__all__ = ["Pusher", "ReportListener", "ReportTaker", "greeting"]

log = logging.getLogger(__name__)

_CONNECT_SECONDS, _GREETING_SECONDS = 5.0, 10.0
_SOONEST, _LATEST = 1.0, 30.0
_LAST_SECONDS = 2.0
"""How long the end of an attempt waits for the server: what it did not take in time, it reads in the log."""
_MOST_STRANGERS = 256
_LONGEST_GREETING, _LONGEST_LINE = 256, 16 << 20


def greeting(key: AttemptKey, secret: bytes) -> bytes:
    """The first line of a call about the attempt `key`."""
    about = f"{key.task} {key.attempt}"
    return f"tesk-attempt {about} {hmac.digest(secret, about.encode(), 'sha256').hex()}\n".encode()


def _read_greeting(line: bytes, secret: bytes) -> AttemptKey | None:
    """Which attempt calls; None for one that does not know `secret`."""
    words = line.decode("ascii", "replace").split()
    if len(words) != 4 or not words[2].isdecimal():
        return None
    key = AttemptKey(words[1], int(words[2]))
    return key if hmac.compare_digest(greeting(key, secret), line + b"\n") else None


class Pusher:
    """The taskmaster's side: calls the server at `host` and `port`, again where the connection breaks.

    `host` is an address, no name. Made within a running event loop; nothing here ever fails.
    """

    def __init__(self, host: str, port: int, hello: bytes) -> None:
        self._place = host, port
        self._hello = hello
        self._lines: list[bytes] = []
        self._call: _Call | None = None
        self._taken = 0
        self._all_taken = asyncio.Event()
        self._calling = asyncio.create_task(self._keep_calling(), name="call the server")

    def tell(self, line: bytes) -> None:
        """Send the next line of the log."""
        self._lines.append(line)
        self._all_taken.clear()
        if self._call is not None:
            self._call.write(line)

    async def close(self) -> None:
        """Hang up, once the server has taken everything or does not answer soon."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_SECONDS if self._call is not None else _LAST_SECONDS / 10):
                await self._all_taken.wait()
        self._calling.cancel()
        await asyncio.gather(self._calling, return_exceptions=True)

    def take(self, number: int) -> None:
        """The server has taken so many lines."""
        self._taken = number
        if number >= len(self._lines):
            self._all_taken.set()

    async def _keep_calling(self) -> None:
        pause = _SOONEST
        while True:
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(_CONNECT_SECONDS):
                    _, call = await asyncio.get_running_loop().create_connection(lambda: _Call(self), *self._place)
                self._call = call
                for part in (self._hello, *self._lines):
                    call.write(part)
                before = self._taken
                try:
                    await call.over.wait()
                finally:
                    self._call = None
                    call.hang_up()
                if self._taken > before:
                    pause = _SOONEST
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LATEST)


def _kept(transport: asyncio.BaseTransport) -> asyncio.Transport:
    keep_alive(transport.get_extra_info("socket"))
    return cast("asyncio.Transport", transport)  # uvloop's is none by its class


class _Call(asyncio.Protocol):
    """One connection to the server."""

    def __init__(self, pusher: Pusher) -> None:
        self._pusher = pusher
        self._transport: asyncio.Transport | None = None
        self._held = b""
        self.over = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = _kept(transport)

    def data_received(self, data: bytes) -> None:
        *said, self._held = (self._held + data).split(b"\n")
        if said and said[-1].isdigit():
            self._pusher.take(int(said[-1]))

    def connection_lost(self, error: Exception | None) -> None:
        self.over.set()

    def write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def hang_up(self) -> None:
        if self._transport is not None:
            self._transport.close()


class ReportTaker(Protocol):
    """Who hears what attempts report: the backend."""

    def called(self, key: AttemptKey, *, calls: bool) -> bool:
        """That the attempt calls, or has hung up; whether it is one of ours."""

    def take(self, key: AttemptKey, report: Report, number: int) -> None:
        """Take the report of line `number` (from 1); one that came already, from here or from the log, says nothing."""


class ReportListener:
    """The server's side. `secret` is what taskmasters sign with."""

    def __init__(self, secret: bytes, taker: ReportTaker) -> None:
        self._secret = secret
        self.taker = taker
        self._server: asyncio.Server | None = None
        self.strangers = 0
        self.calls: set[_Caller] = set()

    async def open(self, host: str, port: int) -> int:
        """Listen at the address `host`, and return the port; 0 takes a free one. Raises OSError."""
        self._server = await asyncio.get_running_loop().create_server(lambda: _Caller(self), host, port)
        found: int = self._server.sockets[0].getsockname()[1]
        return found

    def close(self) -> None:
        """Listen no more, and hang up."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for call in list(self.calls):
            call.hang_up()

    @property
    def crowded(self) -> bool:
        """Whether nobody may be let in who has not said who it is."""
        return self.strangers > _MOST_STRANGERS or self._server is None

    def greeted(self, line: bytes) -> AttemptKey | None:
        """Which attempt calls; None for a stranger, and for one that is not here."""
        key = _read_greeting(line, self._secret)
        return key if key is not None and self.taker.called(key, calls=True) else None


class _Caller(asyncio.Protocol):
    """One that calls: a stranger until it has greeted."""

    def __init__(self, listener: ReportListener) -> None:
        self._listener = listener
        self._reader = ReportReader()
        self._held = b""
        self._key: AttemptKey | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = _kept(transport)
        self._listener.calls.add(self)
        self._listener.strangers += 1
        self._late = asyncio.get_running_loop().call_later(_GREETING_SECONDS, self.hang_up)
        if self._listener.crowded:
            self.hang_up()

    def data_received(self, data: bytes) -> None:
        if self._key is None:
            line, newline, data = (self._held + data).partition(b"\n")
            if not newline and len(line) <= _LONGEST_GREETING:
                self._held = line
                return
            self._key = self._listener.greeted(line)
            if self._key is None:
                self.hang_up()
                return
            self._held = b""
            self._known()
        self._take(self._key, data)

    def _take(self, key: AttemptKey, data: bytes) -> None:
        if self._reader.feed(data) and self._reader.newest is not None:
            self._listener.taker.take(key, self._reader.newest, self._reader.lines)
            self._transport.write(b"%d\n" % self._reader.lines)
        if self._reader.unread > _LONGEST_LINE:
            log.warning("attempt %s sends a line of more than %d bytes, which is no report", key, _LONGEST_LINE)
            self.hang_up()

    def _known(self) -> None:
        self._late.cancel()
        self._listener.strangers -= 1

    def connection_lost(self, error: Exception | None) -> None:
        self._listener.calls.discard(self)
        if self._key is None:
            self._known()
        else:
            self._listener.taker.called(self._key, calls=False)

    def hang_up(self) -> None:
        self._transport.abort()
