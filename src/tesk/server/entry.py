"""What every request goes through: its id, the prefix it came by, the last net for errors, the access log.

Plain ASGI: on the way of each of thousands of requests a second, nothing is built that is not needed.
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
from datetime import UTC, datetime

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tesk.server.problems import MEDIA_TYPE, Problem, encode_problem

__all__ = ["PREFIXES", "Entry"]

PREFIXES = ("/ga4gh/tes/v1", "/v1")
"""The same API is served under each, and under `/`: py-tes tries the three in this order."""

_log = logging.getLogger("tesk.server")
_access = logging.getLogger("tesk.access")
_GOOD_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")


class Entry:
    """The middleware around all routes."""

    def __init__(self, app: ASGIApp, access_log: bool) -> None:
        self.app = app
        self.access_log = access_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        request_id = _request_id(scope)
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
            await send(message)

        try:
            await self.app(scope, receive, tell)
        except Exception:
            _log.exception("request %s: %s %s failed", scope["request_id"], scope["method"], path)
            if status:
                raise
            await _internal_error(scope["request_id"], tell)
        finally:
            if self.access_log:
                _tell_access(scope, path, status, began)


def _request_id(scope: Scope) -> bytes:
    """The client's `X-Request-ID` when it is harmless to repeat in logs and headers, else a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            if _GOOD_ID.fullmatch(value):
                return bytes(value)
            break
    return os.urandom(8).hex().encode("ascii")


async def _internal_error(request_id: str, send: Send) -> None:
    problem = Problem(500, f"The server failed; its log says why under request id {request_id}.")
    body = encode_problem(problem, request_id)
    headers = [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 500, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _tell_access(scope: Scope, path: str, status: int, began: float) -> None:
    client = scope.get("client")
    event = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "event": "request",
        "request_id": scope["request_id"],
        "method": scope["method"],
        "path": path,
        "status": status,
        "milliseconds": round((time.perf_counter() - began) * 1000, 2),
        "client": client[0] if client else None,
    }
    _access.info("%s", json.dumps(event, separators=(",", ":")))
