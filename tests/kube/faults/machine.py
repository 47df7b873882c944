"""The cluster as one who breaks it sees it: pods, their processes on this machine, and how to take them away."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from lightkube import ApiError, Client, KubeConfig
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.models.policy_v1 import Eviction as EvictionModel
from lightkube.resources.batch_v1 import Job
from lightkube.resources.core_v1 import ConfigMap, Event, Node, PersistentVolumeClaim, Pod, PodEviction
from lightkube.types import CascadeType, PatchType

from tests.kube.space import Space

__all__ = ["Machine", "ended", "until"]

T = TypeVar("T")

NODE = "node-1"


def until(what: Callable[[], T], seconds: float = 120.0, pause: float = 0.2) -> T:
    """The first true answer of `what`; an AssertionError when there is none in time."""
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, f"{what} did not come about within {seconds:.0f} s"
        time.sleep(pause)
    return found


class Machine:
    """One namespace of the cluster whose node is this machine, with all rights."""

    def __init__(self, space: Space) -> None:
        self.namespace = space.name
        self._client = Client(config=KubeConfig.from_file(space.cluster.kubeconfig), namespace=space.name)
        # msgspec 0.22 ends the process when two threads learn one type at once: learn them now
        for kind in (Pod, Job, PersistentVolumeClaim, ConfigMap, Event):
            list(self._client.list(kind))

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def label_node(self, key: str, value: str | None) -> None:
        """Give the node a label, or take it away; tasks that ask for it wait meanwhile."""
        self._client.patch(Node, NODE, {"metadata": {"labels": {key: value}}})

    def pod(self, task: str, step: str, executor: int | None = None) -> Pod | None:
        """The newest pod of a task's step."""
        labels: dict[str, Any] = {"tesk/task": task, "tesk/step": step}
        if executor is not None:
            labels["tesk/executor"] = str(executor)
        return max(self._client.list(Pod, labels=labels), key=_made, default=None)

    def pod_named(self, name: str) -> Pod | None:
        """The pod, if it is there."""
        return self._get(Pod, name)

    def config_map(self, name: str) -> ConfigMap | None:
        """The ConfigMap, if it is there."""
        return self._get(ConfigMap, name)

    def delete_pod(self, pod: Pod, *, force: bool = False) -> None:
        """As `kubectl delete pod` does, also with `--force`."""
        assert pod.metadata is not None
        self._client.delete(Pod, _name(pod), grace_period=0 if force else None)

    def delete_config_map(self, name: str) -> None:
        """As `kubectl delete configmap` does."""
        self._client.delete(ConfigMap, name)

    def evict(self, pod: Pod) -> None:
        """As `kubectl drain` does."""
        body = EvictionModel(metadata=ObjectMeta(name=_name(pod), namespace=self.namespace))
        self._client.create(PodEviction.from_dict(body.to_dict()), _name(pod), namespace=self.namespace)

    def delete_job(self, name: str, *, orphan: bool = False) -> None:
        """As `kubectl delete job` does; with `orphan`, its pod stays."""
        self._client.delete(Job, name, cascade=CascadeType.ORPHAN if orphan else CascadeType.BACKGROUND)

    def delete_claim(self, name: str) -> None:
        """As `kubectl delete pvc` does: it goes once no pod uses it."""
        self._client.delete(PersistentVolumeClaim, name)

    def hold_claim(self, name: str, finalizer: str | None) -> None:
        """Let a claim that is deleted stay until this is called with None."""
        there = self._client.get(PersistentVolumeClaim, name)
        kept = [one for one in (there.metadata and there.metadata.finalizers) or () if not one.startswith("tesk-test/")]
        patch = {"metadata": {"finalizers": kept + ([finalizer] if finalizer else [])}}
        self._client.patch(PersistentVolumeClaim, name, patch, patch_type=PatchType.MERGE)

    def pulls(self, pod: Pod, container: str) -> bool:
        """Whether the pull of a container's image has begun."""
        events = self._client.list(Event, fields={"involvedObject.name": _name(pod), "reason": "Pulling"})
        return any(one.involvedObject.fieldPath == f"spec.containers{{{container}}}" for one in events)

    def taskmaster(self, pod: Pod) -> int | None:
        """Process 1 of the taskmaster in a pod, also while the kubelet tells nothing of its containers."""
        here = (
            pid for pid in self.processes(pod) if b"taskmaster" in _bytes(Path(f"/proc/{pid}/cmdline")).split(b"\0")
        )
        return next((pid for pid in here if _number_inside(pid) == 1), None)

    def processes(self, pod: Pod) -> list[int]:
        """The machine's numbers of all that runs in a pod."""
        assert pod.metadata is not None
        return _in_cgroup(f"pod{pod.metadata.uid}")

    def first_process(self, pod: Pod, container: str) -> int | None:
        """The machine's number of process 1 of a container that runs."""
        return next((pid for pid in self._processes(pod, container) if _number_inside(pid) == 1), None)

    def first_of(self, pod: Pod, container: str) -> int | None:
        """The same, of what the pod's node tells by now."""
        now = self.pod_named(_name(pod))
        return self.first_process(now, container) if now is not None else None

    def command(self, pod: Pod, container: str) -> int | None:
        """The process that process 1 of a container started."""
        pod = self.pod_named(_name(pod)) or pod
        first = self.first_process(pod, container)
        return next((pid for pid in self._processes(pod, container) if first and _parent(pid) == first), None)

    def signal(self, pid: int, number: int = signal.SIGKILL) -> bool:
        """Whether there was such a process."""
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return False
        return True

    def _get(self, kind: type[Any], name: str) -> Any:
        try:
            return self._client.get(kind, name)
        except ApiError as error:
            if error.status.code == 404:
                return None
            raise

    def _processes(self, pod: Pod, container: str) -> list[int]:
        statuses = (pod.status and pod.status.containerStatuses) or ()
        id_ = next((one.containerID or "" for one in statuses if one.name == container), "").rpartition("/")[2]
        return _in_cgroup(id_) if id_ else []


def ended(pod: Pod | None, container: str | None = None) -> bool:
    """Whether the container of a pod, or any of them, has ended by what its node tells."""
    statuses = (pod.status and pod.status.containerStatuses) or () if pod is not None else ()
    return any(
        one.state is not None and one.state.terminated is not None
        for one in statuses
        if container is None or one.name == container
    )


def _name(pod: Pod) -> str:
    assert pod.metadata is not None
    return pod.metadata.name or ""


def _made(pod: Pod) -> tuple[Any, str]:
    assert pod.metadata is not None
    return pod.metadata.creationTimestamp, _name(pod)


def _in_cgroup(name: str) -> list[int]:
    return [int(one.parent.name) for one in Path("/proc").glob("[0-9]*/cgroup") if name in _text(one)]


def _text(path: Path) -> str:
    return _bytes(path).decode()


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it has ended
        return b""


def _number_inside(pid: int) -> int:
    """A process's number in its innermost namespace."""
    lines = _text(Path(f"/proc/{pid}/status")).splitlines()
    found = next((one for one in lines if one.startswith("NSpid:")), "0")
    return int(found.split()[-1])


def _parent(pid: int) -> int:
    lines = _text(Path(f"/proc/{pid}/status")).splitlines()
    return int(next((one.split()[1] for one in lines if one.startswith("PPid:")), "0"))
