"""The backend `local`: attempts run on this machine, as many at once as their declared resources allow."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tesk.backends.base import Attempt, AttemptKey, LogStream, ReportSink
from tesk.backends.local.disk import DiskWatch
from tesk.backends.local.engine import Engine, EngineUnavailable, Space
from tesk.backends.local.keeping.keepers import end_keepers
from tesk.backends.local.machine import Admission, measure
from tesk.backends.local.record import Record
from tesk.backends.local.steps import LocalSteps, remove_tree
from tesk.backends.local.streams import StreamReader
from tesk.backends.sharing import Followers
from tesk.filer import leave_shared
from tesk.plan.model import Plan
from tesk.plan.site import Capacity
from tesk.storage import Storage
from tesk.taskmaster.report import Report
from tesk.taskmaster.run import now, run_attempt
from tesk.tes.states import State

__all__ = ["LocalBackend", "LocalOptions", "make_engines", "notes"]

log = logging.getLogger(__name__)

FOLLOW_INTERVAL = 0.1
READ_SIZE = 1 << 16


@dataclass(frozen=True, slots=True)
class LocalOptions:
    """How the local backend works here.

    `state` is the server's state directory. `engine` "auto" takes the first that works, in the order of `make_engines`.
    `capacity` None, or a field of it None, means what the machine has. `log_bytes` bounds each stream in the report.
    `hidden` are further directories that sandboxed executors see empty. `network`: whether executors reach a network.
    `pids`: how many processes and threads one executor may have at a time; None for any number.
    `scratch_bytes` is what an attempt may fill whose task declares no disk; None for all of the capacity. `max_runtime`
    are seconds that an executor may take. `lasting`: executors that can go on when this server ends, and attempts with
    them, do so.
    """

    state: Path
    engine: Literal["auto", "podman", "docker", "apptainer", "sandbox"] = "auto"
    capacity: Capacity = field(default_factory=Capacity)
    log_bytes: int = 65536
    hidden: tuple[str, ...] = ()
    network: bool = True
    pids: int | None = None
    scratch_bytes: int | None = None
    max_runtime: int | None = None
    lasting: bool = False


def make_engines(options: LocalOptions) -> list[Engine]:
    """The engines to try, in order."""
    from tesk.backends.local.apptainer import Apptainer
    from tesk.backends.local.docker import Docker
    from tesk.backends.local.podman import Podman
    from tesk.backends.local.sandbox.engine import Sandbox

    engines: dict[str, Callable[[], Engine]] = {
        "podman": lambda: Podman(options.state, network=options.network, pids=options.pids, lasting=options.lasting),
        "docker": lambda: Docker(options.state, network=options.network, pids=options.pids, lasting=options.lasting),
        "apptainer": lambda: Apptainer(options.state, network=options.network, lasting=options.lasting),
        "sandbox": lambda: Sandbox(
            options.state, options.hidden, options.pids, network=options.network, lasting=options.lasting
        ),
    }
    names = list(engines) if options.engine == "auto" else [options.engine]
    return [engines[one]() for one in names]


@dataclass(slots=True)
class _Held:
    attempt: Attempt
    space: Space
    work: asyncio.Task[None] | None = None
    ended: int = 0
    """How many executors have ended."""
    followers: int = 0
    finished: bool = False
    told: bool = False
    """Whether what it came to is stored, or in no record."""
    canceled: bool = False
    start_time: str | None = None
    """When it began, if that was under an earlier server."""


class _Written:
    """A `Source` of tesk.backends.sharing: the files of an executor's streams, which its followers read themselves."""

    def __init__(self, held: _Held, executor: int) -> None:
        self._held = held
        self._executor = executor

    async def run(self, tell: Callable[[], None]) -> None:
        """Look whether the files grow, until the executor has ended."""
        streams = self.place("stdout"), self.place("stderr")
        before: list[int] = []
        while True:
            last = self._held.finished or self._held.ended > self._executor
            sizes = [one.size() for one in streams]
            if sizes != before:
                before = sizes
                tell()
            if last:
                return
            await asyncio.sleep(FOLLOW_INTERVAL)

    def place(self, stream: LogStream) -> StreamReader:
        """The beginning of a stream."""
        return StreamReader(str(self._held.space.streams(self._executor)), stream)

    def close(self) -> None:
        """Nothing is held."""


