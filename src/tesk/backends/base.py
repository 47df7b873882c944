"""What the controller asks of every backend, and nothing about how a backend does it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from tesk.backends.key import AttemptKey
from tesk.plan.model import Plan
from tesk.plan.site import Capacity
from tesk.taskmaster.report import Report

__all__ = ["Attempt", "AttemptKey", "Backend", "BackendAway", "LogStream", "ReportSink"]

LogStream = Literal["stdout", "stderr"]


class BackendAway(Exception):
    """What runs the attempts does not answer now, and no attempt is at fault; one sentence for whoever runs the server.

    The controller tries again, for as long as it takes, and ends no task for it.
    """


@dataclass(frozen=True, slots=True)
class Attempt:
    """What a backend needs to run: the key and the plan."""

    key: AttemptKey
    plan: Plan


ReportSink = Callable[[AttemptKey, Report], None]
"""Called by a backend, on the controller's event loop, whenever it knows more; must not block."""


class Backend(Protocol):
    """Where attempts run.

    Every call is idempotent by key: names are deterministic and "already there" is success. A backend never ends an
    attempt on uncertainty: an error while looking is not an absence (law 2).

    Any call may raise BackendAway. Another error that `offer` raises, time and again over some minutes, is taken for an
    error of tesk itself with that one task and ends it.
    """

    @property
    def capacity(self) -> Capacity:
        """The most one task can get here; known once the backend is started."""

    async def start(self, sink: ReportSink, freed: Callable[[], None]) -> None:
        """Make ready, and take over what an earlier server left.

        `sink` is told every new report. `freed` is called when `offer` might now take what it refused before.
        """

    async def stop(self) -> None:
        """End the backend's own work in this process, in order and within a bounded time."""

    async def attempts(self) -> frozenset[AttemptKey]:
        """Every attempt this backend still holds, finished or not. An attempt that is not here is lost."""

    async def offer(self, attempt: Attempt) -> bool:
        """Take the attempt and start it, or answer False when there is no room for it now.

        While an attempt that was taken waits (for a node, for quota), its task is QUEUED; a report with that state may
        say in its system_logs what it waits for.
        """

    def lacks(self, attempt: Attempt) -> str | None:
        """Why `offer` would answer False now, in one sentence about the task; None when it would not."""

    def waits(self, key: AttemptKey) -> str | None:
        """What an attempt that was taken waits for now, in one sentence; None when for nothing, as far as is known."""

    async def cancel(self, key: AttemptKey) -> None:
        """Begin to end the attempt; a report with state CANCELED follows once nothing of it is left.

        A key the backend does not hold is reported CANCELED at once. An attempt whose task has ended otherwise is
        canceled too when the backend still reports on it.
        """

    async def forget(self, key: AttemptKey) -> None:
        """The controller has stored this attempt's last report: remove what is kept of it."""

    def logs(self, key: AttemptKey, executor: int, stream: LogStream, *, follow: bool) -> AsyncIterator[bytes]:
        """What executor number `executor` (from 0) has written so far; with `follow`, until it ends.

        Ends at once, with nothing, for an executor that has written nothing and is not running.
        """
