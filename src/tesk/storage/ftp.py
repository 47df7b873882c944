"""`ftp`: files and directories on FTP servers, passive, in threads of storage's own (docs/decisions/0017)."""

from __future__ import annotations

import asyncio
import ftplib
import os
import posixpath
import secrets
import socket
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple, TypeVar

from tesk.storage.base import Entry, Fetched, Source
from tesk.storage.errors import StorageError, reason, redact, shown
from tesk.storage.ftp_listing import Listed, UnknownListing, machine_listing, plain_listing
from tesk.storage.ftp_session import Place, Server, Session, code_of, heard, place_of
from tesk.storage.globs import MAX_ENTRIES
from tesk.storage.idle import Idle
from tesk.storage.local import Workers, write_all
from tesk.storage.logins import logins
from tesk.storage.options import StorageOptions
from tesk.storage.retry import Passing, Tries, retrying

__all__ = ["FtpScheme"]

T = TypeVar("T")

_WORTH_A_LOOK = 1 << 20
_WORTH_A_NEW_TRY = 16 << 20
_AT_ONCE = 4
"""Sessions with one server: many let in no more from one address."""
_DEEPEST = 100
_MOST_LINKS = 8
"""Symlinks to directories on one path, where the server shows them: one may lead back to a directory above it."""
_CLEANING_TIMEOUT = 10.0
_NO_RESTART = frozenset({500, 501, 502, 503, 504, 550, 554})
_NO_SUCH_PLACE = frozenset({550, 553})
_ABSENT = ("no such file", "not found", "does not exist", "doesn't exist", "cannot find", "can't find")


class FtpScheme:
    """Files on FTP servers. Symlinks are followed as the server does. A transfer that was cut goes on where it stopped,
    where the server knows REST and the file is still the same.
    """

    def __init__(self, options: StorageOptions, workers: Workers) -> None:
        self._options = options
        self._workers = workers
        self._idle: Idle[Server, Session] = Idle()
        self._turns: defaultdict[tuple[str, int], asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(_AT_ONCE))

    async def walk(self, url: str) -> AsyncIterator[Entry]:
        """See `Scheme.walk`."""
        place = place_of(url)
        for one in await self._trying(
            "list", url, self._options.tries(), lambda session: _walk(session, place.path, url)
        ):
            yield one

    async def fetch(self, url: str, target: int) -> Fetched:
        """See `Scheme.fetch`."""
        download = _Download(url, place_of(url).path, target, self._options.tries(), self._options.block)
        await self._trying("read", url, download.tries, download.go_on)
        return Fetched(download.at)

    async def deliver(self, source: Source, url: str) -> None:
        """See `Scheme.deliver`. The file is sent under another name in the same directory, and renamed when it is
        whole; a server that refuses to rename is an error, since a partial file could stand there.
        """
        place = place_of(url)
        if place.path.endswith("/"):
            raise StorageError(f"{redact(url)} ends with a slash, so it cannot be the URL of a file")
        upload = _Upload(url, place.path, source, self._options.tries(), self._options.block)
        try:
            await self._trying("write", url, upload.tries, upload.go_on)
        except BaseException:
            if upload.begun:
                await self._forget(place, upload.part)
            raise

    async def make_directory(self, url: str) -> None:
        """See `Scheme.make_directory`."""
        path = place_of(url).path
        await self._trying("make", url, self._options.tries(), lambda session: _make(session, path, url))

    async def close(self) -> None:
        """See `Scheme.close`."""
        self._idle.close()

    async def _trying(self, verb: str, url: str, tries: Tries, work: Callable[[Session], T]) -> T:
        """What `work` returns, given a session with the server of `url`; tried again while that may help."""
        server = place_of(url).server

        async def attempt() -> T:
            return await self._once(verb, url, server, work)

        return await retrying(attempt, tries)

    async def _once(self, verb: str, url: str, server: Server, work: Callable[[Session], T]) -> T:
        async with self._turns[server.host, server.port]:
            session = self._idle.take(server)
            if session is None:
                session = await self._session(server, self._options.stall_timeout)

            def use() -> T:
                with _spoken("reach", url):
                    session.ready()
                return work(session)

            try:
                done = await self._workers.run(lambda _: use(), session.hang_up)
            except BaseException:
                session.close()
                raise
            session.rest()
            self._idle.put(server, session)
            return done

    async def _session(self, server: Server, stall: float) -> Session:
        known = await self._workers.run(lambda _: logins(self._options.ftp, server.host, server.login))
        return Session(server, known, connect_timeout=min(self._options.connect_timeout, stall), stall_timeout=stall)

    async def _forget(self, place: Place, part: str) -> None:
        """Delete what was sent in vain, if the server lets us; also when this task is being cancelled."""

        async def clean() -> None:
            session = await self._session(place.server, _CLEANING_TIMEOUT / 4)

            def use() -> None:
                with suppress(*ftplib.all_errors):
                    session.ready()
                    session.delete(part)

            try:
                await self._workers.run(lambda _: use(), session.hang_up)
            finally:
                session.close()

        await asyncio.wait([asyncio.ensure_future(clean())], timeout=_CLEANING_TIMEOUT)


