"""`http` and `https`: GET for inputs, PUT for outputs, presigned URLs included; in threads of storage's own."""

from __future__ import annotations

import http.client
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from functools import cache
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import urljoin

from tesk.storage.base import Entry, Fetched, Source
from tesk.storage.checksums import Check, promised
from tesk.storage.errors import StorageError, reason, redact, shown
from tesk.storage.idle import Idle
from tesk.storage.local import Workers, write_all
from tesk.storage.options import StorageOptions
from tesk.storage.retry import Passing, Tries, retrying
from tesk.storage.web_session import Address, Session, Unreached, address_of, trusted

__all__ = ["HttpScheme"]

_WORTH_A_NEW_TRY = 16 << 20
_REDIRECTS = frozenset({301, 302, 307, 308})
_READ_REDIRECTS = _REDIRECTS | {303}
_MOST_REDIRECTS = 10


class HttpScheme:
    """Files on web servers. A download that was cut goes on where it stopped, if the server can and the file
    is still the same; a stalled one (no byte for `stall_timeout`) counts as cut. One that does not have the
    checksum that the server gives is made again.
    """

    def __init__(self, options: StorageOptions, workers: Workers) -> None:
        self._options = options
        self._workers = workers
        self._idle: Idle[Address, Session] = Idle()
        self._trust = cache(trusted)

    async def walk(self, url: str) -> AsyncIterator[Entry]:
        """Always raises StorageError: the web has no listings."""
        raise StorageError(f"{redact(url)} cannot be an input of type DIRECTORY: http servers do not list directories")
        yield  # makes this a generator, as Scheme has it

    async def fetch(self, url: str, target: int) -> Fetched:
        """See `Scheme.fetch`."""
        download = _Download(url, target, self._options.tries(), self._options.block)
        await retrying(lambda: self._following("read", url, download.go_on), download.tries)
        return Fetched(download.at)

    async def deliver(self, source: Source, url: str) -> None:
        """See `Scheme.deliver`."""

        def put(session: Session, here: str) -> _Step:
            return _put(session, source, here, url, self._options.block)

        await retrying(lambda: self._following("write", url, put), self._options.tries())

    async def make_directory(self, url: str) -> None:
        """Does nothing: the web has no directories."""

    async def close(self) -> None:
        """See `Scheme.close`."""
        self._idle.close()

    async def _following(self, verb: str, url: str, request: Callable[[Session, str], _Step]) -> None:
        """Make `request`, and the same again where a redirect says."""
        here = url
        for _ in range(_MOST_REDIRECTS):
            step = await self._once(verb, url, here, request)
            if step.location is None:
                return
            here = urljoin(here, step.location)
        raise StorageError(f"cannot {verb} {redact(url)}: the server redirects without end")

    async def _once(self, verb: str, url: str, here: str, request: Callable[[Session, str], _Step]) -> _Step:
        with _spoken(verb, url):
            session = self._session(address_of(here))

        def use() -> _Step:
            with _spoken(verb, url):
                return request(session, here)

        try:
            step = await self._workers.run(lambda _: use(), session.hang_up)
        except BaseException:
            session.close()
            raise
        if step.reusable:
            self._idle.put(session.address, session)
        else:
            session.close()
        return step

    def _session(self, address: Address) -> Session:
        while (kept := self._idle.take(address)) is not None:
            if kept.fresh:
                return kept
            kept.close()
        options = self._options
        return Session(
            address, self._trust, connect_timeout=options.connect_timeout, stall_timeout=options.stall_timeout
        )


class _Step(NamedTuple):
    """What a request came to: where to make it again, if there, and whether its connection can be used again."""

    location: str | None
    reusable: bool


