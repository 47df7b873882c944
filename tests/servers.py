"""Real servers for tests: an S3 server, a web server that misbehaves on demand, a wire that can be cut."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

__all__ = [
    "Answer",
    "Conversation",
    "FtpServer",
    "S3Server",
    "WebServer",
    "answering",
    "cutting_wire",
    "ftp_server",
    "s3_server",
    "serving_ftp",
    "serving_s3",
    "web_server",
]

Conversation = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class S3Server:
    """A running S3 server over `directory`; each directory in there is a bucket."""

    endpoint: str
    access_key_id: str
    secret_access_key: str
    directory: Path

    @property
    def environment(self) -> dict[str, str]:
        """The `AWS_*` variables that reach it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret_access_key,
            "AWS_REGION": "us-east-1",
        }

    def bucket(self, name: str) -> Path:
        """Make the bucket `name` and return its directory."""
        made = self.directory / name
        made.mkdir()
        return made


def versitygw() -> str:
    """The path of the S3 server's program; skips the test where there is none."""
    named = os.environ.get("TESK_TEST_VERSITYGW") or shutil.which("versitygw")
    if named:
        return named
    tool = Path(__file__).parents[2] / "shared" / "kube" / "cluster"
    if tool.is_file():
        found = subprocess.run([tool, "tool", "versitygw"], capture_output=True, text=True, check=False)
        if found.returncode == 0 and Path(found.stdout.strip()).is_file():
            return found.stdout.strip()
    pytest.skip("no S3 server here: put versitygw on the PATH, or its path into the variable TESK_TEST_VERSITYGW")


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """An S3 server on a free port, for the whole session."""
    with serving_s3(tmp_path_factory.mktemp("s3")) as server:
        yield server


@contextlib.contextmanager
def serving_s3(directory: Path, host: str = LOOPBACK) -> Iterator[S3Server]:
    """An S3 server over `directory/data` on a free port of the address `host`; skips where there is no such program."""
    program = versitygw()
    data = directory / "data"
    data.mkdir()
    port = _free_port(host)
    server = S3Server(f"http://{host}:{port}", "tester", "tester-secret", data)
    command = [program, "--access", "tester", "--secret", "tester-secret", "--port", f"{host}:{port}"]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen([*command, "posix", str(data)], stdout=log, stderr=log)
    try:
        _wait_for(host, port, process)
        yield server
    finally:
        process.terminate()
        process.wait(10)


@dataclass(frozen=True)
class FtpServer:
    """A running FTP server over `directory`, for anonymous and for the user `me` with the password `p@ss/word`."""

    port: int
    directory: Path
    host: str = LOOPBACK

    @property
    def url(self) -> str:
        """The server's address, without a slash at its end."""
        return f"ftp://{self.host}:{self.port}"

    def go_wrong(self, *faults: dict[str, Any]) -> None:
        """Do these next, each once or `times`: close the connection, or give `reply`, at a `command`; close it, or
        `stall`, `after` so many bytes of a file.
        """
        (self.directory.parent / "faults.json").write_text(json.dumps([{"command": "", **one} for one in faults]))

    def commands(self, name: str) -> list[str]:
        """The arguments of the commands `name` so far."""
        log = self.directory.parent / "commands"
        lines = (one.partition(" ") for one in log.read_text().splitlines()) if log.exists() else ()
        return [argument for command, _, argument in lines if command == name]


@contextlib.contextmanager
def serving_ftp(directory: Path, *arguments: str, host: str = LOOPBACK) -> Iterator[FtpServer]:
    """An FTP server over `directory/data` on a free port, with the `arguments` of `tests.ftp_server`."""
    data = directory / "data"
    data.mkdir(parents=True)
    command = [sys.executable, "-m", "tests.ftp_server", str(data), f"--host={host}", *arguments]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, stderr=log)
    try:
        assert process.stdout is not None
        port = process.stdout.readline()
        assert port, (directory / "log").read_text()
        yield FtpServer(int(port), data, host)
    finally:
        process.kill()  # told to end, it would wait for clients that keep their sessions
        process.wait(10)
        assert process.stdout is not None
        process.stdout.close()


@pytest.fixture
def ftp_server(tmp_path: Path) -> Iterator[FtpServer]:
    """An FTP server that can all that is asked of it, unless told otherwise."""
    with serving_ftp(tmp_path / "ftp") as server:
        yield server


@dataclass
class Answer:
    """One thing a `WebServer` does instead of what was asked.

    `status` with `headers` and no file; or, with `cut`, the file's first bytes and then a closed connection; or, with
    `stall`, the same and then silence; or, `spoilt`, the file with one byte wrong.
    """

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    stall: int | None = None
    spoilt: bool = False


