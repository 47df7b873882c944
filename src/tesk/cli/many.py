"""Many tasks to their ends: what each wrote is shown when it has ended, in one piece, and how all stand meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

from tesk.cli.faults import FAILED
from tesk.cli.follow import Stream, reasons, show_rest, shown_streams
from tesk.cli.screen import COLOURS, printable, say
from tesk.client import AsyncClient, ClientError, Task
from tesk.tes.states import TERMINAL, State

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["Sent", "run_all", "send_all"]

_POLL = 0.5
_AT_ONCE = 8
_CANCEL_SECONDS = 30.0
_ROWS = 8  # running tasks that the live view names


@dataclass(frozen=True, slots=True)
class Sent:
    """A task that is to be run, and the words by which messages name it."""

    place: str
    task: dict[str, Any]


async def send_all(client: AsyncClient, wanted: Sequence[Sent]) -> list[str | None]:
    """Create the tasks; their ids, None for those that the server refused, which are told on stderr."""
    results = await client.create_all([one.task for one in wanted])
    for one, result in zip(wanted, results, strict=True):
        if not isinstance(result, str):
            for problem in result.problems:
                say(f"{one.place}: {problem}")
    return [result if isinstance(result, str) else None for result in results]


async def run_all(client: AsyncClient, wanted: Sequence[Sent], unsaid: Iterable[str] = ()) -> int:
    """Send the tasks and wait until each has ended; the exit code.

    When we are interrupted, or nobody reads what we write any more, those that run are cancelled first.
    """
    ids: list[str | None] = []
    states: dict[str, str] = {}
    try:
        ids = await send_all(client, wanted)
        by_id = {task_id: one for task_id, one in zip(ids, wanted, strict=True) if task_id is not None}
        states = dict.fromkeys(by_id, "SENT")
        with _Board(states, by_id) as board:
            await _follow(client, by_id, states, board, frozenset(unsaid))
    except (asyncio.CancelledError, BrokenPipeError):
        await _cancel(client, [one for one, state in states.items() if state not in TERMINAL])
        raise
    _tell(len(wanted), states)
    complete = all(state == State.COMPLETE for state in states.values())
    return 0 if complete and len(states) == len(wanted) else FAILED


async def _follow(
    client: AsyncClient, by_id: dict[str, Sent], states: dict[str, str], board: _Board, unsaid: frozenset[str]
) -> None:
    ended: asyncio.Queue[str | None] = asyncio.Queue()

    def changed(task_id: str, state: str) -> None:
        states[task_id] = state
        board.changed(task_id, state)
        if state in TERMINAL:
            ended.put_nowait(task_id)

    async def wait() -> None:
        await client.wait(list(by_id), poll=_POLL, changed=changed)
        for _ in range(_AT_ONCE):
            ended.put_nowait(None)

    printing = asyncio.Lock()

    async def show() -> None:
        while (task_id := await ended.get()) is not None:
            one = by_id[task_id]
            streams = shown_streams(one.task)
            if not streams and states[task_id] == State.COMPLETE:
                continue
            task = await client.get(task_id, "FULL")
            async with printing:
                with board.paused():
                    await _show(one, task, unsaid)
                    board.on_new_line(task, streams)

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(wait())
            for _ in range(_AT_ONCE):
                group.create_task(show())
    except BaseExceptionGroup as group_of:
        raise group_of.exceptions[0] from None


async def _show(one: Sent, task: Task, unsaid: frozenset[str]) -> None:
    await show_rest(task, shown_streams(one.task), {})
    if task.get("state") != State.COMPLETE:
        for sentence in reasons(task, unsaid):
            say(f"{one.place}: {sentence}")


async def _cancel(client: AsyncClient, ids: Sequence[str]) -> None:
    left = iter(ids)

    async def work() -> None:
        for one in left:
            with contextlib.suppress(ClientError):
                await client.cancel(one)

    await asyncio.gather(*(work() for _ in range(_AT_ONCE)))
    with contextlib.suppress(ClientError):
        await client.wait(ids, timeout=_CANCEL_SECONDS, poll=_POLL)


def _tell(number: int, states: dict[str, str]) -> None:
    counts = Counter(states.values())
    if number > len(states):
        counts["refused"] = number - len(states)
    say(f"{number} tasks: " + ", ".join(f"{count} {state}" for state, count in counts.items()))


class _Board:
    """How the tasks stand, live on a terminal and nowhere else: on stderr, since stdout is the commands' own."""

    def __init__(self, states: dict[str, str], by_id: dict[str, Sent]) -> None:
        self._states = states
        self._by_id = by_id
        self._since = dict.fromkeys(states, time.monotonic())
        self._live: Any = None
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(
                get_renderable=self._render, console=Console(stderr=True), refresh_per_second=4, transient=True,
                redirect_stdout=False, redirect_stderr=False,
            )  # fmt: skip

    def __enter__(self) -> _Board:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def changed(self, task_id: str, state: str) -> None:
        """A task's state is another one."""
        self._since[task_id] = time.monotonic()

    def on_new_line(self, task: Task, streams: Iterable[Stream]) -> None:
        """End the last line that `task` wrote, which the live view would else draw over."""
        executors = (task.get("logs") or [{}])[-1].get("logs") or []
        written = [str(one.get(stream) or "") for one in executors for stream in streams]
        if self._live and any(written) and not [one for one in written if one][-1].endswith("\n"):
            print(file=sys.stderr)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """While something else is written to the terminal."""
        if self._live:
            self._live.stop()
        try:
            yield
        finally:
            if self._live:
                self._live.start()

    def _render(self) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        states = dict(self._states)
        counts = Counter(states.values())
        head = Text.assemble(*((f"{count} {state}  ", COLOURS.get(state, "")) for state, count in counts.items()))
        running = [one for one, state in states.items() if state == State.RUNNING]
        lines = [self._line(one) for one in running[:_ROWS]]
        if len(running) > _ROWS:
            lines.append(Text(f"  and {len(running) - _ROWS} more"))
        return Group(head, *lines)

    def _line(self, task_id: str) -> RenderableType:
        from rich.text import Text

        one = self._by_id[task_id]
        seconds = time.monotonic() - self._since[task_id]
        text = f"  {one.place}  {seconds:.0f} s  {printable(one.task['name'])}"
        return Text(text, no_wrap=True, overflow="ellipsis")
