"""Fold what Kubernetes says of one step's Job into what is to be known of it. Pure: looks at objects, asks nothing.

A container's own status tells its end; the Job's condition `Complete` comes seconds later and is read only when no pod
is left to ask. Every condition counts with status `True` alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import datetime, timedelta

from lightkube.models.batch_v1 import Job, JobCondition, JobSpec
from lightkube.models.core_v1 import (
    ContainerState,
    ContainerStateTerminated,
    Event,
    PersistentVolumeClaim,
    Pod,
    PodTemplateSpec,
)
from lightkube.models.meta_v1 import ObjectMeta

from tesk.backends.kubernetes.losses import own_fault, taken, told_by_events
from tesk.backends.kubernetes.observation import Ended, Lost, Observation, Waiting
from tesk.backends.kubernetes.pod_facts import EPOCH, age, node_of, state_of, status_of
from tesk.backends.kubernetes.waiting import init_failure, pod_waits, unmade_pod_waits
from tesk.backends.kubernetes.words import plain, stamp
from tesk.backends.limits import ran_too_long

__all__ = ["NOT_STARTED", "observe", "observe_pod"]

DEFAULT_BACKOFF_LIMIT = 6
NOT_STARTED = ("StartError", "ContainerCannotRun")
"""The reasons of the end of a container in which nothing ran."""

_UNKNOWN_END = "ContainerStatusUnknown"
_JOB_GONE = "its Job was deleted"
_ALONE = Job(spec=JobSpec(backoffLimit=0, template=PodTemplateSpec()))
"""What stands for the Job of a pod that has none."""


def observe(
    job: Job | None,
    pods: Sequence[Pod],
    claim: PersistentVolumeClaim | None,
    events: Sequence[Event],
    *,
    container: str | None = None,
) -> Observation:
    """What is known now of one step.

    Args:
        job: the step's Job; None only when it was made and surely is no more, never because it could not be read.
        pods: the Job's pods, each with its own container statuses.
        claim: the attempt's scratch, if it has one.
        events: events of these objects; those of others do no harm.
        container: the main container's name; by default the first that the Job's template names. No other one counts,
            such as a sidecar that a service mesh injects.
    """
    newest = max(pods, key=age, default=None)
    if newest is None:
        return _without_pod(job, claim, events)
    return _Look(job, pods, newest, claim, events, container or _first_container(job, newest)).observe()


def observe_pod(pod: Pod | None, events: Sequence[Event], *, container: str) -> Observation:
    """What is known now of a pod that no Job made, which is never tried again; None: it surely is no more."""
    if pod is None:
        return Observation(lost=Lost("its pod was deleted"))
    return _Look(_ALONE, [pod], pod, _own_claim(pod, events), events, container).observe()


def _own_claim(pod: Pod, events: Sequence[Event]) -> PersistentVolumeClaim | None:
    """The claim that goes with a pod without a node, and is named after it, where `events` tell of one."""
    if pod.metadata is None or (pod.spec and pod.spec.nodeName):
        return None
    about = (one.involvedObject for one in events if one.involvedObject.kind == "PersistentVolumeClaim")
    found = next((one.name for one in about if one.name and one.name.startswith(f"{pod.metadata.name}-")), None)
    return PersistentVolumeClaim(metadata=ObjectMeta(name=found)) if found else None


def _without_pod(job: Job | None, claim: PersistentVolumeClaim | None, events: Sequence[Event]) -> Observation:
    if job is None or (job.metadata and job.metadata.deletionTimestamp):
        return Observation(lost=Lost(_JOB_GONE))
    if _job_condition(job, "Suspended"):
        return Observation(waiting=_suspended())
    if done := _job_condition(job, "Complete", "SuccessCriteriaMet"):
        end = _when(job.status.completionTime if job.status else None) or _when(done.lastTransitionTime)
        return Observation(scheduled=True, started=_job_start(job), ended=Ended(0, _job_start(job), end, "Completed"))
    if failed := _job_condition(job, "Failed", "FailureTarget"):
        return _gone(job, failed, events)
    return Observation(waiting=unmade_pod_waits(job, claim, events))


def _gone(job: Job, failed: JobCondition, events: Sequence[Event]) -> Observation:
    """A failed Job whose pods are gone."""
    end, reason = _when(failed.lastTransitionTime), failed.reason or "Failed"
    if reason == "DeadlineExceeded":
        return Observation(ended=Ended(None, None, end, reason, problem=_too_long(job)))
    if reason == "BackoffLimitExceeded" and _replaces(job):
        problem = f"it failed more often than its Job allows (backoffLimit {_backoff_limit(job)})"
        return Observation(ended=Ended(None, None, end, reason, problem=problem))
    if reason == "BackoffLimitExceeded":
        sentence, preempted = told_by_events(events)
        return Observation(lost=Lost(sentence, preempted))
    return Observation(ended=Ended(None, None, end, reason, problem=f"its Job failed: {plain(failed.message)}"))


@dataclasses.dataclass(frozen=True, slots=True)
class _Look:
    """One look at a Job that has a pod; the newest pod counts, an older one's failure was tried again."""

    job: Job | None
    pods: Sequence[Pod]
    pod: Pod
    claim: PersistentVolumeClaim | None
    events: Sequence[Event]
    name: str

    def observe(self) -> Observation:
        seen = Observation(scheduled=any(pod.spec and pod.spec.nodeName for pod in self.pods), started=self.started())
        lost = self.lost()
        ended = None if lost else self.ended()
        if lost is None and ended is None and self.suspended():
            return dataclasses.replace(seen, waiting=_suspended())
        if (lost or (ended and ended.exit_code != 0)) and self.tried_again():
            return dataclasses.replace(seen, waiting=_again(ended, lost))
        if lost or ended:
            return dataclasses.replace(seen, ended=ended, lost=lost)
        return dataclasses.replace(seen, waiting=pod_waits(self.pod, self.name, self.claim, self.events))

    def state(self) -> ContainerState | None:
        return state_of(self.pod, self.name)

    def terminated(self) -> ContainerStateTerminated | None:
        """The main container's end, if it is known."""
        state = self.state()
        end = state.terminated if state else None
        return None if end is not None and end.reason == _UNKNOWN_END else end

    def started(self) -> str | None:
        status = status_of(self.pod, self.name)
        states = [] if status is None else [one for one in (status.state, status.lastState) if one is not None]
        times = [(one.running or one.terminated) for one in states]
        return next((told for one in times if one and (told := _when(one.startedAt))), None)

    def over(self) -> bool:
        """Whether nothing of the main container can run any more."""
        return self.terminated() is not None or bool(
            self.pod.status and self.pod.status.phase in ("Failed", "Succeeded")
        )

    def untold(self) -> bool:
        """Whether the kubelet has given up the pod and not said yet how its main container ended; it always does."""
        state = self.state()
        failed = bool(self.pod.status and self.pod.status.phase == "Failed")
        return failed and state is not None and state.terminated is None

    def lost(self) -> Lost | None:
        if own_fault(self.pod) or self.deadline():
            return None
        end, how = self.terminated(), taken(self.pod)
        if how is not None and self.suspended() and self.started() is None:
            return None
        if end is not None and end.exitCode == 0 and self.job is not None and _replaces(self.job):
            return None  # what may be tried again says by its exit code when it need not be
        if how is not None:
            finished = end.finishedAt if end else None
            if finished is not None and how.since is not None and finished < how.since:
                return None
            if self.suspended():
                return Lost("its Job was suspended while it ran", preempted=True, may_run=not self.over())
            gone = how.by_hand and self.job_is_gone()
            return Lost(_JOB_GONE if gone else how.sentence, how.preempted, may_run=not self.over())
        if end is not None:
            return None
        state = self.state()
        if state is not None and state.terminated is not None:
            return Lost(f"node {node_of(self.pod)} lost sight of its container")
        if self.job_is_gone():
            return Lost(_JOB_GONE, may_run=not self.over())
        return None

    def job_is_gone(self) -> bool:
        """Whether the Job was deleted, so that its pod is being deleted, or is on its own."""
        return self.job is None or bool(self.job.metadata and self.job.metadata.deletionTimestamp)

    def ended(self) -> Ended | None:
        end = self.terminated()
        if (own_fault(self.pod) or self.deadline()) and self.untold():
            return None
        if disk := own_fault(self.pod):
            return self.end_of(end, "Evicted", disk)
        if self.deadline() and self.over():
            return self.end_of(end, "DeadlineExceeded", _too_long(self.job, self.pod))
        if end is not None:
            return self.end_of(end, end.reason or "", self.problem(end))
        failed = init_failure(self.pod)
        if failed is not None and failed.state and failed.state.terminated:
            code, last = failed.state.terminated.exitCode, failed.state.terminated
            problem = f"its init container {failed.name!r} ended with exit code {code}, so that it never ran"
            return Ended(None, None, _when(last.finishedAt), "InitContainerFailed", last.message or "", problem)
        if self.pod.status and self.pod.status.phase == "Failed":
            status = self.pod.status
            problem = f"its pod failed: {plain(status.message) or status.reason or 'the reason is not told'}"
            return Ended(None, None, None, status.reason or "Failed", problem=problem)
        return None

    def end_of(self, end: ContainerStateTerminated | None, reason: str, problem: str | None) -> Ended:
        if end is None:
            return Ended(None, self.started(), None, reason, problem=problem)
        finish = _when(end.finishedAt)
        message = end.message or "" if end.reason not in NOT_STARTED else ""
        return Ended(end.exitCode, _when(end.startedAt) or finish, finish, reason, message, problem)

    def problem(self, end: ContainerStateTerminated) -> str | None:
        """What happened, where the exit code does not tell."""
        if end.reason == "OOMKilled":
            limit = self.limit("memory")
            whose = "it" if end.exitCode == 137 else "a process of it"
            return f"{whose} ran out of memory{f' (its limit is {limit})' if limit else ''}"
        if end.reason in NOT_STARTED:
            return f"its container could not be started: {plain(end.message)}"
        if end.exitCode != 0 and len(self.pods) > 1:
            return f"it was tried {len(self.pods)} times"
        return None

    def suspended(self) -> bool:
        """Whether someone, or a queue, holds the Job back; its controller then deletes the pod."""
        job = self.job
        return job is not None and bool((job.spec and job.spec.suspend) or _job_condition(job, "Suspended"))

    def deadline(self) -> bool:
        """Whether the Job's or the pod's deadline ended the main container, or is about to.

        The Job's controller deletes the pod before its condition can be read: then the time tells.
        """
        if self.pod.status and self.pod.status.reason == "DeadlineExceeded":
            return True
        job, how = self.job, taken(self.pod)
        if (
            job is None
            or job.spec is None
            or job.spec.activeDeadlineSeconds is None
            or how is None
            or how.since is None
        ):
            return False
        end = self.terminated()
        if end is not None and end.finishedAt is not None and end.finishedAt < how.since:
            return False
        failed = _job_condition(job, "Failed", "FailureTarget")
        if failed is not None:
            return failed.reason == "DeadlineExceeded"
        start = job.status.startTime if job.status else None
        return start is not None and how.since >= start + timedelta(seconds=job.spec.activeDeadlineSeconds)

    def tried_again(self) -> bool:
        """Whether the Job starts the container once more, in this pod or in a new one."""
        job = self.job
        if job is None or job.spec is None or (job.metadata and job.metadata.deletionTimestamp):
            return False
        if _job_condition(job, "Failed", "FailureTarget", "Complete", "SuccessCriteriaMet"):
            return False
        if job.spec.template.spec and job.spec.template.spec.restartPolicy == "OnFailure":
            return True
        failures = max(len(self.pods), (job.status.failed if job.status else None) or 0)
        return failures <= _backoff_limit(job)

    def limit(self, resource: str) -> str | None:
        some = self.pod.spec.containers if self.pod.spec else []
        found = next((one.resources for one in some if one.name == self.name), None)
        return (found.limits or {}).get(resource) if found else None


