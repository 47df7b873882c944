"""What the same machine does without TESK: the same web server with a constant answer, SQLite alone, fsync alone."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from types import TracebackType

__all__ = ["BareServer", "fsyncs", "inserts"]

_ROW_BYTES = 2500
"""What one task takes in the store: body, plan, tags and their indexes."""


class BareServer:
    """uvicorn and Starlette with TESK's settings, a process of its own: `/N` answers N constant bytes as JSON."""

    def __enter__(self) -> BareServer:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.bare"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().decode().strip()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.terminate()
        self.process.wait(30)
        assert self.process.stdout is not None
        self.process.stdout.close()


def inserts(directory: Path, seconds: float) -> float:
    """Commits a second of one row each, by one connection with `synchronous=FULL` in WAL mode."""
    path = directory / "bare.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("CREATE TABLE bare (seq INTEGER PRIMARY KEY, body BLOB)")
        body = os.urandom(_ROW_BYTES)
        start, done = time.perf_counter(), 0
        while (spent := time.perf_counter() - start) < seconds:
            connection.execute("INSERT INTO bare (body) VALUES (?)", (body,))
            done += 1
    return done / spent


def fsyncs(directory: Path, seconds: float) -> float:
    """Writes of 4 kB at the end of a file a second, each followed by fsync."""
    page = os.urandom(4096)
    with (directory / "bare.bin").open("wb", buffering=0) as file:
        start, done = time.perf_counter(), 0
        while (spent := time.perf_counter() - start) < seconds:
            file.write(page)
            os.fsync(file.fileno())
            done += 1
    return done / spent


def _serve() -> None:
    import uvloop
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    from tesk.server.listen import BACKLOG, Listeners, bind
    from tesk.server.serving import serve_app

    answers: dict[int, bytes] = {}

    async def constant(request: Request) -> Response:
        size = request.path_params["size"]
        return Response(answers.setdefault(size, b"x" * size), media_type="application/json")

    async def main() -> None:
        bound = bind("127.0.0.1", 0)
        bound.listen(BACKLOG)
        with Listeners((bound,)) as listening:
            app = Starlette(routes=[Route("/{size:int}", constant)])
            await serve_app(app, listening, asyncio.Event(), lambda: print(listening.url, flush=True))

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


if __name__ == "__main__":
    _serve()
