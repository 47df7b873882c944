"""The keeper of client programs: each carries one executor's streams, as `podman run` does, and outlives the server.

Its settings: none. A run: {"command", "environment"}, the client; {"remove"}, the command that ends its container from
outside, or nothing where the client's process group is all there is; {"ask"}, a command whose answer is wanted where
the client failed; {"stays"}, whether the container is there until it is removed; {"stdin", "stdout", "stderr",
"files"}, the container paths of redirects and where they lie; {"streams"}, the directory of the logs; {"note"}, a
file for the client's process number and start time; {"directory"}, where it is started. What it tells of the end:
tesk.backends.local.foreground.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import os
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from tesk.backends.local.keeping.keeper import TOO_LONG, Keeper, claim, given, tell
from tesk.backends.local.streams import Sink, redirect_flags, unkept
from tesk.storage.view import from_description

__all__ = ["main", "start_of"]

REMOVE_INTERVAL = 2.0
REMOVE_TIMEOUT = 60.0
REMOVE_TRIES = 3
CHUNK = 1 << 16
HEAD = 4096
NOT_EXECUTABLE = 126
STACK = 1 << 18


def main() -> None:
    """Run as the keeper."""
    channel, listener, _ = given()
    if os.fork():
        os._exit(0)  # nobody waits for the child
    os.setsid()
    threading.stack_size(STACK)
    _ClientKeeper(channel, listener).serve()
    os._exit(0)


def start_of(process: int) -> str:
    """When it began, in the kernel's ticks since the machine's start: proc(5), field 22 of stat; "" if it is gone."""
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[19]
    except OSError:
        return ""


class _ClientKeeper(Keeper):
    def __init__(self, channel: socket.socket, listener: socket.socket | None) -> None:
        self._runs: dict[str, _Run] = {}
        self._over: list[str] = []
        super().__init__(channel, listener)

    def running(self) -> list[str]:
        return list(self._runs)

    def start(self, key: str, run: dict[str, Any]) -> None:
        def over() -> None:
            self._over.append(key)
            self.wake()

        try:
            made = _Run(run, over)
            made.start()
        except (OSError, RuntimeError):  # its directory is gone, or there is no thread more
            self.gone(key)
        else:
            self._runs[key] = made

    def kill(self, key: str) -> None:
        if (run := self._runs.get(key)) is not None:
            run.kill()

    def reap(self) -> Iterator[str]:
        while self._over:
            key = self._over.pop()
            del self._runs[key]
            yield key

    def finish(self) -> None:
        for run in self._runs.values():
            run.kill()
        for run in self._runs.values():
            run.join()


class _Run(threading.Thread):
    """One client from its start to its end."""

    def __init__(self, run: dict[str, Any], over: Callable[[], None]) -> None:
        super().__init__()
        self._run = run
        self._over = over
        self._end_file = claim(run)
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._remover: threading.Thread | None = None
        self._is_over = False
        self._dead_read, self._dead_write = os.pipe()
        self._first = b""
        self._last = b""
        self._silent = True
        self._fault: str | None = None

    def run(self) -> None:
        """Carry it, tidy up after it, tell."""
        try:
            end = self._to_end()
        except BaseException as error:  # noqa: BLE001 - the server must hear of whatever it was
            end = {"fault": f"its client could not be watched: {error!r}"}
        with self._lock:
            self._is_over = True
        if self._remover is not None:
            self._remover.join()
        with contextlib.suppress(OSError):  # its directory may be gone
            tell(self._end_file, end)
        os.close(self._dead_read)
        os.close(self._dead_write)
        self._over()

    def kill(self) -> None:
        """End the container, and the client if it does not end with that; from another thread."""
        with self._lock:
            if self._is_over or self._remover is not None:
                return
            self._remover = threading.Thread(target=self._remove_and_kill, args=(self._process,))
            self._remover.start()

    def _to_end(self) -> dict[str, Any]:
        run, start = self._run, time.time()
        with contextlib.ExitStack() as closing:
            streams = os.open(run["streams"], os.O_RDONLY | os.O_DIRECTORY)
            closing.callback(os.close, streams)
            write = redirect_flags(run["stdout"], run["stderr"]) | os.O_CREAT | os.O_TRUNC
            try:
                stdin = self._open("stdin", os.O_RDONLY, closing)
                out = self._open("stdout", write, closing)
                err = self._open("stderr", write, closing)
            except _CannotOpenError as error:
                return {"fault": str(error)}
            try:
                with self._lock:
                    if self._remover is not None:
                        return {}
                    process = self._process = self._begin(stdin)
            except OSError as error:
                if error.errno != errno.E2BIG:
                    return {"fault": f"{run['command'][0]} cannot be started: {error}"}
                return {"start": start, "end": time.time(), "code": NOT_EXECUTABLE, "problem": TOO_LONG}
            for pipe in (process.stdout, process.stderr):
                closing.callback(pipe.close)  # type: ignore[union-attr]
            self._note(process.pid)
            sinks = {
                _fileno(process.stdout): Sink(streams, "stdout", run["stdout"], out),
                _fileno(process.stderr): Sink(streams, "stderr", run["stderr"], err),
            }
            self._pump(sinks, _fileno(process.stderr))
            if self._remover is not None:
                return {}
            code = process.wait()
        end: dict[str, Any] = {
            "start": start,
            "end": time.time(),
            "code": code,
            "first": base64.b64encode(self._first).decode(),
            "last": base64.b64encode(self._last).decode(),
            "silent": self._silent,
            "fault": self._fault,
            "problem": unkept(sinks.values()) or None,
        }
        if code > 0 and run["ask"]:
            end["answer"] = _call(run["ask"])
        if code < 0 or run["stays"]:
            self._remove()
        return end

    def _open(self, name: str, flags: int, closing: contextlib.ExitStack) -> int | None:
        """The file that a redirect's container path names; never outside the task's files, whatever links say."""
        path = self._run[name]
        if path is None or path == "/dev/null":
            return None
        try:
            fd = from_description(self._run["files"]).open(path, flags, 0o644)
        except OSError as error:
            raise _CannotOpenError(f"{path} cannot be opened: {error.strerror or error}") from error
        closing.callback(os.close, fd)
        return fd

    def _begin(self, stdin: int | None) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self._run["command"],
            stdin=subprocess.DEVNULL if stdin is None else stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self._run["environment"],
            cwd=self._run["directory"],
            start_new_session=True,
        )

    def _note(self, process: int) -> None:
        if self._run["note"]:
            with contextlib.suppress(OSError), open(self._run["note"], "w") as file:
                file.write(f"{process} {start_of(process)}")

    def _pump(self, sinks: dict[int, Sink], err: int) -> None:
        """Carry the streams until they end; or until the client is dead that was to be killed, whoever holds them."""
        poll = select.poll()
        for one in (self._dead_read, *sinks):
            poll.register(one, select.POLLIN)
        left = set(sinks)
        while left:
            for fd, _ in poll.poll():
                if fd == self._dead_read:
                    left.clear()
                    break
                data = os.read(fd, CHUNK)
                if data:
                    self._hear(data, of_client=fd == err)
                    self._carry(data, sinks[fd])
                else:
                    poll.unregister(fd)
                    left.remove(fd)
        for sink in sinks.values():
            sink.close()

    def _hear(self, data: bytes, *, of_client: bool) -> None:
        if of_client:
            self._first += data[: HEAD - len(self._first)]
            self._last = (self._last + data)[-HEAD:]
        else:
            self._silent = False

    def _carry(self, data: bytes, sink: Sink) -> None:
        try:
            sink.write(data)
        except OSError as error:
            self._fault = self._fault or sink.fault(error)
            sink.drop()

    def _remove_and_kill(self, process: subprocess.Popen[bytes] | None) -> None:
        for _ in range(REMOVE_TRIES):
            self._remove()  # also a container that the client is only about to make
            if process is None:
                return
            try:
                process.wait(REMOVE_INTERVAL)
                break
            except subprocess.TimeoutExpired:
                process.kill()
        os.write(self._dead_write, b"\0")

    def _remove(self) -> None:
        if self._run["remove"]:
            _call(self._run["remove"])
        elif self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)


class _CannotOpenError(Exception):
    """A redirect's file; the message says which and why."""


def _fileno(pipe: Any) -> int:
    number: int = pipe.fileno()
    return number


def _call(command: list[str]) -> str:
    """What it prints; nothing where it cannot be run or does not answer."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=REMOVE_TIMEOUT,
            start_new_session=True,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode("utf-8", "replace").strip()[:HEAD]
