"""Everything that the API server told of one namespace, in the order in which it told it.

What tasks make lives for seconds only: a test looks at it afterwards, here.
"""

from __future__ import annotations

import contextlib
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
        self._watches: dict[str, subprocess.Popen[bytes]] = {}
        self._threads: list[threading.Thread] = []
        self._ending = threading.Event()

    def __enter__(self) -> History:
        for kind in _COLLECTIONS:
            self._threads.append(threading.Thread(target=self._watch, args=(kind,), daemon=True))
            self._threads[-1].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        while any(one.is_alive() for one in self._threads):  # one may just begin a watch
            for process in list(self._watches.values()):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGTERM)
            self._threads[0].join(0.2)

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

    def _watch(self, kind: str) -> None:
        while not self._ending.is_set():
            with self._cluster.begin("get", "--raw", f"{self._path(kind)}?watch=true") as process:
                self._watches[kind] = process
                assert process.stdout is not None
                for line in process.stdout:
                    told = json.loads(line)
                    self._sights.append(Sight(time.time(), kind, told["type"] == "DELETED", told["object"]))
            if not self._ending.wait(0.5):
                self._look(kind)

    def _look(self, kind: str) -> None:
        """A watch that broke off told nothing of what went since."""
        listed = self._cluster.run("get", "--raw", self._path(kind))
        if listed.returncode != 0:
            return  # the API server is away, so that the next watch breaks off too
        there = {one["metadata"]["uid"] for one in json.loads(listed.stdout)["items"]}
        last = {one.body["metadata"]["uid"]: one for one in self.sights(kind)}
        for uid in last.keys() - there:
            if not last[uid].gone:
                self._sights.append(Sight(time.time(), kind, True, last[uid].body))

    def _path(self, kind: str) -> str:
        return f"/{_COLLECTIONS[kind].format(self._namespace)}"
