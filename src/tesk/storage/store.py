"""All schemes behind one face."""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

from tesk.storage.base import Entry, Fetched, Scheme, Source
from tesk.storage.errors import StorageError, redact
from tesk.storage.local import Workers
from tesk.storage.options import StorageOptions
from tesk.storage.urls import scheme_of

__all__ = ["SCHEMES", "Storage"]

SCHEMES = {
    "file": "tesk.storage.files:FileScheme",
    "ftp": "tesk.storage.ftp:FtpScheme",
    "http": "tesk.storage.web:HttpScheme",
    "https": "tesk.storage.web:HttpScheme",
    "s3": "tesk.storage.objects:S3Scheme",
}
"""Scheme to the class that speaks it; imported only when a URL needs it."""


class Storage:
    """Reads and writes URLs as one site's options allow. Used from one event loop; close it, or use `async
    with`.
    """

    def __init__(self, options: StorageOptions | None = None) -> None:
        self.options = options or StorageOptions()
        self.workers = Workers(self.options.parallelism)
        self._schemes: dict[str, Scheme] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def walk(self, url: str) -> AsyncIterator[Entry]:
        """Everything below the directory at `url`; see `Scheme.walk`."""
        return self._scheme(url).walk(url)

    async def fetch(self, url: str, target: int) -> Fetched:
        """Write the file at `url` to the descriptor `target`, an empty regular file open for writing."""
        return await self._scheme(url).fetch(url, target)

    async def deliver(self, source: Source, url: str) -> None:
        """Write `source` to `url`, over what was there; nothing partial ever stands there."""
        await self._scheme(url).deliver(source, url)

    async def make_directory(self, url: str) -> None:
        """Make an (empty) directory at `url`, where the scheme has such a thing."""
        await self._scheme(url).make_directory(url)

    async def close(self) -> None:
        """Give back connections and threads."""
        for one in set(self._schemes.values()):
            await one.close()
        self._schemes.clear()
        self.workers.close()

    def _scheme(self, url: str) -> Scheme:
        name = scheme_of(url)
        if name not in SCHEMES:
            known = ", ".join(sorted(SCHEMES))
            raise StorageError(f"{redact(url)} has a scheme that storage does not speak; it speaks {known}")
        if name not in self._schemes:
            module, _, attribute = SCHEMES[name].partition(":")
            made: Scheme = getattr(importlib.import_module(module), attribute)(self.options, self.workers)
            for other, spelled in SCHEMES.items():
                if spelled == SCHEMES[name]:
                    self._schemes[other] = made
        return self._schemes[name]
