"""An ASGI application on a socket: uvicorn without its command line, its logging and its way of ending."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
from collections.abc import Callable, Iterator

import uvicorn
from starlette.types import ASGIApp

from tesk.config.models import ServerConfig
from tesk.server.joined import JoinedHttp

__all__ = ["CannotServe", "bind", "check_exposure", "serve_app", "url_of"]

_log = logging.getLogger("tesk.server")

_KEEP_ALIVE_SECONDS = 75
"""Longer than clients pause between polls (Nextflow: 5 s): no request meets a connection that closes."""
_GRACE_SECONDS = 10


class CannotServe(Exception):
    """The server cannot or must not begin; the message says why and what to change."""


def check_exposure(server: ServerConfig) -> str | None:
    """None when only this machine can reach the server, else the warning to give.

    Raises CannotServe when other machines can reach it and the configuration does not allow that.
    """
    if _is_loopback(server.host):
        return None
    means = "whoever can reach it can run commands on this machine, without proving who they are"
    if not server.allow_unauthenticated:
        raise CannotServe(
            f"{server.host} can be reached by other machines, and there is no authentication: {means}. "
            "Listen on 127.0.0.1 (server.host), or, if that is what you want, set "
            "server.allow_unauthenticated: true (TESK_SERVER_ALLOW_UNAUTHENTICATED=true)."
        )
    return f"WARNING: TESK listens on {server.host} without authentication: {means}."


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def bind(host: str, port: int) -> socket.socket:
    """A socket bound to `host` and `port` (0: a free one) that does not listen yet.

    Raises CannotServe with what to change.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise CannotServe(f"{host!r} is not an address of this machine: {error.strerror}.") from error
    family, kind, protocol, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise CannotServe(
            f"{host}:{port} cannot be listened on ({error.strerror}); choose another with server.port "
            "(TESK_SERVER_PORT; 0 takes a free one) or server.host."
        ) from error
    return bound


def url_of(bound: socket.socket) -> str:
    """The URL under which the socket is reached from this machine."""
    host, port = bound.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = "127.0.0.1" if host == "0.0.0.0" else "::1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _Server(uvicorn.Server):
    """uvicorn that leaves signals to us: it would raise them again before our own orderly end."""

    def __init__(self, config: uvicorn.Config, on_started: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_started = on_started

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_started()


async def serve_app(app: ASGIApp, bound: socket.socket, stop: asyncio.Event, on_started: Callable[[], None]) -> None:
    """Serve `app` on `bound` until `stop` is set, then let the requests in flight end (at most 10 s)."""
    config = uvicorn.Config(
        app,
        http=JoinedHttp,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    server = _Server(config, on_started)

    async def wait_for_stop() -> None:
        await stop.wait()
        server.should_exit = True

    waiting = asyncio.create_task(wait_for_stop())
    try:
        await server.serve([bound])
    finally:
        waiting.cancel()
        bound.close()
