"""Which web pages may use this API from a browser: CORS, no writing by the others, and no name that is not ours."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from tesk.server.problems import Problem, on_problem

__all__ = ["for_hosts", "for_origins"]

_READS = frozenset({"GET", "HEAD", "OPTIONS"})
_METHODS = ("GET", "HEAD", "POST", "DELETE")
_HEADERS = ("Authorization", "Content-Encoding", "Content-Type", "Idempotency-Key", "If-None-Match", "X-Request-ID")
_EXPOSED = ("ETag", "X-Request-ID")
_PREFLIGHT_SECONDS = 600
_PROBES = frozenset({"/healthz", "/readyz"})
"""They tell nothing, and what probes asks an address, whatever our names are."""


def for_origins(app: ASGIApp, origins: tuple[str, ...]) -> ASGIApp:
    """`app` for pages of `origins` (`*`: all), of its own origin, and for whatever is no browser.

    Cookies are not taken, so `*` is safe wherever a request must prove who sends it. A browser sends a form or a plain
    text to any address without asking; what would change something is therefore refused to pages of other origins.
    """
    if "*" not in origins:
        app = _OwnWrites(app, frozenset(origins))
    if not origins:
        return app
    return _Cors(
        app,
        allow_origins=origins,
        allow_methods=_METHODS,
        allow_headers=_HEADERS,
        expose_headers=_EXPOSED,
        max_age=_PREFLIGHT_SECONDS,
    )


def for_hosts(app: ASGIApp, hosts: frozenset[str] | None) -> ASGIApp:
    """`app` for requests to one of `hosts` (in small letters, without a port); None: to any.

    A request without `Host` is no browser's.
    """
    return app if hosts is None else _OwnHosts(app, hosts)


class _OwnHosts:
    """Refuses what was sent to another name, which somebody had resolve to this server's address."""

    def __init__(self, app: ASGIApp, hosts: frozenset[str]) -> None:
        self.app = app
        self.hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        for name, value in scope["headers"]:
            if name == b"host" and _without_port(value) not in self.hosts and scope["path"] not in _PROBES:
                await on_problem(Request(scope), _elsewhere(value))(scope, receive, send)
                return
        await self.app(scope, receive, send)


def _without_port(host: bytes) -> str:
    text = host.decode("latin-1").lower()
    name, colon, port = text.rpartition(":")
    return (name if colon and port.isdecimal() else text).rstrip(".")


def _elsewhere(host: bytes) -> Problem:
    return Problem(
        421,
        f"This server does not answer to the name {host[:128].decode('latin-1')!r}; if it is one of its own, list it in"
        " server.allowed_hosts (TESK_SERVER_ALLOWED_HOSTS).",
    )


class _Cors(CORSMiddleware):
    """Starlette's, with refusals that say what to change."""

    def preflight_response(self, request_headers: Headers) -> Response:
        answer = super().preflight_response(request_headers)
        return answer if answer.status_code < 400 else _Refused(request_headers, bytes(answer.body), answer.headers)


class _Refused(Response):
    """A preflight's refusal, as problem details of the request that it is sent to."""

    def __init__(self, asked: Headers, why: bytes, headers: Mapping[str, str]) -> None:
        super().__init__(status_code=400)
        origin = asked.get("origin", "")[:128]
        sentences = []
        if b"origin" in why:
            sentences.append(f"Web pages of {origin!r} may not use this API; server.cors_origins lists those that may.")
        if b"method" in why:
            sentences.append(f"Web pages may use {', '.join(_METHODS)}.")
        if b"headers" in why:
            sentences.append(f"Web pages may send {', '.join(_HEADERS)}.")
        sentences = sentences or [f"{why.decode('latin-1')}."]
        kept = {name: value for name, value in headers.items() if name not in ("content-length", "content-type")}
        self._problem = Problem(400, " ".join(sentences), headers=kept)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await on_problem(Request(scope), self._problem)(scope, receive, send)


class _OwnWrites:
    """Refuses what a page of another origin wants changed."""

    def __init__(self, app: ASGIApp, origins: frozenset[str]) -> None:
        self.app = app
        self.origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] not in _READS:
            headers = Headers(scope=scope)
            origin = headers.get("origin")
            if origin is not None and origin not in self.origins and origin.partition("://")[2] != headers.get("host"):
                await on_problem(Request(scope), _foreign(origin))(scope, receive, send)
                return
        await self.app(scope, receive, send)


def _foreign(origin: str) -> Problem:
    return Problem(
        403,
        f"Web pages of {origin[:128]!r} may change nothing here; list that origin in server.cors_origins to allow it.",
    )
