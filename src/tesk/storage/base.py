"""What storage asks of every scheme. A new scheme is one class and one line in `tesk.storage.store`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Literal, NamedTuple, Protocol

__all__ = ["Entry", "Fetched", "FileType", "Scheme", "Source"]

FileType = Literal["FILE", "DIRECTORY"]


class Entry(NamedTuple):
    """One thing below a directory URL: its path from there, slash-separated and without escapes."""

    path: str
    type: FileType


class Fetched(NamedTuple):
    """What a fetch brought: bytes, and whether the source could be run as a program."""

    size: int
    executable: bool = False


class Source(NamedTuple):
    """A local regular file to deliver: a descriptor open for reading, and what `fstat` said of it."""

    fd: int
    size: int
    executable: bool = False


class Scheme(Protocol):
    """One way to reach bytes. Every method raises StorageError, with the URL in it, when it cannot; an
    OSError is a fault of the descriptor that the caller gave.

    Descriptors belong to the caller and stay open until the call has ended, also when it is cancelled. Bytes
    are read and written by position, so that a try that failed half-way can be made again.
    """

    def walk(self, url: str) -> AsyncIterator[Entry]:
        """Everything below the directory at `url`, parents before what they hold."""

    async def fetch(self, url: str, target: int) -> Fetched:
        """Write the file at `url` to the descriptor `target`, an empty regular file."""

    async def deliver(self, source: Source, url: str) -> None:
        """Write `source` to `url`, over what was there; nothing partial ever stands there."""

    async def make_directory(self, url: str) -> None:
        """Make an (empty) directory at `url`, where the scheme has such a thing."""

    async def close(self) -> None:
        """Give back connections."""