class _Download:
    """One file on its way here, over as many sessions as it takes."""

    def __init__(self, url: str, path: str, target: int, tries: Tries, block: int) -> None:
        self.at = 0
        self.tries = tries
        self._url = url
        self._path = path
        self._target = target
        self._block = block
        self._mark: tuple[int | None, str | None] = (None, None)
        self._furthest = 0

    def go_on(self, session: Session) -> None:
        """Ask for what is missing and write it."""
        with _spoken("read", self._url):
            mark = self._look(session)
            if None in mark or mark != self._mark:
                self.at = 0
            self._mark = mark
            data = self._ask(session)
        if not self.at:
            os.ftruncate(self._target, 0)
        buffer = memoryview(bytearray(self._block))
        try:
            while count := self._receive(data, buffer):
                self._write(buffer[:count])
        finally:
            buffer.release()
        with _spoken("read", self._url):
            session.finish()
        size = self._mark[0]
        if size is not None and self.at != size:
            sentence = f"cannot read {redact(self._url)}: the server sent {self.at} of {size} bytes"
            self._mark = (None, None) if self.at > size else self._mark
            raise Passing(StorageError(sentence))

    def _look(self, session: Session) -> tuple[int | None, str | None]:
        """By what the file is known again: size and time; the time of one that would be sent anew is not asked for."""
        size = session.size(self._path)
        return size, session.modified(self._path) if size is not None and size > _WORTH_A_LOOK else None

    def _ask(self, session: Session) -> socket.socket:
        try:
            return session.receive(self._path, self.at)
        except ftplib.error_perm as error:
            if not self.at or code_of(error) not in _NO_RESTART:
                raise
        self.at = 0
        return session.receive(self._path, 0)

    def _receive(self, data: socket.socket, buffer: memoryview) -> int:
        """Fill `buffer` as far as there is something to come; what had come when the connection broke, also."""
        count = 0
        try:
            with _spoken("read", self._url):
                while count < len(buffer) and (came := data.recv_into(buffer[count:])):
                    count += came
        except Passing:
            self._write(buffer[:count])
            raise
        return count

    def _write(self, block: memoryview) -> None:
        write_all(self._target, block, self.at)
        self.at += len(block)
        if self.at - self._furthest > _WORTH_A_NEW_TRY:
            self._furthest = self.at
            self.tries.renew()


class _Upload:
    """One file on its way there, under the name `part` until it is whole."""

    def __init__(self, url: str, path: str, source: Source, tries: Tries, block: int) -> None:
        self.part = f"{path.rpartition('/')[0]}/tesk-{secrets.token_hex(8)}.part"
        self.tries = tries
        self.begun = False
        self._url = url
        self._path = path
        self._source = source
        self._block = block
        self._restarts = True
        self._furthest = 0

    def go_on(self, session: Session) -> None:
        """Send what is missing, and give the file its name."""
        with _spoken("write", self._url):
            at = self._arrived(session)
            data = self._ask(session, at)
            self.begun = True
        buffer = memoryview(bytearray(min(self._block, self._source.size)))
        while at < self._source.size:
            count = os.preadv(self._source.fd, [buffer[: self._source.size - at]], at)
            if not count:
                raise StorageError(f"cannot write {redact(self._url)}: the file changed its size while it was read")
            with _spoken("write", self._url):
                self._send(session, data, buffer[:count])
            at += count
        with _spoken("write", self._url):
            session.finish()
            arrived = session.size(self.part)
        if arrived is not None and arrived != self._source.size:
            self._restarts = False
            sentence = f"cannot write {redact(self._url)}: {arrived} of {self._source.size} bytes arrived"
            raise Passing(StorageError(sentence))
        with _spoken("rename the file that was sent for", self._url):
            self._name(session)
        self.begun = False

    def _arrived(self, session: Session) -> int:
        """How much of the file is there from an earlier try."""
        there = session.size(self.part) if self.begun and self._restarts else None
        if there is None or there > self._source.size:
            return 0
        if there - self._furthest > _WORTH_A_NEW_TRY:
            self._furthest = there
            self.tries.renew()
        return there

    def _ask(self, session: Session, at: int) -> socket.socket:
        try:
            return session.send(self.part, at)
        except ftplib.error_perm as error:
            if at:
                self._restarts = False
                sentence = f"cannot write {redact(self._url)}: the server cannot go on with it"
                raise Passing(StorageError(sentence)) from None
            if code_of(error) not in _NO_SUCH_PLACE:
                raise
        session.make_directory(posixpath.dirname(self.part))
        return session.send(self.part, 0)

    def _send(self, session: Session, data: socket.socket, block: memoryview) -> None:
        try:
            data.sendall(block)
        except TimeoutError:
            raise
        except OSError:
            session.finish()  # raises what the server has to say of it, if it does
            raise

    def _name(self, session: Session) -> None:
        """Give the file its name. Where a server renames over no file, the older one steps aside, and back if need
        be.
        """
        try:
            session.rename(self.part, self._path)
            return
        except ftplib.error_perm:
            if session.is_directory(self._path):
                raise StorageError(f"{redact(self._url)} is a directory, so no file can be written there") from None
            if session.size(self._path) is None:
                raise
        aside = f"{self.part}.old"
        session.rename(self._path, aside)
        try:
            session.rename(self.part, self._path)
        except ftplib.error_perm:
            session.rename(aside, self._path)
            raise
        with suppress(ftplib.error_perm):
            session.delete(aside)


