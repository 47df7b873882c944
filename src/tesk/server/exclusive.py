"""One server in one state directory, whatever its backend."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["StateDirectoryInUse", "held"]


class StateDirectoryInUse(Exception):
    """Another server works in the same state directory; the message says which."""


@contextlib.contextmanager
def held(state: Path) -> Iterator[None]:
    """Hold the directory `state` for this process, until it ends however it ends.

    Raises StateDirectoryInUse.
    """
    fd = os.open(state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(fd, 64).decode(errors="replace").strip() or "unknown"
            raise StateDirectoryInUse(
                f"another tesk (process {holder}) works in {state}; stop it, or choose another state_directory"
            ) from error
        with contextlib.suppress(OSError):
            os.ftruncate(fd, 0)
            os.write(fd, f"{os.getpid()}\n".encode())
        yield
    finally:
        os.close(fd)
