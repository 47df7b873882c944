"""`file://` URLs and bare paths, confined to the site's roots."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from threading import Event

from tesk.storage.base import Entry, Fetched, Source
from tesk.storage.confine import ConfinementError, HostRoots
from tesk.storage.errors import StorageError, reason, redact
from tesk.storage.globs import Fault, Skipped, walk
from tesk.storage.local import Workers, copy_bytes
from tesk.storage.options import StorageOptions
from tesk.storage.urls import file_path

__all__ = ["FileScheme"]


class FileScheme:
    """Files of this machine. Symlinks are followed while they stay within the roots."""

    def __init__(self, options: StorageOptions, workers: Workers) -> None:
        self._roots = HostRoots(options.file_roots, {one.client_path: one.directory for one in options.shared})
        self._workers = workers

    async def walk(self, url: str) -> AsyncIterator[Entry]:
        """See `Scheme.walk`."""
        for one in await self._workers.run(lambda stop: self._walk(url, stop)):
            yield one

    async def fetch(self, url: str, target: int) -> Fetched:
        """See `Scheme.fetch`."""
        return await self._workers.run(lambda stop: self._fetch(url, target, stop))

    async def deliver(self, source: Source, url: str) -> None:
        """See `Scheme.deliver`."""
        await self._workers.run(lambda stop: self._deliver(source, url, stop))

    async def make_directory(self, url: str) -> None:
        """See `Scheme.make_directory`."""
        await self._workers.run(lambda _: self._make_directory(url))

    async def close(self) -> None:
        """Nothing is held open."""

    def _walk(self, url: str, stop: Event) -> list[Entry]:
        entries: list[Entry] = []
        with _spoken("list", url):
            path = file_path(url)
            if not stat.S_ISDIR(self._roots.stat(path).st_mode):
                raise StorageError(f"{redact(url)} is a file, not a directory")
            for one in walk(self._roots, path):
                if stop.is_set():
                    break
                if isinstance(one, Fault):
                    raise StorageError(one.sentence)
                if not isinstance(one, Skipped):
                    entries.append(Entry(one.relative, one.type))
        return entries

    def _fetch(self, url: str, target: int, stop: Event) -> Fetched:
        with _spoken("read", url):
            source = self._roots.open(file_path(url))
        try:
            executable = bool(os.fstat(source).st_mode & 0o111)
            return Fetched(copy_bytes(source, target, stop), executable)
        finally:
            os.close(source)

    def _deliver(self, source: Source, url: str, stop: Event) -> None:
        path = file_path(url)
        if path.endswith("/"):
            raise StorageError(f"{redact(url)} ends with a slash, so it cannot be the URL of a file")
        with _spoken("write", url), self._roots.parent(path, follow=False, make=0o777) as (directory, name):
            if name in (".", ".."):
                raise StorageError(f"{redact(url)} is a directory, so no file can be written there")
            with _replacing(directory, name, 0o777 if source.executable else 0o666) as target:
                copied = copy_bytes(source.fd, target, stop)
                if stop.is_set():
                    raise StorageError(f"writing {redact(url)} was cancelled")
                if copied != source.size:
                    raise StorageError(f"cannot write {redact(url)}: the file changed its size while it was read")

    def _make_directory(self, url: str) -> None:
        with _spoken("make", url):
            self._roots.make_directory(file_path(url), 0o777)


@contextmanager
def _replacing(directory: int, name: str, mode: int) -> Iterator[int]:
    """A descriptor whose bytes become the file `name` in `directory` when the block ends well, and else
    vanish.

    Where the file system can (`O_TMPFILE`), they have no name until then, so that not even a killed process
    leaves any.
    """
    temporary = f".tesk-{secrets.token_hex(8)}.part"
    target, named = _open_temporary(directory, temporary, mode)
    try:
        yield target
        if not named:
            os.link(f"/proc/self/fd/{target}", temporary, dst_dir_fd=directory, follow_symlinks=True)
            named = True
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
        named = False
    finally:
        os.close(target)
        if named:
            with suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=directory)


def _open_temporary(directory: int, name: str, mode: int) -> tuple[int, bool]:
    """A new file's descriptor, and whether it already has `name`."""
    if hasattr(os, "O_TMPFILE") and os.path.isdir("/proc/self/fd"):
        with suppress(OSError):
            return os.open(".", os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, mode, dir_fd=directory), False
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(name, flags, mode, dir_fd=directory), True


@contextmanager
def _spoken(verb: str, url: str) -> Iterator[None]:
    """Turn the operating system's errors into sentences about `url`."""
    try:
        yield
    except ConfinementError as error:
        raise StorageError(str(error)) from error
    except FileNotFoundError as error:
        raise StorageError(f"{redact(url)} does not exist", not_found=True) from error
    except IsADirectoryError as error:
        raise StorageError(f"{redact(url)} is a directory, not a file") from error
    except NotADirectoryError as error:
        if verb in ("read", "list"):
            raise StorageError(f"{redact(url)} does not exist", not_found=True) from error
        raise StorageError(f"cannot {verb} {redact(url)}: it, or something on its way, is not a directory") from error
    except OSError as error:
        raise StorageError(f"cannot {verb} {redact(url)}: {reason(error)}") from error
