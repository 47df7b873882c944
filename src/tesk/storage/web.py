"""`http` and `https`: GET for inputs, PUT for outputs, presigned URLs included."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING

from tesk import __version__
from tesk.storage.base import Entry, Fetched, Source
from tesk.storage.errors import StorageError, reason, redact, shown
from tesk.storage.local import Workers, write_all
from tesk.storage.options import StorageOptions
from tesk.storage.retry import Passing, Tries, retrying

if TYPE_CHECKING:
    import httpx

__all__ = ["HttpScheme"]

_BLOCK = 1 << 20
_WORTH_A_NEW_TRY = 16 << 20
_REDIRECTS = frozenset({301, 302, 307, 308})
_MOST_REDIRECTS = 10


class HttpScheme:
    """Files on web servers. A download that was cut goes on where it stopped, if the server can and the file
    is still the same; a stalled one (no byte for `stall_timeout`) counts as cut.
    """

    def __init__(self, options: StorageOptions, workers: Workers) -> None:
        self._options = options
        self._workers = workers
        self._client: httpx.AsyncClient | None = None

    async def walk(self, url: str) -> AsyncIterator[Entry]:
        """Always raises StorageError: the web has no listings."""
        raise StorageError(f"{redact(url)} cannot be an input of type DIRECTORY: http servers do not list directories")
        yield  # makes this a generator, as Scheme has it

    async def fetch(self, url: str, target: int) -> Fetched:
        """See `Scheme.fetch`."""
        download = _Download(url, target, self._tries(), self._workers)

        async def attempt() -> None:
            async with _spoken("read", url):
                await download.go_on(self._open())

        await retrying(attempt, download.tries)
        return Fetched(download.at)

    async def deliver(self, source: Source, url: str) -> None:
        """See `Scheme.deliver`."""

        async def attempt() -> None:
            async with _spoken("write", url):
                await self._put(source, url)

        await retrying(attempt, self._tries())

    async def make_directory(self, url: str) -> None:
        """Does nothing: the web has no directories."""

    async def close(self) -> None:
        """See `Scheme.close`."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def _put(self, source: Source, url: str) -> None:
        """PUT, and the same again where a redirect says; httpx would turn some of them into GET."""
        here = url
        for _ in range(_MOST_REDIRECTS):
            answer = await self._open().put(
                here,
                content=self._blocks(source),
                headers={"content-length": str(source.size)},
                follow_redirects=False,
            )
            if answer.status_code not in _REDIRECTS or "location" not in answer.headers:
                _check(answer, "write", url)
                return
            here = str(answer.url.join(answer.headers["location"]))
        raise StorageError(f"cannot write {redact(url)}: the server redirects without end")

    async def _blocks(self, source: Source) -> AsyncIterator[bytes]:
        at = 0
        while at < source.size:
            wanted, start = min(_BLOCK, source.size - at), at
            block = await self._workers.run(lambda _, start=start, wanted=wanted: os.pread(source.fd, wanted, start))  # type: ignore[misc]
            if not block:
                raise StorageError("the file changed its size while it was read")
            yield block
            at += len(block)

    def _tries(self) -> Tries:
        return Tries(self._options.retries, self._options.retry_delay)

    def _open(self) -> httpx.AsyncClient:
        if self._client is None:
            import httpx

            stall = self._options.stall_timeout
            self._client = httpx.AsyncClient(
                timeout=httpx.Timeout(stall, connect=self._options.connect_timeout, pool=None),
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=16),
                follow_redirects=True,
                max_redirects=_MOST_REDIRECTS,
                headers={"accept-encoding": "identity", "user-agent": f"tesk/{__version__}"},
            )
        return self._client


