"""A web server that every step of a task passes: it holds a task at one step, and notes what passed how often."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["GateKeeper", "Passed", "gate_keeper"]

_LONGEST = 600.0


@dataclass
class Passed:
    """What passed for one task: each start of an executor as (step, host name), and each delivery's bytes."""

    held: str
    arrived: threading.Event = field(default_factory=threading.Event)
    opened: threading.Event = field(default_factory=threading.Event)
    starts: list[tuple[str, str]] = field(default_factory=list)
    delivered: list[bytes] = field(default_factory=list)


class GateKeeper:
    """Knows each task by a name of the test's; `url` is how pods reach it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.tasks: dict[str, Passed] = defaultdict(lambda: Passed(""))

    def expect(self, name: str, step: str) -> Passed:
        """From now on, hold the task `name` at `step` until its gate is opened."""
        self.tasks[name] = Passed(step)
        return self.tasks[name]

    def task(self, name: str, images: Sequence[str], **more: Any) -> dict[str, Any]:
        """A task whose input, two executors and output each come by; what it delivers shows what ran in its scratch.

        `images` are those of the executors.
        """
        here = f"{self.url}/{name}"
        executors = [
            f"cat /data/in >/data/trace; {_pass(here, 'executor-0')}",
            _pass(here, "executor-1"),
        ]
        return {
            "name": name,
            "inputs": [{"url": f"{here}/stage-in", "path": "/data/in"}],
            "outputs": [{"url": f"{here}/stage-out", "path": "/data/trace"}],
            "executors": [
                {"image": image, "command": ["sh", "-ec", one]} for image, one in zip(images, executors, strict=True)
            ],
            **more,
        }

    def input_of(self, name: str) -> bytes:
        """What the task gets."""
        return f"input of {name}\n".encode()

    def output_of(self, name: str) -> bytes:
        """What the task must deliver."""
        return self.input_of(name) + b"executor-0\nexecutor-1\n"


def _pass(here: str, step: str) -> str:
    return f"echo {step} >>/data/trace; wget -q -O /dev/null {here}/{step}/$(hostname)"


@contextlib.contextmanager
def gate_keeper(host: str) -> Iterator[GateKeeper]:
    """A gate keeper on a free port of the address `host`."""
    server = _Server((host, 0), _Handler)
    keeper = server.keeper = GateKeeper(f"http://{host}:{server.server_port}")  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield keeper
    finally:
        for one in keeper.tasks.values():
            one.opened.set()
        server.shutdown()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever asked was killed meanwhile."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        name, step, *host = self.path.strip("/").split("/")
        passed = self._keeper.tasks[name]
        if host:
            passed.starts.append((step, host[0]))
        self._hold(passed, step)
        self._answer(self._keeper.input_of(name))

    def do_HEAD(self) -> None:
        self._answer(self._keeper.input_of(self.path.split("/")[1]))

    def do_PUT(self) -> None:
        name, step = self.path.strip("/").split("/")
        body = self._body()
        passed = self._keeper.tasks[name]
        self._hold(passed, step)
        passed.delivered.append(body)
        self._answer(b"")

    @property
    def _keeper(self) -> GateKeeper:
        keeper: GateKeeper = self.server.keeper  # type: ignore[attr-defined]
        return keeper

    def _hold(self, passed: Passed, step: str) -> None:
        if passed.held == step:
            passed.arrived.set()
            passed.opened.wait(_LONGEST)

    def _body(self) -> bytes:
        if self.headers.get("transfer-encoding", "") != "chunked":
            return self.rfile.read(int(self.headers.get("content-length", "0")))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _answer(self, body: bytes) -> None:
        with contextlib.suppress(ConnectionError):  # whoever asked was killed meanwhile
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""
