"""The configuration, read again while the server runs: after SIGHUP, and once its file has changed.

The `service` section takes effect at once. Every other key has shaped what is open now, and waits for a restart.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable
from pathlib import Path

from tesk.config import ConfigError, Loaded, Source, changed_keys
from tesk.config.models import ServiceConfig

__all__ = ["Reloader"]

_log = logging.getLogger("tesk.config")

_LOOK_SECONDS = 1.0
_LIVE = "service"

_Signature = tuple[int, int, int, int]


class Reloader:
    """Reads `source` again once its file has changed or `ask` is called. `loaded` is what the server runs with.

    A file that cannot be used leaves everything as it is. `look_seconds` lie between two looks at the file, each of
    which is one system call.
    """

    def __init__(self, source: Source, loaded: Loaded, look_seconds: float = _LOOK_SECONDS) -> None:
        self._source = source
        self._file = loaded.file
        self._used = _signature(loaded.file)
        self._running = loaded.config
        self._look_seconds = look_seconds
        self._asked = asyncio.Event()

    def ask(self) -> None:
        """Read it now, changed or not."""
        self._asked.set()

    async def run(self, use: Callable[[ServiceConfig], None]) -> None:
        """Until cancelled, give `use` the `service` section each time that it has changed."""
        before = self._used
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._look_seconds):
                    await self._asked.wait()
            seen = _signature(self._file)
            # a file that still changes between two looks is being written
            if self._asked.is_set() or (seen != self._used and seen == before):
                self._asked.clear()
                self._used = seen
                await self._read(use)
            before = seen

    async def _read(self, use: Callable[[ServiceConfig], None]) -> None:
        if self._file is not None and self._used is None:
            _log.warning("%s is gone; what was read from it stays in force", self._file)
            return
        try:
            loaded = await asyncio.to_thread(self._source.load)
        except ConfigError as error:
            faults = "; ".join(error.faults)
            _log.error("the configuration cannot be used, so the one before stays in force: %s", faults)
            return
        if loaded.file != self._file:
            self._file, self._used = loaded.file, _signature(loaded.file)
        self._take(loaded, use)

    def _take(self, loaded: Loaded, use: Callable[[ServiceConfig], None]) -> None:
        changed = [key.dotted for key in changed_keys(self._running, loaded.config) if key.path[0] == _LIVE]
        if changed:
            use(loaded.config.service)
            self._running = self._running.model_copy(update={_LIVE: loaded.config.service})
        waiting = [key.dotted for key in changed_keys(self._running, loaded.config)]
        name = loaded.file or "the configuration"
        _log.info("%s is read again; new and in force: %s", name, ", ".join(changed) or "nothing")
        if waiting:
            _log.warning("%s: in force only after a restart: %s", name, ", ".join(waiting))


def _signature(file: Path | None) -> _Signature | None:
    """What differs once the file's text does, also behind a link that was turned (as Kubernetes does it)."""
    if file is None:
        return None
    try:
        found = os.stat(file)
    except OSError:
        return None
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
