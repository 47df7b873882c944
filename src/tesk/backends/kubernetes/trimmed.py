"""Objects without what nobody asks for: a pod as it comes takes 40 KiB of memory, and a server holds many."""

from __future__ import annotations

from collections.abc import Iterable

from lightkube.models.batch_v1 import JobSpec
from lightkube.models.core_v1 import (
    Container,
    ContainerStatus,
    EventSource,
    ObjectReference,
    PodSpec,
    PodStatus,
    PodTemplateSpec,
)
from lightkube.models.core_v1 import Event as EventModel
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.batch_v1 import Job
from lightkube.resources.core_v1 import Event, Pod

__all__ = ["trim_event", "trim_job", "trim_pod"]


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
    return Pod(metadata=_metadata(pod.metadata), spec=_spec(pod.spec), status=_status(pod.status))


def trim_event(event: Event) -> EventModel:
    """What `observe` reads of an event."""
    about = event.involvedObject
    return EventModel(
        metadata=ObjectMeta(name=event.metadata.name if event.metadata else None),
        involvedObject=ObjectReference(kind=about.kind, name=about.name, uid=about.uid, fieldPath=about.fieldPath),
        reason=event.reason,
        message=event.message,
        type=event.type,
        count=event.count,
        firstTimestamp=event.firstTimestamp,
        lastTimestamp=event.lastTimestamp,
        eventTime=event.eventTime,
        series=event.series,
        source=EventSource(),
    )


def _metadata(metadata: ObjectMeta | None) -> ObjectMeta | None:
    if metadata is None:
        return None
    return ObjectMeta(
        name=metadata.name,
        uid=metadata.uid,
        labels=metadata.labels,
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
        conditions=status.conditions,
        initContainerStatuses=_containers(status.initContainerStatuses),
        containerStatuses=_containers(status.containerStatuses),
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
    return PodSpec(
        containers=_named(spec.containers),
        initContainers=_named(spec.initContainers or ()) or None,
        nodeName=spec.nodeName,
        restartPolicy=spec.restartPolicy,
        schedulingGates=spec.schedulingGates,
        activeDeadlineSeconds=spec.activeDeadlineSeconds,
    )


def _named(containers: Iterable[Container]) -> list[Container]:
    return [Container(name=one.name, image=one.image, restartPolicy=one.restartPolicy) for one in containers]
