"""The steps of one attempt within its pod, run by the pod's taskmaster; a `Steps` of tesk.taskmaster.

Nothing here speaks to the cluster: files are moved in a child of this process, and executors are containers of the same
pod, whose launchers wait for their turn (`tesk.backends.kubernetes.turns`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

import msgspec

from tesk.backends.kubernetes.apart import apart
from tesk.backends.kubernetes.filing import bring, deliver
from tesk.backends.kubernetes.mounted import SHARED_READY, PodHandout
from tesk.backends.kubernetes.names import container_name
from tesk.backends.kubernetes.result import FilerResult
from tesk.backends.kubernetes.sentences import CONTAINER_KILLED, THE_NODE
from tesk.backends.kubernetes.turns import ControlLost, Turn
from tesk.backends.limits import needed_more_memory, ran_too_long
from tesk.filer import TransferError, leave_shared, make_directories, open_directories, prepare_shared
from tesk.taskmaster.report import ExecutorEnd
from tesk.taskmaster.run import now
from tesk.taskmaster.steps import ExecutorResult, StageInResult, StageOutResult, StepFailed

__all__ = ["PodSteps"]

_KILLED = 137
_OWN_END_SECONDS = 3.0
"""Where an executor was ended from outside, so soon we are too, unless it alone was meant."""


class PodSteps:
    """Stage-in and stage-out here, each executor in its container; made within a running event loop.

    `control` holds the executors' control directories, `scratch` the files of the task by container path.
    """

    def __init__(self, handout: PodHandout, control: Path, scratch: Path) -> None:
        self._handout = handout
        self._plan = handout.plan
        self._scratch = scratch
        self._control = control
        self._roots = handout.storage.shared_roots
        self.held = False
        self._turns = [
            Turn(control / container_name(index), handout.log_bytes) for index in range(len(handout.plan.executors))
        ]
        self._running: Turn | None = None

    async def stage_in(self) -> StageInResult:
        """Bring the inputs into scratch, whose mount points are there already.

        Executors' containers are made once shared storage is as they must find it; `held`: that never came.
        """
        mounted = 0
        if self._plan.shared:
            self.held = True
            try:
                mounted = await asyncio.to_thread(prepare_shared, self._plan, self._roots)
            except TransferError as error:
                raise StepFailed(*error.sentences) from error
            (self._control / SHARED_READY).touch()
            self.held = False
        if not self._plan.mounts:
            return StageInResult(mounted=mounted)
        if not self._plan.inputs:
            make_directories(self._plan, self._scratch)
            open_directories(self._scratch)
            return StageInResult(mounted=mounted)
        result = await self._moved("stage-in", lambda: bring(self._plan, self._handout.storage, self._scratch))
        if result.problems:
            raise StepFailed(*result.problems)
        return StageInResult(result.copied, mounted)

    async def execute(self, index: int, started: Callable[[], None]) -> ExecutorResult:
        """Let the executor run as soon as its container is there."""
        turn = self._turns[index]
        start = now()
        try:
            await turn.here()
            start = now()
            turn.start()
            self._running = turn
            started()
            late = await self._late(turn)
            end, (stdout, stderr) = await turn.end()
        except ControlLost:
            await asyncio.sleep(_OWN_END_SECONDS)
            return ExecutorResult(ExecutorEnd(start, now(), _KILLED), CONTAINER_KILLED)
        finally:
            self._running = None
        if end.asked:
            await asyncio.sleep(_OWN_END_SECONDS)
        if end.fault:
            raise StepFailed(f"executor {index}: {end.fault}")
        problem = needed_more_memory(self._plan, THE_NODE) if end.oom else ran_too_long(late) if late else end.problem
        return ExecutorResult(ExecutorEnd(end.start, end.end, end.exit_code, stdout, stderr), problem, end.usage)

    async def _late(self, turn: Turn) -> int | None:
        """Wait for the end of a command that may take only so long; how long that was, if it had to be ended."""
        seconds = self._handout.max_runtime
        if seconds is None:
            return None
        try:
            async with asyncio.timeout(seconds):
                await turn.end()
        except TimeoutError:
            turn.stop()
            return seconds
        return None

    async def stage_out(self) -> StageOutResult:
        """Deliver the outputs."""
        if not self._plan.outputs:
            return StageOutResult()
        result = await self._moved("stage-out", lambda: deliver(self._plan, self._handout.storage, self._scratch))
        if result.out is None:
            raise StepFailed(*result.problems)
        return StageOutResult.of(result.out)

    async def clean(self) -> None:
        """Have all executors end that have not: scratch goes with the pod."""
        leave_shared(self._plan, self._roots)
        for turn in self._turns:
            turn.stop() if turn is self._running else turn.skip()

    async def _moved(self, what: str, work: Callable[[], FilerResult]) -> FilerResult:
        try:
            said = await apart(lambda: msgspec.json.encode(work()))
        except ChildProcessError as error:
            raise StepFailed(f"{what} failed: {error}") from error
        with contextlib.suppress(msgspec.MsgspecError):
            return msgspec.json.decode(said, type=FilerResult)
        raise StepFailed(f"{what} failed: what it came to cannot be read")
