"""What a pod says plainly, for those who make something of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from lightkube.models.core_v1 import ContainerState, ContainerStatus, Pod
from lightkube.resources.batch_v1 import Job

__all__ = ["EPOCH", "age", "main_statuses", "node_of", "state_of", "status_of", "uid_of"]

EPOCH = datetime(1971, 1, 1, tzinfo=UTC)
"""Before every pod; a container that never started is said to have started in 1970."""


def age(pod: Pod) -> tuple[datetime, str]:
    """What pods are ordered by, the newest last."""
    meta = pod.metadata
    made = meta.creationTimestamp if meta else None
    return made or EPOCH, (meta.name if meta else None) or ""


def main_statuses(pod: Pod) -> Sequence[ContainerStatus]:
    """The statuses of its containers, without init containers."""
    return (pod.status.containerStatuses if pod.status else None) or ()


def status_of(pod: Pod, name: str) -> ContainerStatus | None:
    """The status of the container `name`."""
    return next((one for one in main_statuses(pod) if one.name == name), None)


def state_of(pod: Pod | None, name: str) -> ContainerState | None:
    """The state of the container `name`, as far as it is told."""
    status = status_of(pod, name) if pod is not None else None
    return status.state if status is not None else None


def node_of(pod: Pod) -> str:
    """Its node, as sentences name it."""
    return repr(pod.spec.nodeName) if pod.spec and pod.spec.nodeName else "(unknown)"


def uid_of(made: Job | Pod) -> str | None:
    """What the API server calls it, apart from its name."""
    return made.metadata.uid if made.metadata else None
