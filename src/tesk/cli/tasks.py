"""The commands that speak with a TES server: create, get, list, cancel, wait, logs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from tesk.cli.faults import FAILED, USAGE, CommandError
from tesk.cli.options import DEFAULT_SERVER, AsJson, Ids, Server, View
from tesk.tes.states import TERMINAL, State

__all__ = ["cancel", "create", "get", "list_", "logs", "wait"]

Files = Annotated[list[str], typer.Argument(help="Files of JSON tasks; - is standard input.", metavar="FILE...")]


def create(files: Files, server: Server = DEFAULT_SERVER, json: AsJson = False) -> None:
    """Send tasks to a server and print their ids.

    A file holds one task, a list of tasks, or tasks one after the other.
    """
    from tesk.cli.screen import print_json, print_line
    from tesk.client import Client

    # all are read before the first is sent, so that a misspelt file name leaves nothing half done
    tasks = [task for file in files for task in _tasks_of(file)]
    with Client(server) as client:
        for task in tasks:
            task_id = client.create(task)
            if json:
                print_json({"id": task_id})
            else:
                print_line(task_id)


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


def get(
    ids: Ids,
    view: Annotated[View, typer.Option(case_sensitive=False, help="How much to show.")] = View.FULL,
    server: Server = DEFAULT_SERVER,
    json: AsJson = False,
) -> None:
    """Show tasks."""
    from tesk.cli.screen import print_json, print_task
    from tesk.client import Client

    with Client(server) as client:
        for number, one in enumerate(ids):
            task = client.get(one, view.value)
            if json:
                print_json(task)
                continue
            if number:
                print()
            print_task(task)


def list_(
    state: Annotated[
        State | None, typer.Option(case_sensitive=False, help="Only tasks in this state.", show_choices=False)
    ] = None,
    name_prefix: Annotated[str | None, typer.Option(help="Only tasks whose name starts so.")] = None,
    tag: Annotated[
        list[str] | None,
        typer.Option(help="Only tasks with this tag; without =VALUE any value counts.", metavar="KEY[=VALUE]"),
    ] = None,
    view: Annotated[View, typer.Option(case_sensitive=False, help="How much to ask for.")] = View.BASIC,
    page_size: Annotated[int | None, typer.Option(min=1, max=2047, help="Tasks in one page.")] = None,
    all_pages: Annotated[bool, typer.Option("--all", help="All pages, not the first one alone.")] = False,
    server: Server = DEFAULT_SERVER,
    json: AsJson = False,
) -> None:
    """List tasks, newest first: id, state, time of creation, name."""
    from tesk.cli.screen import print_json, print_rows, say
    from tesk.client import Client, Task

    tags = {key: value for key, _, value in (one.partition("=") for one in tag or ())}
    more = False

    def found(client: Client) -> Iterator[Task]:
        nonlocal more
        token: str | None = None
        while True:
            tasks, token = client.page(
                name_prefix=name_prefix,
                state=state,
                tags=tags,
                view=view.value,
                page_size=page_size,
                page_token=token,
            )
            yield from tasks
            more = token is not None
            if token is None or not all_pages:
                return

    with Client(server) as client:
        if json:
            for task in found(client):
                print_json(task)
        else:
            rows = (
                [str(task.get(key) or "") for key in ("id", "state", "creation_time", "name")] for task in found(client)
            )
            print_rows(("ID", "STATE", "CREATED", "NAME"), rows)
    if more:
        say("there are more tasks; --all lists them")


def cancel(ids: Ids, server: Server = DEFAULT_SERVER) -> None:
    """Cancel tasks."""
    from tesk.cli.screen import say
    from tesk.client import Client, ClientError, ServerUnreachableError

    failed = False
    with Client(server) as client:
        for one in ids:
            try:
                client.cancel(one)
            except ServerUnreachableError:
                raise
            except ClientError as error:
                # the others are canceled all the same
                say(f"{one}: {error}")
                failed = True
    if failed:
        raise typer.Exit(FAILED)


def wait(
    ids: Ids,
    timeout: Annotated[
        float | None, typer.Option(min=0, help="Give up after so many seconds.", metavar="SECONDS")
    ] = None,
    server: Server = DEFAULT_SERVER,
    json: AsJson = False,
) -> None:
    """Wait until tasks have ended.

    Prints how each ended; exit code 1 if any did not COMPLETE.
    """
    from tesk.cli.screen import print_json, print_line
    from tesk.client import Client

    def changed(task_id: str, state: str) -> None:
        if state not in TERMINAL:
            return
        if json:
            print_json({"id": task_id, "state": state})
        else:
            print_line(f"{task_id}\t{state}")

    with Client(server) as client:
        states = client.wait(ids, timeout=timeout, changed=changed)
    if any(state != State.COMPLETE for state in states.values()):
        raise typer.Exit(FAILED)


def logs(
    task_id: Annotated[str, typer.Argument(help="Id of a task.", metavar="ID")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the executor ends.")] = False,
    executor: Annotated[int, typer.Option(min=0, help="Number of the executor, from 0.")] = 0,
    stderr: Annotated[bool, typer.Option("--stderr", help="Standard error instead of standard output.")] = False,
    server: Server = DEFAULT_SERVER,
) -> None:
    """Print what an executor has written."""
    from tesk.client import Client

    with Client(server) as client:
        for piece in client.logs(task_id, executor, "stderr" if stderr else "stdout", follow=follow):
            sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