class _Download:
    """One file on its way, over as many requests as it takes."""

    def __init__(self, url: str, target: int, tries: Tries, workers: Workers) -> None:
        self.url = url
        self.at = 0
        self.tries = tries
        self._target = target
        self._workers = workers
        self._validator: str | None = None
        self._furthest = 0

    async def go_on(self, client: httpx.AsyncClient) -> None:
        """Ask for what is missing and write it."""
        headers = {}
        if self.at and self._validator:
            headers = {"range": f"bytes={self.at}-", "if-range": self._validator}
        async with client.stream("GET", self.url, headers=headers) as answer:
            resumed = answer.status_code == HTTPStatus.PARTIAL_CONTENT
            if not (resumed and headers and _first_byte(answer) == self.at):
                self.at = 0
                os.ftruncate(self._target, 0)
                if resumed or answer.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                    self._validator = None
                    raise Passing(StorageError(f"cannot read {redact(self.url)}: the server sent another part of it"))
                _check(answer, "read", self.url)
            self._validator = _validator(answer)
            await self._take(answer)

    async def _take(self, answer: httpx.Response) -> None:
        """Write what arrives, in large blocks; also what had arrived when the connection broke."""
        import httpx

        waiting = bytearray()
        try:
            async for block in answer.aiter_raw():
                waiting += block
                if len(waiting) >= _BLOCK:
                    await self._write(waiting)
        except httpx.TransportError:
            await self._write(waiting)
            raise
        await self._write(waiting)

    async def _write(self, waiting: bytearray) -> None:
        block, at = bytes(waiting), self.at
        waiting.clear()
        await self._workers.run(lambda _: write_all(self._target, block, at))
        self.at += len(block)
        if self.at - self._furthest > _WORTH_A_NEW_TRY:
            self._furthest = self.at
            self.tries.renew()


def _first_byte(answer: httpx.Response) -> int | None:
    unit, _, rest = answer.headers.get("content-range", "").partition(" ")
    first = rest.partition("-")[0]
    return int(first) if unit.lower() == "bytes" and first.isdecimal() else None


def _validator(answer: httpx.Response) -> str | None:
    """What `If-Range` may hold (RFC 9110, 13.1.5): a strong entity tag, or else a date."""
    tag: str = answer.headers.get("etag", "")
    if tag and not tag.startswith("W/"):
        return tag
    modified: str | None = answer.headers.get("last-modified")
    return modified


def _check(answer: httpx.Response, verb: str, url: str) -> None:
    """Raise what the status of `answer` means, unless it means success."""
    status = answer.status_code
    if 200 <= status < 300:
        return
    if status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE) and verb == "read":
        raise StorageError(f"{redact(url)} does not exist (the server answered {_phrase(answer)})", not_found=True)
    error = StorageError(f"cannot {verb} {redact(url)}: the server answered {_phrase(answer)}")
    if status in (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS) or status >= 500:
        after = answer.headers.get("retry-after", "")
        raise Passing(error, float(after) if after.isdecimal() else None)
    raise error


def _phrase(answer: httpx.Response) -> str:
    try:
        return f"{answer.status_code} {HTTPStatus(answer.status_code).phrase}"
    except ValueError:
        return f"{answer.status_code} {shown(answer.reason_phrase)}".rstrip()


@asynccontextmanager
async def _spoken(verb: str, url: str) -> AsyncIterator[None]:
    """Turn httpx's errors into sentences about `url`, and say which may pass."""
    import httpx

    try:
        yield
    except httpx.TransportError as error:
        said = StorageError(f"cannot {verb} {redact(url)}: {_cause(error)}")
        if isinstance(error, httpx.UnsupportedProtocol) or "CERTIFICATE_VERIFY_FAILED" in str(error):
            raise said from error
        raise Passing(said) from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise StorageError(f"cannot {verb} {redact(url)}: {_cause(error)}") from error


def _cause(error: Exception) -> str:
    import httpx

    known: tuple[tuple[type[Exception], str], ...] = (
        (httpx.ConnectTimeout, "the server cannot be reached in time"),
        (httpx.ReadTimeout, "the server sent nothing for too long"),
        (httpx.WriteTimeout, "the server took nothing for too long"),
        (httpx.ConnectError, f"the server cannot be reached ({reason(error)})"),
        (httpx.RemoteProtocolError, "the server cut the connection"),
        (httpx.TooManyRedirects, "the server redirects without end"),
    )
    for kind, words in known:
        if isinstance(error, kind):
            return words
    return reason(error) if str(error) else "the connection broke"
