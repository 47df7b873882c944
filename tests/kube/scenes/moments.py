"""What to wait for in a scene, and the pods that scenes are made of."""

from __future__ import annotations

from typing import Any

from lightkube.models.batch_v1 import JobCondition
from lightkube.models.core_v1 import ContainerState, PodCondition

from tests.kube.scenes.stage import BUSYBOX, Moment, Seen

__all__ = [
    "container",
    "deleting",
    "ended",
    "event",
    "job_condition",
    "phase",
    "pod",
    "pod_condition",
    "runs",
    "state",
    "waits",
]

Json = dict[str, Any]


def container(*command: str, **more: Any) -> Json:
    """The main container, in busybox unless told otherwise."""
    return {"name": "main", "image": BUSYBOX, "command": list(command), **more}


def pod(*command: str, spec: Json | None = None, **more: Any) -> Json:
    return {"terminationGracePeriodSeconds": 1, "containers": [container(*command, **more)], **(spec or {})}


def state(seen: Seen, name: str = "main") -> ContainerState:
    status = seen.pod.status
    statuses = [*(status.containerStatuses or ()), *(status.initContainerStatuses or ())]
    return next(one.state for one in statuses if one.name == name)


def waits(reason: str, name: str = "main") -> Moment:
    return lambda seen: state(seen, name).waiting.reason == reason


def ended(seen: Seen) -> object:
    return state(seen).terminated


def runs(seen: Seen) -> object:
    return state(seen).running


def pod_condition(kind: str, status: str = "True", reason: str | None = None) -> Moment:
    def found(seen: Seen) -> bool:
        some: list[PodCondition] = seen.pod.status.conditions or []
        return any(one.type == kind and one.status == status and reason in (None, one.reason) for one in some)

    return found


def job_condition(kind: str) -> Moment:
    def found(seen: Seen) -> bool:
        some: list[JobCondition] = seen.job.status.conditions or []
        return any(one.type == kind and one.status == "True" for one in some)

    return found


def event(reason: str) -> Moment:
    return lambda seen: seen.event(reason)


def deleting(seen: Seen) -> object:
    return seen.pod.metadata.deletionTimestamp


def phase(name: str) -> Moment:
    return lambda seen: seen.pod.status.phase == name
