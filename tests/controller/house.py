"""The controller over a real store and a backend that does what each test tells it, also what real ones rarely do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from tesk.backends.base import Attempt, AttemptKey, LogStream, ReportSink
from tesk.controller import Controller, ControllerOptions
from tesk.plan.model import ExecutorPlan, Plan
from tesk.store import NewTask, Store
from tesk.taskmaster.report import ExecutorEnd, Report
from tesk.tes.states import State
from tesk.tes.views import View

__all__ = ["COMPLETE", "PLAN", "RUNNING", "House", "ToldBackend"]

PLAN = Plan(executors=(ExecutorPlan("image", ("true",)),), notes=("a note",))
RUNNING = Report(State.RUNNING, start_time="2026-01-01T00:00:00Z")
COMPLETE = Report(
    State.COMPLETE, "2026-01-01T00:00:00Z", "2026-01-01T00:00:02Z", (ExecutorEnd("a", "b", 0, "out", ""),)
)


class ToldBackend:
    """Holds attempts and reports on them only when the test says so."""

    def __init__(self, room: int = 100) -> None:
        self.room = room
        self.held: dict[AttemptKey, Attempt] = {}
        self.offered: list[AttemptKey] = []
        self.cancelled: list[AttemptKey] = []
        self.forgotten: list[AttemptKey] = []
        self.fails_to_list = False
        self.faults: dict[str, Exception] = {}
        """What `offer` and `cancel` raise for these tasks."""
        self.tries: list[str] = []
        self.waiting: dict[AttemptKey, str] = {}
        self.sink: ReportSink = lambda *_: None
        self.freed: Callable[[], None] = lambda: None

    async def start(self, sink: ReportSink, freed: Callable[[], None]) -> None:
        self.sink, self.freed = sink, freed

    async def stop(self) -> None:
        self.sink = lambda *_: None

    async def attempts(self) -> frozenset[AttemptKey]:
        if self.fails_to_list:
            raise OSError("the backend does not answer")
        return frozenset(self.held)

    async def offer(self, attempt: Attempt) -> bool:
        self.tries.append(attempt.key.task)
        if attempt.key.task in self.faults:
            raise self.faults[attempt.key.task]
        if len(self.held) >= self.room:
            return False
        self.offered.append(attempt.key)
        self.held[attempt.key] = attempt
        return True

    def lacks(self, attempt: Attempt) -> str | None:
        return None if len(self.held) < self.room else f"there is room for {self.room}"

    def waits(self, key: AttemptKey) -> str | None:
        return self.waiting.get(key)

    async def cancel(self, key: AttemptKey) -> None:
        if key.task in self.faults:
            raise self.faults[key.task]
        self.cancelled.append(key)
        if key not in self.held:
            self.sink(key, Report(State.CANCELED))

    async def forget(self, key: AttemptKey) -> None:
        self.forgotten.append(key)
        self.held.pop(key, None)

    async def logs(self, key: AttemptKey, executor: int, stream: LogStream, *, follow: bool) -> AsyncIterator[bytes]:
        if key in self.held:
            yield b"live"


class House:
    """A store, a backend and the controller between them, which can be started again."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.backend = ToldBackend()
        self.controller: Controller | None = None

    async def start(self, **options: Any) -> None:
        self.controller = Controller(self.store, self.backend, ControllerOptions(**options))
        await self.controller.start()

    async def restart(self, *, still_held: bool = False, **options: Any) -> None:
        """A new server process, which knows nothing and whose backend holds nothing, or what it held."""
        assert self.controller is not None
        await self.controller.stop()
        held = self.backend.held if still_held else {}
        self.backend = ToldBackend()
        self.backend.held = held
        await self.start(**options)

    async def create(self, name: str, plan: Plan = PLAN) -> AttemptKey:
        await self.store.create(
            NewTask(name, None, "2026-01-01T00:00:00Z", b'{"executors":[]}', None, plan.to_json().encode())
        )
        return AttemptKey(name, 1)

    async def until(self, what: Callable[[], Any]) -> None:
        async def poll() -> None:
            while True:
                found = what()
                if asyncio.iscoroutine(found):
                    found = await found
                if found:
                    return
                await asyncio.sleep(0.002)

        await asyncio.wait_for(poll(), 10)

    async def state(self, name: str, *wanted: State) -> dict[str, Any]:
        async def reached() -> bool:
            return await self.store.state(name) in wanted

        await self.until(reached)
        found = await self.store.get(name, View.FULL)
        assert found is not None
        task: dict[str, Any] = json.loads(found)
        return task
