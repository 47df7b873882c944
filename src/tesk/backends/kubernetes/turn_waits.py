"""What a pod for a whole attempt tells of its executors: why the next one does not start, how one was ended. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from lightkube.models.core_v1 import Event, Pod

from tesk.backends.kubernetes.names import container_name
from tesk.backends.kubernetes.observation import Waiting
from tesk.backends.kubernetes.observe import NOT_STARTED, observe_pod
from tesk.backends.kubernetes.pod_facts import state_of
from tesk.backends.kubernetes.sentences import CONTAINER_KILLED, CONTAINER_OUT_OF_MEMORY
from tesk.backends.kubernetes.waiting import pulls_for
from tesk.backends.kubernetes.words import stamp
from tesk.taskmaster.report import ExecutorEnd, Report
from tesk.taskmaster.run import now

__all__ = ["evicted_end", "explained", "never_started", "start_waits", "turn_waits"]

_KILLED = 137


def start_waits(pod: Pod | None, waiting: Waiting | None, events: Sequence[Event]) -> Waiting | None:
    """What the pod waits for while its taskmaster is not seen to run.

    While a kubelet pulls an image it tells nothing of the pod's other containers. The pull of any image but the first
    executor's may hold nothing up, so that there is time for it.
    """
    container = pulls_for(pod, events) if pod is not None and waiting is not None else None
    if waiting is None or container in (None, "taskmaster", container_name(0)):
        return waiting
    return dataclasses.replace(waiting, curable=True)


def turn_waits(pod: Pod, index: int, events: Sequence[Event]) -> Waiting | None:
    """What the container of executor `index` waits for; None when it runs, has ended, or there is none."""
    name = container_name(index)
    if not any(one.name == name for one in (pod.spec.containers if pod.spec else ())):
        return None
    return observe_pod(pod, events, container=name).waiting


def never_started(pod: Pod, index: int) -> str | None:
    """A sentence when the container of executor `index` could not be started at all."""
    ended = observe_pod(pod, [], container=container_name(index)).ended
    if ended is None or ended.reason not in NOT_STARTED:
        return None
    return f"executor {index}: {ended.problem}"


def evicted_end(pod: Pod | None, report: Report) -> ExecutorEnd | None:
    """The end of the executor that ran, as the taskmaster tells in `report`, when its pod was evicted; None: none did.

    A kubelet that evicts a pod may tell nothing of its containers, neither when they began nor that they have ended.
    """
    index = len(report.executors)
    name = container_name(index)
    if pod is None or pod.spec is None or not any(one.name == name for one in pod.spec.containers):
        return None
    state = state_of(pod, name)
    ran = (state.terminated or state.running) if state is not None else None
    before = report.executors[-1].end_time if report.executors else report.start_time
    start = stamp(ran.startedAt) if ran is not None and ran.startedAt else before or now()
    finished = state.terminated.finishedAt if state is not None and state.terminated is not None else None
    return ExecutorEnd(start, stamp(finished) if finished else now(), _KILLED)


def explained(report: Report, pod: Pod | None) -> Report:
    """`report` with what the kubelet alone knows: for want of memory a container was killed."""
    logs = report.system_logs
    for index in range(len(report.executors)):
        state = state_of(pod, container_name(index))
        if state is None or state.terminated is None or state.terminated.reason != "OOMKilled":
            continue
        about = f"executor {index} "
        logs = tuple(
            one.replace(CONTAINER_KILLED, CONTAINER_OUT_OF_MEMORY) if one.startswith(about) else one for one in logs
        )
    return dataclasses.replace(report, system_logs=logs)
