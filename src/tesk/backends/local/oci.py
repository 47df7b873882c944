"""What podman and docker have in common: one container an executor, by a command line that both understand."""

from __future__ import annotations

import asyncio
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path

from tesk.backends.limits import THE_MACHINE, needed_more_memory
from tesk.backends.local.client import call, last_words, without_groups
from tesk.backends.local.engine import EngineUnavailable, ExecutorExit, Job, Space
from tesk.backends.local.foreground import ClientProgram, Ended, client_keepers, no_container, run_client
from tesk.backends.local.mounts import mount_option
from tesk.plan.model import Resources
from tesk.taskmaster.steps import AttemptLost, StepFailed

__all__ = [
    "COMMAND_TIMEOUT",
    "NOT_EXECUTABLE",
    "PROBE_TIMEOUT",
    "OciEngine",
    "container_file",
    "run_arguments",
    "run_limits",
]

PROBE_TIMEOUT = 60.0
COMMAND_TIMEOUT = 60.0
PULL_TIMEOUT = 6 * 3600.0
REMOVE_TRIES = 5
REMOVE_PAUSE = 0.5
KNOWN_IMAGES = 1000
CLIENT_FAILED, NOT_EXECUTABLE, NOT_FOUND = 125, 126, 127
OFFLINE = ("--network=none",)
PROBED_LIMITS = ("--cpus=0.5", "--memory=67108864b", "--pids-limit=64")
STARVED = ("inspect", "--type=container", "--format={{.State.OOMKilled}}")
LEAST_CORES = 0.01
LEAST_MEMORY = 6 << 20  # less is refused by both


class OciEngine(ABC):
    """Containers by a client program that is used as podman's is.

    Args:
        state: the server's state directory, made part of every container's labels, so that a restarted server finds
            those that an earlier one left.
        network: whether executors reach a network.
        pids: how many processes and threads one executor may have at a time; None for any number.
        lasting: let containers go on when this server ends, for the next one to take over.
    """

    name: str
    note: str | None = None
    owner: tuple[int, int] | None = None
    prefix: str
    """How the client begins a line that says why it failed."""
    unlimited: bytes
    """What the client says, besides running it, of a container whose limits are not enforced."""
    lost: tuple[bytes, ...] = ()
    """What the client says when it loses the one who runs its containers."""
    remove: tuple[str, ...] = ("rm", "-f")

    def __init__(self, state: Path, *, network: bool = True, pids: int | None = None, lasting: bool = False) -> None:
        self.pids = pids
        self.state = state.resolve()
        self._keepers = client_keepers(self.state, self.name, lasting=lasting)
        self.lasting = self._keepers.lasting
        self.label = f"tesk.state={self.state}"
        self.network = () if network else OFFLINE
        self.unheld: Mapping[str, str] = {}
        self._limits = True
        self._program = self.name
        self._images: set[str] = set()
        self._pulls: dict[str, asyncio.Lock] = {}

    @abstractmethod
    async def probe(self, *options: str) -> bytes:
        """Run a container once, with `options` and on the network that executors have, without an image of a registry.

        What the client says beside it. Raises EngineUnavailable.
        """

    @abstractmethod
    async def release(self, space: Space) -> None:
        """Make what executors left in scratch removable by the server's user."""

    async def start(self) -> None:
        """Run a container once, and remove those of earlier servers, but for what goes on."""
        program = shutil.which(self.name)
        if program is None:
            raise EngineUnavailable(f"{self.name} is not installed")
        self._program = program
        await self._try()
        await self._keepers.start()
        if said := await self._remove_leftovers():
            await self._keepers.stop()
            raise EngineUnavailable(f"containers of an earlier server may run still: {said}")

    async def _try(self) -> None:
        try:
            self._limits = self.unlimited not in await self.probe(*PROBED_LIMITS)
        except EngineUnavailable:
            self._limits = False
        if not self._limits:  # it is not asked for them, since it would speak of it in each executor's stderr
            await self.probe()
            self.unheld = without_groups(self.name)

    def leave(self) -> None:
        """From here on no container ends with who waits for it; only where they are `lasting`."""
        self._keepers.leave()

    async def stop(self) -> None:
        """End every container of this server, or none after `leave`; the next start finds what could not be ended."""
        await self._keepers.stop()
        if not self._keepers.leaving:
            await self._remove_leftovers()

    async def execute(self, job: Job, started: Callable[[], None]) -> ExecutorExit:
        """Run one executor as a container, or go on with the one that an earlier server began."""
        if not self._keepers.begun(job):
            await self._need(job)
        return self._exit(*await self.run(job, started))

    async def run(self, job: Job, started: Callable[[], None], *more: str) -> tuple[Job, Ended]:
        """Run the container, with `more` options, to its end; the job as it ran at last."""
        name = container_name(job.name)
        limits = run_limits(job.plan.resources, self.pids) if self._limits else []
        limited = self._limits and bool(job.plan.resources.ram_bytes)
        kept = [] if limited else ["--rm"]  # it is asked at its end if it had enough memory
        program = ClientProgram(
            (self._program, *run_arguments(job, self.label, *kept, *limits, *self.network, *more)),
            remove=(self._program, *self.remove, name),
            # whether the kernel killed some of it for want of memory
            ask=(self._program, *STARVED, name) if limited else (),
            stays=limited,
            directory=job.space.executor(job.index),
        )
        try:
            return job, await run_client(self._keepers, job, program, started)
        except AttemptLost:
            await self.client(*self.remove, name)
            raise

    async def client(self, *arguments: str, timeout: float = COMMAND_TIMEOUT) -> tuple[int, bytes, bytes]:
        """(exit code, stdout, stderr) of one command of the client."""
        return await call(self.name, *arguments, timeout=timeout)

    def why(self, errors: bytes) -> str:
        """What the client says last of why it failed."""
        return last_words(errors, self.prefix)

    async def _remove_leftovers(self) -> str | None:
        """Why containers of this state directory may be left; None where none is."""
        said = b""
        kept = {container_name(one) for one in self._keepers.running()}
        for _ in range(REMOVE_TRIES):
            code, found, errors = await self.client(
                "ps", "-a", "--format={{.Names}}", "--filter", f"label={self.label}"
            )
            names = [one for one in found.decode().split() if one not in kept]
            if code == 0 and not names:
                return None
            if code == 0:  # one that just ended by itself is an error here, and not there when they are listed again
                _, _, errors = await self.client(*self.remove, *names)
            if said := errors:
                await asyncio.sleep(REMOVE_PAUSE)
        return self.why(said)

    async def _need(self, job: Job) -> None:
        """Have the image here before the container is made: what a pull tells is not the executor's stderr."""
        image = job.executor.image
        if image in self._images:
            return
        try:
            async with self._pulls.setdefault(image, asyncio.Lock()):
                await self._pull(job)
        finally:
            self._pulls.pop(image, None)
        if len(self._images) >= KNOWN_IMAGES:
            self._images.clear()
        self._images.add(image)

    async def _pull(self, job: Job) -> None:
        image = job.executor.image
        code, _, _ = await self.client("image", "inspect", "--format={{.Id}}", image)
        if code == 0:
            return
        code, _, errors = await self.client("pull", "--quiet", image, timeout=PULL_TIMEOUT)
        if code:
            self._check_lost(errors)
            raise StepFailed(no_container(job, self.why(errors)))

    def starved(self, job: Job, ended: Ended) -> bool:
        """Whether the kernel killed some of the container for want of memory."""
        return ended.answer == "true"

    def _check_lost(self, errors: bytes) -> None:
        if any(one in errors for one in self.lost):
            raise AttemptLost(f"{self.name} gave up: {self.why(errors)}")

    def _exit(self, job: Job, ended: Ended) -> ExecutorExit:
        # What a command itself may say looks the same, but for the words below: then it is believed.
        failed = ended.silent and ended.said_first.startswith(self.prefix.encode())
        starved = ended.code != 0 and self.starved(job, ended)
        problem = needed_more_memory(job.plan, THE_MACHINE) if starved else ended.problem
        if ended.code == CLIENT_FAILED:
            self._check_lost(ended.said_last)
            if failed or not container_file(job).exists():
                self._images.discard(job.executor.image)
                raise StepFailed(no_container(job, self.why(ended.said_last)))
        elif ended.code in (NOT_EXECUTABLE, NOT_FOUND) and failed and b"OCI " in ended.said_first:
            how = "was not found" if ended.code == NOT_FOUND else "cannot be executed"
            problem = f"the command '{job.executor.command[0]}' {how} in image '{job.executor.image}'"
        return ExecutorExit(ended.code, ended.start_time, ended.end_time, problem)


