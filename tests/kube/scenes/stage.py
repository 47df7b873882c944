"""Jobs that meet each fate a cluster has in store, to be looked at while they do.

Each scene is one Job in a namespace of its own. `test_observed` plays the cheap ones and asks `observe` what it sees;
`python -m tests.kube.scenes.record` plays all of them and keeps what the API server said under tests/data/kubernetes.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from lightkube import ApiError, Client
from lightkube.models.core_v1 import Event as EventModel
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.batch_v1 import Job
from lightkube.resources.core_v1 import Event, Namespace, PersistentVolumeClaim, Pod, ResourceQuota, ServiceAccount

__all__ = ["BUSYBOX", "NAME", "Moment", "Scene", "Seen", "Stage", "registry", "warm"]

BUSYBOX = "localhost/busybox:1"
NAME = "observed"
Json = dict[str, Any]


@dataclass(frozen=True)
class Seen:
    """What the API server said of a scene at one moment."""

    job: Job | None
    pods: tuple[Pod, ...]
    claim: PersistentVolumeClaim | None
    events: tuple[EventModel, ...]

    @property
    def pod(self) -> Pod:
        return max(self.pods, key=lambda pod: pod.metadata.creationTimestamp)

    def event(self, reason: str) -> bool:
        return any(one.reason == reason for one in self.events)


Moment = Callable[[Seen], object]


@dataclass(frozen=True)
class Scene:
    """One Job and what is done to it.

    `pod` is its pod's spec, `job` the rest of the Job's spec, `before` what is made first, `labels` the namespace's.
    `act` is called once after `until`; each of `moments` is then awaited in turn and worth keeping under its name.
    """

    name: str
    pod: Json
    moments: dict[str, Moment]
    job: Json = field(default_factory=dict)
    before: tuple[Json, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)
    until: Moment | None = None
    act: Callable[[Stage], object] | None = None


class Stage:
    """A namespace where one scene is played."""

    def __init__(self, client: Client, scene: Scene, prefix: str = "observe") -> None:
        self.client = client
        self.scene = scene
        self.namespace = f"{prefix}-{scene.name}"

    def __enter__(self) -> Stage:
        self._make_namespace()
        for raw in self.scene.before:
            self.make(raw)
        self.await_quotas()
        spec = {"backoffLimit": 0, **self.scene.job, "template": {"spec": {"restartPolicy": "Never", **self.scene.pod}}}
        self.client.create(Job.from_dict({"metadata": {"name": NAME}, "spec": spec}), namespace=self.namespace)
        return self

    def __exit__(self, *_: object) -> None:
        for pod in self.client.list(Pod, namespace=self.namespace):
            with contextlib.suppress(ApiError):
                self.client.delete(Pod, pod.metadata.name, namespace=self.namespace, grace_period=0)
        self.client.delete(Namespace, self.namespace)

    def make(self, raw: Json) -> None:
        """Create an object given as in a manifest."""
        from lightkube.codecs import from_dict

        made: Any = from_dict(raw)
        if type(made)._api_info.resource.kind in ("Node", "PriorityClass", "StorageClass"):
            self.client.create(made)
        else:
            self.client.create(made, namespace=self.namespace)

    def look(self) -> Seen:
        """List everything there is to see now."""
        jobs = list(self.client.list(Job, namespace=self.namespace))
        claims = list(self.client.list(PersistentVolumeClaim, namespace=self.namespace))
        return Seen(
            job=jobs[0] if jobs else None,
            pods=tuple(self.client.list(Pod, namespace=self.namespace, labels={"job-name": NAME})),
            claim=claims[0] if claims else None,
            events=tuple(self.client.list(Event, namespace=self.namespace)),
        )

    def wait(self, moment: Moment, seconds: float = 60) -> Seen:
        """Look until `moment` has come.

        Raises TimeoutError with what was seen last.
        """
        end = time.monotonic() + seconds
        while True:
            seen = self.look()
            with contextlib.suppress(ValueError, AttributeError, TypeError, StopIteration):  # not there yet
                if moment(seen):
                    return seen
            if time.monotonic() > end:
                raise TimeoutError(f"{self.scene.name}: not seen in {seconds} s: {seen}")
            time.sleep(0.1)

    def _make_namespace(self) -> None:
        made = Namespace(metadata=ObjectMeta(name=self.namespace, labels=self.scene.labels))
        end = time.monotonic() + 60
        while True:
            try:
                self.client.create(made)
                break
            except ApiError as error:  # one of an earlier run that is still going away
                if error.status.code != 409 or time.monotonic() > end:
                    raise
                time.sleep(0.5)
        self.wait(lambda _: self._has_account(), 30)

    def await_quotas(self) -> None:
        """Wait until every quota is in force: one that was never counted refuses nothing."""

        def counted(_: Seen) -> bool:
            return all(
                one.status and one.status.used for one in self.client.list(ResourceQuota, namespace=self.namespace)
            )

        self.wait(counted, 30)

    def _has_account(self) -> bool:
        return any(self.client.list(ServiceAccount, namespace=self.namespace))


class _Registry(BaseHTTPRequestHandler):
    """Answers a pull by the first part of the image's name: missing, private, limited, broken, or never."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        what = self.path.split("/")[2] if self.path.startswith("/v2/") else ""
        if what == "hanging":
            self.server.ended.wait(600)  # type: ignore[attr-defined]
        status, code, message = {
            "missing": (404, "MANIFEST_UNKNOWN", "manifest unknown"),
            "private": (401, "UNAUTHORIZED", "authentication required"),
            "limited": (429, "TOOMANYREQUESTS", "You have reached your pull rate limit."),
        }.get(what, (503, "UNAVAILABLE", "service unavailable"))
        body = f'{{"errors":[{{"code":"{code}","message":"{message}"}}]}}'.encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815 the name that http.server calls

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def warm(client: Client) -> None:
    """Let msgspec learn every kind now: learning one type in two threads at once ends the process (msgspec 0.22)."""
    for kind in (Job, Pod, PersistentVolumeClaim, Event, ResourceQuota, ServiceAccount):
        list(client.list(kind, namespace="default"))


@contextlib.contextmanager
def registry() -> Iterator[str]:
    """A registry on this machine that has no image; yields its host and port.

    containerd speaks plain HTTP to localhost, so the cluster's node must be this machine.
    """
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Registry)
    server.daemon_threads = True
    server.ended = threading.Event()  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"localhost:{server.server_port}"
    finally:
        server.ended.set()  # type: ignore[attr-defined]
        server.shutdown()
        server.server_close()
