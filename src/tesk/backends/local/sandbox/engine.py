"""The engine `sandbox`: runs executors with nothing but Linux namespaces, over the machine's own programs."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import json
import os
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import tesk
from tesk.backends.limits import needed_more_memory
from tesk.backends.local.cgroups import ControlGroups, Group, Limits
from tesk.backends.local.engine import EngineUnavailable, ExecutorExit, Job, Space
from tesk.backends.local.sandbox.line import Line, connect, listen
from tesk.storage.errors import reason
from tesk.taskmaster.run import moment
from tesk.taskmaster.steps import AttemptLost, StepFailed, Usage

__all__ = ["Sandbox", "end_earlier"]

KEEPERS = "keepers"

NOBODY = 65534
START_TIMEOUT = 20.0
END_BYTES = 4096
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
        network: whether executors see the machine's network, or nothing but a loopback interface of their own.
        pids: how many processes and threads one executor may have at a time; None for any number.
        lasting: let executors go on when this server ends, for the next one to take over.
    """

    name = "sandbox"
    note: str | None = (
        "the sandbox ran this task with the machine's own programs: the image was noted and not used; "
        "install podman to use images"
    )

    def __init__(
        self,
        state: Path,
        hidden: tuple[str, ...] = (),
        pids: int | None = None,
        *,
        network: bool = True,
        lasting: bool = False,
    ) -> None:
        self._network = network
        self._state = state
        self._hidden = ("/home", "/root", "/etc/tesk", str(Path.home()), str(state), *hidden)
        self._pids = pids
        self._groups = _groups(state)
        self.unheld: Mapping[str, str] = {}
        self.lasting = lasting
        self._leaving = False
        self._keepers = state / KEEPERS
        self._lines: list[Line] = []
        self.owner: tuple[int, int] | None = (NOBODY, NOBODY) if os.getuid() == 0 else None

    async def start(self) -> None:
        """Start the keeper, call those of earlier servers, and find out what control groups can hold executors to."""
        if not sys.platform.startswith("linux"):
            raise EngineUnavailable("the sandbox needs Linux; on this system install podman")
        space = self._state / "sandbox"
        space.mkdir(parents=True, exist_ok=True)
        earlier = await connect(self._keepers)
        self._lines = [await self._start_keeper(space), *earlier]
        self._end_what_nobody_waits_for(earlier)
        await asyncio.to_thread(self._groups.start, keep=self._begun())
        self.unheld = dict(WITHOUT_GROUPS[one] for one in WITHOUT_GROUPS if one not in self._groups.controllers)

    async def _start_keeper(self, space: Path) -> Line:
        settings = {
            "space": str(space.resolve()),
            "hidden": self._hidden,
            "identity": self.owner,
            "network": self._network,
        }
        ours, theirs = socket.socketpair()
        with contextlib.ExitStack() as closing:
            closing.enter_context(theirs)
            ends = [theirs.fileno()]
            try:
                if self.lasting:
                    ends.append(closing.enter_context(listen(self._keepers)).fileno())
                ours.sendall(json.dumps(settings).encode() + b"\n")
                await self._spawn(*ends)
            except BaseException:
                ours.close()
                raise
        return await Line.open(ours)

    async def _spawn(self, *ends: int) -> None:
        # -S and -E keep site-packages out: the keeper needs the standard library and tesk's own few modules.
        package = str(Path(tesk.__file__).parent.parent)
        program = (
            f"import sys; sys.path.append({package!r}); from tesk.backends.local.sandbox.keeper import main; main()"
        )
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-S", "-E", "-c", program, *map(str, ends)),
            pass_fds=ends,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,  # it may outlive us, and who reads what we print waits for its end
        )
        # It forks the real keeper and ends.
        async with asyncio.timeout(START_TIMEOUT):
            await process.wait()

    def _end_what_nobody_waits_for(self, earlier: list[Line]) -> None:
        for line in earlier:
            if not self.lasting:
                line.end()
                continue
            for name in line.running:
                attempt, _, number = name.rpartition("-ex-")
                if not (self._state / "attempts" / attempt / f"ex-{number}").is_dir():
                    line.kill(name)

    def leave(self) -> None:
        """From here on no executor ends with who waits for it; only where executors are `lasting`."""
        self._leaving = self.lasting

    async def stop(self) -> None:
        """Let the keepers end, and every executor with them; or, after `leave`, alone as long as these run."""
        for one in self._lines:
            if not self._leaving:
                one.end()
            await one.close()
        self._lines = []
        await asyncio.to_thread(self._groups.stop, self._begun() if self._leaving else frozenset())

    def _begun(self) -> frozenset[str]:
        """The names of executors that may run on, or have not been asked yet how they ended."""
        found = self._state.glob("attempts/*/ex-*") if self.lasting else ()
        return frozenset(f"{one.parent.name}-{one.name}" for one in found)

    async def execute(self, job: Job, started: Callable[[], None]) -> ExecutorExit:
        """Run one executor in namespaces and a control group of its own, or go on with what an earlier server began.

        What ran must have ended or be with one of our keepers: then its file says how, and it never runs twice.
        """
        line = next((one for one in self._lines if job.name in one.running), None)
        end = _end_of(job)
        if line is not None or end.exists():
            group = self._groups.find(job.name)
        else:
            line, group = self._lines[0], self._make_group(job)
            try:
                message = self._message(job, group)
            except OSError as error:
                await asyncio.to_thread(group.remove)
                raise StepFailed(f"executor {job.index} cannot be started: {reason(error)}") from error
            line.run(job.name, message)
        started()
        try:
            if line is not None:
                await self._gone(line, job.name)
            found = _read_end(end)
            if found.exit_code != 0 and group.oom_kills():
                return dataclasses.replace(found, problem=needed_more_memory(job.plan, "this machine"))
            return found
        finally:
            if not self._leaving:
                await asyncio.to_thread(group.remove)

    async def _gone(self, line: Line, name: str) -> None:
        try:
            await line.gone(name)
        except asyncio.CancelledError:
            if not self._leaving:
                line.kill(name)
                with contextlib.suppress(AttemptLost):
                    await line.gone(name)
            raise

    def _make_group(self, job: Job) -> Group:
        resources = job.plan.resources
        try:
            return self._groups.make(job.name, Limits(resources.ram_bytes, resources.cpu_cores, self._pids))
        except OSError as error:
            raise StepFailed(f"executor {job.index}: its limits could not be set: {error}") from error

    async def release(self, space: Space) -> None:
        """Nothing: executors run as us, or we are root."""

    def _message(self, job: Job, group: Group) -> dict[str, Any]:
        executor = job.executor
        private = job.space.private(job.index)
        private.mkdir(exist_ok=True)
        room = job.space.executor(job.index) / "room"
        _reserve(room)
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
            "room": str(room),
            "end": str(_end_of(job)),
            "doors": group.doors,
            "data": job.plan.resources.ram_bytes if "ram_gb" in self.unheld else None,
            "processes": self._pids if "local.pids" in self.unheld else None,
        }


