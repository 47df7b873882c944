"""What a watch sees of the pods and Jobs of a namespace, and when: their own times have seconds only."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable

from lightkube.models.core_v1 import ContainerState
from lightkube.resources.batch_v1 import Job
from lightkube.resources.core_v1 import Pod

from tesk.backends.kubernetes.cluster import Cluster
from tesk.backends.kubernetes.watch import Watch

__all__ = ["MOMENTS", "Sight", "watching"]

MOMENTS = ("created", "scheduled", "runs", "ended")
"""Of a pod's first container; `ended` is when the API told its end."""


class Sight:
    """`times[pod][moment]` is in seconds of `time.perf_counter`."""

    def __init__(self) -> None:
        self.times: dict[str, dict[str, float]] = {}
        self.pods: dict[str, Pod] = {}
        self.jobs: dict[str, Job] = {}
        self._moved = asyncio.Event()

    def pod_told(self, change: str, pod: Pod) -> None:
        """Note what is new of a pod."""
        name = _name(pod)
        self.pods[name] = pod
        state = _state(pod)
        happened = {
            "created": True,
            "scheduled": bool(pod.spec and pod.spec.nodeName),
            "runs": bool(state and (state.running or state.terminated)),
            "ended": bool(state and state.terminated),
        }
        times = self.times.setdefault(name, {})
        for moment in MOMENTS:
            if happened[moment]:
                times.setdefault(moment, time.perf_counter())
        self._wake()

    def job_told(self, change: str, job: Job) -> None:
        """Note what is new of a Job."""
        self.jobs[_name(job)] = job
        self._wake()

    async def until(self, true: Callable[[], bool], seconds: float = 600.0) -> None:
        """Return once `true()`. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            while not true():
                await self._moved.wait()

    def pod_of(self, prefix: str) -> str | None:
        """The pod whose name begins with `prefix` and five more characters, as a Job's has."""
        return next((one for one in self.times if one.startswith(f"{prefix}-") and len(one) == len(prefix) + 6), None)

    def has(self, prefix: str, moment: str) -> bool:
        """Whether the pod of the Job `prefix`, or the pod itself of that name, has come to `moment`."""
        name = prefix if prefix in self.times else self.pod_of(prefix)
        return name is not None and moment in self.times[name]

    def complete(self, job: str) -> bool:
        """Whether the Job says so itself."""
        status = self.jobs[job].status if job in self.jobs else None
        return any(one.type == "Complete" and one.status == "True" for one in (status and status.conditions) or ())

    def _wake(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()


@contextlib.asynccontextmanager
async def watching(cluster: Cluster) -> AsyncIterator[Sight]:
    """All pods and Jobs of the cluster's namespace."""
    sight = Sight()
    pods: Watch[Pod, Pod] = Watch(cluster, Pod, {}, keep=lambda one: one, tell=sight.pod_told)
    jobs: Watch[Job, Job] = Watch(cluster, Job, {}, keep=lambda one: one, tell=sight.job_told)
    async with pods, jobs:
        yield sight


def _name(obj: Pod | Job) -> str:
    return (obj.metadata.name if obj.metadata else None) or ""


def _state(pod: Pod) -> ContainerState | None:
    some = (pod.status.containerStatuses if pod.status else None) or ()
    return some[0].state if some else None
