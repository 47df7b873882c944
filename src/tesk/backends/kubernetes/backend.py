"""The backend `kubernetes`: each attempt is a taskmaster's Job, or a pod; the server hears their reports."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from datetime import UTC, datetime
from typing import Any

from lightkube.models.core_v1 import Event as EventModel
from lightkube.resources.batch_v1 import Job
from lightkube.resources.core_v1 import ConfigMap, Event, LimitRange, PersistentVolumeClaim, Pod

from tesk.backends.base import Attempt, AttemptKey, BackendAway, LogStream, ReportSink
from tesk.backends.kubernetes.cluster import Cluster
from tesk.backends.kubernetes.errors import ClusterError, NameTaken, Refused, StillThere, Unreachable
from tesk.backends.kubernetes.events import Events
from tesk.backends.kubernetes.following import read_streams
from tesk.backends.kubernetes.handout import make_plan_config_maps, owned_by
from tesk.backends.kubernetes.held import Held
from tesk.backends.kubernetes.labels import EXECUTOR, STEP, key_of, selector_of
from tesk.backends.kubernetes.names import attempt_name, container_name, report_name
from tesk.backends.kubernetes.objects import make_pod, make_taskmaster_job, owner_of
from tesk.backends.kubernetes.observation import Ended, Lost, Observation, Waiting
from tesk.backends.kubernetes.observe import observe
from tesk.backends.kubernetes.options import KubernetesOptions
from tesk.backends.kubernetes.pace import Backoff
from tesk.backends.kubernetes.patience import Patience
from tesk.backends.kubernetes.pod_facts import uid_of
from tesk.backends.kubernetes.pod_follower import PodFollower
from tesk.backends.kubernetes.pushing import ReportListener
from tesk.backends.kubernetes.refusals import refused
from tesk.backends.kubernetes.report_map import read_report
from tesk.backends.kubernetes.report_place import open_reports
from tesk.backends.kubernetes.resources import minimums
from tesk.backends.kubernetes.spool import SpooledLog
from tesk.backends.kubernetes.stuck import is_stuck
from tesk.backends.kubernetes.trimmed import stub_pod, trim_event, trim_job, trim_pod
from tesk.backends.kubernetes.turn_waits import explained
from tesk.backends.kubernetes.watch import Change, Watch
from tesk.backends.sharing import Followers
from tesk.plan.site import Capacity
from tesk.storage import StorageSettings
from tesk.taskmaster.report import Report
from tesk.taskmaster.run import now
from tesk.taskmaster.steps import StepFailed
from tesk.tes.states import State

__all__ = ["KubernetesBackend"]

log = logging.getLogger(__name__)

_AT_ONCE = 16
_FIRST_LOOK_SECONDS = 60.0
_LOOK_AGAIN, _LOOK_SELDOM = 0.2, 2.0
_PLAN_ALONE_SECONDS = 60.0
_READERS_SECONDS = 60.0
"""How long somebody who follows a stream may hold up the removal of what has ended."""


class KubernetesBackend:
    """A `Backend` of tesk.backends.base on one namespace of a cluster.

    Attempts go on while no server runs. `max_active` attempts that have not ended are held at once. Pods send their
    reports, signed with `report_secret`, where it is given and there is a way to this process; else they are read in
    their logs.
    """

    def __init__(
        self,
        options: KubernetesOptions,
        storage: StorageSettings,
        connect: Callable[[KubernetesOptions], Cluster] = Cluster.of_site,
        report_secret: bytes = b"",
    ) -> None:
        self._options = options
        self._report_secret = report_secret
        self._storage = storage
        self._connect = connect
        self._held: dict[AttemptKey, Held] = {}
        self._sink: ReportSink = lambda *_: None
        self._freed: Callable[[], None] = lambda: None
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._sweep: dict[AttemptKey, float] = {}
        self._swept = asyncio.Event()
        self._sweeper: asyncio.Task[None] | None = None
        self._opened = contextlib.AsyncExitStack()
        self._events = Events()
        self._followers: Followers[tuple[AttemptKey, int]] = Followers()

    @property
    def capacity(self) -> Capacity:
        """Not known: to look at nodes is no right of a namespace."""
        return Capacity()

    async def start(self, sink: ReportSink, freed: Callable[[], None]) -> None:
        """Connect, and find what an earlier server left.

        Raises BackendAway, with a sentence, when the cluster cannot be seen.
        """
        self._sink, self._freed = sink, freed
        try:
            await self._open()
        except ClusterError as error:
            raise BackendAway(str(error)) from error
        self._adopt()
        self._sweeper = asyncio.create_task(self._sweep_all(), name="keep finished")

    async def _open(self) -> None:
        cluster = self._cluster = self._connect(self._options)
        ours = selector_of(self._options.instance)
        self._reports: Watch[ConfigMap, str] = Watch(cluster, ConfigMap, {**ours, STEP: "report"}, keep=self._taken)
        taskmasters = {**ours, STEP: "taskmaster"}
        self._jobs: Watch[Job, Job] = Watch(cluster, Job, taskmasters, keep=trim_job, tell=self._told)
        self._pods: Watch[Pod, Pod] = Watch(cluster, Pod, taskmasters, keep=trim_pod, tell=self._told)
        warnings: Watch[Event, EventModel] = Watch(
            cluster, Event, {}, fields={"type": "Warning"}, keep=trim_event, tell=self._told_event
        )
        self._follower = PodFollower(cluster, self._pods, self)
        pulls: Watch[Event, EventModel] = Watch(
            cluster, Event, {}, fields={"reason": "Pulling"}, keep=trim_event, tell=self._told_event
        )
        watches: list[Watch[Any, Any]] = [self._jobs, self._pods, warnings, self._reports]
        watches += [pulls] if self._options.layout == "pod" else []
        async with contextlib.AsyncExitStack() as opening:
            await opening.enter_async_context(cluster)
            for watch in watches:
                await watch.start()
                opening.push_async_callback(watch.stop)
            for watch in (self._jobs, self._pods, self._reports):
                await watch.wait_synced(_FIRST_LOOK_SECONDS)
            for metadata in await cluster.list_metadata(ConfigMap, {**ours, STEP: "plan"}):
                if (key := key_of(metadata.labels)) is not None:
                    self._held.setdefault(key, Held(key))
            await self._find_minimums()
            await self._find_volumes()
            if self._options.layout == "pod" and self._report_secret:
                await self._listen(opening)
            self._opened = opening.pop_all()

    async def _listen(self, opening: contextlib.AsyncExitStack) -> None:
        """Have pods send their reports, if that can be."""
        listener = ReportListener(self._report_secret, self)
        place = await open_reports(self._cluster, self._options, self._report_secret, listener)
        opening.callback(listener.close)
        self._options = dataclasses.replace(self._options, reports=place)

    async def stop(self) -> None:
        """Look no more; what runs goes on."""
        self._sink = lambda *_: None
        works = [held.work for held in self._held.values() if held.work is not None]
        works += [self._sweeper] if self._sweeper is not None else []
        for work in works:
            work.cancel()
        await asyncio.gather(*works, return_exceptions=True)
        await self._opened.aclose()

    async def attempts(self) -> frozenset[AttemptKey]:
        """The attempts in the cluster, and those that are on their way there.

        Raises BackendAway while the cluster cannot be seen.
        """
        for watch in (self._reports, self._jobs):
            if not watch.synced:
                raise BackendAway(f"the cluster cannot be seen: {watch.problem}")
        return frozenset(
            key
            for key, held in self._held.items()
            if key not in self._sweep and (held.work is not None or held.reported or self._made(key) is not None)
        )

    async def offer(self, attempt: Attempt) -> bool:
        """Begin to make the attempt's first objects, unless `max_active` attempts run already."""
        held = self._held.get(attempt.key)
        if held is not None and (held.work is not None or held.reported):
            return True
        if held is None and self._full:
            return False
        held = self._held.setdefault(attempt.key, Held(attempt.key))
        self._sweep.pop(attempt.key, None)
        self._begin(held, self._make, attempt)
        return True

    def lacks(self, attempt: Attempt) -> str | None:
        """That `max_active` attempts run already."""
        return f"{self._options.max_active} tasks run already, which is kubernetes.max_active" if self._full else None

    @property
    def _full(self) -> bool:
        return sum(not one.ended for one in self._held.values()) >= self._options.max_active

    def waits(self, key: AttemptKey) -> str | None:
        """What the taskmaster's pod waits for, or what the taskmaster says that a step waits for."""
        held = self._held.get(key)
        if held is None:
            return None
        told = held.report.waiting if held.reported and held.report is not None else None
        return told or held.waiting

    async def cancel(self, key: AttemptKey) -> None:
        """Remove everything of the attempt, then report CANCELED."""
        held = self._held.get(key)
        if held is None:
            self._sink(key, Report(State.CANCELED, end_time=now()))
        elif not held.leaving and not held.ended:
            held.leaving = True
            self._begin(held, self._cancel)

    async def forget(self, key: AttemptKey) -> None:
        """What is left of a finished attempt is removed once `keep_finished` is over; of any other, now."""
        held = self._held.get(key)
        if held is None or key in self._sweep:
            return
        keep = 0.0
        if held.ended and held.report is not None and held.report.end_time is not None and not held.leaving:
            kept = 0.0 if self._options.pod_scratch == "volume" and self._is_pod(key) else self._options.keep_finished
            keep = kept - (time.time() - _moment(held.report.end_time))
        held.report = None if held.report is None else Report(held.report.state)
        self._sweep[key] = time.monotonic() + max(0.0, keep)
        self._swept.set()

    async def logs(self, key: AttemptKey, executor: int, stream: LogStream, *, follow: bool) -> AsyncIterator[bytes]:
        """What the executor wrote so far, from its pod's log."""
        held = self._held.get(key)

        def expected() -> bool:
            """Whether the executor may start yet."""
            report = held.report if held is not None and not held.leaving else None
            return report is not None and not report.state.terminal and len(report.executors) <= executor

        while follow and held is not None and not held.ended and not held.leaving and not held.runs(executor):
            await held.moved.wait()
        labels = selector_of(self._options.instance, key)
        if self._is_pod(key):
            labels, container = {**labels, STEP: "taskmaster"}, container_name(executor)
        else:
            labels, container = {**labels, STEP: "executor", EXECUTOR: str(executor)}, "executor"

        def read() -> AsyncGenerator[tuple[bytes, bytes]]:
            return read_streams(self._cluster, labels, container, follow=follow, expected=expected)

        if not follow:
            async for out, err in read():
                yield out if stream == "stdout" else err
            return
        if held is not None:
            held.readers += 1
        try:
            followed = self._followers.follow((key, executor), stream, lambda: SpooledLog(read()))
            async with contextlib.aclosing(followed) as pieces:
                async for data in pieces:
                    yield data
        finally:
            if held is not None:
                held.readers -= 1

    def _begin(self, held: Held, work: Callable[..., Coroutine[None, None, None]], *args: object) -> None:
        """Do `work` about an attempt, after what is done about it now has ended."""
        before = held.work

        async def do() -> None:
            nonlocal before
            if before is not None:
                before.cancel()
                await asyncio.gather(before, return_exceptions=True)
                before = None
            try:
                await work(held, *args)
            except StepFailed as error:
                await self._give_up(held, error.sentences)
            except Exception as error:
                log.exception("attempt %s: an error of tesk itself", held.key)
                await self._give_up(held, (f"an error of tesk itself: {error!r}",))

        held.work = asyncio.create_task(do(), name=f"attempt {held.key}")

    async def _make(self, held: Held, attempt: Attempt) -> None:
        """Make the attempt's first objects, and have it followed. Raises StepFailed where they cannot be made."""
        patience = self.patience(held)
        again = Backoff(0.2, 10.0)
        while True:
            try:
                async with self._places:
                    made = await self._make_once(attempt)
                break
            except NameTaken as error:
                raise StepFailed(str(error)) from error
            except Refused as error:
                waiting = refused(error.status, _refused_what(error)) or Waiting(str(error), curable=False)
            except (StillThere, Unreachable) as error:
                waiting = Waiting(str(error), curable=True)
            # what is due to be told is not held up until the next try would come
            await asyncio.sleep(min(patience.wait(waiting), again.next()))
        self._begin(held, self._follow, made, patience)  # in a task of its own, which does not keep the plan

    async def _make_once(self, attempt: Attempt) -> Job | Pod:
        maps = make_plan_config_maps(attempt.key, attempt.plan, self._options, self._storage)
        owner = owner_of(await self._cluster.create(maps[0]))
        if owner is None:
            raise StepFailed(f"the ConfigMap {attempt_name(attempt.key)} is not what tesk made")
        for one in maps[1:]:
            await self._cluster.create(owned_by(one, owner, self._options))
        if self._options.layout == "pod":
            return stub_pod(await self._cluster.create(make_pod(owner, attempt.plan, self._options)))
        return trim_job(await self._cluster.create(make_taskmaster_job(owner, attempt.plan, self._options)))

    def _follow(self, held: Held, made: Job | Pod, patience: Patience) -> Coroutine[None, None, None]:
        if isinstance(made, Pod):
            return self._follower.follow(held, made, patience)
        return self._follow_job(held, made, patience)

    def events_of(self, held: Held) -> list[EventModel]:
        """The events about an attempt."""
        return self._events.of(held.key)

    async def _follow_job(self, held: Held, job: Job, patience: Patience) -> None:
        """Watch the taskmaster of an attempt until its last report: why it does not start, and whether it is lost."""
        fresh = True  # the answer that brought `job` is news enough for the first look
        while not held.ended:
            moved, seconds = held.moved, None
            try:
                seen = await self._look(held, job, fresh)
                fresh = False
                if seen.ended is not None or (seen.lost is not None and not seen.lost.may_run):
                    await self.lose(held, seen)
                    break
                if seen.scheduled and held.report is None:
                    self.tell(held, Report(State.INITIALIZING, system_logs=held.waits))
                if not held.reported and (waiting := seen.waiting) is not None:
                    seconds = patience.wait(waiting)
            except ClusterError as error:  # nothing is known, so nothing is done
                log.warning("attempt %s cannot be looked at: %s", held.key, error)
                seconds = _LOOK_SELDOM
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await moved.wait()

    async def _look(self, held: Held, job: Job, fresh: bool) -> Observation:
        """What is known of the taskmaster that was made as `job`."""
        assert job.metadata is not None
        assert job.metadata.name is not None
        name, uid = job.metadata.name, job.metadata.uid
        there = job if fresh else self._jobs.objects.get(name)
        if there is None or uid_of(there) != uid:
            there = await self._cluster.get(Job, name)  # the watch may lag behind
            there = there if there is not None and uid_of(there) == uid else None
        pods = [pod for pod in self._pods.objects.values() if _key(pod) == held.key]
        events = [] if held.reported else self.events_of(held)
        return observe(there, pods, None, events, container="taskmaster")

    async def lose(self, held: Held, seen: Observation) -> None:
        """The taskmaster has ended, or is gone: the attempt has its last report, or is lost."""
        name = report_name(held.key)
        while True:
            try:
                there = await self._cluster.get(ConfigMap, name)
                break
            except ClusterError as error:
                log.warning("the report of attempt %s cannot be read: %s", held.key, error)
                await asyncio.sleep(_LOOK_SELDOM)
        if there is not None:
            with contextlib.suppress(ValueError):
                self.take(held.key, read_report(there))
        if held.ended or held.leaving:
            return
        why = seen.lost.sentence if seen.lost else _how(seen.ended)
        lost = held.report or Report(State.SYSTEM_ERROR, start_time=now())
        preempted = State.PREEMPTED if seen.lost and seen.lost.preempted else State.SYSTEM_ERROR
        held.leaving = True
        await self._remove(held.key)
        self.tell(held, dataclasses.replace(lost, state=preempted, end_time=now(), lost=f"taskmaster: {why}"))

    async def _give_up(self, held: Held, sentences: tuple[str, ...]) -> None:
        """The attempt cannot start: nothing of it stays."""
        held.leaving = True
        await self._remove(held.key)
        known = held.report or Report(State.SYSTEM_ERROR, system_logs=held.waits)
        logs = (*known.system_logs, *sentences)
        self.tell(held, dataclasses.replace(known, state=State.SYSTEM_ERROR, end_time=now(), system_logs=logs))

    async def _cancel(self, held: Held) -> None:
        await self._remove(held.key)
        known = held.report or Report(State.CANCELED)
        self.tell(held, dataclasses.replace(known, state=State.CANCELED, end_time=now()))

    async def _remove(self, key: AttemptKey) -> None:
        """Return once nothing of the attempt is left: first the taskmaster, which would make more."""
        again = Backoff(_LOOK_AGAIN, _LOOK_SELDOM)
        while True:
            try:
                if await self._remove_some(key) == 0:
                    return
            except ClusterError as error:
                log.warning("attempt %s is not removed yet: %s", key, error)
            await asyncio.sleep(again.next())

    async def _remove_some(self, key: AttemptKey) -> int:
        """Ask for the end of what may go now; how much was there."""
        cluster, labels = self._cluster, selector_of(self._options.instance, key)
        if self._is_pod(key):
            # Once the plan is gone the cluster removes the rest by itself, also if we end here.
            await cluster.delete_all(ConfigMap, {**labels, STEP: "plan"})
            return await self._remove_pods(labels)
        await cluster.delete_all(Job, {**labels, STEP: "taskmaster"})
        if taskmasters := await self._remove_pods({**labels, STEP: "taskmaster"}):
            return taskmasters
        left = await cluster.delete_all(Job, labels) + await self._remove_pods(labels)
        if left := left + await cluster.delete_all(PersistentVolumeClaim, labels):
            return left
        # The plan goes before the report: one of them tells a server that starts now that there is something to remove,
        # and whatever the plan owns the cluster removes itself.
        await cluster.delete_all(ConfigMap, {**labels, STEP: "plan"})
        return await cluster.delete_all(ConfigMap, labels)

    async def _remove_pods(self, labels: dict[str, str]) -> int:
        """Ask for the end of pods, and take away those that a kubelet does not let go of; how many are still there."""
        if not await self._cluster.delete_all(Pod, labels):
            return 0
        left = await self._cluster.list(Pod, labels)
        for pod in left:
            if pod.metadata is not None and pod.metadata.name and is_stuck(pod, datetime.now(UTC)):
                await self._cluster.delete(Pod, pod.metadata.name, uid=pod.metadata.uid, grace_seconds=0)
        return len(left)

    async def _sweep_all(self) -> None:
        """Remove finished attempts once they have been kept long enough."""
        again = Backoff(1.0, 60.0)
        while True:
            due = min(self._sweep.values(), default=None)
            self._swept.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if due is None else max(0.0, due - time.monotonic())):
                    await self._swept.wait()
            for key in [key for key, moment in self._sweep.items() if moment <= time.monotonic()]:
                if (held := self._held.get(key)) is not None and held.is_read(time.monotonic() + _READERS_SECONDS):
                    self._sweep[key] = time.monotonic() + _LOOK_SELDOM
                    continue
                try:
                    async with self._places:
                        left = await self._remove_some(key)
                    if key not in self._sweep:  # offered meanwhile
                        continue
                    if left:
                        self._sweep[key] = time.monotonic() + _LOOK_SELDOM  # look again whether it has gone
                    else:
                        del self._sweep[key]
                        self._held.pop(key, None)
                    again.renew()
                except ClusterError as error:
                    log.warning("attempt %s is not removed yet: %s", key, error)
                    self._sweep[key] = time.monotonic() + again.next()

    def tell(self, held: Held, report: Report) -> None:
        """Hand on what is known now of an attempt."""
        before = held.ended
        held.report = report
        held.wake()
        self._sink(held.key, report)
        if held.ended and not before:
            self._freed()

    def called(self, key: AttemptKey, *, calls: bool) -> bool:
        """The taskmaster of a pod calls, or has hung up: then its log tells the rest. False for one not held here."""
        held = self._held.get(key)
        if held is None:
            return False
        held.calls = calls
        held.wake()
        return True

    def take(self, key: AttemptKey, report: Report, number: int = 0) -> None:
        """A report of a taskmaster; `number` counts those of a pod, which come in its log and by themselves."""
        held = self._held.setdefault(key, Held(key))
        if number:
            if number <= held.number:
                return
            held.number = number
            report = explained(report, self._pods.objects.get(attempt_name(key)))
        if not held.reported:
            held.reported, held.waiting = True, None
        if held.ended or held.leaving:
            return
        report = dataclasses.replace(report, system_logs=(*held.waits, *report.system_logs))
        if held.report is not None and report == dataclasses.replace(held.report, waiting=report.waiting):
            held.report = report  # nothing that is kept
        elif report.lost is None and not report.held:
            self.tell(held, report)
        else:
            held.leaving = True
            self._begin(held, self._leave, report)

    async def _leave(self, held: Held, report: Report) -> None:
        """No new attempt may start while something of a lost one may still write, nor may what holds on stay."""
        await self._remove(held.key)
        self.tell(held, report)

    def _taken(self, config_map: ConfigMap) -> str:
        """Take the report at once: to keep it would be in vain. What is kept is its version."""
        metadata = config_map.metadata
        assert metadata is not None
        key = key_of(metadata.labels)
        if key is not None and metadata.deletionTimestamp is None:
            try:
                self.take(key, read_report(config_map))
            except ValueError as error:
                log.error("ConfigMap %s: %s", metadata.name, error)
        return metadata.resourceVersion or ""

    def _told(self, change: Change, kept: Job | Pod) -> None:
        held = self._held.get(_key(kept) or AttemptKey("", 0))
        if held is not None:
            held.wake()

    def _told_event(self, change: Change, kept: EventModel) -> None:
        key = self._events.note(change, kept)
        held = None if key is None else self._held.get(key)
        if held is not None and not held.ended:
            held.wake()

    def _made(self, key: AttemptKey) -> Job | Pod | None:
        """What the attempt was made as: its taskmaster's Job, or its pod."""
        name = attempt_name(key)
        return self._jobs.objects.get(name) or self._pods.objects.get(name)

    def _is_pod(self, key: AttemptKey) -> bool:
        return isinstance(self._made(key), Pod)

    def _adopt(self) -> None:
        """Follow what an earlier server began."""
        for held in list(self._held.values()):
            made = self._made(held.key)
            if held.ended or held.leaving or held.work is not None:
                continue
            if made is not None:
                self._begin(held, self._follow, made, self.patience(held))
            elif held.reported:
                self._begin(held, self.lose, Observation(lost=Lost("its Job was deleted")))
            else:  # a plan alone: it is offered again, or of an attempt that is no more
                self._sweep[held.key] = time.monotonic() + _PLAN_ALONE_SECONDS

    def patience(self, held: Held, what: str = "the task", *, endless: bool = False) -> Patience:
        """How long `what` of an attempt may wait, and who hears of it; `endless`: for what waiting cures."""
        options = self._options

        def note(sentence: str) -> None:
            held.waits = (*held.waits, sentence)
            if held.report is None:
                self._sink(held.key, Report(State.QUEUED, system_logs=held.waits))
            elif not held.reported:
                self.tell(held, dataclasses.replace(held.report, system_logs=held.waits))
            elif not held.ended:  # before what the taskmaster said, as in its next report
                known = held.report.system_logs
                logs = (*held.waits, *known[len(held.waits) - 1 :])
                self.tell(held, dataclasses.replace(held.report, system_logs=logs))

        def show(sentence: str | None) -> None:
            held.waiting = sentence

        return Patience(
            what,
            note,
            start_timeout=options.start_timeout,
            queue_timeout=None if endless else options.queue_timeout,
            show=show,
        )

    async def _find_minimums(self) -> None:
        """What the namespace's LimitRanges ask for at least; without the right to look, pods show it."""
        try:
            ranges = await self._cluster.list(LimitRange, {})
        except Refused as error:
            log.info("limit ranges cannot be read: %s", error.said)
            return
        self._options = dataclasses.replace(self._options, minimums=minimums(ranges))

    async def _find_volumes(self) -> None:
        """Tell the operator of volumes of files that are not there: tasks that use them wait."""
        for one in self._options.file_volumes:
            try:
                found = await self._cluster.list(PersistentVolumeClaim, {}, fields={"metadata.name": one.pvc})
            except Refused as error:
                log.info("volume claims cannot be read: %s", error.said)
                return
            if not found:
                log.error("there is no PersistentVolumeClaim %s, which has the files at %s", one.pvc, one.path)


def _moment(time_: str) -> float:
    return datetime.fromisoformat(time_).timestamp()


def _how(ended: Ended | None) -> str:
    """A clause for a taskmaster that ended without its last report."""
    if ended is None:
        return "its taskmaster failed"
    return ended.problem or f"it ended with exit code {ended.exit_code} and told no end"


def _refused_what(error: Refused) -> str:
    """What the API server did not make of an attempt's first objects."""
    details = error.status.details
    return {"pods": "its pod", "jobs": "its Job"}.get((details and details.kind) or "", "its plan")


def _key(obj: Job | Pod) -> AttemptKey | None:
    return key_of(obj.metadata.labels) if obj.metadata else None
