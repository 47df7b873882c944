"""A server without a socket: the real store, controller and application over a backend that the test leads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx

from tesk.backends.base import Attempt, AttemptKey, LogStream, ReportSink
from tesk.config import Config
from tesk.controller import Controller, ControllerOptions
from tesk.plan.site import Capacity
from tesk.server.app import create_app
from tesk.server.tasks import Tasks
from tesk.store import Store
from tesk.taskmaster.report import ExecutorEnd, Report
from tesk.tes.states import State
from tests.model.reference import MOST_ATTEMPTS

__all__ = ["PREFIXES", "House"]

PREFIXES = ("/ga4gh/tes/v1", "/v1", "")
"""Each client speaks by one of them."""

AT = "2026-01-01T00:00:00Z"


class LedBackend:
    """Runs nothing: an attempt stands where the test last said, also for the next server that comes."""

    def __init__(self) -> None:
        self.held: dict[AttemptKey, Report | None] = {}
        self.sink: ReportSink | None = None
        self.freed: Callable[[], None] = lambda: None
        self.has_room = True

    async def start(self, sink: ReportSink, freed: Callable[[], None]) -> None:
        self.sink, self.freed = sink, freed
        for key, report in self.held.items():
            if report is not None:
                sink(key, report)

    async def stop(self) -> None:
        self.sink = None

    async def attempts(self) -> frozenset[AttemptKey]:
        return frozenset(self.held)

    async def offer(self, attempt: Attempt) -> bool:
        if attempt.key not in self.held:
            if not self.has_room:
                return False
            self.held[attempt.key] = None
        return True

    async def cancel(self, key: AttemptKey) -> None:
        if key not in self.held and self.sink is not None:
            self.sink(key, Report(State.CANCELED))

    async def forget(self, key: AttemptKey) -> None:
        self.held.pop(key, None)

    async def logs(self, key: AttemptKey, executor: int, stream: LogStream, *, follow: bool) -> AsyncIterator[bytes]:
        if False:
            yield b""

    def set_room(self, has_room: bool) -> None:
        """Take attempts that are offered from now on, or take none."""
        self.has_room = has_room
        if has_room:
            self.freed()

    def tell(self, key: AttemptKey, state: str, exit_codes: list[int], *, lost: bool = False) -> None:
        """Report on an attempt, whether it is held or not."""
        ended = State(state).terminal
        report = Report(
            State(state),
            AT,
            AT if ended else None,
            tuple(ExecutorEnd(AT, AT, code, "out", "err") for code in exit_codes),
            system_logs=("a sentence",) if ended else (),
            lost="its node went away" if lost else None,
        )
        if key in self.held:
            self.held[key] = report
        assert self.sink is not None
        self.sink(key, report)


class House:
    """One server after the other on one database."""

    def __init__(self, place: str, state: Path) -> None:
        self.place = place
        self.config = Config(state_directory=state)
        self.backend = LedBackend()

    async def open(self) -> None:
        """Begin to serve."""
        self.store = await Store.open(self.place)
        self.controller = Controller(self.store, self.backend, ControllerOptions(MOST_ATTEMPTS, full_pass=60))
        await self.controller.start()
        site = self.config.site(Capacity(cpu_cores=4))
        app = create_app(Tasks(self.store, site), self.controller, self.config, secret=await self.store.secret())
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://tesk")

    async def close(self) -> None:
        """End the server in order."""
        await self.http.aclose()
        await self.controller.stop()
        await self.store.close()

    async def restart(self, *, backend_too: bool) -> None:
        """Another server; `backend_too`, nothing of what ran is left for it."""
        await self.close()
        if backend_too:
            self.backend.held.clear()
        await self.open()

    async def until(self, holds: Callable[[], object]) -> None:
        """Wait until `await holds()` is true, for at most 5 s."""
        async with asyncio.timeout(5):
            while not await holds():  # type: ignore[misc]
                await asyncio.sleep(0.001)
