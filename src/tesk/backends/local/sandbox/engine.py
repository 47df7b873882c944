"""The engine `sandbox`: runs executors with nothing but Linux namespaces, over the machine's own programs."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import json
import os
import socket
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import tesk
from tesk.backends.limits import needed_more_memory
from tesk.backends.local.cgroups import ControlGroups, Group, Limits
from tesk.backends.local.engine import EngineUnavailable, ExecutorExit, Job, Space
from tesk.taskmaster.steps import AttemptLost, StepFailed, Usage

__all__ = ["Sandbox"]

NOBODY = 65534
START_TIMEOUT = 20.0
STOP_TIMEOUT = 10.0
MESSAGE_LIMIT = 1 << 20
WITHOUT_GROUPS = {
    "memory": ("ram_gb", "holds for each process alone: the server may use no control group for memory"),
    "cpu": ("cpu_cores", "is counted and not enforced: the server may use no control group for processors"),
    "pids": ("local.pids", "holds for all tasks together: the server may use no control group for processes"),
}


class Sandbox:
    """Linux user, mount and PID namespaces over the machine's own root file system, read-only.

    Image names are noted and not used. A root server's executors run as user and group 65534 ("nobody"), an ordinary
    user's as that user.

    Args:
        state: the server's state directory; hidden from executors, and used for mount points.
        hidden: further directories that executors see empty.
        pids: how many processes and threads one executor may have at a time; None for any number.
    """

    name = "sandbox"
    note: str | None = (
        "the sandbox ran this task with the machine's own programs: the image was noted and not used; "
        "install podman to use images"
    )

    def __init__(self, state: Path, hidden: tuple[str, ...] = (), pids: int | None = None) -> None:
        self._state = state
        self._hidden = ("/home", "/root", "/etc/tesk", str(Path.home()), str(state), *hidden)
        self._pids = pids
        self._groups = ControlGroups(state / "control-groups", f"tesk-{_digest(state)}")
        self.unheld: Mapping[str, str] = {}
        self._gone: dict[str, asyncio.Event] = {}
        self._broken: str | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._listener: asyncio.Task[None] | None = None
        self.owner: tuple[int, int] | None = (NOBODY, NOBODY) if os.getuid() == 0 else None

    async def start(self) -> None:
        """Start the keeper, and find out what control groups can hold executors to."""
        if not sys.platform.startswith("linux"):
            raise EngineUnavailable("the sandbox needs Linux; on this system install podman")
        space = self._state / "sandbox"
        space.mkdir(parents=True, exist_ok=True)
        settings = {"space": str(space.resolve()), "hidden": self._hidden, "identity": self.owner}
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                ours.sendall(json.dumps(settings).encode() + b"\n")
                await self._spawn(theirs.fileno())
            except BaseException:
                ours.close()
                raise
        reader, self._writer = await asyncio.open_connection(sock=ours, limit=MESSAGE_LIMIT)
        try:
            async with asyncio.timeout(START_TIMEOUT):
                first = await reader.readline()
            answer = json.loads(first or b"{}")
        except TimeoutError:
            answer = {"failed": f"the sandbox did not start within {START_TIMEOUT:.0f} s"}
        if "ready" not in answer:
            await self.stop()
            raise EngineUnavailable(answer.get("failed", "the sandbox's keeper ended at once"))
        self._listener = asyncio.create_task(self._listen(reader))
        await asyncio.to_thread(self._groups.start)
        self.unheld = dict(WITHOUT_GROUPS[one] for one in WITHOUT_GROUPS if one not in self._groups.controllers)

    async def _spawn(self, fd: int) -> None:
        # -S and -E keep site-packages out: the keeper needs the standard library and tesk's own few modules.
        package = str(Path(tesk.__file__).parent.parent)
        program = (
            f"import sys; sys.path.append({package!r}); from tesk.backends.local.sandbox.keeper import main; main()"
        )
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-S", "-E", "-c", program, str(fd)),
            pass_fds=(fd,),
            stdin=asyncio.subprocess.DEVNULL,
        )
        # It forks the real keeper and ends.
        async with asyncio.timeout(START_TIMEOUT):
            await process.wait()

    async def stop(self) -> None:
        """Let the keeper end, and every executor with it."""
        if self._writer is not None:
            self._writer.close()
            await self._writer.wait_closed()
        if self._listener is not None:
            self._listener.cancel()
            await asyncio.wait([self._listener])
        await asyncio.to_thread(self._groups.stop)

    async def execute(self, job: Job, started: Callable[[], None]) -> ExecutorExit:
        """Run one executor in namespaces and a control group of its own."""
        resources = job.plan.resources
        try:
            group = self._groups.make(job.name, Limits(resources.ram_bytes, resources.cpu_cores, self._pids))
        except OSError as error:
            raise StepFailed(f"executor {job.index}: its limits could not be set: {error}") from error
        try:
            end = await self._run(job, self._message(job, group), started)
            if end.exit_code != 0 and group.oom_kills():
                return dataclasses.replace(end, problem=needed_more_memory(job.plan, "this machine"))
            return end
        finally:
            await asyncio.to_thread(group.remove)

    async def _run(self, job: Job, run: dict[str, Any], started: Callable[[], None]) -> ExecutorExit:
        gone = asyncio.Event()
        self._gone[job.name] = gone
        try:
            self._send({"id": job.name, "run": run})
            started()
            try:
                await gone.wait()
            except asyncio.CancelledError:
                self._send({"id": job.name, "kill": True})
                await gone.wait()
                raise
        finally:
            del self._gone[job.name]
        if self._broken:
            raise AttemptLost(self._broken)
        return _read_end(Path(run["end"]))

    async def release(self, space: Space) -> None:
        """Nothing: executors run as us, or we are root."""

    def _message(self, job: Job, group: Group) -> dict[str, Any]:
        executor = job.executor
        here = job.space.executor(job.index)
        private = job.space.private(job.index)
        private.mkdir()
        if self.owner:
            os.chown(job.space.streams(job.index), *self.owner)
        return {
            "command": executor.command,
            "env": executor.env,
            "workdir": executor.workdir,
            "stdin": executor.stdin,
            "stdout": executor.stdout,
            "stderr": executor.stderr,
            "binds": job.binds(),
            "private": str(private),
            "streams": str(job.space.streams(job.index)),
            "end": str(here / "end"),
            "doors": group.doors,
            "data": job.plan.resources.ram_bytes if "ram_gb" in self.unheld else None,
            "processes": self._pids if "local.pids" in self.unheld else None,
        }

    def _send(self, message: dict[str, Any]) -> None:
        if self._broken:
            raise AttemptLost(self._broken)
        assert self._writer is not None
        self._writer.write(json.dumps(message).encode() + b"\n")

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            message = json.loads(line)
            if (gone := self._gone.get(message["id"])) is not None:
                gone.set()
        self._broken = "the sandbox's keeper ended while the executor ran"
        for gone in self._gone.values():
            gone.set()


def _digest(state: Path) -> str:
    """Eight letters by which no two servers of this machine are called the same."""
    return hashlib.sha256(str(state.resolve()).encode()).hexdigest()[:8]


def _read_end(path: Path) -> ExecutorExit:
    try:
        end = json.loads(path.read_bytes() or b"{}")
    except FileNotFoundError:
        end = {}
    if "fault" in end:
        raise StepFailed(end["fault"])
    if "code" not in end:
        if "problem" in end:
            raise StepFailed(end["problem"])
        raise AttemptLost("the executor was killed together with the process that watches it")
    return ExecutorExit(end["code"], _time(end["start"]), _time(end["end"]), end.get("problem"), Usage(*end["usage"]))


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
