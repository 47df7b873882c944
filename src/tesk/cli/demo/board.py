"""What the demo shows while tasks run: a live table on a terminal, a line for each change elsewhere."""

from __future__ import annotations

import time
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING

from tesk.cli.screen import COLOURS, is_terminal, print_line

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Board"]


class Board:
    """The tasks of the demo, by id, and how each stands."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._rows: dict[str, tuple[str, str, float]] = {}
        self._stack = ExitStack()
        self._live = is_terminal()

    def __enter__(self) -> Board:
        if self._live:
            from rich.live import Live

            self._stack.enter_context(Live(get_renderable=self._table, refresh_per_second=10, transient=False))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def name(self, task_id: str, name: str) -> None:
        """A task was sent."""
        self._rows[task_id] = (name, "SENT", self._seconds())

    def changed(self, task_id: str, state: str) -> None:
        """A task's state is another one."""
        name, _, _ = self._rows[task_id]
        self._rows[task_id] = (name, state, self._seconds())
        if not self._live:
            print_line(f"{self._seconds():6.2f} s  {state:<14}  {name}")

    def _seconds(self) -> float:
        return time.monotonic() - self._began

    def _table(self) -> Table:
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, header_style="bold")
        for title in ("TASK", "STATE", "SINCE"):
            table.add_column(title, justify="right" if title == "SINCE" else "left")
        for name, state, since in self._rows.values():
            table.add_row(name, Text(state, style=COLOURS.get(state, "")), f"{since:.2f} s")
        return table
