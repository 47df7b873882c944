"""Objects without what nobody asks for: a pod as it comes takes 40 KiB of memory, and a server holds many."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterable

import msgspec
from lightkube.models.batch_v1 import JobSpec
from lightkube.models.core_v1 import (
    Container,
    ContainerStatus,
    EventSource,
    ObjectReference,
    PodCondition,
    PodSchedulingGate,
    PodSpec,
    PodStatus,
    PodTemplateSpec,
)
from lightkube.models.core_v1 import Event as EventModel
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.batch_v1 import Job
from lightkube.resources.core_v1 import Event, Pod

__all__ = ["stub_pod", "trim_event", "trim_job", "trim_pod"]

_NO_SOURCE = EventSource()


def trim_job(job: Job) -> Job:
    """What `observe` reads of a Job."""
    spec = job.spec
    template = spec.template if spec else PodTemplateSpec()
    return Job(
        metadata=_metadata(job.metadata),
        spec=JobSpec(
            backoffLimit=spec.backoffLimit if spec else None,
            activeDeadlineSeconds=spec.activeDeadlineSeconds if spec else None,
            podReplacementPolicy=spec.podReplacementPolicy if spec else None,
            suspend=spec.suspend if spec else None,
            template=PodTemplateSpec(spec=_spec(template.spec)),
        ),
        status=job.status,
    )


def trim_pod(pod: Pod) -> Pod:
    """What `observe` reads of a pod."""
    trimmed = Pod(metadata=_metadata(pod.metadata), spec=_spec(pod.spec), status=_status(pod.status))
    if trimmed.metadata is not None:  # that its plan owns it says its name
        owners = [one for one in trimmed.metadata.ownerReferences or () if one.kind != "ConfigMap"]
        trimmed.metadata.ownerReferences = owners or None
    return trimmed


def stub_pod(pod: Pod) -> Pod:
    """Which pod it is, for whoever looks the rest up; as if it had just been made."""
    metadata = pod.metadata
    assert metadata is not None
    meta = ObjectMeta(name=metadata.name, uid=metadata.uid, creationTimestamp=metadata.creationTimestamp)
    return Pod(metadata=meta)


def trim_event(event: Event) -> EventModel:
    """What `observe` reads of an event."""
    about = event.involvedObject
    return EventModel(
        metadata=ObjectMeta(name=event.metadata.name if event.metadata else None),
        involvedObject=ObjectReference(
            kind=_shared(about.kind), name=_shared(about.name), uid=about.uid, fieldPath=about.fieldPath
        ),
        reason=_shared(event.reason),
        message=_shared(event.message),
        type=_shared(event.type),
        count=event.count,
        firstTimestamp=event.firstTimestamp,
        lastTimestamp=event.lastTimestamp,
        eventTime=event.eventTime,
        series=event.series,
        source=_NO_SOURCE,
    )


def _metadata(metadata: ObjectMeta | None) -> ObjectMeta | None:
    if metadata is None:
        return None
    return ObjectMeta(
        name=_shared(metadata.name),
        uid=metadata.uid,
        labels=None if metadata.labels is None else {sys.intern(k): sys.intern(v) for k, v in metadata.labels.items()},
        creationTimestamp=metadata.creationTimestamp,
        deletionTimestamp=metadata.deletionTimestamp,
        deletionGracePeriodSeconds=metadata.deletionGracePeriodSeconds,
        ownerReferences=metadata.ownerReferences,
    )


def _status(status: PodStatus | None) -> PodStatus | None:
    if status is None:
        return None
    return PodStatus(
        phase=status.phase,
        reason=status.reason,
        message=status.message,
        startTime=status.startTime,
        conditions=[_shared_words(one) for one in status.conditions or ()] or None,
        initContainerStatuses=_containers(status.initContainerStatuses),
        containerStatuses=_containers(status.containerStatuses),
    )


def _shared(text: str | None) -> str | None:
    """The same words, which thousands of pods that wait for one thing are told, once in memory."""
    return None if text is None else sys.intern(text)


def _shared_words(one: PodCondition) -> PodCondition:
    return msgspec.structs.replace(
        one, type=sys.intern(one.type), reason=_shared(one.reason), message=_shared(one.message)
    )


def _containers(statuses: list[ContainerStatus] | None) -> list[ContainerStatus] | None:
    if statuses is None:
        return None
    return [
        ContainerStatus(
            name=one.name,
            image=one.image,
            imageID="",
            ready=one.ready,
            restartCount=one.restartCount,
            started=one.started,
            state=one.state,
            lastState=one.lastState,
        )
        for one in statuses
    ]


def _spec(spec: PodSpec | None) -> PodSpec | None:
    if spec is None:
        return None
    return _shared_spec(
        _named(spec.containers),
        _named(spec.initContainers or ()),
        spec.nodeName,
        spec.restartPolicy,
        tuple(one.name for one in spec.schedulingGates or ()),
        spec.activeDeadlineSeconds,
    )


_Named = tuple[tuple[str, str | None, str | None], ...]


def _named(containers: Iterable[Container]) -> _Named:
    return tuple((one.name, one.image, one.restartPolicy) for one in containers)


@functools.lru_cache(maxsize=1024)
def _shared_spec(
    containers: _Named,
    init: _Named,
    node: str | None,
    restart: str | None,
    gates: tuple[str, ...],
    deadline: int | None,
) -> PodSpec:
    """One object for thousands of pods of which no more is asked than what they have in common."""
    return PodSpec(
        containers=_containers_of(containers),
        initContainers=_containers_of(init) or None,
        nodeName=node,
        restartPolicy=restart,
        schedulingGates=[PodSchedulingGate(name=one) for one in gates] or None,
        activeDeadlineSeconds=deadline,
    )


def _containers_of(named: _Named) -> list[Container]:
    return [Container(name=name, image=image, restartPolicy=restart) for name, image, restart in named]
