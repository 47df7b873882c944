"""A namespace in memory behind an API server's protocol: keeps what it is given, tells watches, runs nothing."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import itertools
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from tests.backends.kubernetes.fake_api import Asked, FakeApi, Reply, fake_api, status

from tesk.backends.base import AttemptKey
from tesk.backends.kubernetes.labels import labels_of

__all__ = ["World", "world"]

Json = dict[str, Any]

TIME = "2026-05-01T09:00:00Z"


class World:
    """Objects by plural and name; a test plays the cluster's controllers and nodes, and may have calls refused."""

    def __init__(self) -> None:
        self.api: FakeApi
        self.objects: dict[tuple[str, str], Json] = {}
        self.logs: dict[str, bytes] = {}
        self.late_logs: dict[str, bytes] = {}
        """What stands in a pod's log only when it is read once more."""
        self.live_logs: dict[str, asyncio.Queue[bytes | None]] = {}
        """What a pod goes on to write while its log is followed; None is its end."""
        self.logs_open = 0
        """How many follow a log now."""
        self.meanwhile: Callable[[], None] | None = None
        """What happens after a pod was made and before that is answered."""
        self.refusals: dict[tuple[str, str], Json] = {}
        """What is answered to a method on a plural instead of doing it."""
        self._numbers = itertools.count(1)
        self._watches: list[tuple[str, Asked, asyncio.Queue[Json | None]]] = []
        self._unsaid: list[tuple[str, str, Json]] | None = None
        self._history: list[tuple[str, str, Json]] = []

    def names(self, plural: str) -> list[str]:
        """What there is of one kind."""
        return sorted(name for kind, name in self.objects if kind == plural)

    def done(self, *methods: str) -> list[str]:
        """The changing calls so far, such as `POST jobs`, with what they were about."""
        return [
            f"{one.method} {_plural(one.path)} {_name(one.path) or one.body['metadata']['name']}"
            for one in self.api.asked
            if one.method in methods
        ]

    def put(self, plural: str, obj: Json) -> Json:
        """Make or change an object; a version that was told stays as it was."""
        metadata = dict(obj["metadata"])
        obj = {**obj, "metadata": metadata}
        before = self.objects.get((plural, metadata["name"]))
        number = next(self._numbers)
        metadata.setdefault("uid", before["metadata"]["uid"] if before else f"uid-{number}")
        metadata.setdefault("creationTimestamp", TIME)
        metadata["resourceVersion"] = str(number)
        self.objects[plural, metadata["name"]] = obj
        self._tell("MODIFIED" if before else "ADDED", plural, obj)
        return obj

    def drop(self, plural: str, name: str) -> None:
        """Take an object away."""
        obj = self.objects.pop((plural, name))
        obj["metadata"]["resourceVersion"] = str(next(self._numbers))
        self._tell("DELETED", plural, obj)

    def end_watches(self, *, expired: bool = False) -> None:
        """Every watch ends; `expired`: with the word that its version is forgotten."""
        for _, _, queue in self._watches:
            if expired:
                queue.put_nowait({"type": "ERROR", "object": status(410, "Expired")})
            queue.put_nowait(None)

    def fall_behind(self) -> None:
        """From now on watches hear nothing of what happens."""
        self._unsaid = self._unsaid or []

    def catch_up(self) -> None:
        """Watches hear all of it, in order."""
        unsaid, self._unsaid = self._unsaid or [], None
        for one in unsaid:
            self._tell(*one)

    def pod_of(self, job: str, container: str, *, node: str | None = "node-1", **state: Any) -> Json:
        """The pod of a Job that is there, with its container in `state` (`running`, `terminated`, `waiting`)."""
        owner = self.objects["jobs", job]
        labels = owner["spec"]["template"]["metadata"]["labels"]
        owners = [{"apiVersion": "batch/v1", "kind": "Job", "name": job, "uid": owner["metadata"]["uid"]}]
        containers = [{"name": container, "image": "i", "imageID": "", "ready": False, "restartCount": 0}]
        return self.put(
            "pods",
            {
                "metadata": {"name": f"{job}-pod", "labels": labels, "ownerReferences": owners},
                "spec": {"containers": [{"name": container}], **({"nodeName": node} if node else {})},
                "status": {"phase": "Running", "containerStatuses": [{**containers[0], "state": state}]},
            },
        )

    def ended(self, job: str, container: str, *, code: int = 0, message: str = "", log: bytes = b"") -> None:
        """The container of a Job's pod has ended."""
        self.logs[f"{job}-pod"] = log
        end = {"exitCode": code, "reason": "Completed", "startedAt": TIME, "finishedAt": TIME, "message": message}
        self.pod_of(job, container, terminated=end)

    def event(self, name: str, reason: str) -> None:
        """An event about the Job `name`."""
        about = {"kind": "Job", "name": name, "namespace": "somewhere"}
        self.put(
            "events",
            {"metadata": {"name": f"{name}.{reason}"}, "involvedObject": about, "reason": reason, "type": "Normal"},
        )

    async def answer(self, asked: Asked, reply: Reply) -> None:
        """As an API server answers."""
        plural, name = _plural(asked.path), _name(asked.path)
        if (refusal := self.refusals.get((asked.method, plural))) is not None:
            await reply.send(refusal, refusal["code"])
        elif asked.path.endswith("/log"):
            await self._log(name, reply)
        elif asked.watches:
            await self._watch(plural, asked, reply)
        elif asked.method == "GET" and not name:
            found = [obj for (kind, _), obj in self.objects.items() if kind == plural and _chosen(asked, obj)]
            await reply.send({"metadata": {"resourceVersion": str(next(self._numbers))}, "items": found})
        elif asked.method == "POST":
            await self._create(plural, asked.body, reply)
        elif (there := self.objects.get((plural, name))) is None:
            await reply.send(status(404, "NotFound", f'{plural} "{name}" not found'), 404)
        elif asked.method == "DELETE":
            self.drop(plural, name)
            await reply.send({"kind": "Status", "status": "Success"})
        else:
            await reply.send(self.put(plural, asked.body) if asked.method == "PUT" else there)

    async def _create(self, plural: str, obj: Json, reply: Reply) -> None:
        if (plural, obj["metadata"]["name"]) in self.objects:
            await reply.send(status(409, "AlreadyExists"), 409)
        else:
            made = self.put(plural, obj)
            if plural == "pods" and self.meanwhile is not None:
                self.meanwhile()
                await asyncio.sleep(0.1)
            await reply.send(made, 201)

    async def _log(self, pod: str, reply: Reply) -> None:
        if ("pods", pod) not in self.objects:
            await reply.send(status(404, "NotFound"), 404)
            return
        await reply.begin()
        await reply.raw(self.logs.get(pod, b""))
        self.logs_open += 1
        try:
            while pod in self.live_logs and (piece := await self.live_logs[pod].get()) is not None:
                self.logs[pod] = self.logs.get(pod, b"") + piece
                await reply.raw(piece)
        finally:
            self.logs_open -= 1
        await reply.end()
        if pod in self.late_logs:
            self.logs[pod] = self.late_logs.pop(pod)

    async def _watch(self, plural: str, asked: Asked, reply: Reply) -> None:
        queue: asyncio.Queue[Json | None] = asyncio.Queue()
        entry = (plural, asked, queue)
        since = int(asked.query["resourceVersion"])
        for kind, of, obj in self._history:
            if of == plural and _chosen(asked, obj) and int(obj["metadata"]["resourceVersion"]) > since:
                queue.put_nowait({"type": kind, "object": obj})
        self._watches.append(entry)
        try:
            await reply.begin()
            while (told := await queue.get()) is not None:
                await reply.tell(told)
            await reply.end()
        finally:
            self._watches.remove(entry)

    def _tell(self, kind: str, plural: str, obj: Json) -> None:
        told = (kind, plural, copy.deepcopy(obj))
        if self._unsaid is not None:
            self._unsaid.append(told)
            return
        self._history.append(told)
        for watched, asked, queue in self._watches:
            if watched == plural and _chosen(asked, obj):
                queue.put_nowait({"type": kind, "object": obj})


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    """An empty namespace."""
    made = World()
    async with fake_api(made.answer) as made.api:
        yield made


