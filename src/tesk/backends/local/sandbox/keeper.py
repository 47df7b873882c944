"""The keeper: the one process that starts sandboxed executors, and with which all of them end.

The server starts it once and speaks with it over a socket, a line of JSON a message. It is process 1 of a PID
namespace (and, for an ordinary user, root of a user namespace), so the kernel ends every executor with it, whatever
they did. It imports next to nothing: it forks once an executor, and what it holds in memory is what each of them costs.

When the server's end of the socket closes, also by kill -9, it ends itself; but where it has a socket to listen on, it
stays while executors run, for the next server to call.

Messages to it:   first the settings {"space", "hidden", "identity", "network"};
                  then {"id", "run": {...}}, {"id", "kill": true}, {"end": true}
Messages from it: {"ready": true, "running": [id, ...]} to whoever calls, or {"failed": sentence};
                  {"id", "gone": true} when no process of `id` is left.
How the executor ended stands in the file `run["end"]`, written before; without it the executor was killed.
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
from typing import Any

from tesk.backends.local.sandbox import kernel, root
from tesk.backends.local.sandbox.launch import launch

__all__ = ["main"]

SETUP = kernel.CLONE_NEWNS | kernel.CLONE_NEWPID


def main() -> None:
    """Run as the keeper; argv holds the descriptors of the socket on which the settings come first, and of that to
    listen on, if any."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    listener = socket.socket(fileno=int(sys.argv[2])) if len(sys.argv) > 2 else None
    # Not in argv: every executor can read its process 1's command line.
    with channel.makefile("rb", buffering=0) as lines:
        settings: dict[str, Any] = json.loads(lines.readline())
    try:
        _enter_namespaces()
    except OSError as error:
        _send(channel, {"failed": _why_not(error)})
        return
    if os.fork():
        os._exit(0)  # the child is process 1 of the new PID namespace; nobody waits for us
    os.setsid()
    try:
        keeper = _Keeper(channel, listener, settings)
    except OSError as error:
        _send(channel, {"failed": f"the sandbox cannot be prepared: {error}"})
        return
    keeper.greet()
    keeper.run()
    os._exit(0)


def _enter_namespaces() -> None:
    user, group = os.getuid(), os.getgid()
    if user == 0:
        kernel.unshare(SETUP)
        return
    kernel.unshare(SETUP | kernel.CLONE_NEWUSER)
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{user} {user} 1"),
        ("gid_map", f"{group} {group} 1"),
    ):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def _why_not(error: OSError) -> str:
    """What the person who runs the server has to allow."""
    if os.getuid() == 0:
        return (
            f"this machine does not let root make namespaces ({error.strerror}); in a container, give it CAP_SYS_ADMIN "
            "or install podman"
        )
    return (
        f"this machine does not let an ordinary user make namespaces ({error.strerror}); allow it with "
        "'sysctl kernel.unprivileged_userns_clone=1' or 'sysctl kernel.apparmor_restrict_unprivileged_userns=0', "
        "or install podman"
    )


def _send(channel: socket.socket, message: dict[str, Any]) -> None:
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        channel.sendall(json.dumps(message).encode() + b"\n")


class _Keeper:
    def __init__(self, channel: socket.socket, listener: socket.socket | None, settings: dict[str, Any]) -> None:
        self.channel: socket.socket | None = channel
        self.listener = listener
        self.ended = False
        self.settings = settings
        self.running: dict[int, str] = {}
        self.buffer = bytearray()
        kernel.make_private()
        space = settings["space"]
        kernel.mount("tmpfs", space, "mode=755,size=1m")
        kernel.mount("proc", "/proc", flags=kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
        self.base, self.root = f"{space}/base", f"{space}/root"
        os.mkdir(self.root)
        root.prepare(self.base, settings["hidden"])
        self.namespace = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        wake_read, self.wake_write = os.pipe()
        os.set_blocking(wake_read, False)
        os.set_blocking(self.wake_write, False)
        self.wake_read = wake_read
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self.wake_write)
        for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(one, signal.SIG_IGN)  # a Ctrl-C is for the server, which tells us by closing the socket
        gc.disable()
        gc.freeze()

    def run(self) -> None:
        """Until there is nothing more to do: no server, and nothing that runs for the next one."""
        while not self.ended and (self.channel is not None or (self.listener is not None and self.running)):
            poll = select.poll()
            for one in (self.channel, self.listener, self.wake_read):
                if one is not None:
                    poll.register(one, select.POLLIN)
            ready = {fd for fd, _ in poll.poll()}
            if self.channel is not None and self.channel.fileno() in ready:
                self.receive()
            elif self.listener is not None and self.listener.fileno() in ready:
                self.welcome(self.listener)
            if self.wake_read in ready:
                os.read(self.wake_read, 4096)
                self.reap()

    def greet(self) -> None:
        """Say to who called what runs."""
        self.tell({"ready": True, "running": list(self.running.values())})

    def welcome(self, listener: socket.socket) -> None:
        """Work for a new server; what its predecessor said has been heard."""
        caller, _ = listener.accept()
        self.leave()
        self.channel = caller
        self.greet()

    def leave(self) -> None:
        """The server is gone."""
        if self.channel is not None:
            self.channel.close()
        self.channel = None
        self.buffer.clear()

    def tell(self, message: dict[str, Any]) -> None:
        if self.channel is not None:
            _send(self.channel, message)

    def receive(self) -> None:
        """Take what the server says."""
        assert self.channel is not None
        try:
            data = self.channel.recv(1 << 20)
        except ConnectionResetError:
            data = b""
        self.buffer += data
        while (end := self.buffer.find(b"\n")) >= 0:
            message = json.loads(self.buffer[:end])
            del self.buffer[: end + 1]
            if "run" in message:
                self.start(message["id"], message["run"])
            elif "kill" in message:
                self.kill(message["id"])
            else:
                self.ended = True
        if not data:
            self.leave()

    def start(self, key: str, run: dict[str, Any]) -> None:
        kernel.unshare(kernel.CLONE_NEWPID)  # the next child is process 1 of a namespace of its own
        try:
            pid = os.fork()
        except OSError:
            pid = -1
        if pid == 0:
            settings = self.settings
            launch(run, base=self.base, root=self.root, identity=settings["identity"], network=settings["network"])
        kernel.setns(self.namespace, kernel.CLONE_NEWPID)
        if pid > 0:
            self.running[pid] = key
        else:
            self.tell({"id": key, "gone": True})

    def kill(self, key: str) -> None:
        for pid, name in self.running.items():
            if name == key:
                os.kill(pid, signal.SIGKILL)
                return

    def reap(self) -> None:
        """Say of every executor whose last process has ended that it is gone."""
        while True:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if (key := self.running.pop(pid, None)) is not None:
                self.tell({"id": key, "gone": True})


if __name__ == "__main__":
    main()
