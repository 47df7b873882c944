"""The demo's files: made here, and where tasks find and leave them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tesk.cli.faults import CommandError

if TYPE_CHECKING:
    from tesk.storage import Storage

__all__ = ["Files"]


@dataclass(frozen=True)
class Files:
    """Files are made in `directory`. Tasks see them there, or, with a `base`, below that URL."""

    directory: Path
    base: str | None = None

    def url(self, name: str) -> str:
        """What tasks call the file or directory `name`."""
        return (self.directory / name).as_uri() if self.base is None else f"{self.base.rstrip('/')}/{name}"

    def send(self, names: Iterable[str]) -> None:
        """Put the files there where tasks find them. Raises CommandError."""
        if self.base is None:
            return

        async def send_all(storage: Storage) -> None:
            from tesk.storage import Source

            for name in names:
                with (self.directory / name).open("rb") as file:
                    await storage.deliver(Source(file.fileno(), os.fstat(file.fileno()).st_size), self.url(name))

        self._with_storage(send_all)

    def fetch(self, name: str) -> Path:
        """The file that a task left, which is brought here if it is elsewhere. Raises CommandError."""
        here = self.directory / name
        if self.base is None:
            return here

        async def fetch(storage: Storage) -> None:
            with here.open("wb") as file:
                await storage.fetch(self.url(name), file.fileno())

        self._with_storage(fetch)
        return here

    def _with_storage(self, work: Callable[[Storage], Awaitable[None]]) -> None:
        from tesk.storage import Storage, StorageError, StorageOptions

        async def do() -> None:
            async with Storage(StorageOptions.from_environment()) as storage:
                await work(storage)

        try:
            asyncio.run(do())
        except (StorageError, ValueError) as error:
            raise CommandError(str(error)) from error
