"""How tasks look on the screen: tables on a terminal, plain lines with tabs everywhere else."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

    from tesk.client import Task, TaskLog

__all__ = [
    "COLOURS",
    "is_terminal",
    "print_json",
    "print_line",
    "print_rows",
    "print_task",
    "printable",
    "say",
    "table_of",
]

COLOURS = {
    "QUEUED": "dim",
    "INITIALIZING": "cyan",
    "RUNNING": "blue",
    "COMPLETE": "green",
    "EXECUTOR_ERROR": "red",
    "SYSTEM_ERROR": "bold red",
    "CANCELED": "yellow",
    "CANCELING": "yellow",
    "PREEMPTED": "magenta",
}


def is_terminal() -> bool:
    """Whether a person sees stdout."""
    return sys.stdout.isatty()


def print_line(text: str) -> None:
    """One line to stdout, at once."""
    print(text, flush=True)


def say(text: str) -> None:
    """One line to stderr."""
    print(f"tesk: {text}", file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    """One JSON object as one line."""
    print(json.dumps(value, ensure_ascii=False), flush=True)


def printable(text: str) -> str:
    """`text` with what would move the cursor or break the line written out, since names come from anybody."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


def print_rows(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table on a terminal; else the rows alone, columns apart by a tab."""
    clean = ([printable(cell) for cell in row] for row in rows)
    if not is_terminal():
        for row in clean:
            print("\t".join(row))
        return
    from rich.console import Console

    Console().print(_table(columns, clean))


def table_of(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """Rows as rich draws them."""
    return _table(columns, ([printable(cell) for cell in row] for row in rows))


def _table(columns: Sequence[str], clean: Iterable[Sequence[str]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=True, overflow="fold" if column == "ID" else "ellipsis")
    for row in clean:
        table.add_row(*(Text(cell, style=COLOURS.get(cell, "")) for cell in row))
    return table


def print_task(task: Task, why: str | None = None) -> None:
    """One task for a person: what it is, how it stands, `why` it does not run, what each attempt did."""
    for key, value in _facts(task, why):
        print(f"{key:<9} {printable(value)}")
    for number, log in enumerate(task.get("logs") or [], 1):
        print(f"attempt {number}")
        for line in _attempt(log):
            print(f"  {printable(line)}")


def _facts(task: Task, why: str | None) -> Iterator[tuple[str, str]]:
    yield "id", task.get("id", "")
    yield "state", task.get("state", "UNKNOWN")
    if why:
        yield "why", why
    if task.get("name"):
        yield "name", task["name"]
    if task.get("creation_time"):
        yield "created", task["creation_time"]
    for key, value in (task.get("tags") or {}).items():
        yield "tag", f"{key}={value}"
    for number, executor in enumerate(task.get("executors") or []):
        yield f"command {number}"[:9], " ".join(_quoted(executor.get("command") or []))


def _quoted(command: Sequence[str]) -> Iterator[str]:
    import shlex

    return (shlex.quote(one) for one in command)


def _attempt(log: TaskLog) -> Iterator[str]:
    yield f"{_time(log, 'start_time')} to {_time(log, 'end_time')}"
    for number, executor in enumerate(log.get("logs") or []):
        yield f"executor {number}: exit code {executor.get('exit_code')}"
        for name in ("stdout", "stderr"):
            text = str(executor.get(name) or "")
            yield from (f"  {name}: {line}" for line in text.splitlines())
    for output in log.get("outputs") or []:
        yield f"output {output.get('url')} ({output.get('size_bytes')} bytes)"
    yield from (str(one) for one in log.get("system_logs") or [])


def _time(log: Mapping[str, Any], key: str) -> str:
    return str(log.get(key) or "…")
