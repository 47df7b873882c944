"""Waiting for one task while what its commands write is shown as it comes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Coroutine, Iterable, Mapping
from contextlib import aclosing
from typing import Any, BinaryIO, Literal, TypeVar

from tesk.cli.faults import FAILED, INTERRUPTED, CommandError
from tesk.cli.screen import say
from tesk.cli.terminate import end_by
from tesk.client import AsyncClient, ClientError, ServerUnreachableError, Task
from tesk.tes.states import TERMINAL, State

__all__ = [
    "Stream",
    "exit_code",
    "follow",
    "reasons",
    "run_to_end",
    "run_until_interrupted",
    "show_rest",
    "shown_streams",
    "tell_failure",
]

_POLL = 0.25
_CANCEL_SECONDS = 30.0
_LAST_WORDS_SECONDS = 5.0
_COMPARED = 8 * 2**20  # more than any log holds
T = TypeVar("T")
Stream = Literal["stdout", "stderr"]
Shown = dict[tuple[int, Stream], bytearray]
_STREAMS: tuple[Stream, ...] = ("stdout", "stderr")


def run_until_interrupted(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` to its end; SIGINT, SIGTERM and a reader of stdout that has gone end it in order.

    Raises CommandError then.
    """
    terminations = _Terminations()
    end_by(terminations.ask)
    try:
        return asyncio.run(terminations.end(work))
    except asyncio.CancelledError:
        raise CommandError("terminated", INTERRUPTED) from None
    except BrokenPipeError:
        _drop_output()
        raise CommandError("nobody reads the output any more", INTERRUPTED) from None


class _Terminations:
    """The first SIGTERM cancels the work, as asyncio does with SIGINT; further ones do not disturb its end."""

    def __init__(self) -> None:
        self._asked = False
        self._working: asyncio.Task[Any] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def ask(self) -> None:
        self._asked = True
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        if self._working is not None and not self._working.cancelling():
            self._working.cancel()

    async def end(self, work: Coroutine[Any, Any, T]) -> T:
        self._working = working = asyncio.create_task(work)
        self._loop = asyncio.get_running_loop()
        if self._asked:
            self._cancel()
        return await working


async def run_to_end(client: AsyncClient, task: Mapping[str, Any]) -> Task:
    """Send the task and follow it to its end; the task, in full.

    When we are interrupted or nobody reads what we write any more, the task is cancelled first.
    """
    streams = shown_streams(task)
    task_id = await client.create(task)
    try:
        return await follow(client, task_id, streams)
    except (asyncio.CancelledError, BrokenPipeError):
        with contextlib.suppress(ClientError):
            await client.cancel(task_id)
            await client.wait([task_id], timeout=_CANCEL_SECONDS, poll=_POLL)
        raise


def shown_streams(task: Mapping[str, Any]) -> list[Stream]:
    """What goes to a file that the user named is not shown as well."""
    return [one for one in _STREAMS if one not in task["executors"][0]]


async def follow(client: AsyncClient, task_id: str, streams: Iterable[Stream]) -> Task:
    """Copy `streams` of each executor to ours until the task has ended; the task, in full."""
    shown: Shown = {}
    copying = asyncio.create_task(_copy_running(client, task_id, tuple(streams), shown))
    waiting = asyncio.create_task(client.wait([task_id], poll=_POLL))
    try:
        await asyncio.wait({copying, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if copying.done():
            await copying
        await waiting
        # the last of what was written may still be on its way
        if (await asyncio.wait({copying}, timeout=_LAST_WORDS_SECONDS))[0]:
            await copying
    finally:
        copying.cancel()
        waiting.cancel()
        await asyncio.wait({copying, waiting})
    task = await client.get(task_id, "FULL")
    await show_rest(task, streams, shown)
    return task


async def show_rest(task: Task, streams: Iterable[Stream], shown: Shown) -> None:
    """Show what was written before we followed it, or after we lost it: the task's log has it."""
    for number, log in enumerate((task.get("logs") or [{}])[-1].get("logs") or []):
        for stream in streams:
            before, stored = shown.get((number, stream), b""), str(log.get(stream) or "").encode()
            if stored.startswith(before):
                await _write(stream, stored[len(before) :])


async def _copy_running(client: AsyncClient, task_id: str, streams: tuple[Stream, ...], shown: Shown) -> None:
    """Copy what each executor writes while it runs; `shown` is told the beginning of each stream."""
    pause = 0.02
    while (state := (await client.get(task_id, "MINIMAL")).get("state", "")) != State.RUNNING:
        if state in TERMINAL:
            return
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, _POLL)
    executors = len((await client.get(task_id, "BASIC")).get("executors") or [])
    for number in range(executors):
        copies = [asyncio.create_task(_copy(client, task_id, number, stream, shown)) for stream in streams]
        if not copies:
            return
        try:
            await asyncio.gather(*copies)
        finally:
            # when one fails, gather leaves the others running
            for each in copies:
                each.cancel()
            await asyncio.wait(copies)


async def _copy(client: AsyncClient, task_id: str, number: int, stream: Stream, shown: Shown) -> None:
    try:
        async with aclosing(client.logs(task_id, number, stream, follow=True)) as pieces:
            async for piece in pieces:
                before = shown.setdefault((number, stream), bytearray())
                if len(before) <= _COMPARED:
                    before += piece
                await _write(stream, piece)
    except ServerUnreachableError:
        return  # whoever waits for the task says so
    except ClientError as error:
        if error.status not in (404, 405, 501, 503):  # a server without this extension of TESK
            raise


async def _write(stream: Stream, data: bytes) -> None:
    out: BinaryIO = sys.stdout.buffer if stream == "stdout" else sys.stderr.buffer

    def write() -> None:
        out.write(data)
        out.flush()

    # in a thread, so that a slow reader never holds up the server that may run in this process
    await asyncio.to_thread(write)


def exit_code(task: Task) -> int:
    """What `tesk run` exits with: the code of the executor that failed, as if it had been run here."""
    state = task.get("state")
    if state == State.COMPLETE:
        return 0
    if state in (State.CANCELED, State.CANCELING):
        return INTERRUPTED
    logs = (task.get("logs") or [{}])[-1].get("logs") or []
    code = logs[-1].get("exit_code", FAILED) if logs and state == State.EXECUTOR_ERROR else FAILED
    return code if 0 < code < 256 else FAILED


def tell_failure(task: Task, unsaid: Iterable[str] = ()) -> None:
    """Write to stderr why the task did not complete, without the sentences `unsaid`."""
    if task.get("state") != State.COMPLETE:
        for sentence in reasons(task, unsaid):
            say(sentence)


def reasons(task: Task, unsaid: Iterable[str] = ()) -> list[str]:
    """Why the task did not complete, without the sentences `unsaid`."""
    skip = set(unsaid)
    last = (task.get("logs") or [{}])[-1]
    sentences = [one for one in last.get("system_logs") or [] if one not in skip]
    return sentences or [f"the task ended {task.get('state')} and the server gives no reason"]


def _drop_output() -> None:
    """Send what is still to be written to nowhere: Python flushes stdout and stderr at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for out in (sys.stdout, sys.stderr):
        os.dup2(nowhere, out.fileno())
    os.close(nowhere)
