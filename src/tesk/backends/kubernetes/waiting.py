"""Why a pod does not run yet, in one clause: from its conditions, its containers' states, its volume and its events."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from lightkube.models.batch_v1 import Job
from lightkube.models.core_v1 import ContainerStatus, Event, ObjectReference, PersistentVolumeClaim, Pod, PodCondition

from tesk.backends.kubernetes.observation import Waiting
from tesk.backends.kubernetes.pod_facts import node_of, status_of
from tesk.backends.kubernetes.refusals import refusal
from tesk.backends.kubernetes.scheduling import no_node
from tesk.backends.kubernetes.words import one_line, plain, pull_words

__all__ = ["claim_waits", "init_failure", "pod_waits", "pulls_for", "unmade_pod_waits"]

_NO_CLASS = re.compile(r'storageclass\S* "(?P<name>[^"]*)" not found')
_PROVISIONER = re.compile(r"external provisioner '(?P<name>[^']*)'")
_IMAGE = re.compile(r'image "(?P<name>[^"]*)"')
_NOTHING_SAID = ("ContainerCreating", "PodInitializing", "", None)
_PULL_REASONS = (
    "ErrImagePull",
    "ImagePullBackOff",
    "RegistryUnavailable",
    "ImageInspectError",
    "SignatureValidationFailed",
)
_START_REASONS = (
    "CreateContainerError",
    "RunContainerError",
    "PreCreateHookError",
    "PreStartHookError",
    "PostStartHookError",
)
_ALWAYS = "Always"

# In the order in which the kubelet passes them for one container, for events of which no more is known than the second.
_STAGES = ("Scheduled", "FailedAttachVolume", "FailedMount", "FailedCreatePodSandBox", "Pulling", "Pulled", "Failed")
_CLAIM_STAGES = ("WaitForFirstConsumer", "Provisioning", "ExternalProvisioning", "FailedBinding", "ProvisioningFailed")


def unmade_pod_waits(job: Job, claim: PersistentVolumeClaim | None, events: Sequence[Event]) -> Waiting:
    """Why a Job has no pod yet."""
    name = job.metadata.name if job.metadata else None
    newest = _newest(events, "Job", name, ("FailedCreate", "SuccessfulCreate"))
    if newest is not None and newest.reason == "FailedCreate":
        return refusal(newest.message or "the reason is not told")
    return claim_waits(claim, events) or Waiting("its pod is being made", curable=True, usual=True)


def pod_waits(pod: Pod, name: str, claim: PersistentVolumeClaim | None, events: Sequence[Event]) -> Waiting | None:
    """Why the container `name` of `pod` does not run; None when it does, or has ended."""
    main = status_of(pod, name)
    if main is not None and main.state is not None and (main.state.running or main.state.terminated):
        return _unanswered(pod) if main.state.running else None
    if not (pod.spec and pod.spec.nodeName):
        return _unscheduled(pod, claim, events)
    return (
        _init_waits(pod, events) or _container_waits(pod, main, events) or _volume_waits(claim, events) or _begins(pod)
    )


def claim_waits(claim: PersistentVolumeClaim | None, events: Sequence[Event]) -> Waiting | None:
    """Why a volume claim is not bound yet; None when it is, or when there is none."""
    if claim is None or claim.metadata is None or (claim.status and claim.status.phase == "Bound"):
        return None
    told = f"volume claim {claim.metadata.name!r}"
    if claim.status and claim.status.phase == "Lost":
        return Waiting(f"{told} has lost its volume", curable=False)
    newest = _newest(events, "PersistentVolumeClaim", claim.metadata.name, _CLAIM_STAGES)
    if newest is None:
        return Waiting(f"{told} is not bound to a volume yet", curable=False, usual=True)
    message = newest.message or ""
    if newest.reason == "WaitForFirstConsumer":
        return Waiting(f"{told} waits until its pod has a node", curable=True, usual=True)
    if newest.reason in ("Provisioning", "ExternalProvisioning"):
        found = _PROVISIONER.search(message)
        whose = f" {found['name']!r}" if found else ""
        return Waiting(f"{told} waits for the provisioner{whose}", curable=False, usual=True)
    if found := _NO_CLASS.search(message):
        return Waiting(f"storage class {found['name']!r} does not exist", curable=False)
    return Waiting(f"{told} gets no volume: {plain(message)}", curable="ResourceExhausted" in message)


def init_failure(pod: Pod) -> ContainerStatus | None:
    """The init container that failed, if one has."""
    for status in (pod.status.initContainerStatuses if pod.status else None) or ():
        ended = status.state.terminated if status.state else None
        if ended is not None and ended.exitCode != 0 and not _is_sidecar(pod, status.name):
            return status
    return None


def pulls_for(pod: Pod, events: Sequence[Event]) -> str | None:
    """The container of `pod` whose image is being pulled, as far as events tell."""
    newest = _newest(events, "Pod", _name(pod), _STAGES)
    if newest is None or newest.reason != "Pulling":
        return None
    return (newest.involvedObject.fieldPath or "").partition("{")[2].removesuffix("}") or None


def _unanswered(pod: Pod) -> Waiting | None:
    """A running container whose pod is not ready although its containers are: its node's kubelet has fallen silent.

    Source: the node lifecycle controller sets `Ready` alone. Our pods have no readiness probe.
    """
    ready, containers = _condition(pod, "Ready"), _condition(pod, "ContainersReady")
    silent = ready is not None and ready.status != "True" and (containers is None or containers.status == "True")
    if silent or (pod.status and pod.status.phase == "Unknown"):
        return Waiting(f"node {node_of(pod)} does not answer; its pod may still run there", curable=True)
    return None


def _unscheduled(pod: Pod, claim: PersistentVolumeClaim | None, events: Sequence[Event]) -> Waiting:
    condition = _condition(pod, "PodScheduled")
    reason = condition.reason if condition is not None and condition.status == "False" else None
    if reason == "SchedulingGated":
        gates = ", ".join(gate.name for gate in (pod.spec.schedulingGates if pod.spec else None) or ())
        return Waiting(f"its pod is held back by the scheduling gate {gates}", curable=True)
    volume = _volume_waits(claim, events)
    if reason is None or condition is None:
        return volume or Waiting("its pod waits for the scheduler", curable=True, usual=True)
    if volume is not None and "PersistentVolumeClaim" in (condition.message or ""):
        return volume
    growing = _newest(events, "Pod", _name(pod), ("TriggeredScaleUp", "NotTriggerScaleUp"))
    told = no_node(condition.message)
    if growing is not None and growing.reason == "TriggeredScaleUp":
        return Waiting(f"{told.sentence}; the cluster is adding a node", curable=True)
    return told


def _volume_waits(claim: PersistentVolumeClaim | None, events: Sequence[Event]) -> Waiting | None:
    """As `claim_waits`, but for a claim that itself waits for its pod."""
    told = claim_waits(claim, events)
    return None if told is None or told.curable else told


def _init_waits(pod: Pod, events: Sequence[Event]) -> Waiting | None:
    """The first init container or sidecar that has not done its part."""
    for status in (pod.status.initContainerStatuses if pod.status else None) or ():
        sidecar = _is_sidecar(pod, status.name)
        kind = "sidecar" if sidecar else "init container"
        state = status.state
        if state is not None and state.running:
            if sidecar and status.started:
                continue
            return Waiting(f"its {kind} {status.name!r} runs first", curable=False, usual=True)
        if state is not None and state.terminated:
            if state.terminated.exitCode == 0 and not sidecar:
                continue
            return Waiting(
                f"its {kind} {status.name!r} ended with exit code {state.terminated.exitCode}", curable=False
            )
        told = _container_waits(pod, status, events)
        return Waiting(f"its {kind} {status.name!r}: {told.sentence}", told.curable) if told else None
    return None


def _container_waits(pod: Pod, status: ContainerStatus | None, events: Sequence[Event]) -> Waiting | None:
    waiting = status.state.waiting if status is not None and status.state is not None else None
    if status is None or waiting is None or waiting.reason in _NOTHING_SAID:
        return _told_by_events(pod, events)
    return Waiting(_reason_clause(pod, status, waiting.reason or "", waiting.message or "", events), curable=False)


def _reason_clause(pod: Pod, status: ContainerStatus, reason: str, message: str, events: Sequence[Event]) -> str:
    image = _image_of(pod, status)
    if reason in _PULL_REASONS:
        if words := pull_words(message, image):
            return f"image {image!r} cannot be pulled: {words}"
        # Older kubelets tell the registry's words in the event alone.
        return _pull_failed(pod, events) or f"image {image!r} cannot be pulled"
    if reason == "ErrImageNeverPull":
        return f"image {image!r} is not on node {node_of(pod)}, and its pull policy is Never"
    if reason == "InvalidImageName":
        return f"image {image!r} is no valid name: {one_line(message.rpartition('invalid reference format: ')[2])}"
    if reason == "CreateContainerConfigError":
        return f"its container cannot be set up: {plain(message)}"
    if reason in _START_REASONS:
        return f"its container cannot be started: {plain(message)}"
    if reason == "CrashLoopBackOff":
        last = status.lastState.terminated if status.lastState else None
        how = f"with exit code {last.exitCode}" if last else "too early"
        return f"its container ended {how} and is started again after a pause (restarts so far: {status.restartCount})"
    return f"{reason}: {plain(message)}" if message else reason


def _told_by_events(pod: Pod, events: Sequence[Event]) -> Waiting | None:
    """What the kubelet does, or fails to do, while a container's state says nothing but `ContainerCreating`."""
    newest = _newest(events, "Pod", _name(pod), _STAGES)
    if newest is None or newest.reason in ("Scheduled", "Pulled"):
        return None
    message = newest.message or ""
    if newest.reason == "Pulling" and (image := _IMAGE.search(message)):
        return Waiting(f"image {image['name']!r} is being pulled", curable=False)
    if newest.reason == "Failed":  # other failures than a pull's are told better by the state that follows
        told = _pull_failed(pod, events)
        return Waiting(told, curable=False) if told else None
    what = {
        "FailedAttachVolume": "a volume cannot be attached to its node",
        "FailedMount": "a volume cannot be mounted",
        "FailedCreatePodSandBox": f"node {node_of(pod)} cannot make its pod",
    }.get(newest.reason or "", newest.reason)
    return Waiting(f"{what}: {plain(message.removeprefix('Failed to create pod sandbox: '))}", curable=False)


