"""The loop between the store and the backend.

Level-triggered: it may be killed at any instruction and started again. What should be is in the store, what is comes
from the backend's reports; a full pass compares the two at start and every so often. Between full passes it is woken
by the store's own changes, by reports and by freed room, never by a fixed sleep.

While the store or the backend is away, the whole pass is tried again. Any other error is of one task: that task ends
with a sentence that says so, or waits apart (tesk.controller.later), and all others go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

from tesk.backends.base import AttemptKey, Backend, LogStream
from tesk.controller.faults import apply_each, is_away
from tesk.controller.later import Later
from tesk.controller.retries import Retries
from tesk.controller.window import Queued, Window
from tesk.plan.model import Plan
from tesk.store import ActiveTask, Change, Event, Store, TaskLogBytes, encode_log, noted_log
from tesk.taskmaster.report import Report
from tesk.taskmaster.run import now
from tesk.tes.states import State

__all__ = ["Controller", "ControllerOptions"]

log = logging.getLogger(__name__)

FIRST_DELAY, LONGEST_DELAY = 0.1, 10.0
"""Seconds before a pass that failed is tried again: the first time, and at most."""

MOST_OFFERS = 8
"""How often an attempt that the backend fails to take is offered, over two minutes, before its task ends."""

_MOST_COUNTED = 10_000
"""Of the tasks before one that waits."""

FAILURES_IN_A_ROW = 3
"""After so many attempts one after the other, the backend is at fault and not they; the others are tried later."""


@dataclass(frozen=True, slots=True)
class ControllerOptions:
    """`max_attempts` counts the first one, and none in which an executor failed that the task wants tried again.
    `full_pass` is the seconds between two full passes.

    `show_preempted` says which tasks end PREEMPTED when their last attempt was; the others end SYSTEM_ERROR.
    `first_pause` is how many seconds an attempt that tesk fails with is left alone at first (tesk.controller.later).
    """

    max_attempts: int = 3
    full_pass: float = 30.0
    show_preempted: Literal["never", "preemptible", "always"] = "preemptible"
    first_pause: float = 1.0


@dataclass(slots=True)
class _Known:
    """What this process knows of an attempt that it handed to the backend or found there."""

    notes: tuple[str, ...]
    retries: Retries
    report: Report | None = None

    @classmethod
    def of(cls, key: AttemptKey, plan: Plan | None) -> _Known:
        """What the plan tells; nothing where it cannot be read."""
        if plan is None:
            return cls((), Retries())
        return cls(plan.notes if key.attempt == 1 else (), Retries.of(plan))


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
        self._later = Later(self._options.first_pause)
        self._rests, self._rests_until = 0, 0.0  # after too many offers failed: how often, and the end of the last
        self._window = Window(
            store,
            lambda key: key in self._known or self._waits(key),
            lambda: len(self._known) + len(self._later),
        )
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

    async def why(self, task: str) -> str | None:
        """Why the task does not run now, in one sentence; None when it runs, has ended, or is not known."""
        found = await self._store.find(task)
        if found is None or found.state.terminal:
            return None
        if found.state is State.CANCELING:
            return "it is being canceled, and waits until nothing of it is left"
        key = AttemptKey(task, found.attempt)
        if key in self._known:
            starting = "it is being started" if found.state is State.QUEUED else None
            return self._backend.waits(key) or starting
        if found.state is not State.QUEUED:
            return None
        if self._waits(key):
            return "an error of tesk itself held it up, of which the server's log tells; it is tried again soon"
        return await self._why_queued(key)

    async def _why_queued(self, key: AttemptKey) -> str:
        oldest = self._window.oldest
        if oldest is None:
            return "its turn has come"
        lacks = None
        with contextlib.suppress(ValueError):
            lacks = self._backend.lacks(oldest.attempt())
        before = await self._store.queued_before(key.task, oldest.task.seq, _MOST_COUNTED)
        if not before:
            return lacks or "its turn has come"
        many = before == _MOST_COUNTED
        count = f"{'more than ' * many}{before - many} earlier task{'s' * (before > 1)}"
        return f"it waits behind {count}" + (f"; the first of them: {lacks}" if lacks else "")

    def _executor_ended(self, key: AttemptKey, executor: int) -> bool:
        """Whether it ended for good: one that failed may run in a new attempt."""
        known = self._known.get(key)
        if known is None or known.report is None or len(known.report.executors) <= executor:
            return False
        return not known.retries.failed([one.exit_code for one in known.report.executors[: executor + 1]])

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
            self._wake.set()
        else:
            self._window.expect_more()
            if self._window.oldest is None:  # else older tasks wait for room, and it waits behind them
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
                async with asyncio.timeout(self._longest_wait()):
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
                if not is_away(error):
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

    def _longest_wait(self) -> float:
        """Seconds until there is something to do although nothing woke us."""
        clock = self._time()
        moments = [self._options.full_pass]
        if self._rests_until:
            moments.append(max(0.0, self._rests_until - clock))
        if (waiting := self._later.seconds(clock)) is not None:
            moments.append(waiting)
        return min(moments)

    @staticmethod
    def _time() -> float:
        return asyncio.get_running_loop().time()

    async def _pass(self) -> None:
        work, self._work = self._work, _Work(full=False)
        try:
            work.reports = {**self._later.reports_due(self._time()), **work.reports}
            if self._later.offers_due(self._time()):
                self._window.expect_more()
            if work.full:
                self._window.expect_more()
                await self._compare(work)
            await self._fold(work.reports)
            work.reports = {}
            await self._cancel(work.canceling)
            work.canceling = set()
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
            elif task.state is not State.CANCELING and key not in work.reports and not self._waits(key):
                await self._try(key, None, self._lost(key, "the server that ran it was stopped"))
        for key in held - running - work.reports.keys():
            # Ended in the store, or a new attempt took its place: nothing waits for it any more.
            if (state := await self._store.state(key.task)) is None or state.terminal:
                await self._let_go(key)
        await self._forget_what_is_over(held | running | work.reports.keys())

    async def _forget_what_is_over(self, present: Iterable[AttemptKey]) -> None:
        """Drop what is remembered of attempts that are nowhere any more; one that still waits is offered again."""
        for key in self._known.keys() - present - self._work.reports.keys():
            del self._known[key]
        for key in self._later.offers():
            found = await self._store.find(key.task)
            if found is None or found.state is not State.QUEUED or found.attempt != key.attempt:
                self._later.drop(key)

    def _waits(self, key: AttemptKey) -> bool:
        return self._later.waits(key, self._time())

    async def _remember(self, key: AttemptKey) -> _Known:
        """What is known of an attempt, also of one that an earlier server handed over."""
        if key not in self._known:
            self._known[key] = _Known.of(key, _readable(await self._store.plan(key.task)))
        return self._known[key]

    async def _fold(self, reports: dict[AttemptKey, Report]) -> None:
        """Bring reports into the store, all in one transaction, and let go of attempts that ended."""
        ready: dict[AttemptKey, Report] = {}
        changes: dict[AttemptKey, Change] = {}
        outcomes: dict[AttemptKey, bool | Exception] = {}
        for key, report in reports.items():
            if self._waits(key):
                self._later.renew(key, report)
                continue
            ready[key] = report
            if report.start_time is not None or report.state is State.QUEUED:
                (await self._remember(key)).report = report
            if report.lost is None and not self._may_retry(key, report):
                try:
                    state, log = report.state, self._log(key, report)
                except Exception as error:  # noqa: BLE001 - told of below, with its traceback
                    outcomes[key] = error
                else:
                    changes[key] = Change(key.task, key.attempt, state, log, report.directories)
        outcomes |= zip(changes, await apply_each(self._store, list(changes.values())), strict=True)
        for key, report in ready.items():
            await self._try(key, report, self._folded(key, report, changes.get(key), outcomes.get(key, False)))

    def _may_retry(self, key: AttemptKey, report: Report) -> bool:
        """Whether the attempt ended by a failed executor of a task that wants that tried again."""
        known = self._known.get(key)
        return report.state is State.EXECUTOR_ERROR and known is not None and known.retries.most > 0

    async def _folded(self, key: AttemptKey, report: Report, change: Change | None, outcome: bool | Exception) -> None:
        """What follows once a report was brought into the store, or could not be."""
        if isinstance(outcome, Exception):
            raise outcome
        if report.lost is not None:
            await self._lost(key, report.lost, preempted=report.state is State.PREEMPTED)
        elif self._may_retry(key, report):
            await self._failed(key)
        elif report.state.terminal:
            if not outcome and change is not None:
                await self._end_canceled(change)
            await self._let_go(key)
        elif not outcome and _is_over(await self._store.find(key.task), key):
            self._known.pop(key, None)
            await self._end_in_backend(key)

    async def _end_canceled(self, change: Change) -> None:
        """A cancel came between the attempt's end and its report: nothing is left of it, so the task is CANCELED."""
        if await self._store.state(change.id) is State.CANCELING:
            await self._store.apply([dataclasses.replace(change, state=State.CANCELED)])

    async def _let_go(self, key: AttemptKey) -> None:
        self._known.pop(key, None)
        self._later.drop(key)
        try:
            await self._backend.forget(key)
        except Exception as error:  # noqa: BLE001 - the next full pass finds it still held
            log.warning("task %s: attempt %d could not be removed from the backend: %r", key.task, key.attempt, error)

    async def _end_in_backend(self, key: AttemptKey) -> None:
        """Nobody waits for the attempt; its last report lets go of it."""
        try:
            await self._backend.cancel(key)
        except Exception as error:  # noqa: BLE001 - a full pass, or its next report, comes here again
            log.warning("task %s: attempt %d could not be ended: %r", key.task, key.attempt, error)

    async def _try(self, key: AttemptKey, report: Report | None, work: Awaitable[None]) -> None:
        """Do `work`, which is of one attempt alone; an error in it ends that attempt, and is not raised."""
        try:
            await work
        except Exception as error:
            if is_away(error):
                raise
            log.exception("task %s: an error of tesk itself", key.task)
            await self._end_by_error(key, report, error)
        else:
            self._later.drop(key)

    async def _end_by_error(self, key: AttemptKey, report: Report | None, error: Exception) -> None:
        """End the task, since tesk itself fails with this attempt; where that fails too, it waits apart."""
        over = report is not None and report.state.terminal
        try:
            await self._store_error(key, f"an error of tesk itself: {error!r}", over=over)
        except Exception as another:
            if is_away(another):
                raise
            _, pause = self._later.put(key, self._time(), report)
            log.error("task %s: its end cannot be stored, tried again in %.0f s: %r", key.task, pause, another)
            return
        self._later.drop(key)
        self._known.pop(key, None)
        await (self._let_go(key) if over else self._end_in_backend(key))

    async def _store_error(self, key: AttemptKey, sentence: str, *, over: bool) -> None:
        """With the log that is stored, or without it if that is what fails."""
        end = State.SYSTEM_ERROR
        if over and await self._store.state(key.task) is State.CANCELING:
            end = State.CANCELED
        stored = await self._store.attempt_logs(key.task, key.attempt)
        try:
            final = noted_log(stored, [sentence], end_time=self._clock())
            await self._store.apply([Change(key.task, key.attempt, end, final)])
        except Exception as error:
            if stored is None or is_away(error):
                raise
            final = noted_log(None, [sentence], end_time=self._clock())
            await self._store.apply([Change(key.task, key.attempt, end, final)])

    def _log(self, key: AttemptKey, report: Report) -> TaskLogBytes | None:
        """None for an attempt that never started here: what the store has of it stays."""
        known = self._known.get(key)
        return None if known is None else encode_log(report, known.notes)

    async def _lost(self, key: AttemptKey, why: str, *, preempted: bool = False) -> None:
        """Start a new attempt, or end the task when it has had all of its attempts."""
        known = await self._remember(key)
        again = key.attempt - await self._failed_before(key, known.retries) < self._options.max_attempts
        end = State.PREEMPTED if preempted and await self._shows_preempted(key.task) else State.SYSTEM_ERROR
        await self._go_on(key, f"attempt {key.attempt} was lost: {why}", end, again=again)

    async def _failed(self, key: AttemptKey) -> None:
        """Start a new attempt, or end the task when it has had all of the retries that it asked for."""
        retries = (await self._remember(key)).retries
        again = await self._failed_before(key, retries) < retries.most
        await self._go_on(key, f"attempt {key.attempt} failed", State.EXECUTOR_ERROR, again=again)

    async def _failed_before(self, key: AttemptKey, retries: Retries) -> int:
        """How many of the earlier attempts count as failed, each of which had a retry; the others were lost."""
        earlier = range(1, key.attempt) if retries.most else ()
        logs = [await self._store.attempt_logs(key.task, attempt) for attempt in earlier]
        return min(sum(map(retries.failed_in, logs)), retries.most)

    async def _go_on(self, key: AttemptKey, sentence: str, end: State, *, again: bool) -> None:
        """Start a new attempt after the one that `sentence` tells of; else the task ends in the state `end`."""
        known = await self._remember(key)
        report, stored = known.report, await self._store.attempt_logs(key.task, key.attempt)
        if report is not None:
            newest = encode_log(report, known.notes)
            stored = newest.full or newest.basic
        time = self._clock()
        log.warning("task %s: %s", key.task, sentence)
        retried = noted_log(stored, [f"{sentence}; a new attempt was started"], end_time=time)
        if not (again and await self._store.retry(key.task, key.attempt, retried)):
            told = f"{sentence}; it was the last of {key.attempt} attempts"
            if await self._store.state(key.task) is State.CANCELING:
                end, told = State.CANCELED, sentence
            final = noted_log(stored, [told], end_time=time)
            directories = report.directories if report is not None else ()
            await self._store.apply([Change(key.task, key.attempt, end, final, directories)])
        await self._let_go(key)

    async def _shows_preempted(self, task: str) -> bool:
        if self._options.show_preempted != "preemptible":
            return self._options.show_preempted == "always"
        plan = await self._store.plan(task)
        return plan is not None and Plan.from_json(plan).resources.preemptible

    async def _cancel(self, tasks: set[str]) -> None:
        """Tell the backend of each, also when it holds nothing: its answer is a report either way."""
        if tasks:
            self._window.remove(tasks)
        failed = 0
        for task in tasks:
            found = await self._store.find(task)
            if found is None or found.state is not State.CANCELING:
                continue
            try:
                await self._backend.cancel(AttemptKey(task, found.attempt))
            except Exception as error:
                if is_away(error):
                    raise
                # The next full pass asks again: a task is never CANCELED while something of it may be left.
                log.exception("task %s: it could not be canceled", task)
                failed += 1
                if failed == FAILURES_IN_A_ROW:
                    return
            else:
                failed = 0

    async def _submit(self) -> None:
        """Hand queued tasks to the backend, oldest first, until it has no more room."""
        failed = 0
        if self._time() < self._rests_until:
            return
        self._rests_until = 0.0
        while (first := await self._window.first()) is not None:
            try:
                if not await self._offer(first):
                    return
            except Exception as error:
                self._known.pop(first.key, None)
                if is_away(error):
                    raise
                log.exception("task %s: it could not be handed to the backend", first.task.id)
                self._window.remove_first()
                await self._offer_failed(first.key, error)
                failed += 1
                if failed == FAILURES_IN_A_ROW:
                    self._rest()
                    return
            else:
                failed = self._rests = 0
                self._later.drop(first.key)
                self._window.remove_first()

    def _rest(self) -> None:
        """Offer nothing for a while; reports and cancels go on."""
        pause = self._later.pause(self._rests)
        self._rests += 1
        self._rests_until = self._time() + pause
        log.error("the backend failed to take %d tasks one after the other; resting %.0f s", FAILURES_IN_A_ROW, pause)

    async def _offer_failed(self, key: AttemptKey, error: Exception) -> None:
        tries, pause = self._later.put(key, self._time())
        if tries >= MOST_OFFERS:
            await self._end_by_error(key, None, error)
        else:
            log.error("task %s: it is offered to the backend again in %.0f s: %r", key.task, pause, error)

    async def _offer(self, queued: Queued) -> bool:
        """Whether the task is out of the window: taken by the backend, or no longer to be run."""
        key = queued.key
        if key.task in self._work.canceling:
            return True
        try:
            attempt = queued.attempt()
        except ValueError as error:
            broken = noted_log(None, [f"the stored plan cannot be read: {error}"], end_time=self._clock())
            await self._store.apply([Change(key.task, key.attempt, State.SYSTEM_ERROR, broken)])
            return True
        self._known[key] = _Known.of(key, attempt.plan)
        if await self._backend.offer(attempt):
            return True
        del self._known[key]
        return False


def _is_over(task: ActiveTask | None, key: AttemptKey) -> bool:
    """Whether `task`, as it is stored, has left the attempt behind."""
    return task is None or task.state.terminal or task.attempt > key.attempt


def _readable(plan: bytes | None) -> Plan | None:
    """A stored plan; None where it cannot be read: what runs goes on."""
    try:
        return Plan.from_json(plan) if plan is not None else None
    except (ValueError, RecursionError):
        return None
