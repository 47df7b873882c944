"""The loop between the store and the backend.

Level-triggered: it may be killed at any instruction and started again. What should be is in the store, what is comes
from the backend's reports; a full pass compares the two at start and every so often. Between full passes it is woken
by the store's own changes, by reports and by freed room, never by a fixed sleep.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Literal

from tesk.backends.base import Attempt, AttemptKey, Backend, LogStream
from tesk.plan.model import Plan
from tesk.store import Change, Event, QueuedTask, Store, StoreError, TaskLogBytes, encode_log, noted_log
from tesk.taskmaster.report import Report
from tesk.taskmaster.run import now
from tesk.tes.states import State

__all__ = ["Controller", "ControllerOptions"]

log = logging.getLogger(__name__)

WINDOW = 64
"""How many queued tasks are held ready, so that a freed place is filled without asking the store."""

FIRST_DELAY, LONGEST_DELAY = 0.1, 10.0
"""Seconds before a pass that failed is tried again: the first time, and at most."""


@dataclass(frozen=True, slots=True)
class ControllerOptions:
    """`max_attempts` counts the first one; `full_pass` is the seconds between two full passes.

    `show_preempted` says which tasks end PREEMPTED when their last attempt was; the others end SYSTEM_ERROR.
    """

    max_attempts: int = 3
    full_pass: float = 30.0
    show_preempted: Literal["never", "preemptible", "always"] = "preemptible"


@dataclass(slots=True)
class _Known:
    """What this process knows of an attempt that it handed to the backend or found there."""

    notes: tuple[str, ...] = ()
    report: Report | None = None


@dataclass(slots=True)
class _Work:
    """What the next pass has to do."""

    reports: dict[AttemptKey, Report] = field(default_factory=dict)
    canceling: set[str] = field(default_factory=set)
    full: bool = True


class Controller:
    """Carries tasks from QUEUED to their end.

    Args:
        clock: the time as RFC 3339, for what the controller itself writes into a task's log.
    """

    def __init__(
        self,
        store: Store,
        backend: Backend,
        options: ControllerOptions | None = None,
        *,
        clock: Callable[[], str] = now,
    ) -> None:
        self._store = store
        self._backend = backend
        self._options = options or ControllerOptions()
        self._clock = clock
        self._wake = asyncio.Event()
        self._moved = asyncio.Event()  # set and replaced after every pass
        self._work = _Work()
        self._known: dict[AttemptKey, _Known] = {}
        self._window: deque[QueuedTask] = deque()
        self._more = True  # whether the store may hold queued tasks beyond the window
        self._loop: asyncio.Task[None] | None = None
        self._failure: str | None = None

    @property
    def healthy(self) -> bool:
        """Whether the loop runs and its last pass did all it had to."""
        return self._loop is not None and not self._loop.done() and self._failure is None

    async def start(self) -> None:
        """Start the backend and the loop.

        Raises what the backend raises when it cannot work here.
        """
        self._store.on_change(self._changed)
        await self._backend.start(self._reported, self._wake.set)
        self._wake.set()
        self._loop = asyncio.create_task(self._run(), name="controller")

    async def stop(self) -> None:
        """End the loop, then the backend; what runs goes on, or is taken up again, after the next start."""
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.wait([self._loop])
        await self._backend.stop()

    async def logs(self, task: str, executor: int, stream: LogStream, *, follow: bool) -> AsyncIterator[bytes]:
        """What an executor of `task` has written: from the backend while it holds the attempt, else as stored.

        With `follow`, waits for the executor to start and goes on until it has ended for good, through new attempts.
        """
        written = False
        seen = 0
        while True:
            moved = self._moved
            key = max((one for one in self._known if one.task == task), default=None)
            if key is not None and key.attempt > seen:
                seen = key.attempt
                async for data in self._backend.logs(key, executor, stream, follow=follow):
                    written = True
                    yield data
                if self._executor_ended(key, executor):
                    break
            if not follow or await self._is_over(task):
                break
            await moved.wait()
        if not written and (stored := await self._stored_log(task, executor, stream)):
            yield stored

    def _executor_ended(self, key: AttemptKey, executor: int) -> bool:
        known = self._known.get(key)
        return known is not None and known.report is not None and len(known.report.executors) > executor

    async def _is_over(self, task: str) -> bool:
        state = await self._store.state(task)
        return state is None or state.terminal

    async def _stored_log(self, task: str, executor: int, stream: LogStream) -> bytes:
        found = await self._store.find(task)
        stored = await self._store.attempt_logs(task, found.attempt) if found is not None else None
        executors = json.loads(stored)["logs"] if stored else []
        return str(executors[executor].get(stream) or "").encode() if executor < len(executors) else b""

    def _changed(self, event: Event) -> None:
        if event.state is State.CANCELING:
            self._work.canceling.add(event.id)
        else:
            self._more = True
        self._wake.set()

    def _reported(self, key: AttemptKey, report: Report) -> None:
        self._work.reports[key] = report
        self._wake.set()

    async def _run(self) -> None:
        delay = FIRST_DELAY
        next_full = asyncio.get_running_loop().time()
        while True:
            with contextlib.suppress(TimeoutError):
                # Not wait_for: Python 3.11's may swallow a cancellation, and then `stop` would wait for ever.
                async with asyncio.timeout(self._options.full_pass):
                    await self._wake.wait()
            self._wake.clear()
            clock = asyncio.get_running_loop().time()
            if clock >= next_full:
                self._work.full = True
                next_full = clock + self._options.full_pass
            try:
                await self._pass()
            except Exception as error:
                # Nothing is lost: the work is put back, and a full pass finds whatever was half done.
                self._failure = str(error)
                if not isinstance(error, StoreError):
                    log.exception("a pass failed")
                log.error("the controller's pass failed and is tried again in %.1f s: %s", delay, error)
                self._work.full = True
                self._wake.set()
                await asyncio.sleep(delay)
                delay = min(delay * 2, LONGEST_DELAY)
            else:
                self._failure = None
                delay = FIRST_DELAY
            self._moved.set()
            self._moved = asyncio.Event()

    async def _pass(self) -> None:
        work, self._work = self._work, _Work(full=False)
        try:
            if work.full:
                self._more = True
                await self._compare(work)
            await self._fold(work.reports)
            await self._cancel(work.canceling)
            await self._submit()
        except BaseException:
            self._put_back(work)
            raise

    def _put_back(self, work: _Work) -> None:
        """Keep what a failed pass had to do, unless something newer came meanwhile."""
        self._work.reports = {**work.reports, **self._work.reports}
        self._work.canceling |= work.canceling

    async def _compare(self, work: _Work) -> None:
        """The full pass: what the store says runs against what the backend holds."""
        active = await self._store.active()
        held = await self._backend.attempts()
        running = {AttemptKey(one.id, one.attempt) for one in active}
        work.canceling |= {one.id for one in active if one.state is State.CANCELING}
        for task in active:
            key = AttemptKey(task.id, task.attempt)
            if key in held:
                await self._remember(key)
            elif task.state is not State.CANCELING and key not in work.reports:
                await self._lost(key, "the server that ran it was stopped")
        for key in held - running - work.reports.keys():
            # Ended in the store, or a new attempt took its place: nothing waits for it any more.
            if (state := await self._store.state(key.task)) is None or state.terminal:
                await self._let_go(key)

    async def _remember(self, key: AttemptKey) -> _Known:
        """What is known of an attempt, also of one that an earlier server handed over."""
        if key not in self._known:
            plan = await self._store.plan(key.task)
            notes = Plan.from_json(plan).notes if plan is not None and key.attempt == 1 else ()
            self._known[key] = _Known(notes)
        return self._known[key]

    async def _fold(self, reports: dict[AttemptKey, Report]) -> None:
        """Bring reports into the store, all in one transaction, and let go of attempts that ended."""
        changes: dict[AttemptKey, Change] = {}
        for key, report in reports.items():
            if report.start_time is not None:
                (await self._remember(key)).report = report
            if report.lost is None:
                changes[key] = Change(key.task, key.attempt, report.state, self._log(key, report), report.directories)
        took = dict(zip(changes, await self._store.apply(list(changes.values())), strict=True)) if changes else {}
        for key, report in reports.items():
            if report.lost is not None:
                await self._lost(key, report.lost, preempted=report.state is State.PREEMPTED)
            elif report.state.terminal:
                if not took[key]:
                    await self._end_canceled(changes[key])
                await self._let_go(key)

    async def _end_canceled(self, change: Change) -> None:
        """A cancel came between the attempt's end and its report: nothing is left of it, so the task is CANCELED."""
        if await self._store.state(change.id) is State.CANCELING:
            await self._store.apply([dataclasses.replace(change, state=State.CANCELED)])

    async def _let_go(self, key: AttemptKey) -> None:
        await self._backend.forget(key)
        self._known.pop(key, None)

    def _log(self, key: AttemptKey, report: Report) -> TaskLogBytes | None:
        """None for an attempt that never started here: what the store has of it stays."""
        known = self._known.get(key)
        return None if known is None else encode_log(report, known.notes)

    async def _lost(self, key: AttemptKey, why: str, *, preempted: bool = False) -> None:
        """Start a new attempt, or end the task when it has had all of its attempts."""
        known = self._known.get(key)
        again = key.attempt < self._options.max_attempts
        sentence = f"attempt {key.attempt} was lost: {why}"
        sentence += "; a new attempt was started" if again else f"; it was the last of {key.attempt} attempts"
        stored = await self._store.attempt_logs(key.task, key.attempt)
        if known is not None and known.report is not None:
            newest = encode_log(known.report, known.notes)
            stored = newest.full or newest.basic
        final = noted_log(stored, [sentence], end_time=self._clock())
        log.warning("task %s: %s", key.task, sentence)
        if not (again and await self._store.retry(key.task, key.attempt, final)):
            end = State.PREEMPTED if preempted and await self._shows_preempted(key.task) else State.SYSTEM_ERROR
            if await self._store.state(key.task) is State.CANCELING:
                end = State.CANCELED
            await self._store.apply([Change(key.task, key.attempt, end, final)])
        await self._let_go(key)

    async def _shows_preempted(self, task: str) -> bool:
        if self._options.show_preempted != "preemptible":
            return self._options.show_preempted == "always"
        plan = await self._store.plan(task)
        return plan is not None and Plan.from_json(plan).resources.preemptible

    async def _cancel(self, tasks: set[str]) -> None:
        """Tell the backend of each, also when it holds nothing: its answer is a report either way."""
        if tasks:
            self._window = deque(one for one in self._window if one.id not in tasks)
        for task in tasks:
            found = await self._store.find(task)
            if found is not None and found.state is State.CANCELING:
                await self._backend.cancel(AttemptKey(task, found.attempt))

    async def _submit(self) -> None:
        """Hand queued tasks to the backend, oldest first, until it has no more room."""
        while self._window or self._more:
            if not self._window:
                await self._refill()
            elif await self._offer(self._window[0]):
                self._window.popleft()
            else:
                return

    async def _refill(self) -> None:
        """Take the oldest queued tasks that the backend does not hold yet into the window."""
        self._more = False  # before the question: a task created while it is asked sets it again
        found = await self._store.queued(WINDOW + len(self._known))
        self._window.extend(one for one in found if AttemptKey(one.id, one.attempt) not in self._known)
        self._more = self._more or bool(self._window)

    async def _offer(self, task: QueuedTask) -> bool:
        """Whether the task is out of the window: taken by the backend, or no longer to be run."""
        key = AttemptKey(task.id, task.attempt)
        if task.id in self._work.canceling:
            return True
        try:
            plan = Plan.from_json(task.plan)
        except ValueError as error:
            await self._store.apply([Change(task.id, task.attempt, State.SYSTEM_ERROR, _broken(error, self._clock()))])
            return True
        self._known[key] = _Known(plan.notes if task.attempt == 1 else ())
        if await self._backend.offer(Attempt(key, plan)):
            return True
        del self._known[key]
        return False


def _broken(error: ValueError, time: str) -> TaskLogBytes:
    return noted_log(None, [f"the stored plan cannot be read: {error}"], end_time=time)
