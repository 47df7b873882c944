"""What the server knows of an attempt that the cluster holds."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from tesk.backends.base import AttemptKey
from tesk.taskmaster.report import Report
from tesk.tes.states import State

__all__ = ["Held", "Moment"]


class Moment:
    """Something that comes once, and is waited for. An asyncio.Event takes 0.8 KiB, and each attempt has one."""

    __slots__ = ("_come", "_waiting")

    def __init__(self) -> None:
        self._come = False
        self._waiting: tuple[asyncio.Future[None], ...] = ()

    def set(self) -> None:
        """It has come."""
        self._come = True
        for one in self._waiting:
            if not one.done():
                one.set_result(None)

    async def wait(self) -> None:
        """Return once it has come."""
        if self._come:
            return
        mine = asyncio.get_running_loop().create_future()
        self._waiting += (mine,)
        try:
            await mine
        finally:
            self._waiting = tuple(one for one in self._waiting if one is not mine)


@dataclass(slots=True)
class Held:
    """An attempt that the cluster holds, or is about to.

    `reported`: its taskmaster has told something. `waits` are the reasons to wait that its user is told of for good,
    `waiting` is the present one until the taskmaster reports. `work` is what is being done about it here: made and
    followed, or removed. `readers` follow its streams now. `moved` is set, and made anew, when something of it changed.
    `calls`: its taskmaster sends its reports (`pushing`). `number` is that of its pod's newest report, from 1.
    """

    key: AttemptKey
    report: Report | None = None
    reported: bool = False
    waits: tuple[str, ...] = ()
    waiting: str | None = None
    work: asyncio.Task[None] | None = None
    moved: Moment = field(default_factory=Moment)
    leaving: bool = False
    readers: int = 0
    calls: bool = False
    number: int = 0
    kept_until: float | None = None

    @property
    def ended(self) -> bool:
        return self.report is not None and self.report.state.terminal

    def runs(self, executor: int) -> bool:
        """Whether its turn has come: the one before it has ended, or, for the first, it has started."""
        report = self.report
        if report is None or report.state in (State.QUEUED, State.INITIALIZING):
            return False
        return len(report.executors) >= executor

    def is_read(self, until: float) -> bool:
        """Whether somebody still reads its streams; from the first time this is asked, `until` then at most."""
        if not self.readers:
            return False
        self.kept_until = until if self.kept_until is None else self.kept_until
        return time.monotonic() < self.kept_until

    def wake(self) -> None:
        self.moved.set()
        self.moved = Moment()
