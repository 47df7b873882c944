"""What runs an executor on this machine: the protocol that every engine follows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tesk.backends.base import AttemptKey
from tesk.filer import view_of
from tesk.plan.model import ExecutorPlan, Plan
from tesk.storage.confine import Tree
from tesk.taskmaster.steps import Usage

__all__ = ["Engine", "EngineUnavailable", "ExecutorExit", "Job", "Space"]


class EngineUnavailable(Exception):
    """This engine cannot run here; the message says what to install or allow."""


@dataclass(frozen=True, slots=True)
class Space:
    """The directories of one attempt, all below the server's state directory."""

    path: Path

    @property
    def record(self) -> Path:
        """Where steps that are done say so (tesk.backends.local.record)."""
        return self.path / "record"

    @property
    def scratch(self) -> Path:
        """The scratch tree: the container path `/data/x` lies at `scratch/data/x`."""
        return self.path / "scratch"

    def executor(self, index: int) -> Path:
        """What engine and executor number `index` need beside scratch."""
        return self.path / f"ex-{index:02}"

    def workdir(self, index: int) -> Path:
        """Where an executor's working directory lies that neither its image nor the plan has.

        In scratch, so that what other users left there is released with the rest.
        """
        return self.scratch / f".workdir-{index:02}"

    def private(self, index: int) -> Path:
        """Where the sandbox keeps what the executor writes to /tmp and /var/tmp."""
        return self.executor(index) / "private"

    def streams(self, index: int) -> Path:
        """Where the executor's stdout and stderr are kept (tesk.backends.local.streams)."""
        return self.executor(index) / "streams"


@dataclass(frozen=True, slots=True)
class Job:
    """One executor to run."""

    key: AttemptKey
    index: int
    plan: Plan
    space: Space
    shared: Mapping[str, Path] = field(default_factory=dict)
    """Where the site's shared storages lie, by name."""
    again: bool = False
    """The engine itself could not start it, and now can."""

    @property
    def executor(self) -> ExecutorPlan:
        """What to run."""
        return self.plan.executors[self.index]

    @property
    def name(self) -> str:
        """Unique on this machine while it runs."""
        return f"{self.key}-ex-{self.index:02}" + ("-again" if self.again else "")

    @property
    def end(self) -> Path:
        """The file that is there once it has begun, and that says at last how it ended."""
        return self.space.executor(self.index) / ("end-again" if self.again else "end")

    def binds(self) -> list[tuple[str, str, bool]]:
        """(path on the machine, path in the container, read-only) of each mount."""
        scratch = str(self.space.scratch)
        found = [(scratch + one.path, one.path, one.read_only) for one in self.plan.mounts]
        for one in self.plan.shared:
            found.append((str(self.shared[one.place.storage] / one.place.path), one.path, one.read_only))
        return sorted(found, key=lambda one: one[1])

    @property
    def files(self) -> Tree:
        """The task's files as the executor sees them."""
        return view_of(self.plan, self.space.scratch, self.shared)


@dataclass(frozen=True, slots=True)
class ExecutorExit:
    """How an executor ended. Times are RFC 3339; `problem` is a sentence where the code alone does not tell.

    `usage` is None where the engine cannot tell.
    """

    exit_code: int
    start_time: str
    end_time: str
    problem: str | None = None
    usage: Usage | None = None


class Engine(Protocol):
    """Runs executors, one process tree or container each."""

    name: str
    note: str | None
    """A sentence for every task's `system_logs`, about what this engine does not do."""
    owner: tuple[int, int] | None
    """The user and group that scratch must belong to, or None for the server's own."""
    lasting: bool
    """Whether executors go on when this server ends, for the next one: then its `execute` goes on with them."""
    unheld: Mapping[str, str]
    """Of cpu_cores, ram_gb and local.pids, those that executors are not held to, and a clause about what is done
    instead; known once the engine is started."""

    async def start(self) -> None:
        """Make ready, and end what an earlier server left running.

        Raises EngineUnavailable.
        """

    def leave(self) -> None:
        """Where executors are `lasting`: from here on none is ended, neither by a cancellation nor by `stop`."""

    async def stop(self) -> None:
        """End everything that still runs."""

    async def execute(self, job: Job, started: Callable[[], None]) -> ExecutorExit:
        """Run `job` to its end; when cancelled, end its whole process tree first.

        Raises StepFailed when it cannot be started and AttemptLost when it is gone without an end.
        """

    async def release(self, space: Space) -> None:
        """Make what executors left in scratch removable by the server's user."""
