"""The steps of one attempt as Jobs on a scratch volume, run by its taskmaster; a `Steps` of tesk.taskmaster.

Every step may have been begun, or ended, under a taskmaster that was killed: what is there already is watched to its
end and never made again.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.batch_v1 import Job
from lightkube.resources.core_v1 import Event, PersistentVolumeClaim, Pod

from tesk.backends.excerpt import excerpt
from tesk.backends.kubernetes.cluster import Cluster, Selector
from tesk.backends.kubernetes.errors import ClusterError, Gone, NameTaken, Refused, StillThere
from tesk.backends.kubernetes.labels import STEP, selector_of
from tesk.backends.kubernetes.mounted import Handout
from tesk.backends.kubernetes.names import Phase, claim_name, executor_name, filer_name
from tesk.backends.kubernetes.objects import make_executor_job, make_filer_job, make_scratch_claim, needs_scratch
from tesk.backends.kubernetes.observation import Ended, Observation, Waiting
from tesk.backends.kubernetes.pace import Backoff
from tesk.backends.kubernetes.patience import EXPLAIN_AFTER, Patience
from tesk.backends.kubernetes.refusals import refused
from tesk.backends.kubernetes.result import FilerResult, read_result
from tesk.backends.kubernetes.scene import Scene
from tesk.backends.kubernetes.sentences import THE_NODE
from tesk.backends.kubernetes.streams import LauncherEnd, read_end, read_record, record_lines, unframe
from tesk.backends.limits import needed_more_memory
from tesk.taskmaster.report import ExecutorEnd, Report
from tesk.taskmaster.run import now
from tesk.taskmaster.steps import AttemptLost, ExecutorResult, Interrupted, StageInResult, StageOutResult, StepFailed
from tesk.tes.states import State

__all__ = ["AWAY_SECONDS", "LATE_LOG_SECONDS", "JobSteps"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

AWAY_SECONDS = 900.0
"""How long the API server may be away before the taskmaster leaves its work to a successor."""

LATE_LOG_SECONDS = 15.0
"""How long after a container's end its log may lack what the container surely wrote."""

_LOG_SECONDS = 60.0
_MOST_LOG_BYTES = 32 << 20
_KILLED, _KILLED_FOR = 137, ("Evicted", "DeadlineExceeded")
_REFUSED_AGAIN, _STILL_THERE_AGAIN = 2.0, 0.5