def _pull_failed(pod: Pod, events: Sequence[Event]) -> str | None:
    """The clause for a pull that failed, by the events alone: they come before the container's state says so."""
    said = [one for one in _about(events, "Pod", _name(pod)) if (one.message or "").startswith("Failed to pull image")]
    newest = max(said, key=_time, default=None)
    image = _IMAGE.search(newest.message or "") if newest is not None else None
    if newest is None or image is None:
        return None
    words = pull_words(newest.message, image["name"])
    return f"image {image['name']!r} cannot be pulled{f': {words}' if words else ''}"


def _begins(pod: Pod) -> Waiting:
    return Waiting(f"its pod begins on node {node_of(pod)}", curable=True, usual=True)


def _newest(events: Sequence[Event], kind: str, name: str | None, reasons: Sequence[str]) -> Event | None:
    """The newest event of one object among `reasons`.

    Of the same second, and where names tell no more, the one that `reasons` names later.
    """

    def order(event: Event) -> tuple[datetime, int, int]:
        second = _time(event).replace(microsecond=0)
        return second, _nanoseconds(event, second), reasons.index(event.reason or "")

    return max((one for one in _about(events, kind, name) if one.reason in reasons), key=order, default=None)


def _about(events: Iterable[Event], kind: str, name: str | None) -> Iterable[Event]:
    def fits(about: ObjectReference) -> bool:
        return about.kind == kind and about.name == name

    return (event for event in events if fits(event.involvedObject))