class LocalBackend:
    """A `Backend` of tesk.backends.base on this machine.

    Attempts are run by this process; when it ends, they end, and a later server finds them lost. Where the engine's
    executors last, attempts wait for that server instead, which goes on with them from the step that each was in.
    """

    def __init__(self, options: LocalOptions, storage: Storage) -> None:
        self._options = options
        self._storage = storage
        self._held: dict[AttemptKey, _Held] = {}
        self._engine: Engine | None = None
        self._sink: ReportSink = lambda *_: None
        self._freed: Callable[[], None] = lambda: None
        self._attempts = options.state / "attempts"
        options.state.mkdir(parents=True, exist_ok=True, mode=0o700)
        found = measure(options.state)
        wanted = dataclasses.asdict(options.capacity)
        self.capacity = dataclasses.replace(
            found, **{name: value for name, value in wanted.items() if value is not None}
        )
        self._admission = Admission(self.capacity)
        self._leaving = False
        self._disk = DiskWatch(options.state, options.scratch_bytes or self.capacity.disk_bytes)
        self._followers: Followers[tuple[AttemptKey, int]] = Followers()

    @property
    def engine(self) -> Engine:
        """The engine that was found to work."""
        assert self._engine is not None, "the backend is not started"
        return self._engine

    async def start(self, sink: ReportSink, freed: Callable[[], None]) -> None:
        """Find the engine, go on with the attempts of an earlier server, and remove what is left of others.

        Nothing else may work in the state directory. Raises EngineUnavailable with a sentence for each engine that does
        not work.
        """
        self._sink, self._freed = sink, freed
        self._engine = await _first_that_works(make_engines(self._options))
        if self._engine.note:
            log.warning("engine sandbox: image names are noted and not used; install podman to use images")
        for name, instead in self._engine.unheld.items():
            log.warning("engine %s: %s %s", self._engine.name, name, instead)
        await end_keepers(self._options.state, but=self._engine.name)
        if self._engine.name != "sandbox":
            from tesk.backends.local.sandbox.engine import end_groups

            await asyncio.to_thread(end_groups, self._options.state)
        for held, report in await asyncio.to_thread(self._sort_leftovers):
            self._held[held.attempt.key] = held
            if report is not None:
                held.finished = True
                self._sink(held.attempt.key, report)
                continue
            self._admission.take_anyway(held.attempt.plan.resources)
            held.work = asyncio.create_task(self._run(held), name=str(held.attempt.key))

    async def stop(self) -> None:
        """End every attempt; what was not finished the next server goes on with, or finds lost."""
        if self._engine is not None and self._engine.lasting:
            self._leaving = True
            self._engine.leave()
        works = [held.work for held in self._held.values() if held.work is not None and not held.work.done()]
        self._sink = lambda *_: None
        for work in works:
            work.cancel()
        if works:
            await asyncio.wait(works)
        if self._engine is not None:
            await self._engine.stop()

    async def attempts(self) -> frozenset[AttemptKey]:
        """The attempts of this process."""
        return frozenset(self._held)

    async def offer(self, attempt: Attempt) -> bool:
        """Start the attempt if its declared resources are free."""
        if attempt.key in self._held:
            return True
        if not self._admission.take(attempt.plan.resources):
            return False
        held = _Held(attempt, Space(self._attempts / str(attempt.key)))
        self._held[attempt.key] = held
        held.work = asyncio.create_task(self._run(held), name=str(attempt.key))
        return True

    def lacks(self, attempt: Attempt) -> str | None:
        """What the attempt declares and is not free."""
        return self._admission.lacks(attempt.plan.resources)

    def waits(self, key: AttemptKey) -> str | None:
        """None: what was taken runs."""
        return None

    async def cancel(self, key: AttemptKey) -> None:
        """End the attempt's whole process tree and remove its scratch, then report CANCELED."""
        held = self._held.get(key)
        if held is None:
            self._sink(key, Report(State.CANCELED, end_time=now()))
        elif held.work is not None and not held.finished:
            held.canceled = True
            held.work.cancel()

    async def forget(self, key: AttemptKey) -> None:
        """Drop a finished attempt."""
        held = self._held.get(key)
        if held is not None and held.finished:
            held.told = True
            await self._tidy(held)
            self._held.pop(key, None)

    async def logs(self, key: AttemptKey, executor: int, stream: LogStream, *, follow: bool) -> AsyncIterator[bytes]:
        """What the executor wrote so far, from the files that its streams go to."""
        held = self._held.get(key)
        if held is None:
            return
        held.followers += 1
        try:
            if follow:
                followed = self._followers.follow((key, executor), stream, lambda: _Written(held, executor))
                async with contextlib.aclosing(followed) as pieces:
                    async for data in pieces:
                        yield data
                return
            reader = StreamReader(str(held.space.streams(executor)), stream)
            while data := await asyncio.to_thread(reader.read, READ_SIZE):
                yield data
        finally:
            held.followers -= 1
            await self._tidy(held)

    async def _tidy(self, held: _Held) -> None:
        """Remove what is left of an attempt that has ended, once nobody reads it and nobody needs to be told again."""
        if held.finished and held.told and not held.followers and held.space.path.exists():
            await asyncio.to_thread(remove_tree, held.space.path)

    async def _run(self, held: _Held) -> None:
        key, plan = held.attempt.key, held.attempt.plan
        record = self._record(held.space)
        if held.start_time is None:
            held.start_time = now()
            record.begin(held.attempt, held.start_time)
        steps = LocalSteps(
            key,
            plan,
            held.space,
            self.engine,
            self._storage,
            self._disk,
            log_bytes=self._options.log_bytes,
            max_runtime=self._options.max_runtime,
            followed=lambda: held.followers > 0,
            record=record,
            kept=lambda: self._keeps(held),
        )
        last: Report | None = None

        def publish(report: Report) -> None:
            nonlocal last
            last = report
            held.ended = len(report.executors)
            self._sink(key, report)

        try:
            report = await run_attempt(
                plan,
                steps,
                publish,
                notes=notes(self.engine, plan),
                start_time=held.start_time,
                concluded=record.conclude,
            )
        except asyncio.CancelledError:
            report = dataclasses.replace(last or Report(State.CANCELED), state=State.CANCELED, end_time=now())
        except Exception as error:
            # Whatever it was, the user hears of it and the server goes on.
            log.exception("attempt %s ended by an error of tesk itself", key)
            report = dataclasses.replace(
                last or Report(State.SYSTEM_ERROR),
                state=State.SYSTEM_ERROR,
                end_time=now(),
                system_logs=(*(last.system_logs if last else ()), f"an error of tesk itself: {error!r}"),
            )
        if self._keeps(held):
            return  # also if it has just ended: then nobody listens, and its last step is done again
        held.finished = True
        held.told = record.concluded() is None
        await self._tidy(held)  # whoever read its streams while it was cleaned may have gone since
        self._admission.give_back(plan.resources)
        self._sink(key, report)
        self._freed()

    def _record(self, space: Space) -> Record:
        return Record(space.record, self.engine.name, lasting=self.engine.lasting)

    def _keeps(self, held: _Held) -> bool:
        """Whether the attempt waits for the next server."""
        return self._leaving and not held.canceled

    def _sort_leftovers(self) -> list[tuple[_Held, Report | None]]:
        """The attempts that an earlier server left and that can go on, or what they came to; all others are removed."""
        self._attempts.mkdir(exist_ok=True, mode=0o700)
        found = []
        for one in self._attempts.iterdir():
            space = Space(one)
            record = self._record(space)
            begun, report = record.begun(), record.concluded()
            if begun is None:
                remove_tree(one)
                continue
            if report is not None:  # of what it had, some may be left
                leave_shared(begun[0].plan, self._storage.options.shared_roots)
                remove_tree(space.scratch)
            found.append((_Held(begun[0], space, start_time=begun[1]), report))
        return found


def notes(engine: Engine, plan: Plan) -> tuple[str, ...]:
    """What a task's user should know of `engine`: what of the declared it cannot hold the task to, too."""
    declared = {"cpu_cores": plan.resources.cpu_cores, "ram_gb": plan.resources.ram_bytes}
    unheld = [f"{name} {instead}" for name, instead in engine.unheld.items() if declared.get(name)]
    return (*([engine.note] if engine.note else []), *unheld)


async def _first_that_works(engines: list[Engine]) -> Engine:
    reasons = []
    for engine in engines:
        try:
            await engine.start()
        except EngineUnavailable as error:
            reasons.append(f"{engine.name}: {error}")
            continue
        for one in reasons:
            log.info("engine %s", one)
        log.info("engine %s runs executors", engine.name)
        return engine
    raise EngineUnavailable("no engine works on this machine; " + "; ".join(reasons))
