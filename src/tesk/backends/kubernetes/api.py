"""One request to the API server: paced, timed, tried again while that can help, and its refusals as errors of ours."""

from __future__ import annotations

import asyncio
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Generic, Protocol, TypeVar

import httpx2
import msgspec
from lightkube.core.exceptions import ConfigError
from lightkube.core.resource import ApiInfo, NamespacedResource
from lightkube.models.meta_v1 import ObjectMeta, Status

from tesk.backends.kubernetes.account import CONNECT_SECONDS, SILENCE_SECONDS
from tesk.backends.kubernetes.errors import ClusterError, Expired, Gone, Refused, Unreachable
from tesk.backends.kubernetes.keepalive import keep_alive
from tesk.backends.kubernetes.pace import Deadline, Pace

__all__ = ["Api", "Call", "Kind", "Listed", "decode", "kind_of", "path_of"]

K = TypeVar("K")

_LONGEST_TRY = 30.0
_LONGEST_OPENING = 20.0
_LONGEST_SENTENCE = 1000
_START_SECONDS = 20.0


class Kind(Protocol):
    """Any class of lightkube.resources, such as `batch_v1.Job`."""

    _api_info: ApiInfo

    @property
    def metadata(self) -> ObjectMeta | None:
        """Name, labels, uid and the rest."""


class _ListMeta(msgspec.Struct):
    resourceVersion: str = ""  # noqa: N815
    more: str = msgspec.field(name="continue", default="")


class Listed(msgspec.Struct, Generic[K]):
    """A page of a list; without items some servers say null (Kubernetes 1.34, for metadata alone)."""

    metadata: _ListMeta
    items: list[K] | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """One request. `what` ends the sentence "cannot ..."; `body` is anything msgspec can encode."""

    what: str
    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    body: object = None
    accept: str | None = None


def kind_of(kind: type[Kind]) -> str:
    """As people know it: `Job`."""
    return str(kind._api_info.resource.kind)


def path_of(kind: type[Kind], namespace: str, name: str | None = None) -> str:
    """The path of the collection, or of the object `name` in it."""
    info = kind._api_info
    group, version = info.resource.group, info.resource.version
    parts = ["apis", group, version] if group else ["api", version]
    if issubclass(kind, NamespacedResource):
        parts += ["namespaces", namespace]
    parts += [info.plural, *([name] if name else [])]
    return "/" + "/".join(parts)


