"""Where the server listens: an address of the configuration or inherited sockets, and who can reach them."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType

from tesk.config.models import ServerConfig
from tesk.server.systemd import inherited_sockets

__all__ = ["CannotServe", "Listeners", "bind", "check_exposure", "hosts_of", "listeners", "url_of"]

BACKLOG = 2048
"""Connections that may wait while the server begins."""


class CannotServe(Exception):
    """The server cannot or must not begin; the message says why and what to change."""


@dataclass(frozen=True, slots=True)
class Listeners:
    """The sockets of the server; leaving a `with` closes them.

    `inherited`: somebody else holds them too, so that connections wait in them while nobody serves. `warnings` are for
    the operator.
    """

    sockets: tuple[socket.socket, ...]
    inherited: bool = False
    warnings: tuple[str, ...] = ()

    def __enter__(self) -> Listeners:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of them."""
        for one in self.sockets:
            one.close()

    @property
    def url(self) -> str:
        """The URL under which the first is reached from this machine."""
        return url_of(self.sockets[0])


def listeners(server: ServerConfig, environ: Mapping[str, str]) -> Listeners:
    """The inherited sockets of `environ`, or one bound to the configured address; connections may wait in them now.

    Raises CannotServe when there can be none, or when other machines can reach one and the configuration does not
    allow that.
    """
    try:
        inherited = inherited_sockets(environ)
    except ValueError as error:
        raise CannotServe(f"The sockets to inherit are not there: {error}; look at what starts the server.") from error
    if not inherited:
        warning = check_exposure(server)
        bound = bind(server.host, server.port)
        bound.listen(BACKLOG)
        return Listeners((bound,), warnings=(warning,) if warning else ())
    sockets = tuple(inherited.values())
    try:
        warnings = [check_exposure(server, _inherited_host(name, one)) for name, one in inherited.items()]
    except CannotServe:
        Listeners(sockets).close()
        raise
    return Listeners(sockets, inherited=True, warnings=tuple(one for one in warnings if one))


def _inherited_host(name: str, one: socket.socket) -> str:
    if one.family not in (socket.AF_INET, socket.AF_INET6) or one.type != socket.SOCK_STREAM:
        raise CannotServe(f"The inherited socket {name} is not one of TCP; let ListenStream= name a port.")
    if not one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise CannotServe(f"The inherited socket {name} does not listen; set Accept=no in its socket unit.")
    return str(one.getsockname()[0])


def check_exposure(server: ServerConfig, inherited: str | None = None) -> str | None:
    """None when only this machine can reach the server, else the warning to give.

    `inherited` is the address of an inherited socket, which counts instead of the configured one.

    Raises CannotServe when other machines can reach it, or every web page that somebody opens on this one, and the
    configuration does not allow that.
    """
    host = inherited or server.host
    if _is_loopback(host):
        return _check_pages(server)
    means = "whoever can reach it can run commands on this machine, without proving who they are"
    if not server.allow_unauthenticated:
        where = "ListenStream= of the socket unit" if inherited else "server.host"
        raise CannotServe(
            f"{host} can be reached by other machines, and there is no authentication: {means}. "
            f"Listen on 127.0.0.1 ({where}), or, if that is what you want, set "
            "server.allow_unauthenticated: true (TESK_SERVER_ALLOW_UNAUTHENTICATED=true)."
        )
    return f"WARNING: TESK listens on {host} without authentication: {means}."


def _check_pages(server: ServerConfig) -> str | None:
    if "*" not in server.cors_origins:
        return None
    means = "every web page that a browser on this machine opens can run commands here, as there is no authentication"
    if not server.allow_unauthenticated:
        raise CannotServe(
            f"server.cors_origins is '*': {means}. List the origins that may, or, if that is what you want, set "
            "server.allow_unauthenticated: true (TESK_SERVER_ALLOW_UNAUTHENTICATED=true)."
        )
    return f"WARNING: server.cors_origins is '*': {means}."


def hosts_of(server: ServerConfig, listening: Listeners) -> frozenset[str] | None:
    """The names in URLs that the server answers to, in small letters and without a port; None for any.

    What listens on this machine alone trusts whoever reaches it. A web page could, if it has its own name resolve to
    127.0.0.1 once it is loaded (DNS rebinding): to the browser it is then a page of this server.
    """
    bound = [str(one.getsockname()[0]) for one in listening.sockets]
    if "*" in server.allowed_hosts or not (server.allowed_hosts or all(_is_loopback(one) for one in bound)):
        return None
    own = {"localhost", "127.0.0.1", "::1", server.host.lower(), *bound}
    return frozenset({*server.allowed_hosts, *(f"[{one}]" if ":" in one else one for one in own)})


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
