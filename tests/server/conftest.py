"""The application over a real SQLite store, with a controller that only hands out logs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tesk.config import Config
from tesk.config.models import ServerConfig, ServiceConfig
from tesk.plan.site import Capacity
from tesk.server.app import create_app
from tesk.server.tasks import Tasks
from tesk.store import Change, Store, encode_log
from tesk.taskmaster.report import ExecutorEnd, OutputFile, Report
from tesk.tes.states import State

TASK = {"executors": [{"image": "ubuntu", "command": ["true"]}]}


class FakeController:
    """Gives what `chunks` holds; with `follow`, whatever is put there later as well, until None."""

    def __init__(self) -> None:
        self.healthy = True
        self.asked: list[tuple[str, int, str, bool]] = []
        self.chunks: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.closed = asyncio.Event()

    async def why(self, task: str) -> str | None:
        return f"{task} waits for its turn"

    async def logs(self, task: str, executor: int, stream: str, *, follow: bool) -> AsyncIterator[bytes]:
        self.asked.append((task, executor, stream, follow))
        try:
            while follow or not self.chunks.empty():
                chunk = await self.chunks.get()
                if chunk is None:
                    return
                yield chunk
        finally:
            self.closed.set()


@dataclass
class Api:
    """One site: its parts, and a client that speaks to its application."""

    store: Store
    tasks: Tasks
    controller: FakeController
    http: httpx.AsyncClient
    app: Any
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    async def create(self, **fields: Any) -> str:
        """A new task; its id."""
        answer = await self.http.post("/ga4gh/tes/v1/tasks", json={**TASK, **fields})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id"])

    async def get(self, task_id: str, view: str = "FULL") -> dict[str, Any]:
        """The task as the API shows it."""
        answer = await self.http.get(f"/ga4gh/tes/v1/tasks/{task_id}", params={"view": view})
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def stored(self) -> int:
        """How many tasks the store holds."""
        return sum((await self.store.counts()).values())

    async def finish(self, task_id: str, state: State = State.COMPLETE) -> None:
        """Let the task end, with one executor and one output in its log."""
        at = "2026-01-01T00:00:00Z"
        report = Report(
            state,
            at,
            at,
            (ExecutorEnd(at, at, 0, "out", "err"),),
            (OutputFile("file:///data/out", "/out", 5),),
            ("a sentence",),
        )
        assert await self.store.apply([Change(task_id, 1, state, encode_log(report))]) == [True]


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    """An application without tasks; files may be named below /data."""
    config = Config(
        state_directory=tmp_path,
        server=ServerConfig(max_body_bytes=2**22),
        service=ServiceConfig(id="org.lab.tesk", name="Lab", description="the lab's"),
    )
    store = await Store.open(tmp_path / "tesk.db")
    site = config.model_copy(update={"storage": config.storage.model_copy(update={"file_roots": ("/data",)})}).site(
        Capacity(cpu_cores=4, ram_bytes=8 * 10**9)
    )
    tasks, controller, stopping = Tasks(store, site), FakeController(), asyncio.Event()
    app = create_app(tasks, controller, config, secret=await store.secret(), stopping=stopping)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://tesk") as http:
        yield Api(store, tasks, controller, http, app, stopping)
    await store.close()
