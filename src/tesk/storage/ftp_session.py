"""One conversation with an FTP server, and how a URL names what lies there.

Calls block; they raise ftplib's errors, EOFError where the server hung up, and OSError. Paths are absolute and go
over the wire as bytes: UTF-8, or whatever the server's own names are.
"""

from __future__ import annotations

import ftplib
import socket
from collections.abc import Sequence
from contextlib import suppress
from time import monotonic
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from tesk.storage.errors import StorageError, redact
from tesk.storage.logins import ANONYMOUS, Login

__all__ = ["Place", "Server", "Session", "code_of", "heard", "place_of"]

_PORT = 21
_FRESH = 10.0
_NOT_KNOWN = frozenset({500, 501, 502, 503, 504})
_LONGEST_LISTING = 64 << 20


class Server(NamedTuple):
    """Where an FTP server listens, and as whom the URL itself says to log in."""

    host: str
    port: int
    login: Login | None


class Place(NamedTuple):
    """What an `ftp` URL names: an absolute path on a server."""

    server: Server
    path: str


def place_of(url: str) -> Place:
    """The place that `url` (percent-encoded, `ftp://[user[:password]@]host[:port]/path`) names.

    The path is absolute, as TESK always had it; `?` and `#` belong to it. Raises StorageError for what no FTP
    command could hold.
    """
    authority, _, path = url.partition("://")[2].partition("/")
    user, found, host = authority.rpartition("@")
    name, _, password = user.partition(":")
    try:
        parts = urlsplit(f"//{host}")
        server = Server(
            parts.hostname or "", parts.port or _PORT, Login(unquote(name), unquote(password)) if found else None
        )
    except ValueError:
        raise StorageError(f"{redact(url)} names no host: write ftp://host/path") from None
    if not server.host:
        raise StorageError(f"{redact(url)} names no host: write ftp://host/path")
    decoded = "/" + unquote(path, errors="surrogateescape").lstrip("/")
    if any(one in decoded + "".join(server.login or ()) for one in "\0\r\n"):
        raise StorageError(f"{redact(url)} holds a line break or NUL, which FTP cannot carry")
    if {".", ".."} & set(decoded.split("/")):
        raise StorageError(f"{redact(url)} cannot be used: it has '.' or '..' between slashes")
    return Place(server, decoded)


