"""Why the next executor of a pod for a whole attempt does not start. Pure: looks at the pod and its events."""

from __future__ import annotations

from collections.abc import Sequence

from lightkube.models.core_v1 import Event, Pod

from tesk.backends.kubernetes.names import container_name
from tesk.backends.kubernetes.observation import Waiting
from tesk.backends.kubernetes.observe import NOT_STARTED, observe_pod

__all__ = ["never_started", "turn_waits"]


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