def metadata(name: str, key: AttemptKey, step: Any, instance: str = "tesk") -> Json:
    """What an object of an attempt has."""
    return {"name": name, "labels": labels_of(instance, key, step)}


def _parts(path: str) -> list[str]:
    parts = path.strip("/").split("/")
    return parts[parts.index("namespaces") + 2 :]


def _plural(path: str) -> str:
    return _parts(path)[0]


def _name(path: str) -> str:
    return next(iter(_parts(path)[1:]), "")


def _chosen(asked: Asked, obj: Json) -> bool:
    labels = obj["metadata"].get("labels", {})
    wanted = _pairs(asked.query.get("labelSelector", ""))
    fields = _pairs(asked.query.get("fieldSelector", ""))
    return all(labels.get(key) in values for key, values in wanted) and all(
        _at(obj, key) in values for key, values in fields
    )


def _pairs(selector: str) -> list[tuple[str, list[str]]]:
    """`a=1,b in (2,3)` as each key and the values that it may have."""
    among = [(key, values.split(",")) for key, values in re.findall(r"([^,\s]+) in \(([^)]*)\)", selector)]
    rest = re.sub(r"[^,\s]+ in \([^)]*\)", "", selector)
    return among + [(key, [value]) for key, _, value in (one.partition("=") for one in rest.split(",") if one)]


def _at(obj: Any, path: str) -> Any:
    for part in path.split("."):
        obj = obj.get(part) if isinstance(obj, dict) else None
    return obj


async def settle(what: Any, seconds: float = 5.0) -> None:
    """Wait until `what()` holds."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while not what():
                await asyncio.sleep(0.01)
    assert what()