def _again(ended: Ended | None, lost: Lost | None) -> Waiting:
    if lost is not None:
        return Waiting(f"{lost.sentence}; its Job makes another", curable=True)
    how = ended.problem if ended and ended.problem else None
    if ended is not None and ended.exit_code is not None:
        how = f"it ended with exit code {ended.exit_code}{f' ({how})' if how else ''}"
    return Waiting(f"{how or 'it failed'}; its Job tries it again", curable=True)


def _suspended() -> Waiting:
    return Waiting("its Job is suspended until someone, or a queue such as Kueue, resumes it", curable=True)


def _too_long(job: Job | None, pod: Pod | None = None) -> str:
    specs = (pod.spec if pod else None, job.spec if job else None)
    return ran_too_long(next((one.activeDeadlineSeconds for one in specs if one and one.activeDeadlineSeconds), None))


def _replaces(job: Job) -> bool:
    """Whether the Job starts its container more than once when that fails."""
    template = job.spec.template.spec if job.spec else None
    return _backoff_limit(job) > 0 or bool(template and template.restartPolicy == "OnFailure")


def _backoff_limit(job: Job) -> int:
    limit = job.spec.backoffLimit if job.spec else None
    return DEFAULT_BACKOFF_LIMIT if limit is None else limit


def _job_condition(job: Job, *kinds: str) -> JobCondition | None:
    some = (job.status.conditions if job.status else None) or ()
    return next((one for one in some if one.type in kinds and one.status == "True"), None)


def _job_start(job: Job) -> str | None:
    return _when(job.status.startTime if job.status else None)


def _first_container(job: Job | None, pod: Pod) -> str:
    template = job.spec.template.spec if job is not None and job.spec is not None else None
    spec = template or pod.spec
    return spec.containers[0].name if spec and spec.containers else ""


def _when(time: datetime | None) -> str | None:
    return stamp(time) if time is not None and time > EPOCH else None
