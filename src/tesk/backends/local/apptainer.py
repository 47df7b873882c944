"""The engine `apptainer`: one container an executor, as the server's own user and without a daemon."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

from tesk.backends.local.client import call, last_words, without_groups
from tesk.backends.local.engine import EngineUnavailable, ExecutorExit, Job, Space
from tesk.backends.local.foreground import ClientProgram, Ended, client_keepers, no_container, run_client
from tesk.backends.local.keeping.clients import start_of
from tesk.backends.local.mounts import empty_root, mount_option, program_mounts
from tesk.backends.local.oci import PROBE_TIMEOUT
from tesk.plan.model import Resources
from tesk.taskmaster.steps import StepFailed

__all__ = ["Apptainer", "client_environment", "run_arguments"]

APPTAINER_FAILED, NOT_FOUND = 255, 127
FATAL = "FATAL:"
CONTAINED = ("--silent", "exec", "--containall", "--no-home", "--no-umask", "--no-eval", "--writable-tmpfs")
OFFLINE = ("--net", "--network=none")
PASSED = ("APPTAINERENV_", "SINGULARITYENV_")
"""What a variable's name begins with that apptainer gives to containers, without it."""

PROBED_LIMITS = Resources(cpu_cores=0.5, ram_bytes=64 << 20)


class Apptainer:
    """Containers by apptainer's command line, version 1.1 or newer.

    Args:
        state: the server's state directory, where what runs is noted, so that a restarted server can end it.
        network: whether executors reach a network.
        lasting: let containers go on when this server ends, for the next one to take over.
    """

    name = "apptainer"
    note: str | None = None
    owner: tuple[int, int] | None = None

    def __init__(self, state: Path, *, network: bool = True, lasting: bool = False) -> None:
        self._state = state.resolve()
        self._keepers = client_keepers(self._state, self.name, lasting=lasting)
        self.lasting = self._keepers.lasting
        self._network = network
        self._limits = True
        self.unheld: Mapping[str, str] = {"local.pids": "is not enforced by apptainer"}

    def leave(self) -> None:
        """From here on no container ends with who waits for it; only where they are `lasting`."""
        self._keepers.leave()

    async def start(self) -> None:
        """Run a container once, and end those of earlier servers, but for what goes on."""
        if shutil.which(self.name) is None:
            raise EngineUnavailable("apptainer is not installed")
        said = await self._probe(PROBED_LIMITS)
        if said is not None:
            self._limits = False  # needs control groups that this user may divide
            self.unheld = without_groups(self.name)
            said = await self._probe(Resources())
        if said is not None:
            raise EngineUnavailable(f"apptainer is installed and cannot start a container: {said}")
        await self._keepers.start()
        kept = self._keepers.running()
        for one in self._state.glob("attempts/*/ex-*/process"):
            if f"{one.parent.parent.name}-{one.parent.name}" not in kept:
                _end_left(one)

    async def stop(self) -> None:
        """End every container of this server, or none after `leave`."""
        await self._keepers.stop()

    async def execute(self, job: Job, started: Callable[[], None]) -> ExecutorExit:
        """Run one executor as a container."""
        private = job.space.private(job.index)
        private.mkdir(exist_ok=True)
        program = ClientProgram(
            (
                self.name,
                *run_arguments(job, private, network=self._network, limits=self._limits, root=os.getuid() == 0),
            ),
            environment=client_environment(os.environ, job.executor.env),
            note=job.space.executor(job.index) / "process",
        )
        ended = await run_client(self._keepers, job, program, started)
        return _exit(job, ended)

    async def release(self, space: Space) -> None:
        """Nothing: executors run as the server's user."""

    async def _probe(self, limits: Resources) -> str | None:
        """Why no container runs the machine's own `true`, with no image; None where one does."""
        with empty_root(self._state / "apptainer-probe") as root:
            network = () if self._network else OFFLINE
            command = (*CONTAINED, *_limits(limits), *network, *program_mounts(), str(root), "true")
            code, _, errors = await call(self.name, *command, timeout=PROBE_TIMEOUT)
        return _why(errors) if code else None


def run_arguments(job: Job, private: Path, *, network: bool, limits: bool, root: bool) -> list[str]:
    """The arguments of `apptainer` for `job`.

    `private` is an empty directory, where /tmp and /var/tmp get their space. `limits`: the declared resources are
    enforced. `root`: the server is root, whose rights the container is not to have.
    """
    executor = job.executor
    found = [*CONTAINED, f"--workdir={private}"]
    if root:
        found.append("--no-privs")
    if limits:
        found += _limits(job.plan.resources)
    if not network:
        found += OFFLINE
    found += [mount_option(*one) for one in job.binds()]
    found.append(f"--pwd={executor.workdir or '/'}")
    return [*found, f"docker://{executor.image}", *executor.command]


def client_environment(own: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """The client's environment: the server's `own`, and what is `given` to the executor, which no shell reads.

    `--env` would take a comma for the end of a variable, `--env-file` is a shell script.
    """
    kept = {name: value for name, value in own.items() if not name.startswith(PASSED)}
    return kept | {f"{PASSED[0]}{name}": value for name, value in given.items()}


def _limits(resources: Resources) -> list[str]:
    found = []
    if resources.cpu_cores:
        found.append(f"--cpus={resources.cpu_cores:g}")
    if resources.ram_bytes:
        found.append(f"--memory={resources.ram_bytes}")
    return found


def _exit(job: Job, ended: Ended) -> ExecutorExit:
    code, problem = ended.code, ended.problem
    if code == APPTAINER_FAILED and ended.silent and ended.said_first.startswith(FATAL.encode()):
        if b"executable file not found" not in ended.said_first:
            raise StepFailed(no_container(job, _why(ended.said_last)))
        code = NOT_FOUND
        problem = f"the command '{job.executor.command[0]}' was not found in image '{job.executor.image}'"
    return ExecutorExit(code, ended.start_time, ended.end_time, problem)


def _why(errors: bytes) -> str:
    return last_words(errors, FATAL).strip()


def _end_left(note: Path) -> None:
    """End the processes that `note` tells of, unless their number is another process's by now."""
    with contextlib.suppress(OSError, ValueError):
        process, start = note.read_text().split()
        if start_of(int(process)) == start:
            os.killpg(int(process), signal.SIGKILL)
