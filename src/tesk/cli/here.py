"""A whole TESK inside this process, for one command: its own store and state directory, no socket, gone afterwards."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from tesk.client import AsyncClient
    from tesk.config import Config

__all__ = ["configure", "engine_of_images", "run_here", "sandbox_note"]

T = TypeVar("T")
_LOG_BYTES = 4 * 2**20  # what is shown of a command that ended before its output could be followed


def sandbox_note() -> str:
    """What the sandbox says in every task's `system_logs`."""
    from tesk.backends.local.sandbox.engine import Sandbox

    return Sandbox.note or ""


def engine_of_images() -> str:
    """Of the engines that use images the first that is installed; podman, whose error then says so, if none is."""
    return next((one for one in ("podman", "docker", "apptainer") if shutil.which(one)), "podman")


def configure(state: Path, roots: list[str], engine: str) -> Config:
    """The user's own configuration (storage, credentials), but with a state, a store and file roots of our own."""
    from tesk.config import load

    overrides: dict[str, Any] = {
        "state_directory": str(state),
        "store.url": "",
        "storage.file_roots": roots,
        "local.engine": engine,
        "local.lasting": False,
        "tasks.log_bytes": _LOG_BYTES,
        "server.access_log": False,
        "backend": "local",
    }
    return load(None, os.environ, overrides)


async def run_here(
    roots: Iterable[str], engine: str, directory: Path, work: Callable[[AsyncClient], Awaitable[T]]
) -> T:
    """Do `work` with a server on this machine that runs tasks by `engine`.

    Files below `directory` and `roots` may be named by tasks.
    """
    from tesk.cli.asgi import AppTransport
    from tesk.client import AsyncClient
    from tesk.server.service import open_service

    # a command has no operator: what the server logs for one is either in its answer or of no use here
    logging.getLogger("tesk").addHandler(logging.NullHandler())
    logging.getLogger("tesk").propagate = False
    with tempfile.TemporaryDirectory(prefix="tesk-run-") as state:
        try:
            config = configure(Path(state).resolve(), sorted({*roots, str(directory)}), engine)
            async with open_service(config) as service:
                transport = AppTransport(service.app)
                async with AsyncClient("http://tesk", transport=transport) as client:
                    return await work(client)
        finally:
            # When we are cancelled, a thread goes on with what it does, and would make the directory anew.
            await asyncio.get_running_loop().shutdown_default_executor()