async def end_earlier(state: Path) -> None:
    """End what earlier servers with the state directory `state` left in the sandbox."""
    for one in await connect(state / KEEPERS):
        one.end()
        await one.close()
    await asyncio.to_thread(_groups(state).stop)


def _groups(state: Path) -> ControlGroups:
    return ControlGroups(state / "control-groups", f"tesk-{_digest(state)}")


def _digest(state: Path) -> str:
    """Eight letters by which no two servers of this machine are called the same."""
    return hashlib.sha256(str(state.resolve()).encode()).hexdigest()[:8]


def _end_of(job: Job) -> Path:
    """The file that is there once the executor's process 1 is, and that says how it ended."""
    return job.space.executor(job.index) / "end"


def _reserve(room: Path) -> None:
    """Make the file that becomes the one of its end once process 1 is there: no disk that it fills shall hide that."""
    with room.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, END_BYTES)


def _read_end(path: Path) -> ExecutorExit:
    try:
        end = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):  # not there, or not whole
        end = {}
    if "fault" in end:
        raise StepFailed(end["fault"])
    if "code" not in end:
        if "problem" in end:
            raise StepFailed(end["problem"])
        raise AttemptLost("the executor was killed together with the process that watches it")
    return ExecutorExit(end["code"], moment(end["start"]), moment(end["end"]), end.get("problem"), Usage(*end["usage"]))
