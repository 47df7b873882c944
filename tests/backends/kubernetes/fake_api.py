"""An API server that says what a test has it say: for what a real one cannot be made to do."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx2

from tesk.backends.kubernetes.cluster import Cluster
from tesk.backends.kubernetes.pace import Pace

__all__ = ["Asked", "FakeApi", "Reply", "config_map", "event", "fake_api", "listed", "status"]


@dataclass(frozen=True)
class Asked:
    """One request."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any

    @property
    def watches(self) -> bool:
        """Whether it is a watch."""
        return self.query.get("watch") == "true"


class Reply:
    """What the server sends for one request."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    async def send(self, body: dict[str, Any], code: int = 200, **headers: str) -> None:
        """The whole answer."""
        text = json.dumps(body).encode()
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        await self._head(code, {"content-type": "application/json", "content-length": str(len(text)), **given})
        await self._write(text)

    async def begin(self) -> None:
        """The head of a watch."""
        await self._head(200, {"content-type": "application/json", "transfer-encoding": "chunked"})

    async def tell(self, *events: dict[str, Any]) -> None:
        """Events of a watch that has begun."""
        text = b"".join(json.dumps(event).encode() + b"\n" for event in events)
        await self.raw(text)

    async def raw(self, text: bytes) -> None:
        """Bytes of a watch that has begun."""
        if text:
            await self._write(b"%x\r\n%s\r\n" % (len(text), text))

    async def end(self) -> None:
        """The watch's time is over, in order."""
        await self._write(b"0\r\n\r\n")

    def cut(self) -> None:
        """The connection breaks."""
        self._writer.transport.abort()

    async def _head(self, code: int, headers: dict[str, str]) -> None:
        lines = [f"HTTP/1.1 {code} Said", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        await self._write("\r\n".join(lines).encode())

    async def _write(self, text: bytes) -> None:
        self._writer.write(text)
        await self._writer.drain()


Answer = Callable[[Asked, Reply], Awaitable[None]]


class FakeApi:
    """Answers each request with the next of `answers`, and the last of them again and again."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.answers: list[Answer] = []
        self.asked: list[Asked] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                asked = await _read(reader)
                self.asked.append(asked)
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                await answer(asked, Reply(writer))

    def lists(self) -> int:
        """How many lists were asked for."""
        return sum(asked.method == "GET" and not asked.watches for asked in self.asked)

    def cluster(self, **options: Any) -> Cluster:
        """A connection to it."""
        client = httpx2.AsyncClient(base_url=self.url, timeout=5.0, trust_env=False)
        return Cluster(client, "somewhere", Pace(1000.0, 1000), **options)


async def _read(reader: asyncio.StreamReader) -> Asked:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    method, target, _ = head[0].split(" ")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    parts = urlsplit(target)
    return Asked(method, parts.path, dict(parse_qsl(parts.query)), headers, json.loads(body) if body else None)


@asynccontextmanager
async def fake_api(*answers: Answer) -> AsyncIterator[FakeApi]:
    """A server on a free port that gives `answers`."""
    api = FakeApi("")
    api.answers = list(answers)
    tasks: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(one(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await api.serve(reader, writer)
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    api.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield api
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


def config_map(name: str, version: str = "1", *, uid: str | None = None, **data: str) -> dict[str, Any]:
    """A ConfigMap of attempt 1 of the task `name`."""
    labels = {"tesk/task": name, "tesk/attempt": "1", "tesk/step": "report"}
    metadata = {"name": name, "uid": uid or f"uid-{name}", "resourceVersion": version, "labels": labels}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def listed(version: str, *items: dict[str, Any], more: str | None = None) -> dict[str, Any]:
    """A list of ConfigMaps."""
    metadata = {"resourceVersion": version, **({"continue": more} if more else {})}
    return {"apiVersion": "v1", "kind": "ConfigMapList", "metadata": metadata, "items": list(items)}


def event(kind: str, obj: dict[str, Any]) -> dict[str, Any]:
    """One line of a watch."""
    return {"type": kind, "object": obj}


def status(code: int, reason: str, message: str = "said the server") -> dict[str, Any]:
    """A Status, as refusals are."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "code": code,
        "reason": reason,
        "message": message,
    }
