"""`tesk create`: tasks from files to a server, many at once."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tesk.cli.faults import FAILED, UNREACHABLE, USAGE, CommandError
from tesk.cli.options import AsJson, Profile, Server

if TYPE_CHECKING:
    from tesk.client import ClientError

__all__ = ["create"]

Files = Annotated[
    list[str] | None,
    typer.Argument(
        help="Files of JSON tasks; - is standard input, which is also read when none is named.", metavar="FILE"
    ),
]


def create(files: Files = None, server: Server = None, profile: Profile = None, json: AsJson = False) -> None:
    """Send tasks to a server and print their ids.

    Ids come in the order of the tasks. A file holds one task, a list of tasks, or tasks one after the other. All are
    read before the first is sent. When the server refuses some, the others are created all the same; the exit code
    is 1 then.
    """
    from tesk.cli.connect import connect
    from tesk.cli.screen import print_json, print_line, say

    if not files and sys.stdin.isatty():
        raise CommandError("name a file of tasks, or send one to standard input", USAGE)
    found = [(label, task) for file in files or ["-"] for label, task in _labelled(file)]
    tasks = [task for _, task in found]
    ids: dict[int, str | None] = {}
    printed = 0

    def done(number: int, result: str | ClientError) -> None:
        nonlocal printed
        ids[number] = result if isinstance(result, str) else None
        while printed in ids:
            task_id = ids[printed]
            if task_id is not None and json:
                print_json({"id": task_id})
            elif task_id is not None:
                print_line(task_id)
            printed += 1

    with connect(server, profile) as client:
        if len(tasks) == 1:
            done(0, client.create(tasks[0]))
            return
        results = client.create_all(tasks, done=done)
    failed = [(label, one) for (label, _), one in zip(found, results, strict=True) if not isinstance(one, str)]
    if failed:
        for sentence in _told(failed):
            say(sentence)
        say(f"{len(tasks) - len(failed)} of {len(tasks)} tasks were created")
        unreachable = any(type(error).__name__ == "ServerUnreachableError" for _, error in failed)
        raise typer.Exit(UNREACHABLE if unreachable else FAILED)


def _told(failed: list[tuple[str, ClientError]]) -> Iterator[str]:
    from tesk.client import NotSentError

    unsent = [label for label, error in failed if isinstance(error, NotSentError)]
    for label, error in failed:
        if not isinstance(error, NotSentError):
            yield from (f"{label}: {problem}" for problem in error.problems)
    if unsent:
        yield f"not sent: {unsent[0]}" + (f" and {len(unsent) - 1} more" if len(unsent) > 1 else "")


def _labelled(file: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The tasks of a file, each with the words by which messages name it."""
    name = "standard input" if file == "-" else file
    tasks = list(_tasks_of(file))
    for number, task in enumerate(tasks, 1):
        title = f" ({task['name']})" if isinstance(task.get("name"), str) else ""
        yield f"{name}, task {number}{title}" if len(tasks) > 1 else f"{name}{title}", task


def _tasks_of(file: str) -> Iterator[dict[str, Any]]:
    """The tasks in one file.

    Raises CommandError, with file, line and column, when they cannot be read.
    """
    import json

    name = "standard input" if file == "-" else file
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise CommandError(f"cannot read {name}: {error.strerror}", USAGE) from error
    except UnicodeDecodeError as error:
        raise CommandError(f"{name} is not JSON: byte {error.start} is not UTF-8", USAGE) from error
    decoder = json.JSONDecoder()
    at = _skip_blank(text, 0)
    if at == len(text):
        raise CommandError(f"{name} is empty; give a TES task as JSON", USAGE)
    while at < len(text):
        try:
            found, at = decoder.raw_decode(text, at)
        except json.JSONDecodeError as error:
            place = f"line {error.lineno}, column {error.colno}"
            raise CommandError(f"{name} is not JSON: {error.msg} at {place}", USAGE) from error
        at = _skip_blank(text, at)
        for task in found if isinstance(found, list) else [found]:
            if not isinstance(task, dict):
                raise CommandError(f"{name} holds {json.dumps(task)[:40]} where a TES task should be", USAGE)
            yield task


def _skip_blank(text: str, at: int) -> int:
    while at < len(text) and text[at].isspace():
        at += 1
    return at
