"""The engine `podman`: one container an executor, through podman's command line."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from tesk.backends.limits import needed_more_memory
from tesk.backends.local.engine import EngineUnavailable, ExecutorExit, Job, Space
from tesk.backends.local.streams import StreamWriter, redirect_flags
from tesk.plan.model import Resources
from tesk.taskmaster.run import now
from tesk.taskmaster.steps import AttemptLost, StepFailed

__all__ = ["Podman", "run_arguments"]

PROBE_TIMEOUT = 60.0
COMMAND_TIMEOUT = 60.0
REMOVE_INTERVAL = 2.0
CHUNK = 1 << 16
PODMAN_FAILED, NOT_EXECUTABLE, NOT_FOUND = 125, 126, 127


class Podman:
    """Containers by podman, with root or rootless.

    Args:
        state: the server's state directory, made part of every container's labels, so that a restarted server finds
            those that an earlier one left.
        pids: how many processes and threads one executor may have at a time; None for any number.
    """

    name = "podman"
    note: str | None = None
    owner: tuple[int, int] | None = None
    unheld: Mapping[str, str] = MappingProxyType({})
    lasting = False

    def __init__(self, state: Path, pids: int | None = None) -> None:
        self._pids = pids
        self._label = f"tesk.state={state.resolve()}"
        self._rootless = os.getuid() != 0

    async def start(self) -> None:
        """Run a container once, and remove those that an earlier server left."""
        if shutil.which("podman") is None:
            raise EngineUnavailable("podman is not installed")
        # The machine's own root as the container's, through an overlay: proves that containers start, with no image.
        probe = ("run", "--rm", "--network=none", "--rootfs", "/:O", "true")
        code, _, errors = await _podman(*probe, timeout=PROBE_TIMEOUT)
        if code != 0:
            raise EngineUnavailable(f"podman is installed and cannot start a container: {_sentence(errors)}")
        await self._remove_leftovers()

    def leave(self) -> None:
        """Nothing: containers end with the server."""

    async def stop(self) -> None:
        """End every container of this server."""
        await self._remove_leftovers()

    async def execute(self, job: Job, started: Callable[[], None]) -> ExecutorExit:
        """Run one executor as a container."""
        run = _Container(job, self._label, self._pids)
        return await run.to_end(started)

    async def release(self, space: Space) -> None:
        """Rootless: give files of the container's other users to the server's."""
        if self._rootless:
            await _podman("unshare", "chown", "-R", "0:0", str(space.scratch), timeout=COMMAND_TIMEOUT)
            await _podman("unshare", "chmod", "-R", "u+rwX", str(space.scratch), timeout=COMMAND_TIMEOUT)

    async def _remove_leftovers(self) -> None:
        _, found, _ = await _podman("ps", "-aq", "--filter", f"label={self._label}", timeout=COMMAND_TIMEOUT)
        if names := found.decode().split():
            await _podman("rm", "-f", "-t", "0", *names, timeout=COMMAND_TIMEOUT)


def run_arguments(job: Job, label: str, pids: int | None = None) -> list[str]:
    """The arguments of `podman run` for `job`."""
    executor = job.executor
    found = [
        "run",
        *([] if job.plan.resources.ram_bytes else ["--rm"]),  # else it is asked first whether it had enough
        "--pull=missing",
        f"--name=tesk-{job.name}",
        f"--label={label}",
        f"--label=tesk.task={job.key.task}",
        f"--label=tesk.attempt={job.key.attempt}",
        f"--cidfile={job.space.executor(job.index) / 'container'}",
        "--log-driver=none",
        "--entrypoint=",
        f"--pids-limit={pids or -1}",
        *_limits(job.plan.resources),
    ]
    for source, target, read_only in job.binds():
        options = "ro" if read_only else "rw"
        found.append(f"--mount=type=bind,{_field('src', source)},{_field('dst', target)},{options}")
    found += [f"--env={name}={value}" for name, value in executor.env.items()]
    if executor.workdir:
        found.append(f"--workdir={executor.workdir}")
    if executor.stdin:
        found.append("--interactive")
    return [*found, executor.image, *executor.command]


def _field(name: str, value: str) -> str:
    """One field of `--mount`, which podman reads as CSV."""
    if any(one in value for one in ',"\n'):
        return '"' + f"{name}={value}".replace('"', '""') + '"'
    return f"{name}={value}"


def _limits(resources: Resources) -> list[str]:
    found = []
    if resources.cpu_cores:
        found.append(f"--cpus={resources.cpu_cores:g}")
    if resources.ram_bytes:
        found.append(f"--memory={max(resources.ram_bytes, 6 << 20)}b")  # less than 6 MiB podman refuses
    return found


class _Container:
    def __init__(self, job: Job, label: str, pids: int | None) -> None:
        self.job = job
        self.label = label
        self.pids = pids
        self.fault: str | None = None
        self.last_errors = bytearray()

    async def to_end(self, started: Callable[[], None]) -> ExecutorExit:
        start = now()
        streams = os.open(self.job.space.streams(self.job.index), os.O_RDONLY | os.O_DIRECTORY)
        with contextlib.ExitStack() as closing:
            closing.callback(os.close, streams)
            stdin = self._open(self.job.executor.stdin, os.O_RDONLY, closing)
            process = await asyncio.create_subprocess_exec(
                *("podman", *run_arguments(self.job, self.label, self.pids)),
                stdin=asyncio.subprocess.DEVNULL if stdin is None else stdin,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,  # a Ctrl-C is for the server
            )
            started()
            try:
                await self._carry(process, streams, closing)
                code = await process.wait()
                starved = await self._starved(code)
            except asyncio.CancelledError:
                await self._remove(process)
                raise
        return self._end(code, start, starved=starved)

    async def _starved(self, code: int) -> bool:
        """Whether the kernel killed some of it for want of memory and it failed; a limited container goes with this."""
        if not self.job.plan.resources.ram_bytes:
            return False
        name, said = f"tesk-{self.job.name}", b""
        if code:
            question = ("inspect", "--type=container", "--format={{.State.OOMKilled}}", name)
            _, said, _ = await _podman(*question, timeout=COMMAND_TIMEOUT)
        await _podman("rm", "-f", "-t", "0", name, timeout=COMMAND_TIMEOUT)
        return said.strip() == b"true"

    async def _carry(self, process: asyncio.subprocess.Process, streams: int, closing: contextlib.ExitStack) -> None:
        executor = self.job.executor
        write = redirect_flags(executor.stdout, executor.stderr) | os.O_CREAT | os.O_TRUNC
        out = self._open(executor.stdout, write, closing)
        err = self._open(executor.stderr, write, closing)
        await asyncio.gather(
            self._pump(process.stdout, StreamWriter(streams, "stdout"), out, executor.stdout),
            self._pump(process.stderr, StreamWriter(streams, "stderr"), err, executor.stderr, keep=True),
        )

    def _open(self, path: str | None, flags: int, closing: contextlib.ExitStack) -> int | None:
        """The file that the container path `path` names; never outside the task's files, whatever links say."""
        if path is None or path == "/dev/null":
            return None
        try:
            fd = self.job.files.open(path, flags, 0o644)
        except OSError as error:
            raise StepFailed(
                f"executor {self.job.index}: {path} cannot be opened: {error.strerror or error}"
            ) from error
        closing.callback(os.close, fd)
        return fd

    async def _pump(
        self,
        source: asyncio.StreamReader | None,
        log: StreamWriter,
        target: int | None,
        path: str | None,
        *,
        keep: bool = False,
    ) -> None:
        assert source is not None
        with contextlib.closing(log):
            while data := await source.read(CHUNK):
                if keep:
                    self.last_errors = (self.last_errors + data)[-CHUNK:]
                with contextlib.suppress(OSError):  # a full disk: the log ends, the task's own file decides
                    log.write(data)
                if target is None or self.fault:
                    continue
                try:
                    view = memoryview(data)
                    while view:
                        view = view[os.write(target, view) :]
                except OSError as error:
                    self.fault = f"executor {self.job.index}: {path} could not be written: {error.strerror}"

    async def _remove(self, process: asyncio.subprocess.Process) -> None:
        """End the container, also one that podman is only about to create."""
        name = f"tesk-{self.job.name}"
        for _ in range(3):
            await _podman("rm", "-f", "-t", "0", name, timeout=COMMAND_TIMEOUT)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REMOVE_INTERVAL):
                    await process.wait()
                return
            with contextlib.suppress(ProcessLookupError):
                process.kill()  # it may be pulling an image still

    def _end(self, code: int, start: str, *, starved: bool) -> ExecutorExit:
        created = (self.job.space.executor(self.job.index) / "container").exists()
        if self.fault:
            raise StepFailed(self.fault)
        if code == PODMAN_FAILED and not created:
            image = self.job.executor.image
            raise StepFailed(
                f"executor {self.job.index}: no container of image '{image}' could be made: "
                f"{_sentence(bytes(self.last_errors))}"
            )
        if code < 0:
            raise AttemptLost(f"podman itself was ended by signal {-code}")
        problem = needed_more_memory(self.job.plan, "this machine") if starved else None
        if code in (NOT_EXECUTABLE, NOT_FOUND) and self.last_errors.startswith(b"Error: "):
            command = self.job.executor.command[0]
            how = "was not found" if code == NOT_FOUND else "cannot be executed"
            problem = f"the command '{command}' {how} in image '{self.job.executor.image}'"
        return ExecutorExit(code, start, now(), problem)


async def _podman(*arguments: str, timeout: float) -> tuple[int, bytes, bytes]:
    """(exit code, stdout, stderr) of one podman command."""
    process = await asyncio.create_subprocess_exec(
        *("podman", *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(timeout):
            out, err = await process.communicate()
    except (TimeoutError, asyncio.CancelledError) as cause:
        process.kill()
        await process.wait()
        if isinstance(cause, asyncio.CancelledError):
            raise
        return -1, b"", f"Error: 'podman {arguments[0]}' did not answer within {timeout:.0f} s".encode()
    return process.returncode or 0, out, err


def _sentence(errors: bytes) -> str:
    """What podman says last."""
    lines = [line for line in errors.decode("utf-8", "replace").splitlines() if line.strip()]
    told = [line.removeprefix("Error: ") for line in lines if line.startswith("Error: ")]
    return (told or lines or ["it said nothing"])[-1]
