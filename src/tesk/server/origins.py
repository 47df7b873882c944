"""Which web pages may use this API from a browser: CORS, and no writing by the others."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from tesk.server.problems import Problem, on_problem

__all__ = ["for_origins"]

_READS = frozenset({"GET", "HEAD", "OPTIONS"})
_METHODS = ("GET", "HEAD", "POST", "DELETE")
_HEADERS = ("Authorization", "Content-Encoding", "Content-Type", "Idempotency-Key", "If-None-Match", "X-Request-ID")
_EXPOSED = ("ETag", "X-Request-ID")
_PREFLIGHT_SECONDS = 600


def for_origins(app: ASGIApp, origins: tuple[str, ...]) -> ASGIApp:
    """`app` for pages of `origins` (`*`: all), of its own origin, and for whatever is no browser.

    Cookies are not taken, so `*` is safe wherever a request must prove who sends it. A browser sends a form or a plain
    text to any address without asking; what would change something is therefore refused to pages of other origins.
    """
    if "*" not in origins:
        app = _OwnWrites(app, frozenset(origins))
    if not origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=_METHODS,
        allow_headers=_HEADERS,
        expose_headers=_EXPOSED,
        max_age=_PREFLIGHT_SECONDS,
    )


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
