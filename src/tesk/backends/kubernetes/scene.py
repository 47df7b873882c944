"""What there is of one attempt in the cluster, kept up to date: its Jobs and pods; and what slow ones wait for."""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType
from typing import Any

from lightkube.models.core_v1 import Event as EventModel
from lightkube.resources.batch_v1 import Job
from lightkube.resources.core_v1 import Event, PersistentVolumeClaim, Pod

from tesk.backends.kubernetes.cluster import Cluster, Selector
from tesk.backends.kubernetes.observation import Observation
from tesk.backends.kubernetes.observe import observe
from tesk.backends.kubernetes.pod_facts import age, main_statuses
from tesk.backends.kubernetes.watch import Change, Watch

__all__ = ["Scene"]

_JOB_NAME = "batch.kubernetes.io/job-name"


class Scene:
    """The Jobs and pods with `labels`, as `async with` that waits for the first look.

    Events and the volume claim are watched only for a step that `explain` was called for: most steps never wait.
    """

    def __init__(self, cluster: Cluster, labels: Selector) -> None:
        self._cluster = cluster
        self._labels = labels
        self._moved = asyncio.Event()
        self._jobs: Watch[Job, Job] = Watch(cluster, Job, labels, keep=_whole, tell=self._told)
        self._pods: Watch[Pod, Pod] = Watch(cluster, Pod, labels, keep=_whole, tell=self._told_pod)
        self._past: dict[str, Pod] = {}
        self._claims: Watch[PersistentVolumeClaim, PersistentVolumeClaim] | None = None
        self._events: dict[str, Watch[Event, EventModel]] = {}
        self._looked: set[str | None] = set()
        self._open = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Scene:
        async with contextlib.AsyncExitStack() as opening:
            await asyncio.gather(*(opening.enter_async_context(one) for one in (self._jobs, self._pods)))
            self._open = opening.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._open.aclose()

    @property
    def synced(self) -> bool:
        """Whether the cluster can be seen now; else what is known is old."""
        return self._jobs.synced and self._pods.synced

    def has(self, job: str) -> bool:
        """Whether there was a Job `job` when the watch last told."""
        return job in self._jobs.objects

    @property
    def moved(self) -> asyncio.Event:
        """Set at the next change; take it before you look."""
        return self._moved

    def pods_of(self, job: Job) -> list[Pod]:
        """The pods of `job`, newest first; also those that are gone, as far as they had ended before."""
        assert job.metadata is not None
        uid = job.metadata.uid
        there = {**self._past, **self._pods.objects}
        found = [pod for pod in there.values() if _owned_by(pod, uid)]
        return sorted(found, key=age, reverse=True)

    async def look(self, job: Job, container: str) -> Observation:
        """What is known of a step whose Job was made as `job`."""
        assert job.metadata is not None
        assert job.metadata.name is not None
        now = self._jobs.objects.get(job.metadata.name)
        if job.metadata.uid not in self._looked:
            self._looked.add(job.metadata.uid)
            now = job  # the answer to our own request is news enough
        if now is None or now.metadata is None or now.metadata.uid != job.metadata.uid:
            now = await self._cluster.get(Job, job.metadata.name)  # the watch may lag behind
            if now is not None and now.metadata is not None and now.metadata.uid != job.metadata.uid:
                now = None
        claims = list(self._claims.objects.values()) if self._claims else []
        events = [one for watch in self._events.values() for one in watch.objects.values()]
        return observe(now, self.pods_of(job), claims[0] if claims else None, events, container=container)

    async def explain(self, job: Job) -> None:
        """From now on, watch what tells why `job` does not start, as far as it has come."""
        for uid in await self._to_be_asked(job):
            if uid and uid not in self._events:
                fields = {"involvedObject.uid": uid}
                self._events[uid] = Watch(
                    self._cluster, Event, {}, fields=fields, keep=_whole, tell=self._told, list_first=False
                )
                await self._begin(self._events[uid])

    async def _to_be_asked(self, job: Job) -> list[str | None]:
        """The uids of the objects whose events tell of `job`: of the Job without a pod, then of its newest pod; and of
        the volume claim, for which a pod may have no node yet.
        """
        pod = next(iter(self.pods_of(job)), None)
        if pod is None or pod.metadata is None:
            return [job.metadata.uid if job.metadata else None]
        if pod.spec is not None and pod.spec.nodeName:
            return [pod.metadata.uid]
        if self._claims is None:
            self._claims = Watch(self._cluster, PersistentVolumeClaim, self._labels, keep=_whole, tell=self._told)
            await self._begin(self._claims)
        return [pod.metadata.uid, *(one.metadata.uid for one in self._claims.objects.values() if one.metadata)]

    async def claim_is_gone(self, name: str) -> bool:
        """Whether the volume claim was deleted, or is being deleted."""
        there = self._claims.objects.get(name) if self._claims else None
        there = there or await self._cluster.get(PersistentVolumeClaim, name)  # the watch may lag behind
        return there is None or bool(there.metadata and there.metadata.deletionTimestamp)

    async def hush(self) -> None:
        """The step has started, or ended: nobody asks any more why not."""
        for watch in self._events.values():
            await watch.stop()
        self._events.clear()

    async def _begin(self, watch: Watch[Any, Any]) -> None:
        await watch.start()
        self._open.push_async_callback(watch.stop)

    def _told_pod(self, change: Change, pod: Pod) -> None:
        if change == "deleted" and _is_over(pod) and pod.metadata is not None:
            self._past[pod.metadata.name or ""] = pod  # its end may have been told together with its going
        self._told(change, pod)

    def _told(self, change: object, kept: object) -> None:
        self._moved.set()
        self._moved = asyncio.Event()


def _whole(obj: Any) -> Any:
    return obj


def _is_over(pod: Pod) -> bool:
    """Whether every container has ended."""
    some = main_statuses(pod)
    return bool(some) and all(one.state is not None and one.state.terminated is not None for one in some)


def _owned_by(pod: Pod, uid: str | None) -> bool:
    owners = (pod.metadata.ownerReferences if pod.metadata else None) or ()
    return any(one.uid == uid for one in owners)