class Session:
    """A control connection and, one at a time, its data connections (passive). `hang_up` may be called from another
    thread and ends whatever blocks.
    """

    def __init__(
        self, server: Server, logins: Sequence[Login], *, connect_timeout: float, stall_timeout: float
    ) -> None:
        self._server = server
        self._logins = logins
        self._connect_timeout = connect_timeout
        self._stall_timeout = stall_timeout
        self._ftp = ftplib.FTP(encoding="latin-1")  # a byte is a character, so that no name is unreadable
        self._data: socket.socket | None = None
        self._hung_up = False
        self._used = 0.0
        self._machine = True

    def ready(self) -> None:
        """Connect and log in, with the first of the logins that the server takes; or see that it still listens."""
        if self._ftp.sock is not None:
            if monotonic() - self._used > _FRESH:
                self._ftp.voidcmd("NOOP")
            return
        self._ftp.connect(self._server.host, self._server.port, self._connect_timeout)
        self._still_wanted(self._ftp.sock)
        for login in self._logins:
            try:
                self._ftp.login(_wire(login.user), _wire(login.password))
                break
            except ftplib.Error as error:
                if login is self._logins[-1] or not isinstance(error, ftplib.error_perm):
                    raise type(error)(_without(login, str(error))) from None
        self._ftp.voidcmd("TYPE I")

    def size(self, path: str) -> int | None:
        """The bytes of the file at `path`, None where the server does not say."""
        try:
            answer = self._ftp.voidcmd(f"SIZE {_wire(path)}")
        except ftplib.error_perm:
            return None
        said = answer[3:].strip()
        return int(said) if said.isdecimal() else None

    def modified(self, path: str) -> str | None:
        """When the file at `path` was last changed, in the server's words, None where it does not say."""
        try:
            return self._ftp.voidcmd(f"MDTM {_wire(path)}")[3:].strip()
        except ftplib.error_perm:
            return None

    def is_directory(self, path: str) -> bool:
        """Whether `path` can be entered."""
        try:
            self._ftp.voidcmd(f"CWD {_wire(path)}")
        except ftplib.error_perm:
            return False
        return True

    def receive(self, path: str, at: int) -> socket.socket:
        """A connection that brings the file at `path` from position `at` on; then call `finish`."""
        return self._transfer(f"RETR {_wire(path)}", at)

    def send(self, path: str, at: int) -> socket.socket:
        """A connection that takes the file at `path` from position `at` on; then call `finish`."""
        return self._transfer(f"STOR {_wire(path)}", at)

    def finish(self) -> None:
        """End the transfer, and hear what the server has to say of it."""
        if self._data is not None:
            self._data.close()
            self._data = None
            self._ftp.voidresp()

    def listing(self, path: str) -> tuple[list[str], bool]:
        """The lines about the directory `path`, and whether they are those of MLSD, else of LIST."""
        self._ftp.voidcmd(f"CWD {_wire(path)}")  # LIST takes an argument with spaces or a dash for something else
        if self._machine:
            try:
                return self._lines("MLSD"), True
            except ftplib.error_perm as error:
                if code_of(error) not in _NOT_KNOWN:
                    raise
                self._machine = False
        try:
            found = self._lines("LIST -a")
        except ftplib.error_perm:
            found = []
        return found or self._lines("LIST"), False  # to some servers -a is a name

    def rename(self, path: str, name: str) -> None:
        """Give what lies at `path` the path `name`."""
        self._ftp.rename(_wire(path), _wire(name))

    def delete(self, path: str) -> None:
        """Delete the file at `path`."""
        self._ftp.delete(_wire(path))

    def make_directory(self, path: str) -> None:
        """Make the directory at `path` and those above it; one that is there is left as it is."""
        if self.is_directory(path):
            return
        above = path.rpartition("/")[0]
        if above:
            self.make_directory(above)
        try:
            self._ftp.voidcmd(f"MKD {_wire(path)}")
        except ftplib.error_perm:
            if not self.is_directory(path):  # others may make it too
                raise

    def rest(self) -> None:
        """Note that the session is idle from now on."""
        self._used = monotonic()

    def hang_up(self) -> None:
        """End what another thread is waiting for; the session is of no use any more."""
        self._hung_up = True
        for one in (self._ftp.sock, self._data):
            if one is not None:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Give back the connections."""
        if self._data is not None:
            self._data.close()
            self._data = None
        self._ftp.close()

    def _transfer(self, command: str, at: int = 0) -> socket.socket:
        data, _ = self._ftp.ntransfercmd(command, at or None)
        self._data = data
        self._still_wanted(data)
        return data

    def _still_wanted(self, connected: socket.socket | None) -> None:
        """Wait from now on as long for bytes as a transfer may stall."""
        if self._hung_up or connected is None:
            raise EOFError
        connected.settimeout(self._stall_timeout)

    def _lines(self, command: str) -> list[str]:
        data = self._transfer(command)
        found = bytearray()
        while block := data.recv(65536):
            found += block
            if len(found) > _LONGEST_LISTING:
                raise ftplib.error_proto("the directory is too large to be listed")
        self.finish()
        return [one.rstrip(b"\r").decode("utf-8", "surrogateescape") for one in found.split(b"\n") if one.rstrip(b"\r")]


def code_of(error: ftplib.Error) -> int:
    """The number that the server's answer begins with, 0 if none."""
    number = str(error)[:3]
    return int(number) if number.isdecimal() else 0


def heard(error: ftplib.Error) -> str:
    """The server's answer as it was meant."""
    return str(error).encode("latin-1", "replace").decode("utf-8", "surrogateescape")


def _without(login: Login, said: str) -> str:
    """A server's answer to `login`, should it quote what it was sent."""
    return said.replace(_wire(login.password), "…") if login is not ANONYMOUS and login.password else said


def _wire(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("latin-1")