class WebServer:
    """A web server in threads: GET with ranges, PUT, and per path a list of `Answer`s that it gives first."""

    def __init__(self, host: str = LOOPBACK) -> None:
        self.files: dict[str, bytes] = {}
        self.etags: dict[str, str] = {}
        self.headers: dict[str, dict[str, str]] = {}
        self.answers: defaultdict[str, list[Answer]] = defaultdict(list)
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        self.ending = threading.Event()
        self.ranges = True
        owner = self

        class Handler(_Handler):
            web = owner

        self._server = ThreadingHTTPServer((host, 0), Handler)
        self._server.daemon_threads = False  # `close` waits for them, so that no connection outlives the test
        self.connections: set[socket.socket] = set()
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    @property
    def url(self) -> str:
        """The server's address, without a slash at its end."""
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}"

    def methods(self, path: str) -> list[str]:
        """The methods of the requests for `path` so far."""
        return [method for method, at, _ in self.seen if at == path]

    def close(self) -> None:
        """End the server and what it stalls."""
        self.ending.set()
        self._server.shutdown()
        self._thread.join()
        for connection in list(self.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    web: WebServer
    protocol_version = "HTTP/1.1"
    timeout = 5.0  # seconds without a byte

    def setup(self) -> None:
        """Let the server end this connection."""
        super().setup()
        self.web.connections.add(self.connection)

    def finish(self) -> None:
        """Forget it."""
        self.web.connections.discard(self.connection)
        super().finish()

    def log_message(self, *args: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        answer = self._begin()
        if answer and answer.status:
            self._status(answer.status, answer.headers)
            return
        body = self.web.files.get(self.path)
        if body is None:
            self._status(404, {})
            return
        etag = self.web.etags.get(self.path, '"one"')
        start = self._start(etag)
        self.send_response(206 if start else 200)
        if start:
            self.send_header("content-range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("content-length", str(len(body) - start))
        self.send_header("etag", etag)
        for key, one in self.web.headers.get(self.path, {}).items():
            self.send_header(key, one)
        self.end_headers()
        rest = body[start:]
        if answer and answer.spoilt:
            rest = bytes([rest[0] ^ 1]) + rest[1:]
        if answer and answer.cut is not None:
            self.wfile.write(rest[: answer.cut])
            self.close_connection = True
            return
        if answer and answer.stall is not None:
            self.wfile.write(rest[: answer.stall])
            self.wfile.flush()
            self.web.ending.wait(30)
            self.close_connection = True
            return
        with contextlib.suppress(ConnectionError):
            self.wfile.write(rest)

    def do_PUT(self) -> None:
        answer = self._begin()
        body = self.rfile.read(int(self.headers["content-length"]))
        if len(body) < int(self.headers["content-length"]):
            self.close_connection = True
            return
        if answer and answer.status:
            self._status(answer.status, answer.headers)
            return
        self.web.files[self.path] = body
        self._status(201, {})

    def _begin(self) -> Answer | None:
        self.web.seen.append((self.command, self.path, {key.lower(): one for key, one in self.headers.items()}))
        waiting = self.web.answers[self.path]
        return waiting.pop(0) if waiting else None

    def _start(self, etag: str) -> int:
        asked = self.headers.get("range", "")
        if not self.web.ranges or not asked or self.headers.get("if-range") != etag:
            return 0
        return int(asked.removeprefix("bytes=").removesuffix("-"))

    def _status(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, one in headers.items():
            self.send_header(key, one)
        self.send_header("content-length", "0")
        self.end_headers()


@pytest.fixture
def web_server() -> Iterator[WebServer]:
    """A web server on a free port."""
    server = WebServer()
    try:
        yield server
    finally:
        server.close()


@contextlib.contextmanager
def cutting_wire(endpoint: str, *, after: int, times: int) -> Iterator[str]:
    """The address of a wire to `endpoint` that is cut after `after` bytes from there, on its first `times` answers."""
    host, _, port = endpoint.removeprefix("http://").partition(":")
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.05)
    left = [times]
    ending = threading.Event()
    threads: list[threading.Thread] = []

    def listen() -> None:
        while not ending.is_set():
            try:
                near, _ = listener.accept()
            except TimeoutError:
                continue
            far = socket.create_connection((host, int(port)))
            for source, target, counted in ((near, far, False), (far, near, True)):
                threads.append(threading.Thread(target=carry, args=(source, target, counted)))
                threads[-1].start()

    def carry(source: socket.socket, target: socket.socket, counted: bool) -> None:
        carried = 0
        source.settimeout(0.05)
        with contextlib.suppress(OSError):
            while not ending.is_set():
                try:
                    block = source.recv(65536)
                except TimeoutError:
                    continue
                if not block:
                    break
                carried += len(block)
                if counted and carried > after and left[0] > 0:
                    left[0] -= 1
                    break
                target.sendall(block)
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        if counted:
            time.sleep(0.1)
            source.close()
            target.close()

    listening = threading.Thread(target=listen)
    listening.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        ending.set()
        listening.join()
        for one in threads:
            one.join()
        listener.close()


@contextlib.asynccontextmanager
async def answering(answer: Conversation) -> AsyncIterator[str]:
    """The address of a server that has the conversation `answer` on each connection; all of them end with it."""
    tasks: set[asyncio.Task[None]] = set()

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await answer(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    server = await asyncio.start_server(converse, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await asyncio.gather(*tasks)


def _free_port(host: str) -> int:
    with socket.create_server((host, 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def _wait_for(host: str, port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        if process.poll() is not None:
            pytest.fail(f"the S3 server ended with exit code {process.returncode} while it started")
        with contextlib.suppress(OSError), socket.create_connection((host, port), 1):
            return
        time.sleep(0.02)
    pytest.fail("the S3 server did not open its port within 15 seconds")
