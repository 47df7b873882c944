"""A whole TESK inside this process, for one task: its own store and state directory, no socket, gone afterwards."""

from __future__ import annotations

import logging
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tesk.cli.compose import Composed

if TYPE_CHECKING:
    from tesk.client import Task
    from tesk.config import Config

__all__ = ["configure", "run_here", "sandbox_note"]

_LOG_BYTES = 4 * 2**20  # what is shown of a command that ended before its output could be followed


def sandbox_note() -> str:
    """What the sandbox says in every task's `system_logs`."""
    from tesk.backends.local.sandbox.engine import Sandbox

    return Sandbox.note or ""


def configure(state: Path, roots: list[str], engine: str) -> Config:
    """The user's own configuration (storage, credentials), but with a state, a store and file roots of our own."""
    from tesk.config import load

    overrides: dict[str, Any] = {
        "state_directory": str(state),
        "store.url": "",
        "storage.file_roots": roots,
        "local.engine": engine,
        "tasks.log_bytes": _LOG_BYTES,
        "server.access_log": False,
        "backend": "local",
    }
    return load(None, os.environ, overrides)


async def run_here(composed: Composed, engine: str, directory: Path) -> Task:
    """Run the task on this machine by `engine`; files below `directory` and those that the task names are allowed."""
    from tesk.cli.asgi import AppTransport
    from tesk.cli.follow import run_to_end
    from tesk.client import AsyncClient
    from tesk.server.service import open_service

    # a single task has no operator: what the server logs for one is either in its answer or of no use here
    logging.getLogger("tesk").addHandler(logging.NullHandler())
    logging.getLogger("tesk").propagate = False
    with tempfile.TemporaryDirectory(prefix="tesk-run-") as state:
        config = configure(Path(state).resolve(), sorted({*composed.roots, str(directory)}), engine)
        async with open_service(config) as service:
            transport = AppTransport(service.app)
            async with AsyncClient("http://tesk", transport=transport) as client:
                return await run_to_end(client, composed.task)
