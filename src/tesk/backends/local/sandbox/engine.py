"""The engine `sandbox`: runs executors with nothing but Linux namespaces, over the machine's own programs."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tesk.backends.limits import THE_MACHINE, needed_more_memory
from tesk.backends.local.cgroups import ControlGroups, Group, Limits
from tesk.backends.local.engine import EngineUnavailable, ExecutorExit, Job, Space
from tesk.backends.local.keeping.keepers import Keepers
from tesk.taskmaster.run import moment
from tesk.taskmaster.steps import AttemptLost, StepFailed, Usage

__all__ = ["Sandbox", "end_groups"]

NOBODY = 65534
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
        self._state = state
        self._hidden = ("/home", "/root", "/etc/tesk", str(Path.home()), str(state), *hidden)
        self._pids = pids
        self._groups = _groups(state)
        self.unheld: Mapping[str, str] = {}
        self.owner: tuple[int, int] | None = (NOBODY, NOBODY) if os.getuid() == 0 else None
        settings = {
            "space": str((state / "sandbox").resolve()),
            "hidden": self._hidden,
            "identity": self.owner,
            "network": network,
        }
        self._keepers = Keepers(state, self.name, "tesk.backends.local.sandbox.keeper", settings, lasting=lasting)
        self.lasting = self._keepers.lasting

    async def start(self) -> None:
        """Start the keeper, call those of earlier servers, and find out what control groups can hold executors to."""
        if not sys.platform.startswith("linux"):
            raise EngineUnavailable("the sandbox needs Linux; on this system install podman")
        (self._state / "sandbox").mkdir(parents=True, exist_ok=True)
        await asyncio.to_thread(self._groups.step_aside)
        await self._keepers.start()
        await asyncio.to_thread(self._groups.start, keep=self._begun())
        self.unheld = dict(WITHOUT_GROUPS[one] for one in WITHOUT_GROUPS if one not in self._groups.controllers)

    def leave(self) -> None:
        """From here on no executor ends with who waits for it; only where executors are `lasting`."""
        self._keepers.leave()

    async def stop(self) -> None:
        """Let the keepers end, and every executor with them; or, after `leave`, alone as long as these run."""
        await self._keepers.stop()
        await asyncio.to_thread(self._groups.stop, self._begun() if self._keepers.leaving else frozenset())

    def _begun(self) -> frozenset[str]:
        """The names of executors that may run on, or have not been asked yet how they ended."""
        found = self._state.glob("attempts/*/ex-*") if self.lasting else ()
        return frozenset(f"{one.parent.name}-{one.name}" for one in found)

    async def execute(self, job: Job, started: Callable[[], None]) -> ExecutorExit:
        """Run one executor in namespaces and a control group of its own, or go on with what an earlier server began."""
        group = self._groups.find(job.name) if self._keepers.begun(job) else self._make_group(job)
        try:
            found = _exit(await self._keepers.to_end(job, lambda: self._message(job, group), started))
            if found.exit_code != 0 and group.oom_kills():
                return dataclasses.replace(found, problem=needed_more_memory(job.plan, THE_MACHINE))
            return found
        finally:
            if not self._keepers.leaving:
                await asyncio.to_thread(group.remove)

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
            "doors": group.doors,
            "data": job.plan.resources.ram_bytes if "ram_gb" in self.unheld else None,
            "processes": self._pids if "local.pids" in self.unheld else None,
        }


def end_groups(state: Path) -> None:
    """Remove what sandboxes of earlier servers with the state directory `state` held their executors to."""
    _groups(state).stop()


def _groups(state: Path) -> ControlGroups:
    return ControlGroups(state / "control-groups", f"tesk-{_digest(state)}")


def _digest(state: Path) -> str:
    """Eight letters by which no two servers of this machine are called the same."""
    return hashlib.sha256(str(state.resolve()).encode()).hexdigest()[:8]


def _exit(end: dict[str, Any]) -> ExecutorExit:
    if "fault" in end:
        raise StepFailed(end["fault"])
    if "code" not in end:
        if "problem" in end:
            raise StepFailed(end["problem"])
        raise AttemptLost("the executor was killed together with the process that watches it")
    return ExecutorExit(end["code"], moment(end["start"]), moment(end["end"]), end.get("problem"), Usage(*end["usage"]))
