"""Pods that do not go although nothing of them runs: a kubelet that waits for a pull first waits for its end."""

from __future__ import annotations

from datetime import datetime, timedelta

from lightkube.models.core_v1 import ContainerStatus, Pod

from tesk.backends.kubernetes.pod_facts import main_statuses

__all__ = ["is_stuck"]

_AFTER_GRACE = timedelta(seconds=1)
_TASKMASTER_AND_ONE = 2


def is_stuck(pod: Pod, now: datetime) -> bool:
    """Whether `pod` should be gone at `now`, and its main containers never ran.

    Such a pod may be taken out of the API (grace 0): its kubelet, which knows of the deletion, starts nothing any more.
    While a kubelet pulls an image it tells nothing of other containers of the pod, though they may run: nothing is sure
    of a pod with several executors.
    """
    due = pod.metadata.deletionTimestamp if pod.metadata else None
    if due is None or now < due + _AFTER_GRACE:
        return False
    if len(main_statuses(pod)) > _TASKMASTER_AND_ONE:
        return False
    inits = (pod.status.initContainerStatuses if pod.status else None) or ()
    return all(_never_ran(one) for one in main_statuses(pod)) and not any(
        one.state and one.state.running for one in inits
    )


def _never_ran(status: ContainerStatus) -> bool:
    waits = status.state is None or (status.state.running is None and status.state.terminated is None)
    return waits and not (status.lastState and status.lastState.terminated) and not status.restartCount
