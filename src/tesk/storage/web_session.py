"""One connection to a web server (or to the proxy before it), kept for the next request.

Calls block; they raise Unreached, and while they speak OSError and http.client's errors.
"""

from __future__ import annotations

import base64
import http.client
import os
import select
import socket
import ssl
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit

from tesk import __version__
from tesk.storage.errors import reason

__all__ = ["Address", "Session", "Unreached", "address_of", "trusted"]

_LAST_WORDS = 65536
_AS_IT_IS = "!$%&'()*+,/:;=?@[]~#"


class Unreached(Exception):
    """There is no connection; the message is a clause, and `passing` says that there may be one the next time."""

    def __init__(self, clause: str, *, passing: bool) -> None:
        super().__init__(clause)
        self.passing = passing


class Address(NamedTuple):
    """Whom a URL speaks of, through which proxy, if any."""

    scheme: str
    host: str
    port: int
    proxy: str | None


def address_of(url: str) -> Address:
    """The server of `url`; the proxy is what `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` say. Raises ValueError."""
    parts = urlsplit(url)
    if not parts.hostname:
        raise ValueError("it names no host")
    if parts.scheme not in ("http", "https"):
        raise ValueError("it is no address on the web")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    host = parts.hostname.encode("idna").decode() if not parts.hostname.isascii() else parts.hostname
    proxies = urllib.request.getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    bypassed = proxy is not None and urllib.request.proxy_bypass(f"{host}:{port}")
    return Address(parts.scheme, host, port, None if bypassed else proxy)


class Session:
    """See the module. `hang_up` may be called from another thread and ends whatever blocks."""

    def __init__(
        self, address: Address, trust: Callable[[], ssl.SSLContext], *, connect_timeout: float, stall_timeout: float
    ) -> None:
        self.address = address
        self._trust = trust
        self._connect_timeout = connect_timeout
        self._stall_timeout = stall_timeout
        self._hung_up = False
        self._wire: http.client.HTTPConnection | None = None
        self._answer: http.client.HTTPResponse | None = None

    @property
    def fresh(self) -> bool:
        """Whether a kept connection is still good: a server that has something to say unasked has hung up."""
        if self._wire is None or self._wire.sock is None:
            return False
        waiting = select.poll()
        waiting.register(self._wire.sock, select.POLLIN)
        return not waiting.poll(0)

    def ask(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Callable[[http.client.HTTPConnection], None] | None = None,
    ) -> http.client.HTTPResponse:
        """The answer to a request, whose body `body` sends; follow no redirects."""
        wire = self._connected()
        parts = urlsplit(url)
        target = quote((parts.path or "/") + (f"?{parts.query}" if parts.query else ""), safe=_AS_IT_IS)
        everything = {"accept": "*/*", "accept-encoding": "identity", "user-agent": f"tesk/{__version__}", **headers}
        if parts.username is not None:
            everything["authorization"] = _basic(parts.username, parts.password)
        if self.address.proxy and self.address.scheme == "http":
            target = f"http://{parts.netloc.rpartition('@')[2]}{target}"
            everything |= _proxy_headers(self.address.proxy)
        wire.putrequest(method, target, skip_accept_encoding=True, skip_host=True)
        wire.putheader(
            "host", parts.netloc.rpartition("@")[2].encode("idna" if not parts.netloc.isascii() else "ascii")
        )
        for name, value in everything.items():
            wire.putheader(name, value)
        wire.endheaders()
        if body is not None:
            try:
                body(wire)
            except (BrokenPipeError, ConnectionResetError):
                with suppress(OSError, http.client.HTTPException):
                    self._answer = wire.getresponse()  # why it wants no more
                    return self._answer
                raise
        self._answer = wire.getresponse()
        return self._answer

    def finish(self, answer: http.client.HTTPResponse) -> bool:
        """Read what is left of a small answer; whether the connection can be used again."""
        with suppress(OSError, http.client.HTTPException):
            answer.read(_LAST_WORDS)
        whole = answer.isclosed()
        answer.close()
        return whole and self._wire is not None and self._wire.sock is not None

    def hang_up(self) -> None:
        """End what another thread is waiting for; the session is of no use any more."""
        self._hung_up = True
        if self._wire is not None and self._wire.sock is not None:
            with suppress(OSError):
                socket.socket.shutdown(self._wire.sock, socket.SHUT_RDWR)  # TLS's own one is not for two threads

    def close(self) -> None:
        """Give back the connection, which an answer that was not read to its end holds too."""
        if self._answer is not None:
            self._answer.close()
            self._answer = None
        if self._wire is not None:
            self._wire.close()
            self._wire = None

    def _connected(self) -> http.client.HTTPConnection:
        if self._wire is not None and self._wire.sock is not None:
            return self._wire
        self._wire = self._made()
        try:
            self._wire.connect()
        except ssl.SSLCertVerificationError as error:
            raise Unreached(f"its certificate is not trusted ({error.verify_message})", passing=False) from error
        except TimeoutError as error:
            raise Unreached("the server cannot be reached in time", passing=True) from error
        except UnicodeError as error:
            raise Unreached("its host is no name that could be looked up", passing=False) from error
        except OSError as error:
            raise Unreached(f"the server cannot be reached ({reason(error)})", passing=True) from error
        if self._hung_up:
            raise Unreached("it was given up", passing=True)
        self._wire.sock.settimeout(self._stall_timeout)
        return self._wire

    def _made(self) -> http.client.HTTPConnection:
        scheme, host, port, proxy = self.address
        timeout = self._connect_timeout
        near = urlsplit(proxy if "://" in proxy else f"http://{proxy}") if proxy else None
        at, on = (near.hostname or "", near.port or 80) if near else (host, port)
        if scheme == "http":
            return http.client.HTTPConnection(at, on, timeout=timeout)
        made = http.client.HTTPSConnection(at, on, timeout=timeout, context=self._trust())
        if proxy:
            made.set_tunnel(host, port, headers=_proxy_headers(proxy))
        return made


def trusted() -> ssl.SSLContext:
    """Whom to believe: `SSL_CERT_FILE` and `SSL_CERT_DIR`, else the certificates that come with certifi."""
    if os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR"):
        return ssl.create_default_context(
            cafile=os.environ.get("SSL_CERT_FILE") or None, capath=os.environ.get("SSL_CERT_DIR") or None
        )
    import certifi

    return ssl.create_default_context(cafile=certifi.where())


def _basic(user: str, password: str | None) -> str:
    pair = f"{unquote(user)}:{unquote(password or '')}"
    return f"Basic {base64.b64encode(pair.encode()).decode()}"


def _proxy_headers(proxy: str) -> dict[str, str]:
    parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    return {} if parts.username is None else {"proxy-authorization": _basic(parts.username, parts.password)}
