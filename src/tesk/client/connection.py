"""From a server's address to what httpx needs, and from httpx's answers and faults to the client's own."""

from __future__ import annotations

import dataclasses
import ipaddress
import re
import ssl
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from tesk.client.errors import ClientError, ServerUnreachableError
from tesk.client.operations import Answer, Request
from tesk.client.target import Target

__all__ = ["answer_of", "fault_of", "open_arguments", "request_arguments", "server_url", "target_of", "without_secrets"]

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"[\x21-\x7e]([\t\x20-\x7e]*[\x21-\x7e])?|")


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


def target_of(server: str | Target, timeout: float | None, headers: Mapping[str, str] | None) -> Target:
    """`server` as a Target, with what the caller says of it besides."""
    target = Target(server) if isinstance(server, str) else server
    return dataclasses.replace(
        target,
        timeout=target.timeout if timeout is None else timeout,
        headers={**target.headers, **(headers or {})},
    )


def open_arguments(url: httpx.URL, target: Target) -> dict[str, Any]:
    """Keyword arguments for httpx.Client and httpx.AsyncClient.

    Proxies do not count for this machine itself; certificates are loaded only where TLS is spoken. Raises ClientError
    for a header or a file of certificates that cannot be used.
    """
    headers = {"Accept": "application/json", **target.headers}
    if target.token is not None:
        headers["Authorization"] = f"Bearer {target.token}"
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            raise ClientError(f"the header {name!r} cannot be sent: it holds characters that HTTP does not allow.")
    user, password = (target.user, target.password) if target.user else (url.username, url.password)
    return {
        "headers": headers,
        "timeout": target.timeout,
        "trust_env": not _is_loopback(url.host),
        "verify": _verify(target) if url.scheme == "https" else False,
        "auth": (user, password or "") if user else None,
    }


def _verify(target: Target) -> bool | ssl.SSLContext:
    if not target.verify or target.ca is None:
        return target.verify
    context = httpx.create_ssl_context()
    try:
        context.load_verify_locations(target.ca)
    except (OSError, ssl.SSLError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it holds no certificate in PEM"
        raise ClientError(f"the certificates in {target.ca} cannot be used: {reason}") from error
    return context


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
    headers = response.headers
    return Answer(
        response.status_code,
        response.content,
        where,
        headers.get("location"),
        _seconds(headers.get("retry-after")),
        "idempotency-key" in headers,
    )


def _seconds(retry_after: str | None) -> float | None:
    """`Retry-After` in seconds (RFC 9110, section 10.2.3), None when it says nothing that can be used."""
    if retry_after is None:
        return None
    if re.fullmatch(r"[0-9]{1,9}", retry_after):
        return float(retry_after)
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def without_secrets(url: httpx.URL) -> str:
    """The address as it may be shown."""
    return str(url.copy_with(username=None, password=None)).rstrip("/")


def fault_of(url: httpx.URL, error: httpx.HTTPError | httpx.InvalidURL) -> ClientError:
    """The client's error for a request that got no answer."""
    address = without_secrets(url)
    unsent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
    if isinstance(error, httpx.TimeoutException):
        return ServerUnreachableError(f"no answer from {address} in time.", sent=not unsent)
    if isinstance(error, httpx.TransportError):
        reason = str(error) or type(error).__name__
        return ServerUnreachableError(f"no TES server answers at {address}: {reason}", sent=not unsent)
    return ClientError(f"{address} did not answer as HTTP: {error or type(error).__name__}")
