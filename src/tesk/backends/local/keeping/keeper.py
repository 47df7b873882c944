"""A keeper: the one process that starts executors, and that may outlive the server that started it.

The server starts it once and speaks with it over a socket, a line of JSON a message. It imports next to nothing, and
runs with the standard library alone. When the server's end of the socket closes, also by kill -9, it ends, and every
executor with it; but where it has a socket to listen on, it stays while executors run, for the next server to call.

Messages to it:   first its settings;
                  then {"id", "run": {...}}, {"id", "kill": true}, {"end": true}
Messages from it: {"ready": true, "running": [id, ...]} to whoever calls, or {"failed": sentence};
                  {"id", "gone": true} when no process of `id` is left.
How the executor ended stands in the file `run["end"]`, which is there before the executor is (`claim`), and is whole
before the executor is gone (`tell`); one that never gets whole is of an executor that was killed.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import socket
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

__all__ = ["TOO_LONG", "Keeper", "claim", "given", "send", "tell"]

TOO_LONG = "its command line and environment are longer than Linux allows"


class Keeper(ABC):
    """Works for one server after the other.

    Args:
        channel: the line to the server.
        listener: where the next server calls; None where executors end with this one.
    """

    def __init__(self, channel: socket.socket, listener: socket.socket | None) -> None:
        self._channel: socket.socket | None = channel
        self._listener = listener
        self._ended = False
        self._buffer = bytearray()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake_write)
        for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # For the server, which tells us by closing the socket. Not ignored: that would go on to what we start.
            signal.signal(one, lambda *_: None)
        gc.disable()
        gc.freeze()

    @abstractmethod
    def running(self) -> list[str]:
        """The executors of which some process may be left."""

    @abstractmethod
    def start(self, key: str, run: dict[str, Any]) -> None:
        """Start an executor."""

    @abstractmethod
    def kill(self, key: str) -> None:
        """End an executor, with all its processes; it may be gone already."""

    @abstractmethod
    def reap(self) -> Iterable[str]:
        """The executors that are gone since it was last asked; asked after each SIGCHLD and each `wake`."""

    @abstractmethod
    def finish(self) -> None:
        """End all executors: nobody waits for them."""

    def wake(self) -> None:
        """Have `reap` asked, from any thread."""
        with contextlib.suppress(BlockingIOError):  # then it is asked anyway
            os.write(self._wake_write, b"\0")

    def serve(self) -> None:
        """Until there is nothing more to do: no server, and nothing that runs for the next one."""
        self._greet()
        while not self._ended and (self._channel is not None or (self._listener is not None and self.running())):
            poll = select.poll()
            for one in (self._channel, self._listener, self._wake_read):
                if one is not None:
                    poll.register(one, select.POLLIN)
            ready = {fd for fd, _ in poll.poll()}
            if self._channel is not None and self._channel.fileno() in ready:
                self._receive()
            elif self._listener is not None and self._listener.fileno() in ready:
                self._welcome(self._listener)
            if self._wake_read in ready:
                os.read(self._wake_read, 4096)
                for key in self.reap():
                    self.gone(key)
        self.finish()

    def gone(self, key: str) -> None:
        """Tell the server that no process of `key` is left."""
        self._tell({"id": key, "gone": True})

    def _greet(self) -> None:
        self._tell({"ready": True, "running": self.running()})

    def _welcome(self, listener: socket.socket) -> None:
        """Work for a new server; what its predecessor said has been heard."""
        caller, _ = listener.accept()
        self._leave()
        self._channel = caller
        self._greet()

    def _leave(self) -> None:
        """The server is gone."""
        if self._channel is not None:
            self._channel.close()
        self._channel = None
        self._buffer.clear()

    def _tell(self, message: dict[str, Any]) -> None:
        if self._channel is not None:
            send(self._channel, message)

    def _receive(self) -> None:
        """Take what the server says."""
        assert self._channel is not None
        try:
            data = self._channel.recv(1 << 20)
        except ConnectionResetError:
            data = b""
        self._buffer += data
        while (end := self._buffer.find(b"\n")) >= 0:
            message = json.loads(self._buffer[:end])
            del self._buffer[: end + 1]
            if "run" in message:
                self.start(message["id"], message["run"])
            elif "kill" in message:
                self.kill(message["id"])
            else:
                self._ended = True
        if not data:
            self._leave()


def given() -> tuple[socket.socket, socket.socket | None, dict[str, Any]]:
    """The line to the server, the socket to listen on, and the settings.

    argv holds the descriptors of the sockets. The settings do not stand there, since executors may read it.
    """
    channel = socket.socket(fileno=int(sys.argv[1]))
    listener = socket.socket(fileno=int(sys.argv[2])) if len(sys.argv) > 2 else None
    with channel.makefile("rb", buffering=0) as lines:
        return channel, listener, json.loads(lines.readline())


def send(channel: socket.socket, message: dict[str, Any]) -> None:
    """Say it to a server that may be gone."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        channel.sendall(json.dumps(message).encode() + b"\n")


def claim(run: dict[str, Any]) -> int:
    """The file of an executor's end, open: it is there from now on, so that nothing runs twice."""
    os.rename(run["room"], run["end"])
    return os.open(run["end"], os.O_WRONLY | os.O_CLOEXEC)


def tell(file: int, end: dict[str, Any]) -> None:
    """Write down how an executor ended; room for it was made before anything could fill the disk."""
    os.ftruncate(file, os.write(file, json.dumps(end).encode()))
    os.close(file)
