"""An executor that an engine's client program runs in the foreground: its streams, its end, its removal."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from tesk.backends.local.engine import Job
from tesk.backends.local.streams import StreamWriter, redirect_flags
from tesk.taskmaster.run import now
from tesk.taskmaster.steps import AttemptLost, StepFailed

__all__ = ["Ended", "Foreground", "no_container"]

REMOVE_INTERVAL = 2.0
CHUNK = 1 << 16
HEAD = 4096
NOT_EXECUTABLE = 126
TOO_LONG = "its command line and environment are longer than Linux allows"


@dataclass(frozen=True, slots=True)
class Ended:
    """How a client program ended; `start_time` and `end_time` are RFC 3339.

    `said_first` and `said_last` are the beginning and the end of what came on stderr, from the client or from the
    command. Where it all fits into HEAD bytes both are the whole.
    """

    code: int
    start_time: str
    end_time: str
    said_first: bytes
    said_last: bytes
    silent: bool
    """Nothing came on stdout."""
    problem: str | None = None
    """A sentence where the client could not be started with what the task asks for."""
    starved: bool = False
    """The kernel killed some of it for want of memory, and the engine tells so."""


class Foreground:
    """Runs `command`, a client program that carries the executor's own streams.

    Args:
        remove: ends the container, also one that the client is only about to make.
        environment: the client's; the server's own by default.
    """

    def __init__(
        self,
        job: Job,
        command: Sequence[str],
        remove: Callable[[], Awaitable[object]],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._job = job
        self._command = command
        self._remove = remove
        self._environment = environment
        self._fault: str | None = None
        self._first = b""
        self._last = bytearray()
        self._silent = True

    async def to_end(self, started: Callable[[int], None]) -> Ended:
        """Run it; `started` is given the client's process id.

        Raises StepFailed where the client cannot be started, or a stream cannot be opened or written; AttemptLost where
        a signal ended the client itself.
        """
        job, start = self._job, now()
        streams = os.open(job.space.streams(job.index), os.O_RDONLY | os.O_DIRECTORY)
        with contextlib.ExitStack() as closing:
            closing.callback(os.close, streams)
            stdin = self._open(job.executor.stdin, os.O_RDONLY, closing)
            try:
                process = await self._spawn(stdin)
            except OSError as error:
                if error.errno != errno.E2BIG:
                    raise StepFailed(f"executor {job.index}: {self._command[0]} cannot be started: {error}") from error
                return Ended(NOT_EXECUTABLE, start, now(), b"", b"", True, TOO_LONG)
            started(process.pid)
            try:
                await self._carry(process, streams, closing)
                code = await process.wait()
            except BaseException:
                await self._end(process)
                raise
        if self._fault:
            raise StepFailed(self._fault)
        if code < 0:
            raise AttemptLost(f"{self._command[0]} itself was ended by signal {-code}")
        return Ended(code, start, now(), self._first, bytes(self._last), self._silent)

    async def _spawn(self, stdin: int | None) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.DEVNULL if stdin is None else stdin,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self._environment,
            start_new_session=True,  # a Ctrl-C is for the server
        )

    async def _carry(self, process: asyncio.subprocess.Process, streams: int, closing: contextlib.ExitStack) -> None:
        executor = self._job.executor
        write = redirect_flags(executor.stdout, executor.stderr) | os.O_CREAT | os.O_TRUNC
        out = self._open(executor.stdout, write, closing)
        err = self._open(executor.stderr, write, closing)
        await asyncio.gather(
            self._pump(process.stdout, StreamWriter(streams, "stdout"), out, executor.stdout, self._heard),
            self._pump(process.stderr, StreamWriter(streams, "stderr"), err, executor.stderr, self._keep),
        )

    def _open(self, path: str | None, flags: int, closing: contextlib.ExitStack) -> int | None:
        """The file that the container path `path` names; never outside the task's files, whatever links say."""
        if path is None or path == "/dev/null":
            return None
        try:
            fd = self._job.files.open(path, flags, 0o644)
        except OSError as error:
            raise StepFailed(
                f"executor {self._job.index}: {path} cannot be opened: {error.strerror or error}"
            ) from error
        closing.callback(os.close, fd)
        return fd

    async def _pump(
        self,
        source: asyncio.StreamReader | None,
        log: StreamWriter,
        target: int | None,
        path: str | None,
        heard: Callable[[bytes], None],
    ) -> None:
        assert source is not None
        with contextlib.closing(log):
            while data := await source.read(CHUNK):
                heard(data)
                with contextlib.suppress(OSError):  # a full disk: the log ends, the task's own file decides
                    log.write(data)
                if target is None or self._fault:
                    continue
                try:
                    view = memoryview(data)
                    while view:
                        view = view[os.write(target, view) :]
                except OSError as error:
                    self._fault = f"executor {self._job.index}: {path} could not be written: {error.strerror}"

    def _heard(self, data: bytes) -> None:
        self._silent = False

    def _keep(self, data: bytes) -> None:
        self._first += data[: HEAD - len(self._first)]
        self._last = (self._last + data)[-HEAD:]

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        for _ in range(3):
            await self._remove()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REMOVE_INTERVAL):
                    await process.wait()
                return
            with contextlib.suppress(ProcessLookupError):
                process.kill()


def no_container(job: Job, why: str) -> str:
    """What the user is told where the client made no container, and said `why`."""
    return f"executor {job.index}: no container of image '{job.executor.image}' could be made: {why}"