def _unless_away(
    step: Callable[Concatenate[JobSteps, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[JobSteps, P], Coroutine[Any, Any, R]]:
    """An error of the API server ends no attempt: it says nothing of the work."""

    @wraps(step)
    async def guarded(self: JobSteps, /, *args: P.args, **named: P.kwargs) -> R:
        try:
            return await step(self, *args, **named)
        except ClusterError as error:
            raise Interrupted(str(error)) from error

    return guarded


class JobSteps:
    """A Job for stage-in, for each executor and for stage-out.

    `note` is told what a step waits for and the user is to know for good, `show` what it waits for now (None: nothing).
    `earlier` is the last report of a predecessor.
    """

    def __init__(
        self,
        handout: Handout,
        cluster: Cluster,
        scene: Scene,
        note: Callable[[str], None],
        earlier: Report | None = None,
        show: Callable[[str | None], None] = lambda _: None,
    ) -> None:
        self._show = show
        self._owner = handout.owner
        self._plan = handout.plan
        self._storage = handout.storage
        self._options = handout.options
        self._cluster = cluster
        self._scene = scene
        self._note = note
        self._earlier = earlier
        key, count = handout.owner.key, len(handout.plan.executors)
        steps = (filer_name(key, "in"), *(executor_name(key, index) for index in range(count)), filer_name(key, "out"))
        self._succeeds = earlier is not None or any(map(scene.has, steps))  # one that was killed before it reported
        self._made: dict[str, Job | PersistentVolumeClaim] = {}
        self._ended: dict[str, bool] = {}
        """The Jobs that have ended by name, and whether well."""

    @_unless_away
    async def stage_in(self) -> StageInResult:
        """Make the scratch volume, and have a filer fill it; nothing where the plan has no mounts."""
        mounted = await self._prepare() if self._plan.shared else 0
        if not needs_scratch(self._plan) or self._underway:
            return StageInResult(mounted=mounted)
        patience = self._patience("stage-in")
        if not self._scene.has(filer_name(self._owner.key, "in")):
            await self._make(make_scratch_claim(self._owner, self._plan, self._options), "its volume claim", patience)
        result = await self._filer("in", patience)
        if result.problems:
            raise StepFailed(*result.problems)
        return StageInResult(result.copied, mounted)

    @_unless_away
    async def execute(self, index: int, started: Callable[[], None]) -> ExecutorResult:
        """Run one executor as a Job, which is tried once."""
        what = f"executor {index}"
        if self._earlier is not None and await self._is_gone(index):
            if index < len(self._earlier.executors):
                started()
                return ExecutorResult(self._earlier.executors[index])
            if await self._was_begun(index):
                raise AttemptLost(f"{what}: its Job was deleted")
        patience = self._patience(what)
        job = await self._make(make_executor_job(self._owner, self._plan, self._options, index), "its Job", patience)
        ended = await self._end_of(job, "executor", what, patience, started)
        if ended.exit_code is None:
            raise StepFailed(f"{what}: {ended.problem or ended.reason}")
        said = read_end(ended.message)
        if said is not None and said.fault:
            raise StepFailed(f"{what}: {said.fault}")
        told = said.streams if said is not None else None
        stdout, stderr = told or await self._streams(job, recorded=said is not None)
        start = (said.start if said else None) or ended.start or now()
        end = ExecutorEnd(start, (said.end if said else None) or ended.end or now(), ended.exit_code, stdout, stderr)
        return ExecutorResult(end, self._problem(ended, said), said.usage if said else None)

    @_unless_away
    async def stage_out(self) -> StageOutResult:
        """Have a filer deliver the outputs."""
        if not self._plan.outputs:
            return StageOutResult()
        if all(one.in_place for one in self._plan.outputs):
            return await self._look_at_outputs()
        result = await self._filer("out", self._patience("stage-out"))
        if result.out is None:
            raise StepFailed(*result.problems)
        return StageOutResult.of(result.out)

    @_unless_away
    async def clean(self) -> None:
        """Ask for the end of scratch, and of every Job that has not ended; those that have stay to be looked at.

        What only has the name of one of ours is somebody else's.
        """
        if self._plan.shared:
            self._leave()
        ours = selector_of(self._options.instance, self._owner.key)
        await self._delete(Job, {**ours, STEP: ["stage-in", "executor", "stage-out"]})
        if needs_scratch(self._plan):
            await self._delete(PersistentVolumeClaim, {**ours, STEP: "scratch"})

    async def _delete(self, kind: type[Job | PersistentVolumeClaim], labels: Selector) -> None:
        for one in await self._left(kind, labels):
            if one.name is not None and one.name not in self._ended:
                await self._cluster.delete(kind, one.name, uid=one.uid, within=AWAY_SECONDS)

    async def _left(self, kind: type[Job | PersistentVolumeClaim], labels: Selector) -> list[ObjectMeta]:
        """What was made of `kind`: where no predecessor left anything, it is what we made."""
        if not self._succeeds:
            return [one.metadata for one in self._made.values() if isinstance(one, kind) and one.metadata is not None]
        return await self._cluster.list_metadata(kind, labels, within=AWAY_SECONDS)

    async def _prepare(self) -> int:
        from tesk.filer import TransferError, prepare_shared

        try:
            return await asyncio.to_thread(prepare_shared, self._plan, self._storage.shared_roots)
        except TransferError as error:
            raise StepFailed(*error.sentences) from error

    async def _look_at_outputs(self) -> StageOutResult:
        """Outputs that are all in shared storage are where they shall be, and no filer is needed to say so."""
        from tesk.filer import stage_out
        from tesk.storage import Storage

        async with Storage(self._storage.options({})) as storage:
            return StageOutResult.of(await stage_out(self._plan, None, storage))

    def _leave(self) -> None:
        from tesk.filer import leave_shared

        leave_shared(self._plan, self._storage.shared_roots)

    async def free_scratch(self) -> None:
        """Remove the Jobs that ended well, since no volume goes while a pod has it, ended or not.

        For after the last report: a successor without them could not tell what became of them. A Job that failed stays
        to be looked at, and its volume with it.
        """
        if not needs_scratch(self._plan):
            return
        well = [self._made[name].metadata for name, was_well in self._ended.items() if was_well]
        try:
            await asyncio.gather(
                *(self._cluster.delete(Job, one.name, uid=one.uid) for one in well if one is not None and one.name)
            )
        except ClusterError as error:
            self._note(f"scratch stays as long as what has ended: {error}")

    def _patience(self, what: str) -> Patience:
        options = self._options
        return Patience(
            what,
            self._note,
            start_timeout=options.start_timeout,
            queue_timeout=options.queue_timeout,
            show=self._show,
        )

    @property
    def _underway(self) -> bool:
        """Whether an executor was started under a predecessor, so that all inputs were there."""
        return self._earlier is not None and self._earlier.state is State.RUNNING

    async def _is_gone(self, index: int) -> bool:
        """Whether there is no Job of the executor: not yet, or not any more."""
        return await self._cluster.get(Job, executor_name(self._owner.key, index), within=AWAY_SECONDS) is None

    async def _was_begun(self, index: int) -> bool:
        """Whether the executor, whose Job is not there, was started under a predecessor: it must not be started twice.

        The report tells it of the first; for the others the cluster's events do, as long as it keeps them.
        """
        if self._underway and index == 0:
            return True
        about = {"involvedObject.name": executor_name(self._owner.key, index), "reason": "SuccessfulCreate"}
        return bool(await self._cluster.list(Event, {}, fields=about, within=AWAY_SECONDS))

    async def _make(self, wanted: Any, called: str, patience: Patience) -> Any:
        """Create `wanted`, or find that it is there; a quota may have it wait."""
        while True:
            try:
                made = await self._cluster.create(wanted, within=AWAY_SECONDS)
                self._made[wanted.metadata.name] = made
                patience.renew()
                return made
            except NameTaken as error:
                raise StepFailed(str(error)) from error
            except StillThere as error:
                if isinstance(wanted, Job):
                    raise AttemptLost(f"{patience.what}: its Job was deleted") from error
                patience.wait(Waiting(str(error), curable=False))
                await asyncio.sleep(_STILL_THERE_AGAIN)
            except Refused as error:
                waiting = refused(error.status, called)
                if waiting is None or error.code == 422:
                    raise StepFailed(str(error)) from error
                patience.wait(waiting)
                await asyncio.sleep(_REFUSED_AGAIN)

    async def _filer(self, phase: Phase, patience: Patience) -> FilerResult:
        what = f"stage-{phase}"
        job = await self._make(make_filer_job(self._owner, self._plan, self._options, phase), "its Job", patience)
        ended = await self._end_of(job, "filer", what, patience)
        # a pod that is being deleted takes its log with it; the message came with its end
        log, result = None, read_result(ended.message.encode() + b"\n")
        if result is None:
            result, log = await self._find(job, "filer", read_result, surely=ended.exit_code == 0)
        if result is not None and ended.exit_code == 0:
            return result
        if ended.exit_code == 0:
            raise AttemptLost(f"{what} ended and its result was lost with its pod")
        last = (log or b"").decode("utf-8", "replace").strip().rpartition("\n")[2]
        said = f"; its last words: {last}" if last else ""
        raise StepFailed(f"{what} failed: {ended.problem or f'exit code {ended.exit_code}, {ended.reason}'}{said}")

    async def _end_of(
        self,
        job: Job,
        container: str,
        what: str,
        patience: Patience,
        started: Callable[[], None] = lambda: None,
    ) -> Ended:
        """Watch `job` until its main container has ended; `started` is called once it runs.

        Raises AttemptLost, and StepFailed when it waits for too long.
        """
        assert job.metadata is not None
        assert job.metadata.name is not None
        explained = False
        begun: str | None = None
        loop = asyncio.get_running_loop()
        since = loop.time()
        try:
            while True:
                moved = self._scene.moved
                seen = await self._scene.look(job, container)
                if seen.started and begun is None:
                    begun = seen.started
                    patience.renew()
                    started()
                if seen.ended is not None:
                    self._ended[job.metadata.name] = seen.ended.exit_code == 0
                    return _with_code(seen.ended, begun)
                wait = self._may_wait(seen, what, patience)
                if seen.waiting is not None and loop.time() - since >= EXPLAIN_AFTER:
                    explained = True
                    await self._scene.explain(job)
                    if not seen.scheduled and await self._scratch_is_gone():
                        raise AttemptLost(f"{what}: the scratch volume was deleted")
                await _first(moved, wait)
        finally:
            if explained:
                await self._scene.hush()

    async def _scratch_is_gone(self) -> bool:
        """Whether somebody deleted the attempt's volume claim: no pod that has no node yet gets one with it."""
        return needs_scratch(self._plan) and await self._scene.claim_is_gone(claim_name(self._owner.key))

    def _may_wait(self, seen: Observation, what: str, patience: Patience) -> float | None:
        """For how many seconds at most nothing need be done; None: until something changes."""
        lost = seen.lost
        if lost is not None and not lost.may_run:
            raise AttemptLost(f"{what}: {lost.sentence}", preempted=lost.preempted)
        if lost is not None:  # no new attempt may start before it has surely gone
            return patience.wait(lost.waiting)
        return patience.wait(seen.waiting) if seen.waiting is not None and not seen.started else None

    def _problem(self, ended: Ended, said: LauncherEnd | None) -> str | None:
        # containerd says OOMKilled also of a container that ended well after a child was killed
        if said.oom if said is not None else ended.reason == "OOMKilled":
            return needed_more_memory(self._plan, THE_NODE)
        return ended.problem or (said.problem if said else None)

    async def _streams(self, job: Job, *, recorded: bool) -> tuple[str, str]:
        """The excerpts of an executor's stdout and stderr.

        `recorded`: its launcher came to its end, so that the log ends with its record.
        """
        limit = self._options.log_bytes
        kept, log = await self._find(
            job, "executor", lambda log: read_record(log, limit), surely=recorded, tail_lines=record_lines(limit)
        )
        if log is None:
            self._note("the streams of an executor were lost with its pod")
            return "", ""
        if kept is not None:
            return kept
        if recorded:
            self._note("the streams of an executor lack their end, which never came to its pod's log")
        # The launcher was killed together with the command: what reached the log is what there is.
        log = await self._log(job, "executor") or b""
        return excerpt(unframe(log, "stdout"), limit), excerpt(unframe(log, "stderr"), limit)

    async def _find(
        self,
        job: Job,
        container: str,
        read: Callable[[bytes], T | None],
        *,
        surely: bool,
        tail_lines: int | None = None,
    ) -> tuple[T | None, bytes | None]:
        """What `read` finds in the log of the newest pod of `job`, and the log; None and None when that is gone.

        What is `surely` there is waited for: on a busy node the last of a log comes after its container's end.
        """
        loop = asyncio.get_running_loop()
        deadline, again = loop.time() + LATE_LOG_SECONDS, Backoff(0.1, 1.0)
        while True:
            log = await self._log(job, container, tail_lines=tail_lines)
            found = None if log is None else read(log)
            if log is None or found is not None or not surely or loop.time() > deadline:
                return found, log
            await asyncio.sleep(again.next())

    async def _log(self, job: Job, container: str, *, tail_lines: int | None = None) -> bytes | None:
        """What the newest pod of `job` has written; None when it is gone."""
        pods = self._scene.pods_of(job)
        name = pods[0].metadata.name if pods and pods[0].metadata else None
        if name is None:
            return None
        deadline = asyncio.get_running_loop().time() + _LOG_SECONDS
        while True:
            try:
                return await self._read_log(name, container, tail_lines)
            except Gone:
                return None
            except ClusterError:
                if await self._cluster.get(Pod, name, within=AWAY_SECONDS) is None:
                    return None
                if asyncio.get_running_loop().time() > deadline:
                    return None
                await asyncio.sleep(1.0)

    async def _read_log(self, pod: str, container: str, tail_lines: int | None) -> bytes:
        pieces = self._cluster.log(pod, container, tail_lines=tail_lines, limit_bytes=_MOST_LOG_BYTES)
        return b"".join([piece async for piece in pieces])


def _with_code(ended: Ended, begun: str | None) -> Ended:
    """`ended`, with an exit code also where the kubelet killed what it had seen run and then lost sight of it."""
    if ended.exit_code is not None or begun is None or ended.reason not in _KILLED_FOR:
        return ended
    return dataclasses.replace(ended, exit_code=_KILLED, start=begun)


async def _first(moved: asyncio.Event, seconds: float | None) -> None:
    """Return at the next change, or after `seconds`."""
    try:
        async with asyncio.timeout(seconds):
            await moved.wait()
    except TimeoutError:
        return
