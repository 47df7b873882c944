"""An executor that an engine's client program runs in the foreground, and the keeper that carries its streams."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tesk.backends.local.engine import Job
from tesk.backends.local.keeping.keepers import Keepers
from tesk.storage.view import described
from tesk.taskmaster.run import moment
from tesk.taskmaster.steps import AttemptLost, StepFailed

__all__ = ["ClientProgram", "Ended", "client_keepers", "no_container", "run_client"]


@dataclass(frozen=True, slots=True)
class ClientProgram:
    """A client of an engine, for one executor.

    Args:
        command: carries the executor's own streams, and ends as it ends.
        remove: ends the container, also one that the client is only about to make; empty where there is none but the
            client's process group.
        ask: tells something of the container after its command failed; empty where nothing is wanted.
        stays: the container is there until it is removed.
        environment: the client's; the server's own by default.
        note: a file that gets the client's process number and start time.
        directory: where the client is started; that of its keeper by default.
    """

    command: Sequence[str]
    remove: Sequence[str] = ()
    ask: Sequence[str] = ()
    stays: bool = False
    environment: Mapping[str, str] | None = None
    note: Path | None = None
    directory: Path | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """How a client program ended; `start_time` and `end_time` are RFC 3339.

    `said_first` and `said_last` are the beginning and the end of what came on stderr, from the client or from the
    command, 4 KiB each. Where it all fits into that, both are the whole.
    """

    code: int
    start_time: str
    end_time: str
    said_first: bytes = b""
    said_last: bytes = b""
    silent: bool = True
    """Nothing came on stdout."""
    problem: str | None = None
    """A sentence where the client could not be started with what the task asks for."""
    answer: str = ""
    """What was asked after it failed."""


def client_keepers(state: Path, engine: str, *, lasting: bool) -> Keepers:
    """The keepers of an engine's client programs."""
    return Keepers(state, engine, "tesk.backends.local.keeping.clients", {}, lasting=lasting)


async def run_client(keepers: Keepers, job: Job, program: ClientProgram, started: Callable[[], None]) -> Ended:
    """Run it by a keeper, or go on with what an earlier server began.

    Raises StepFailed where the client cannot be started, or a stream cannot be opened or written; AttemptLost where
    the client was ended by a signal, or its keeper was.
    """

    def message() -> dict[str, Any]:
        executor = job.executor
        return {
            "command": program.command,
            "environment": program.environment,
            "remove": program.remove,
            "ask": program.ask,
            "stays": program.stays,
            "note": str(program.note) if program.note else None,
            "directory": str(program.directory) if program.directory else None,
            "stdin": executor.stdin,
            "stdout": executor.stdout,
            "stderr": executor.stderr,
            "files": described(job.files),
            "streams": str(job.space.streams(job.index)),
        }

    end = await keepers.to_end(job, message, started)
    if fault := end.get("fault"):
        raise StepFailed(f"executor {job.index}: {fault}")
    if "code" not in end:
        raise AttemptLost(f"{Path(program.command[0]).name} was killed together with the process that watches it")
    if end["code"] < 0:
        raise AttemptLost(f"{Path(program.command[0]).name} itself was ended by signal {-end['code']}")
    return Ended(
        end["code"],
        moment(end["start"]),
        moment(end["end"]),
        base64.b64decode(end.get("first", "")),
        base64.b64decode(end.get("last", "")),
        end.get("silent", True),
        end.get("problem"),
        end.get("answer", ""),
    )


def no_container(job: Job, why: str) -> str:
    """What the user is told where the client made no container, and said `why`."""
    return f"executor {job.index}: no container of image '{job.executor.image}' could be made: {why}"