def container_file(job: Job) -> Path:
    """Where the container's id is written once it is made."""
    return job.end.with_name(f"container-{job.end.name}")


def container_name(executor: str) -> str:
    """What podman and docker call the container of the executor with that `Job.name`."""
    return f"tesk-{executor}"


def run_arguments(job: Job, label: str, *more: str) -> list[str]:
    """The arguments of `podman run` and `docker run` for `job`, with `more` options."""
    executor = job.executor
    found = [
        "run",
        "--pull=missing",
        f"--name={container_name(job.name)}",
        f"--label={label}",
        f"--label=tesk.task={job.key.task}",
        f"--label=tesk.attempt={job.key.attempt}",
        f"--cidfile={container_file(job)}",
        "--log-driver=none",
        "--security-opt=label=disable",  # SELinux would hide what is mounted
        "--entrypoint=",  # with either, what follows the image is the whole argv then
        *more,
    ]
    found += [mount_option(*one) for one in job.binds()]
    for name, value in executor.env.items():
        found += ["--env", f"{name}={value}"]  # two words, so that a value may be as long as Linux lets it
    if executor.workdir:
        found.append(f"--workdir={executor.workdir}")
    if executor.stdin:
        found.append("--interactive")
    return [*found, executor.image, *executor.command]


def run_limits(resources: Resources, pids: int | None) -> list[str]:
    """The options of `podman run` and `docker run` that hold a container to `resources` and so many processes."""
    found = [f"--pids-limit={pids or -1}"]
    if resources.cpu_cores:
        # docker refuses more than the machine has, the kernel less than a hundredth of a core
        cores = max(LEAST_CORES, min(resources.cpu_cores, float(os.cpu_count() or 1)))
        found.append(f"--cpus={cores:g}")
    if resources.ram_bytes:
        found.append(f"--memory={max(resources.ram_bytes, LEAST_MEMORY)}b")
    return found
