"""The filer as it runs in a pod: between the URLs of a plan and the attempt's scratch volume."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from pathlib import Path

from tesk.backends.kubernetes.mounted import (
    LAUNCHER_PROGRAM,
    LAUNCHER_TREE,
    SCRATCH_TREE,
    read_moves,
)
from tesk.backends.kubernetes.names import Phase
from tesk.backends.kubernetes.result import FilerResult, result_line
from tesk.filer import TransferError, open_directories, stage_in, stage_out
from tesk.plan.model import Plan
from tesk.storage import Storage, StorageSettings

__all__ = ["bring", "deliver", "main"]

TERMINATION_MESSAGE = Path("/dev/termination-log")
_LONGEST_MESSAGE = 4096


def main(attempt: Path, volume: Path, phase: Phase, message: Path = TERMINATION_MESSAGE) -> int:
    """Move the files of the attempt handed out in `attempt` between their URLs and the scratch volume at `volume`.

    Prints the result, also a bad one, as the last line (`tesk.backends.kubernetes.result`) and returns 0; a short one
    is in the container's termination message at `message` too. Raises ValueError when `attempt` holds none. Staging in
    may be repeated after a crash.
    """
    plan, site = read_moves(attempt)
    if phase == "in":
        result = _make_scratch(volume) or bring(plan, site, volume / SCRATCH_TREE)
    else:
        result = deliver(plan, site, volume / SCRATCH_TREE)
    for sentence in result.problems:
        print(sentence)
    line = result_line(result)
    print(line, flush=True)
    _leave(line, message)
    return 0


def bring(plan: Plan, site: StorageSettings, scratch: Path) -> FilerResult:
    """Bring the inputs of `plan` into `scratch`."""
    return asyncio.run(_stage_in(plan, site, scratch))


def deliver(plan: Plan, site: StorageSettings, scratch: Path) -> FilerResult:
    """Deliver the outputs of `plan` from `scratch`."""
    return asyncio.run(_stage_out(plan, site, scratch))


def _leave(line: str, message: Path) -> None:
    """Kubernetes keeps the message with the container's end, and the log no longer than the pod."""
    if len(line) > _LONGEST_MESSAGE:
        return
    with contextlib.suppress(OSError):  # then there is the log
        file = os.open(message, os.O_WRONLY | os.O_TRUNC)  # never made: outside of a pod there is none
        with os.fdopen(file, "w") as out:
            out.write(line)


def _make_scratch(volume: Path) -> FilerResult | None:
    """Make the two trees of the volume, and put the launcher into its own; what went wrong, if anything did."""
    try:
        (volume / SCRATCH_TREE).mkdir(exist_ok=True)
        subprocess.run([LAUNCHER_PROGRAM, "--install", str(volume / LAUNCHER_TREE)], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        return FilerResult((f"scratch cannot be made: {error}",))
    return None


async def _stage_in(plan: Plan, site: StorageSettings, scratch: Path) -> FilerResult:
    try:
        async with Storage(site.options()) as storage:
            copied = await stage_in(plan, scratch, storage)
    except TransferError as error:
        return FilerResult(error.sentences)
    except ValueError as error:
        return FilerResult((str(error),))
    open_directories(scratch)
    return FilerResult(copied=copied)


async def _stage_out(plan: Plan, site: StorageSettings, scratch: Path) -> FilerResult:
    try:
        options = site.options()
    except ValueError as error:
        return FilerResult((str(error),))
    async with Storage(options) as storage:
        return FilerResult(out=await stage_out(plan, scratch, storage))
