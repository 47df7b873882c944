"""Everything that the API server told of one namespace, in the order in which it told it.

What tasks make lives for seconds only: a test looks at it afterwards, here.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from tests.kube.cluster import Cluster

__all__ = ["History", "Sight"]

Json = dict[str, Any]

_COLLECTIONS = {
    "Pod": "api/v1/namespaces/{}/pods",
    "ConfigMap": "api/v1/namespaces/{}/configmaps",
    "PersistentVolumeClaim": "api/v1/namespaces/{}/persistentvolumeclaims",
    "Event": "api/v1/namespaces/{}/events",
    "Job": "apis/batch/v1/namespaces/{}/jobs",
}


@dataclass(frozen=True)
class Sight:
    """One version of an object, and when it was seen (`time.time()`); `gone` when that was its last."""

    at: float
    kind: str
    gone: bool
    body: Json

    @property
    def name(self) -> str:
        """The object's name."""
        return str(self.body["metadata"]["name"])

    @property
    def labels(self) -> Json:
        """Its labels."""
        return dict(self.body["metadata"].get("labels", {}))


class History:
    """`with History(cluster, namespace) as history`: watches until the block ends; may be asked meanwhile."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._sights: list[Sight] = []
        self._watchers: list[tuple[subprocess.Popen[bytes], threading.Thread]] = []

    def __enter__(self) -> History:
        for kind, path in _COLLECTIONS.items():
            raw = f"/{path.format(self._namespace)}?watch=true"
            process = self._cluster.begin("get", "--raw", raw)
            thread = threading.Thread(target=self._read, args=(kind, process), daemon=True)
            thread.start()
            self._watchers.append((process, thread))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process, thread in self._watchers:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(10)
            thread.join(10)
            assert process.stdout is not None
            process.stdout.close()

    def sights(self, kind: str, task: str | None = None) -> Iterator[Sight]:
        """Every version of every object of `kind`, oldest first; with `task`, only what is labelled with its id."""
        return (
            one
            for one in list(self._sights)
            if one.kind == kind and (task is None or one.labels.get("tesk/task") == task)
        )

    def last(self, kind: str, name: str) -> Json:
        """The newest version of one object, also when it is gone; KeyError when none was ever seen."""
        found = [one.body for one in self.sights(kind) if one.name == name]
        if not found:
            raise KeyError(f"there never was a {kind} {name}")
        return found[-1]

    def pod(self, task: str, step: str, attempt: int = 1) -> Json:
        """The newest version of the newest pod of one step (`tesk/step`) of `task`."""
        found = [
            one.body
            for one in self.sights("Pod", task)
            if one.labels["tesk/step"] == step and one.labels["tesk/attempt"] == str(attempt)
        ]
        if not found:
            raise KeyError(f"there never was a pod for {step} of {task}")
        return found[-1]

    def of_task(self, task: str) -> list[Sight]:
        """The last sight of each object labelled with the id `task`."""
        last = {(one.kind, one.name): one for kind in _COLLECTIONS for one in self.sights(kind, task)}
        return list(last.values())

    def left(self, task: str) -> list[str]:
        """`kind/name` of what is there now of `task`, as far as it has been told."""
        return sorted(f"{one.kind}/{one.name}" for one in self.of_task(task) if not one.gone)

    def _read(self, kind: str, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            told = json.loads(line)
            self._sights.append(Sight(time.time(), kind, told["type"] == "DELETED", told["object"]))