def decode(data: bytes | msgspec.Raw, kind: type[K]) -> K:
    """What the server sent, as a `kind`. Raises Unreachable for what cannot be read as one."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Unreachable(f"the API server sent what tesk cannot read: {error}", 500) from error


class Api:
    """Sends calls.

    A server that has just started does not know every Role yet, and refuses what it will allow a second later (seen on
    Kubernetes 1.34). So a lack of rights soon after the server was away counts as a fault that may pass.

    `sent` counts requests by method and collection, such as `POST jobs`, tries and watches included."""

    def __init__(self, client: httpx2.AsyncClient, pace: Pace, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._clock = clock
        self._away: float | None = None
        self._pace = pace
        self.sent: Counter[str] = Counter()

    @property
    def server(self) -> str:
        """Where the API server is, for sentences."""
        return str(self._client.base_url).rstrip("/")

    async def send(self, call: Call, deadline: Deadline) -> bytes:
        """The body of the answer. What may pass is tried again until `deadline`.

        Raises Gone (404), Expired (410), Refused, and Unreachable when time is up.
        """
        while True:
            try:
                return await self._once(call, deadline)
            except Unreachable as error:
                await deadline.pause(error, error.retry_after)
            except Refused as error:
                if not self._passing(call, error):
                    raise
                await deadline.pause(error)

    @asynccontextmanager
    async def stream(self, call: Call, *, silence: float | None) -> AsyncIterator[AsyncIterator[bytes]]:
        """The body of the answer, block by block as it comes, tried once.

        After `silence` seconds without a byte it counts as broken; None waits as long as the connection lives, and the
        kernel asks the other side whether it does. Raises what `send` raises, also while the body is read.
        """
        await self._pace.take()
        request = self._build(call, httpx2.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS, read=silence, pool=None))
        try:
            async with asyncio.timeout(_LONGEST_OPENING):
                answer = await self._client.send(request, stream=True)
        except (httpx2.HTTPError, ConfigError, TimeoutError) as error:
            raise self._unreachable(call, error) from error
        try:
            _keep_alive(answer)
            if not answer.is_success:
                await self._read_refusal(call, answer)
                raise self._refusal(call, answer)
            yield self._blocks(call, answer)
        finally:
            await answer.aclose()

    async def _once(self, call: Call, deadline: Deadline) -> bytes:
        await self._pace.take()
        request = self._build(call, None)
        try:
            async with asyncio.timeout(max(1.0, min(_LONGEST_TRY, deadline.left()))):
                answer = await self._client.send(request)
        except (httpx2.HTTPError, ConfigError, TimeoutError) as error:
            raise self._unreachable(call, error) from error
        if not answer.is_success:
            raise self._refusal(call, answer)
        return answer.content

    def _build(self, call: Call, timeout: httpx2.Timeout | None) -> httpx2.Request:
        self.sent[f"{call.method} {_collection(call.path)}"] += 1
        headers = {"accept": call.accept} if call.accept else {}
        content = None
        if call.body is not None:
            content = msgspec.json.encode(call.body)
            headers["content-type"] = "application/json"
        return self._client.build_request(
            call.method,
            call.path,
            params=dict(call.params),
            content=content,
            headers=headers,
            timeout=timeout or httpx2.USE_CLIENT_DEFAULT,
        )

    async def _blocks(self, call: Call, answer: httpx2.Response) -> AsyncIterator[bytes]:
        try:
            async for block in answer.aiter_bytes():
                yield block
        except httpx2.HTTPError as error:
            raise self._unreachable(call, error) from error

    async def _read_refusal(self, call: Call, answer: httpx2.Response) -> None:
        try:
            async with asyncio.timeout(SILENCE_SECONDS):
                await answer.aread()
        except (httpx2.HTTPError, TimeoutError) as error:
            raise self._unreachable(call, error) from error

    def _passing(self, call: Call, error: Refused) -> bool:
        """Whether another try may cure it: a start, a token being renewed, a quota that several creates touch."""
        if error.code == HTTPStatus.FORBIDDEN:
            away = self._away is not None and self._clock() - self._away < _START_SECONDS
            return away and '" cannot ' in error.said
        if error.code == HTTPStatus.CONFLICT:
            return call.method == "POST" and error.reason == "Conflict"
        return error.code == HTTPStatus.UNAUTHORIZED

    def _refusal(self, call: Call, answer: httpx2.Response) -> ClusterError:
        error = _refusal(call, answer)
        if answer.status_code >= 500:
            self._away = self._clock()
        return error

    def _unreachable(self, call: Call, error: Exception) -> Unreachable:
        self._away = self._clock()
        if isinstance(error, ConfigError):
            return Unreachable(f"cannot {call.what}: {error}")
        cause = "no answer in time" if isinstance(error, TimeoutError | httpx2.TimeoutException) else str(error)
        return Unreachable(f"cannot {call.what}: the API server at {self.server}: {cause or type(error).__name__}")


def _refusal(call: Call, answer: httpx2.Response) -> ClusterError:
    status = _status(answer)
    said = (status.message or answer.reason_phrase)[:_LONGEST_SENTENCE]
    code = answer.status_code
    if code == HTTPStatus.NOT_FOUND:
        return Gone(f"cannot {call.what}: {said}")
    if code == HTTPStatus.GONE:
        return Expired(f"cannot {call.what}: {said}")
    if code >= 500 or code in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.REQUEST_TIMEOUT):
        after = answer.headers.get("retry-after", "")
        sentence = f"cannot {call.what}: the API server answered {code}: {said}"
        return Unreachable(sentence, code, float(after) if after.isdecimal() else None)
    return Refused(f"cannot {call.what}: the API server refused it ({code}): {said}", status)


def _status(answer: httpx2.Response) -> Status:
    """What a server says of a refusal; proxies before it say it without JSON."""
    try:
        status = msgspec.json.decode(answer.content, type=Status)
    except (msgspec.DecodeError, UnicodeDecodeError):
        status = Status(message=" ".join(answer.text.split())[:_LONGEST_SENTENCE] or None)
    status.code = answer.status_code
    return status


def _collection(path: str) -> str:
    """The plural in the path of a collection or of an object in one; any other path as it is."""
    parts = path.split("/")[3 if path.startswith("/api/") else 4 :]
    if not parts:
        return path
    return parts[2] if parts[0] == "namespaces" and len(parts) > 2 else parts[0]


def _keep_alive(answer: httpx2.Response) -> None:
    """Have the kernel find out when the other side of a silent stream has gone."""
    stream = answer.extensions.get("network_stream")
    raw = stream.get_extra_info("socket") if stream is not None else None
    if raw is not None and raw.family in (socket.AF_INET, socket.AF_INET6):
        keep_alive(raw)
