"""How a pod was taken away: evicted, preempted, refused by its node, deleted, or gone with its node.

Sources: "Pod disruption conditions" (condition `DisruptionTarget`), the kubelet's reasons of a failed pod, and a pod's
`deletionTimestamp`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from lightkube.models.core_v1 import Event, Pod

from tesk.backends.kubernetes.pod_facts import node_of
from tesk.backends.kubernetes.words import one_line

__all__ = ["Taken", "own_fault", "taken", "told_by_events"]

_REFUSED = (
    "NodeAffinity",
    "NodePorts",
    "UnexpectedAdmissionError",
    "PodOSNotSupported",
    "InvalidNodeInfo",
    "AdmissionError",
)
_SHUTDOWN = ("Terminated", "NodeShutdown", "Shutdown")
_OWN_FAULT = re.compile(
    r"ephemeral local storage usage exceeds|exceeded its local ephemeral storage limit|Usage of EmptyDir volume"
)


@dataclass(frozen=True, slots=True)
class Taken:
    """What took a pod away: a clause, when that was asked for (if told), and whether its place was reclaimed.

    `preempted`: reclaimed by a more important pod, or with its node: drained, tainted, shut down, silent or removed, as
    clouds take back what can be preempted. `by_hand`: somebody, or its Job's deletion, had it deleted; nothing says
    more.
    """

    sentence: str
    since: datetime | None
    preempted: bool = False
    by_hand: bool = False


def taken(pod: Pod) -> Taken | None:
    """How `pod` was or is being taken away; None when it is not.

    A `DisruptionTarget` alone does not count before the pod is being deleted or over: the API server sets it first, and
    the deletion may still fail.
    """
    status, since = pod.status, _deletion(pod)
    over = status is not None and status.phase == "Failed"
    named = next(
        (
            one
            for one in (status.conditions if status else None) or ()
            if one.type == "DisruptionTarget" and one.status == "True"
        ),
        None,
    )
    if over and status and status.reason:
        found = _by_kubelet(status.reason, status.message or "", node_of(pod))
        if found is not None:
            return Taken(found[0], (named.lastTransitionTime if named else None) or since, found[1])
    if named is not None and (over or since is not None):
        sentence, preempted = _by_disruption(named.reason or "", named.message or "", node_of(pod))
        return Taken(sentence, named.lastTransitionTime or since, preempted)
    if since is not None:
        return Taken("its pod was deleted", since, by_hand=True)
    return None


def own_fault(pod: Pod) -> str | None:
    """A clause when the kubelet evicted `pod` for what itself had used; its loss is then its own end."""
    status = pod.status
    if status is None or status.reason != "Evicted" or not _OWN_FAULT.search(status.message or ""):
        return None
    return f"it used more disk than its limit ({one_line(status.message or '')})"


def told_by_events(events: Sequence[Event]) -> tuple[str, bool]:
    """The clause for a pod that is gone for good, by what events still say of it; whether it was preempted."""
    reasons = {event.reason for event in events if event.involvedObject.kind == "Pod"}
    for reason, sentence in (
        ("Preempted", "its pod was preempted by a more important one"),
        ("TaintManagerEviction", "its pod was evicted for a taint on its node, as when that does not answer"),
        ("Evicted", "its pod was evicted by its node"),
        ("NodeNotReady", "its pod was removed after its node had stopped to answer"),
    ):
        if reason in reasons:
            return sentence, reason != "Evicted"
    return "its pod is gone: it was deleted, or removed with its node", False


def _by_kubelet(reason: str, message: str, node: str) -> tuple[str, bool] | None:
    told = one_line(message.removeprefix("Pod was rejected: "))
    if reason in _SHUTDOWN:
        return f"node {node} was shut down", True
    if reason == "Preempting":
        return f"its pod was preempted on node {node} by a more important one", True
    if reason == "Evicted":
        return f"its pod was evicted from node {node}: {told}", False
    if reason == "NodeLost":
        return f"node {node} was lost", True
    if reason in _REFUSED or reason.startswith("OutOf"):
        return f"node {node} refused its pod: {told}", False
    return None


def _by_disruption(reason: str, message: str, node: str) -> tuple[str, bool]:
    known = {
        "EvictionByEvictionAPI": (f"its pod was evicted from node {node}, as when a node is drained", True),
        "PreemptionByScheduler": (f"its pod was preempted on node {node} by a more important one", True),
        "DeletionByTaintManager": (
            f"its pod was evicted for a taint on node {node}, as when that does not answer",
            True,
        ),
        "DeletionByPodGC": (f"its pod was removed with its node {node}", True),
    }
    return known.get(reason) or (f"its pod was ended by its cluster ({reason}): {one_line(message)}", False)


def _deletion(pod: Pod) -> datetime | None:
    """When the deletion of `pod` was asked for; the API tells when its grace ends."""
    meta = pod.metadata
    if meta is None or meta.deletionTimestamp is None:
        return None
    return meta.deletionTimestamp - timedelta(seconds=meta.deletionGracePeriodSeconds or 0)
