"""`tesk serve` as a process: with sockets to inherit, told to stop, started again."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import tesk

SOURCE = str(Path(tesk.__file__).parent.parent)


@dataclass
class Process:
    """One running server."""

    process: subprocess.Popen[str]
    url: str
    log: Path

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def stop(self) -> None:
        """Tell it to stop in order and wait until it has."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(30) == 0, self.log.read_text()


@contextlib.contextmanager
def serving(
    directory: Path,
    *,
    inherit: Sequence[socket.socket] = (),
    names: str = "",
    terminal: int = subprocess.DEVNULL,
    **settings: str,
) -> Iterator[Process]:
    """`tesk serve` over `directory`, with `settings` as environment variables and `inherit` as systemd hands it over.

    `terminal` becomes its stdin.
    Skips where there is no sandbox. Ends the server if the test has not.
    """
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("TESK_", "LISTEN_"))}
    path = os.pathsep.join([SOURCE, *filter(None, [environ.get("PYTHONPATH")])])
    environ |= {
        "PYTHONPATH": path,
        "TESK_STATE_DIRECTORY": str(directory / "state"),
        "TESK_SERVER_PORT": "0",
        "TESK_SERVER_ACCESS_LOG": "false",
        "TESK_LOCAL_ENGINE": "sandbox",
        "TESK_LOCAL_LASTING": "false",
        **settings,
    }
    command = [sys.executable, "-m", "tesk", "serve"]
    if inherit:
        # sockets must be descriptors 3, 4, …, and only the process itself knows its number
        moves = " ".join(f"{3 + index}<&{one.fileno()}" for index, one in enumerate(inherit))
        environ |= {"LISTEN_FDS": str(len(inherit)), "LISTEN_FDNAMES": names}
        command = ["bash", "-c", f'LISTEN_PID=$$ exec "$@" {moves}', "bash", *command]
    log = directory / "server.log"
    with log.open("ab") as errors:
        process = subprocess.Popen(
            command,
            cwd=directory,
            env=environ,
            text=True,
            stdin=terminal,
            stdout=subprocess.PIPE,
            stderr=errors,
            pass_fds=[one.fileno() for one in inherit],
        )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line:
            process.wait(10)
            said = log.read_text()
            if "no engine works" in said:
                pytest.skip(f"no sandbox here; allow user namespaces: {said}")
            pytest.fail(said)
        yield Process(process, line.split()[-1], log)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@dataclass
class Seen:
    """What a client of `asking` saw."""

    statuses: list[int] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    cut: list[str] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    longest_refusal: float = 0.0
    """Seconds between the first refusal and the next connection, the longest such time."""


class _Asking(threading.Thread):
    def __init__(
        self, port: int, request: tuple[str, str, bytes | None], keep: bool, pause: float, ended: threading.Event
    ) -> None:
        super().__init__(daemon=True)
        self.port, self.request, self.keep, self.pause, self.ended = port, request, keep, pause, ended
        self.seen = Seen()

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        refused_at = 0.0
        while not self.ended.wait(self.pause):
            try:
                if connection.sock is None:
                    connection.connect()
                    if refused_at:
                        refusal = time.monotonic() - refused_at
                        self.seen.longest_refusal = max(self.seen.longest_refusal, refusal)
                        refused_at = 0.0
                connection.request(*self.request, headers={} if self.keep else {"Connection": "close"})
                answer = connection.getresponse()
                self.seen.bodies.append(answer.read())
                self.seen.statuses.append(answer.status)
            except ConnectionRefusedError:
                refused_at = refused_at or time.monotonic()
                self.seen.refused.append(refused_at)
                connection.close()
            except (OSError, http.client.HTTPException) as error:
                self.seen.cut.append(repr(error))
                connection.close()
        connection.close()


class Clients:
    """Clients that each send one request again and again; use it in a `with`."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._ended = threading.Event()
        self._threads: list[_Asking] = []

    def ask(self, method: str, path: str, body: bytes | None = None, *, keep: bool = True, pause: float = 0.01) -> Seen:
        """Begin one more, on one connection or (not `keep`) on one for each request."""
        thread = _Asking(self.port, (method, path, body), keep, pause, self._ended)
        self._threads.append(thread)
        thread.start()
        return thread.seen

    def until_answered(self, times: int = 3) -> None:
        """Wait until each has been answered `times` more often."""
        goals = [(one.seen, len(one.seen.statuses) + times) for one in self._threads]
        until(lambda: all(len(seen.statuses) >= goal for seen, goal in goals))

    def end(self) -> None:
        """Let each end its request and go."""
        self._ended.set()
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()

    def __enter__(self) -> Clients:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


def until(reached: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait until `reached`."""
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end, f"not reached within {seconds} s"
        time.sleep(0.02)


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