class _Level(NamedTuple):
    """A directory to be listed: its path from the start, the directories above it, the symlinks on the way."""

    relative: str = ""
    above: tuple[str, ...] = ()
    links: int = 0


def _walk(session: Session, path: str, url: str) -> list[Entry]:
    """Everything below the directory at `path`, parents before what they hold."""
    found: list[Entry] = []
    todo = [_Level()]
    while todo:
        level = todo.pop()
        here = f"{path.rstrip('/')}/{level.relative}".rstrip("/") or "/"
        below = []
        for one in _list(session, here, url):
            name = f"{level.relative}/{one.name}".lstrip("/")
            kind = one.kind
            if kind == "link":
                with _spoken("list", url):
                    kind = "directory" if session.is_directory(f"{here.rstrip('/')}/{one.name}") else "file"
            if kind == "other":
                continue
            found.append(Entry(name, "DIRECTORY" if kind == "directory" else "FILE"))
            if kind == "directory":
                below.append(_Level(name, (*level.above, one.identity), level.links + (one.kind == "link")))
                _require_end(below[-1], url)
        if len(found) > MAX_ENTRIES:
            raise StorageError(f"{redact(url)} holds more than {MAX_ENTRIES} files")
        todo.extend(reversed(below))
    return found


def _require_end(level: _Level, url: str) -> None:
    """Raise StorageError where the walk would have no end."""
    *above, identity = level.above
    if (identity and identity in above) or level.links > _MOST_LINKS or len(above) > _DEEPEST:
        where = shown(level.relative)
        raise StorageError(f"cannot list {redact(url)}: {where} seems to be a symlink to a directory above it")


def _list(session: Session, path: str, url: str) -> list[Listed]:
    with _spoken("list", url):
        lines, machine = session.listing(path)
    try:
        return sorted(machine_listing(lines) if machine else plain_listing(lines))
    except UnknownListing as error:
        sentence = f"cannot list {redact(url)}: the server lists in a way that is not known here: {shown(str(error))}"
        raise StorageError(sentence) from error


def _make(session: Session, path: str, url: str) -> None:
    with _spoken("make", url):
        session.make_directory(path.rstrip("/") or "/")


@contextmanager
def _spoken(verb: str, url: str) -> Iterator[None]:
    """Turn ftplib's errors into sentences about `url`, and say which may pass: what the server calls so (4xx), and
    broken connections.
    """
    try:
        yield
    except ftplib.error_perm as error:
        raise _refused(verb, url, error) from None
    except ftplib.Error as error:
        said = StorageError(f"cannot {verb} {redact(url)}: the server answered {_quoted(error)}")
        if isinstance(error, ftplib.error_temp):
            raise Passing(said) from None
        raise said from None
    except EOFError as error:
        raise Passing(StorageError(f"cannot {verb} {redact(url)}: the server cut the connection")) from error
    except TimeoutError as error:
        what = "cannot be reached in time" if verb == "reach" else "sent or took nothing for too long"
        raise Passing(StorageError(f"cannot {verb} {redact(url)}: the server {what}")) from error
    except OSError as error:
        what = f"the server cannot be reached ({reason(error)})" if verb == "reach" else reason(error)
        raise Passing(StorageError(f"cannot {verb} {redact(url)}: {what}")) from error


def _refused(verb: str, url: str, error: ftplib.error_perm) -> StorageError:
    answer = _quoted(error)
    if verb == "reach":
        return StorageError(f"cannot log in for {redact(url)}: the server answered {answer}")
    absent = verb in ("read", "list") and code_of(error) == 550 and any(one in answer.lower() for one in _ABSENT)
    if absent:
        return StorageError(f"{redact(url)} does not exist (the server answered {answer})", not_found=True)
    return StorageError(f"cannot {verb} {redact(url)}: the server answered {answer}")


def _quoted(error: ftplib.Error) -> str:
    """The server's words, on one line."""
    return shown(" ".join(heard(error).split())[:300])
