"""The keeper of sandboxed executors (tesk.backends.local.keeping), and with which all of them end.

It is process 1 of a PID namespace (and, for an ordinary user, root of a user namespace), so the kernel ends every
executor with it, whatever they did. It forks once an executor, and what it holds in memory is what each of them costs.

Its settings: {"space", "hidden", "identity", "network"}.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from typing import Any

from tesk.backends.local.keeping.keeper import Keeper, given, send
from tesk.backends.local.sandbox import kernel, root
from tesk.backends.local.sandbox.launch import launch

__all__ = ["main"]

SETUP = kernel.CLONE_NEWNS | kernel.CLONE_NEWPID


def main() -> None:
    """Run as the keeper."""
    channel, listener, settings = given()
    try:
        _enter_namespaces()
    except OSError as error:
        send(channel, {"failed": _why_not(error)})
        return
    if os.fork():
        os._exit(0)  # the child is process 1 of the new PID namespace; nobody waits for us
    os.setsid()
    try:
        keeper = _SandboxKeeper(channel, listener, settings)
    except OSError as error:
        send(channel, {"failed": f"the sandbox cannot be prepared: {error}"})
        return
    keeper.serve()
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


class _SandboxKeeper(Keeper):
    def __init__(self, channel: socket.socket, listener: socket.socket | None, settings: dict[str, Any]) -> None:
        self._settings = settings
        self._running: dict[int, str] = {}
        kernel.make_private()
        space = settings["space"]
        kernel.mount("tmpfs", space, "mode=755,size=1m")
        kernel.mount("proc", "/proc", flags=kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
        self._base, self._root = f"{space}/base", f"{space}/root"
        os.mkdir(self._root)
        root.prepare(self._base, settings["hidden"])
        self._namespace = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        super().__init__(channel, listener)

    def running(self) -> list[str]:
        return list(self._running.values())

    def start(self, key: str, run: dict[str, Any]) -> None:
        kernel.unshare(kernel.CLONE_NEWPID)  # the next child is process 1 of a namespace of its own
        try:
            pid = os.fork()
        except OSError:
            pid = -1
        if pid == 0:
            settings = self._settings
            launch(run, base=self._base, root=self._root, identity=settings["identity"], network=settings["network"])
        kernel.setns(self._namespace, kernel.CLONE_NEWPID)
        if pid > 0:
            self._running[pid] = key
        else:
            self.gone(key)

    def kill(self, key: str) -> None:
        for pid, name in self._running.items():
            if name == key:
                os.kill(pid, signal.SIGKILL)
                return

    def reap(self) -> Iterator[str]:
        while True:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if (key := self._running.pop(pid, None)) is not None:
                yield key

    def finish(self) -> None:
        """Nothing: they end with us."""
