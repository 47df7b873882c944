"""The steps of one attempt on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tesk.backends.base import AttemptKey
from tesk.backends.limits import longest_run, ran_too_long
from tesk.backends.local.disk import DiskWatch
from tesk.backends.local.engine import Engine, ExecutorExit, Job, Space
from tesk.backends.local.overuse import Overused, unless
from tesk.backends.local.record import Record
from tesk.backends.local.streams import excerpt
from tesk.filer import TransferError, leave_shared, open_directories, prepare_shared, stage_in, stage_out
from tesk.plan.model import Plan
from tesk.storage import Storage
from tesk.storage.errors import reason
from tesk.taskmaster.report import ExecutorEnd
from tesk.taskmaster.run import moment, now
from tesk.taskmaster.steps import ExecutorResult, StageInResult, StageOutResult, StepFailed

__all__ = ["LocalSteps", "remove_tree"]

KILLED = 128 + signal.SIGKILL


class LocalSteps:
    """Steps of one attempt, in this process and by an engine; a `Steps` of tesk.taskmaster.

    `clean` leaves the `record`, for whoever stores what it says.

    Args:
        log_bytes: how much of each stream the report keeps, head and tail together.
        max_runtime: seconds that the site lets an executor run.
        record: where to say what is done, so that a later server goes on from there.
        kept: whether `clean` must leave everything, for that later server.
        followed: whether somebody still reads the streams, so that `clean` must leave them.
    """

    def __init__(
        self,
        key: AttemptKey,
        plan: Plan,
        space: Space,
        engine: Engine,
        storage: Storage,
        disk: DiskWatch,
        *,
        log_bytes: int,
        max_runtime: int | None,
        followed: Callable[[], bool],
        record: Record,
        kept: Callable[[], bool],
    ) -> None:
        self._record = record
        self._kept = kept
        self._followed = followed
        self._key = key
        self._plan = plan
        self._space = space
        self._engine = engine
        self._storage = storage
        self._shared = storage.options.shared_roots
        self._disk = disk
        self._log_bytes = log_bytes
        self._longest = longest_run(plan, max_runtime)

    async def stage_in(self) -> StageInResult:
        """Make the attempt's directories and fetch its inputs."""
        if (done := self._record.staged_in()) is not None:
            return done
        try:
            await asyncio.to_thread(remove_tree, self._space.scratch)  # of a predecessor that had not got through
            self._space.scratch.mkdir(parents=True)
            mounted = await asyncio.to_thread(prepare_shared, self._plan, self._shared)
            fetching = stage_in(self._plan, self._space.scratch, self._storage, owner=self._engine.owner)
            copied = await unless(fetching, self._overuse())
            if (said := self._disk.too_much(self._plan, copied)) is not None:
                raise Overused(said)  # it was quicker than the watch
        except TransferError as error:
            raise StepFailed(*error.sentences) from error
        except Overused as much:
            raise StepFailed(f"the inputs do not fit: {much}") from much
        except OSError as error:
            raise StepFailed(f"scratch cannot be made: {error}") from error
        if self._plan.mounts and self._engine.owner is None:
            # the server's state directory above is closed to other users of the machine
            await asyncio.to_thread(open_directories, self._space.scratch)
        result = StageInResult(copied, mounted)
        self._record.stage_in(result)
        return result

    async def execute(self, index: int, started: Callable[[], None]) -> ExecutorResult:
        """Run one executor by the engine, for as long and with as much disk as it may."""
        if (done := self._record.ended(index)) is not None:
            started()
            return done
        result = await self._run(index, started)
        self._record.end(index, result)
        return result

    async def _run(self, index: int, started: Callable[[], None]) -> ExecutorResult:
        streams = self._space.streams(index)
        try:
            streams.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StepFailed(f"executor {index} cannot be started: {reason(error)}") from error
        running = asyncio.Event()
        begin = self._space.executor(index) / "begin"

        def begun() -> None:
            if not begin.exists():
                with contextlib.suppress(OSError):  # a full disk: the next server counts from its own start
                    begin.touch()
            running.set()
            started()

        job = Job(self._key, index, self._plan, self._space, self._shared)
        try:
            late = () if self._longest is None else (_late(running, begin, self._longest),)
            exit_ = await unless(self._engine.execute(job, begun), self._overuse(), *late)
        except Overused as much:
            exit_ = ExecutorExit(KILLED, moment(_begun(begin)), now(), str(much))
        end = ExecutorEnd(
            start_time=exit_.start_time,
            end_time=exit_.end_time,
            exit_code=exit_.exit_code,
            stdout=excerpt(str(streams), "stdout", self._log_bytes),
            stderr=excerpt(str(streams), "stderr", self._log_bytes),
        )
        return ExecutorResult(end, exit_.problem, exit_.usage)

    async def _overuse(self) -> str:
        private = [self._space.private(index) for index in range(len(self._plan.executors))]
        return await self._disk.overuse(self._plan, lambda: [self._space.scratch, *private])

    async def stage_out(self) -> StageOutResult:
        """Deliver the outputs."""
        if not self._plan.outputs:
            return StageOutResult()
        await self._engine.release(self._space)
        return StageOutResult.of(await stage_out(self._plan, self._space.scratch, self._storage))

    async def clean(self) -> None:
        """Remove the attempt's directories; streams that somebody follows are left to the backend."""
        if self._kept():
            return
        self._record.close()
        await asyncio.to_thread(self._remove)
        if self._space.scratch.exists():
            await self._engine.release(self._space)
            await asyncio.to_thread(self._remove)

    def _remove(self) -> None:
        leave_shared(self._plan, self._shared)
        remove_tree(self._space.scratch)
        for index in range(len(self._plan.executors)):
            here = self._space.executor(index)
            for one in here.glob("*") if self._followed() else [here]:
                if one != self._space.streams(index):
                    remove_tree(one)


async def _late(running: asyncio.Event, begin: Path, seconds: int) -> str:
    await running.wait()
    await asyncio.sleep(_begun(begin) + seconds - time.time())
    return ran_too_long(seconds)


def _begun(begin: Path) -> float:
    """When the executor began, maybe under an earlier server; now, if it is only about to."""
    return begin.stat().st_mtime if begin.exists() else time.time()


def remove_tree(path: Path) -> None:
    """Remove `path` and all below it, also directories that a task made unreadable; never follows a link.

    It may be gone already. What cannot be removed now is found and tried again at the next start.
    """

    def open_up(function: Callable[..., Any], where: str, _: Any) -> None:
        try:
            os.chmod(os.path.dirname(where), 0o700)
            if not os.path.islink(where) and os.path.isdir(where):
                os.chmod(where, 0o700)
                shutil.rmtree(where, ignore_errors=True)
            else:
                function(where)
        except OSError:
            return

    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, onerror=open_up)
    else:
        path.unlink(missing_ok=True)
