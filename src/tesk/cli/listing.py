"""`tesk list`: tasks as rows, once or live."""

from __future__ import annotations

import itertools
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from tesk.cli.faults import USAGE, CommandError
from tesk.cli.filters import Filters
from tesk.cli.options import AsJson, NamePrefix, Profile, Server, States, Tags, View

if TYPE_CHECKING:
    from tesk.client import Client, Task

__all__ = ["list_"]

_COLUMNS = ("ID", "STATE", "CREATED", "NAME")
_USUAL_PAGE = 256  # what a TES server sends when no size is asked for
_REFRESH_SECONDS = 1.0
_PATIENCE_SECONDS = 60.0


def list_(
    state: States = None,
    name_prefix: NamePrefix = None,
    tag: Tags = None,
    view: Annotated[View, typer.Option(case_sensitive=False, help="How much to ask for.")] = View.BASIC,
    page_size: Annotated[int | None, typer.Option(min=1, max=2047, help="So many tasks.", metavar="N")] = None,
    all_pages: Annotated[bool, typer.Option("--all", help="All tasks, not only the newest.")] = False,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch", "-w", help="Keep the list current until Ctrl-C; without a terminal, print each change."
        ),
    ] = False,
    server: Server = None,
    profile: Profile = None,
    json: AsJson = False,
) -> None:
    """List tasks, newest first: id, state, time of creation, name."""
    from tesk.cli.connect import connect
    from tesk.cli.screen import is_terminal, say

    if watch and all_pages:
        raise CommandError("--watch shows the newest tasks; give it --page-size instead of --all", USAGE)
    filters = Filters.given(state, name_prefix, tag)
    with connect(server, profile) as client:
        if watch:
            live = is_terminal() and not json
            size = page_size or (max(shutil.get_terminal_size().lines - 4, 1) if live else _USUAL_PAGE)

            def newest() -> list[Task]:
                return list(itertools.islice(filters.each(client, view.value, size), size))

            _live(newest, client) if live else _changes(newest, json)
            return
        tasks = filters.each(client, view.value, page_size if page_size or not all_pages else 2000)
        _print(tasks if all_pages else itertools.islice(tasks, page_size or _USUAL_PAGE), json)
        # the next page is asked for only when there is one
        if not all_pages and next(tasks, None) is not None:
            say("there are more tasks; --all lists them")


def _print(tasks: Iterator[Task], json: bool) -> None:
    from tesk.cli.screen import print_json, print_rows

    if json:
        for task in tasks:
            print_json(task)
    else:
        print_rows(_COLUMNS, map(_row, tasks))


def _row(task: Task) -> list[str]:
    return [str(task.get(key) or "") for key in ("id", "state", "creation_time", "name")]


def _changes(newest: Callable[[], list[Task]], json: bool) -> None:
    """Print each task when it is new or its state another one, oldest first."""
    seen: dict[str, str] = {}
    for tasks, _ in _rounds(newest):
        changed = [task for task in reversed(tasks) if seen.get(task["id"]) != task.get("state", "")]
        _print(iter(changed), json)
        seen = {task["id"]: task.get("state", "") for task in tasks}


def _live(newest: Callable[[], list[Task]], client: Client) -> None:
    """Redraw the table in place."""
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    from tesk.cli.screen import table_of
    from tesk.client.connection import without_secrets

    address = without_secrets(client.url)
    with Live(auto_refresh=False, vertical_overflow="crop") as live:
        for tasks, trouble in _rounds(newest):
            title = Text(f"{address}  {time.strftime('%H:%M:%S')}  Ctrl-C ends", style="dim")
            if trouble:
                title = Text(trouble, style="bold red")
            live.update(Group(title, table_of(_COLUMNS, map(_row, tasks))), refresh=True)


def _rounds(newest: Callable[[], list[Task]]) -> Iterator[tuple[Sequence[Task], str]]:
    """What `newest` gives, again and again, or what it gave last and why there is nothing newer.

    A server that is away for a while is waited for.
    """
    from tesk.client import ServerUnreachableError

    tasks: Sequence[Task] = []
    answered: float | None = None
    while True:
        trouble = ""
        try:
            tasks = newest()
            answered = time.monotonic()
        except ServerUnreachableError as error:
            if answered is None or time.monotonic() - answered > _PATIENCE_SECONDS:
                raise
            trouble = str(error)
        yield tasks, trouble
        time.sleep(_REFRESH_SECONDS)