class _Local(Exception):
    """A fault of the caller's descriptor, on its way past those who speak of the network."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


class _Download:
    """One file on its way, over as many requests as it takes."""

    def __init__(self, url: str, target: int, tries: Tries, block: int) -> None:
        self.url = url
        self.at = 0
        self.tries = tries
        self._target = target
        self._block = block
        self._validator: str | None = None
        self._check: Check | None = None
        self._furthest = 0

    def go_on(self, session: Session, here: str) -> _Step:
        """Ask for what is missing and write it."""
        headers = {}
        if self.at and self._validator:
            headers = {"range": f"bytes={self.at}-", "if-range": self._validator}
        answer = session.ask("GET", here, headers)
        if location := _elsewhere(answer, _READ_REDIRECTS):
            return _Step(location, session.finish(answer))
        resumed = answer.status == HTTPStatus.PARTIAL_CONTENT
        if not (resumed and headers and _first_byte(answer) == self.at):
            self._begin_anew()
            if resumed or answer.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise Passing(StorageError(f"cannot read {redact(self.url)}: the server sent another part of it"))
            _check(answer, "read", self.url)
            self._check = promised(_lowered(answer), whole=True)
        self._validator = _validator(answer)
        self._take(answer)
        return _Step(None, session.finish(answer))

    def _begin_anew(self) -> None:
        self.at = 0
        self._validator = self._check = None
        with _local():
            os.ftruncate(self._target, 0)

    def _take(self, answer: http.client.HTTPResponse) -> None:
        """Write what arrives, in large blocks; also what had arrived when the connection broke."""
        buffer = memoryview(bytearray(self._block))
        while count := self._receive(answer, buffer):
            self._write(buffer[:count])
        if answer.length:
            raise Passing(StorageError(f"cannot read {redact(self.url)}: the server cut the connection"))
        if self._check is not None and not self._check.holds:
            name = self._check.name.upper()
            self._begin_anew()
            said = f"cannot read {redact(self.url)}: what came does not have the {name} checksum that the server gives"
            raise Passing(StorageError(said))

    def _receive(self, answer: http.client.HTTPResponse, buffer: memoryview) -> int:
        count = 0
        try:
            while count < len(buffer) and (came := answer.readinto(buffer[count:])):
                count += came
        except (OSError, http.client.HTTPException):
            self._write(buffer[:count])
            raise
        return count

    def _write(self, block: memoryview) -> None:
        with _local():
            write_all(self._target, block, self.at)
        if self._check is not None:
            self._check.update(block)
        self.at += len(block)
        if self.at - self._furthest > _WORTH_A_NEW_TRY:
            self._furthest = self.at
            self.tries.renew()


def _put(session: Session, source: Source, here: str, url: str, size: int) -> _Step:
    def send(wire: http.client.HTTPConnection) -> None:
        at, buffer = 0, memoryview(bytearray(min(size, source.size)))
        while at < source.size:
            with _local():
                count = os.preadv(source.fd, [buffer[: source.size - at]], at)
            if not count:
                raise StorageError(f"cannot write {redact(url)}: the file changed its size while it was read")
            try:
                wire.send(buffer[:count])
            except TimeoutError as error:
                sentence = f"cannot write {redact(url)}: the server took nothing for too long"
                raise Passing(StorageError(sentence)) from error
            at += count

    answer = session.ask("PUT", here, {"content-length": str(source.size)}, send)
    if location := _elsewhere(answer, _REDIRECTS):
        return _Step(location, session.finish(answer))
    _check(answer, "write", url)
    return _Step(None, session.finish(answer))


def _elsewhere(answer: http.client.HTTPResponse, redirects: frozenset[int]) -> str | None:
    return answer.getheader("location") if answer.status in redirects else None


def _lowered(answer: http.client.HTTPResponse) -> dict[str, str]:
    """The headers by name in lower case; those that came more than once joined by commas."""
    return {name.lower(): answer.getheader(name) or "" for name in answer.headers}


def _first_byte(answer: http.client.HTTPResponse) -> int | None:
    unit, _, rest = (answer.getheader("content-range") or "").partition(" ")
    first = rest.partition("-")[0]
    return int(first) if unit.lower() == "bytes" and first.isdecimal() else None


def _validator(answer: http.client.HTTPResponse) -> str | None:
    """What `If-Range` may hold (RFC 9110, 13.1.5): a strong entity tag, or else a date."""
    tag = answer.getheader("etag") or ""
    if tag and not tag.startswith("W/"):
        return tag
    return answer.getheader("last-modified")


def _check(answer: http.client.HTTPResponse, verb: str, url: str) -> None:
    """Raise what the status of `answer` means, unless it means success."""
    status = answer.status
    if 200 <= status < 300:
        return
    if status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE) and verb == "read":
        raise StorageError(f"{redact(url)} does not exist (the server answered {_phrase(answer)})", not_found=True)
    error = StorageError(f"cannot {verb} {redact(url)}: the server answered {_phrase(answer)}")
    if status in (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS) or status >= 500:
        after = answer.getheader("retry-after") or ""
        raise Passing(error, float(after) if after.isdecimal() else None)
    raise error


def _phrase(answer: http.client.HTTPResponse) -> str:
    try:
        return f"{answer.status} {HTTPStatus(answer.status).phrase}"
    except ValueError:
        return f"{answer.status} {shown(answer.reason)}".rstrip()


@contextmanager
def _local() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _Local(error) from error


@contextmanager
def _spoken(verb: str, url: str) -> Iterator[None]:
    """Turn what a session raises into sentences about `url`, and say which may pass."""
    said = f"cannot {verb} {redact(url)}: "
    try:
        yield
    except _Local as fault:
        raise fault.error from None
    except Unreached as error:
        sentence = StorageError(f"{said}{error}")
        raise (Passing(sentence) if error.passing else sentence) from error
    except TimeoutError as error:
        raise Passing(StorageError(f"{said}the server sent nothing for too long")) from error
    except (http.client.InvalidURL, ValueError) as error:
        raise StorageError(f"{said}{reason(error)}") from error
    except http.client.HTTPException as error:
        raise Passing(StorageError(f"{said}the server cut the connection")) from error
    except OSError as error:
        what = "the server cut the connection" if isinstance(error, ConnectionError) else reason(error)
        raise Passing(StorageError(f"{said}{what}")) from error
