"""What every request goes through: its id, the prefix it came by, the last net for errors, the access log.

Plain ASGI: on the way of each of thousands of requests a second, nothing is built that is not needed.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tesk.server.problems import MEDIA_TYPE, Problem, encode_problem

__all__ = ["PREFIXES", "Entry"]

PREFIXES = ("/ga4gh/tes/v1", "/v1")
"""The same API is served under each, and under `/`: py-tes tries the three in this order."""

_log = logging.getLogger("tesk.server")
_access = logging.getLogger("tesk.access")
_CLOSE = (b"connection", b"close")
_GOOD_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")


class Entry:
    """The middleware around all routes.

    `wrap` puts what every answer needs around the routes, and around the answer to an error nobody expected. Once
    `stopping` is set, every answer tells its client to end the connection.
    """

    def __init__(
        self, app: ASGIApp, access_log: bool, stopping: asyncio.Event, wrap: Callable[[ASGIApp], ASGIApp]
    ) -> None:
        self.app = wrap(app)
        self.access_log = access_log
        self._failed = wrap(_internal_error)
        self._stopping = stopping
        self._ids = _new_ids()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        request_id = _good_request_id(scope) or next(self._ids)
        header = (b"x-request-id", request_id)
        path: str = scope["path"]
        scope["request_id"] = request_id.decode("ascii")
        for prefix in PREFIXES:
            if path.startswith(prefix) and path[len(prefix) : len(prefix) + 1] == "/":
                scope["path"] = path[len(prefix) :]
                break
        status = 0

        async def tell(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], header]
                if self._stopping.is_set():
                    message["headers"].append(_CLOSE)
            await send(message)

        try:
            await self.app(scope, receive, tell)
        except Exception:
            _log.exception("request %s: %s %s failed", scope["request_id"], scope["method"], path)
            if status:
                raise
            await self._failed(scope, receive, tell)
        finally:
            if self.access_log and _access.isEnabledFor(logging.INFO):
                _tell_access(scope, path, status, began)


def _new_ids() -> Iterator[bytes]:
    """Request ids: a random start for this process, and a number. (Random bytes for each cost a system call.)"""
    start = os.urandom(5).hex()
    return (f"{start}{number:06x}".encode() for number in itertools.count(1))


def _good_request_id(scope: Scope) -> bytes | None:
    """The client's `X-Request-ID` when it is harmless to repeat in logs and headers."""
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            return bytes(value) if _GOOD_ID.fullmatch(value) else None
    return None


async def _internal_error(scope: Scope, receive: Receive, send: Send) -> None:
    request_id = scope["request_id"]
    problem = Problem(500, f"The server failed; its log says why under request id {request_id}.")
    body = encode_problem(problem, request_id)
    headers = [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 500, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _tell_access(scope: Scope, path: str, status: int, began: float) -> None:
    # A tenth of a request's time if done by json.dumps and Logger.info, which looks for its caller.
    client = scope.get("client")
    line = (
        f'{{"time":"{datetime.now(UTC).isoformat(timespec="milliseconds")[:-6]}Z","event":"request",'
        f'"request_id":"{scope["request_id"]}","method":{json.dumps(scope["method"])},"path":{json.dumps(path)},'
        f'"status":{status},"milliseconds":{(time.perf_counter() - began) * 1000:.2f},'
        f'"client":{json.dumps(client[0] if client else None)}}}'
    )
    _access.handle(logging.LogRecord(_access.name, logging.INFO, __file__, 0, line, None, None))