def _time(event: Event) -> datetime:
    """When an event last happened."""
    series = event.series.lastObservedTime if event.series else None
    first = event.metadata.creationTimestamp if event.metadata else None
    return series or event.lastTimestamp or event.eventTime or first or datetime.min.replace(tzinfo=UTC)


def _nanoseconds(event: Event, second: datetime) -> int:
    """When an event happened that first happened in this `second`, since 1970; 0 where that is not known.

    Source: client-go's recorder names an event by its object and the time in hexadecimal digits. The time itself is cut
    to the second, in which a container's image may be found, the container end, and the next one's be asked for.
    """
    name = (event.metadata.name if event.metadata else None) or ""
    try:
        found = int(name.rpartition(".")[2], 16)
    except ValueError:
        return 0
    return found if found // 10**9 == int(second.timestamp()) else 0


def _condition(pod: Pod, kind: str) -> PodCondition | None:
    some = (pod.status.conditions if pod.status else None) or ()
    return next((one for one in some if one.type == kind), None)


def _is_sidecar(pod: Pod, name: str) -> bool:
    some = (pod.spec.initContainers if pod.spec else None) or ()
    return any(one.name == name and one.restartPolicy == _ALWAYS for one in some)


def _image_of(pod: Pod, status: ContainerStatus) -> str:
    """The image as the pod names it, which is how the user did; a status may hold a resolved one."""
    spec = pod.spec
    some = [*spec.containers, *(spec.initContainers or ())] if spec else []
    return next((one.image for one in some if one.name == status.name and one.image), status.image)


def _name(pod: Pod) -> str | None:
    return pod.metadata.name if pod.metadata else None
