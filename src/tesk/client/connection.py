"""From a server's address to what httpx needs, and from httpx's answers and faults to the client's own."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

import httpx

from tesk.client.errors import ClientError, ServerUnreachableError
from tesk.client.operations import Answer, Request

__all__ = ["answer_of", "fault_of", "open_arguments", "request_arguments", "server_url"]


def server_url(address: str) -> httpx.URL:
    """The address as a URL without query, fragment or trailing slash; `http://` when no scheme is given.

    Raises ClientError when it is not the address of a server.
    """
    text = address.strip()
    if "://" not in text:
        text = f"http://{text}"
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL as error:
        raise ClientError(f"{address!r} is not the address of a server: {error}") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise ClientError(f"{address!r} is not the address of a server: it should look like http://host:8000")
    return url.copy_with(path=url.path.rstrip("/") or "/", query=None, fragment=None)


def open_arguments(url: httpx.URL, timeout: float, headers: Mapping[str, str] | None) -> dict[str, Any]:
    """Keyword arguments for httpx.Client and httpx.AsyncClient.

    Proxies and .netrc do not count for this machine itself; certificates are loaded only where TLS is spoken.
    """
    return {
        "headers": {"Accept": "application/json", **(headers or {})},
        "timeout": timeout,
        "trust_env": not _is_loopback(url.host),
        "verify": url.scheme == "https",
        "auth": (url.username, url.password) if url.username else None,
    }


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def request_arguments(url: httpx.URL, prefix: str, request: Request) -> dict[str, Any]:
    """Keyword arguments for `build_request`. `prefix` is the path of the API on the server."""
    path = request.path if request.absolute else f"{prefix}{request.path}"
    # raw_path, so that a percent-encoded id reaches the server as it is
    target = url.copy_with(raw_path=path.encode("ascii"), username=None, password=None)
    return {
        "method": request.method,
        "url": target,
        "params": list(request.query) or None,
        "content": request.body,
        "headers": dict(request.headers),
    }


def answer_of(response: httpx.Response) -> Answer:
    """What the operations need of a response whose body has been read."""
    where = f"{response.request.method} {response.request.url.copy_with(query=None)}"
    return Answer(response.status_code, response.content, where, response.headers.get("location"))


def fault_of(url: httpx.URL, error: httpx.HTTPError | httpx.InvalidURL) -> ClientError:
    """The client's error for a request that got no answer."""
    address = str(url.copy_with(username=None, password=None)).rstrip("/")
    if isinstance(error, httpx.TimeoutException):
        return ServerUnreachableError(f"no answer from {address} in time.")
    if isinstance(error, httpx.TransportError):
        return ServerUnreachableError(f"no TES server answers at {address}: {error or type(error).__name__}")
    return ClientError(f"{address} did not answer as HTTP: {error or type(error).__name__}")
