"""A server's keepers: the one that it starts, and those of earlier servers whose executors go on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tesk
from tesk.backends.local.engine import EngineUnavailable, Job
from tesk.backends.local.keeping.line import Line, connect, listen
from tesk.storage.errors import reason
from tesk.taskmaster.steps import AttemptLost, StepFailed

__all__ = ["Keepers", "end_keepers"]

DIRECTORY = "keepers"
START_TIMEOUT = 20.0
ROOM = 16384
"""Bytes that hold what a keeper tells of an end."""


class Keepers:
    """The keepers of one engine in one state directory.

    Executors begin with the newest, which knows this server's version, settings and mounts; an earlier one goes on with
    those that it has, and ends with the last of them. One that is killed is followed by another, for what begins then.

    Args:
        state: the server's state directory.
        engine: the engine's name: keepers of others are not called.
        module: where the keeper's `main` is.
        settings: what that is told first.
        lasting: let executors go on when this server ends, for the next one to take over.
    """

    def __init__(self, state: Path, engine: str, module: str, settings: dict[str, Any], *, lasting: bool) -> None:
        self.lasting = lasting and sys.platform.startswith("linux")
        self.leaving = False
        self._state = state
        self._directory = state / DIRECTORY / engine
        self._module = module
        self._settings = settings
        self._lines: list[Line] = []
        self._starting = asyncio.Lock()

    async def start(self) -> None:
        """Start a keeper and call those of earlier servers; raises EngineUnavailable with a reason."""
        earlier = await connect(self._directory)
        self._lines = [await self._start_keeper(), *earlier]
        for line in earlier:
            if not self.lasting:
                await line.end()
                continue
            for name in line.running:
                attempt, _, number = name.rpartition("-ex-")
                if not (self._state / "attempts" / attempt / f"ex-{number.partition('-')[0]}").is_dir():
                    line.kill(name)  # nobody waits for it

    def leave(self) -> None:
        """From here on no executor ends with who waits for it; only where executors are `lasting`."""
        self.leaving = self.lasting

    async def stop(self) -> None:
        """Let the keepers end, and every executor with them; or, after `leave`, alone as long as these run."""
        lines, self._lines = self._lines, []
        await asyncio.gather(*(one.close() if self.leaving else one.end() for one in lines))

    def running(self) -> set[str]:
        """The names of executors of which some process may be left."""
        return {name for line in self._lines for name in line.running}

    def begun(self, job: Job) -> bool:
        """Whether it has begun, maybe under an earlier server: then it is not to begin again."""
        return self._line_of(job) is not None or job.end.exists()

    async def to_end(
        self, job: Job, message: Callable[[], dict[str, Any]], started: Callable[[], None]
    ) -> dict[str, Any]:
        """Run it, or go on with what an earlier server began; what its keeper says of its end.

        What has begun is with one of our keepers, or has ended: then its file says how, and it never runs twice.

        Args:
            message: makes what the keeper is told, once this is about to begin.

        Raises StepFailed when it cannot be started, AttemptLost when it is gone without an end.
        """
        line = self._line_of(job)
        if line is None and not job.end.exists():
            line = await self._newest()
            try:
                told = message()
                _make_room(job)
            except OSError as error:
                raise StepFailed(f"executor {job.index} cannot be started: {reason(error)}") from error
            line.run(job.name, {**told, "room": str(_room_of(job)), "end": str(job.end)})
        started()
        lost: AttemptLost | None = None
        if line is not None:
            try:
                await self._gone(line, job.name)
            except AttemptLost as error:
                lost = error
        end = _read_end(job.end)
        if lost is not None and not end:
            raise lost
        return end

    def _line_of(self, job: Job) -> Line | None:
        return next((one for one in self._lines if job.name in one.running), None)

    async def _newest(self) -> Line:
        async with self._starting:
            if self._lines[0].broken:
                try:
                    self._lines.insert(0, await self._start_keeper())
                except EngineUnavailable as error:
                    raise AttemptLost(f"the keeper ended, and another cannot be started: {error}") from error
            return self._lines[0]

    async def _gone(self, line: Line, name: str) -> None:
        try:
            await line.gone(name)
        except asyncio.CancelledError:
            if not self.leaving:
                line.kill(name)
                with contextlib.suppress(AttemptLost):
                    await line.gone(name)
            raise

    async def _start_keeper(self) -> Line:
        ours, theirs = socket.socketpair()
        with contextlib.ExitStack() as closing:
            closing.enter_context(theirs)
            ends = [theirs.fileno()]
            try:
                if self.lasting:
                    ends.append(closing.enter_context(listen(self._directory)).fileno())
                ours.sendall(json.dumps(self._settings).encode() + b"\n")
                await self._spawn(*ends)
            except BaseException:
                ours.close()
                raise
        return await Line.open(ours)

    async def _spawn(self, *ends: int) -> None:
        # -S and -E keep site-packages out: a keeper needs the standard library and tesk's own few modules.
        package = str(Path(tesk.__file__).parent.parent)
        program = f"import sys; sys.path.append({package!r}); from {self._module} import main; main()"
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-S", "-E", "-c", program, *map(str, ends)),
            pass_fds=ends,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,  # it may outlive us, and who reads what we print waits for its end
        )
        # It forks the real keeper and ends.
        async with asyncio.timeout(START_TIMEOUT):
            await process.wait()


async def end_keepers(state: Path, but: str | None = None) -> None:
    """End what servers with the state directory `state` left running, with any engine `but` this one."""
    directory = state / DIRECTORY
    for one in directory.iterdir() if directory.is_dir() else ():
        if one.name != but:
            await asyncio.gather(*(line.end() for line in await connect(one)))


def _read_end(path: Path) -> dict[str, Any]:
    """What a keeper wrote there of an executor's end; nothing where it is not there, or not whole."""
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        found = {}
    return found


def _room_of(job: Job) -> Path:
    return job.end.with_name(f"room-{job.end.name}")


def _make_room(job: Job) -> None:
    """Make the file that becomes the one of its end once it begins: no disk that it fills shall hide that."""
    _room_of(job).write_bytes(bytes(ROOM))
