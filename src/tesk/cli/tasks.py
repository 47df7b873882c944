"""What is done with tasks that a TES server has: get, cancel, wait, logs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from tesk.cli import complete
from tesk.cli.faults import FAILED, USAGE, CommandError
from tesk.cli.filters import Filters, ids_or_filters
from tesk.cli.options import AsJson, NamePrefix, Profile, Server, States, Tags, UnendedIds, View, tags_of
from tesk.tes.states import TERMINAL, State

if TYPE_CHECKING:
    from tesk.client import Client, ClientError

__all__ = ["cancel", "get", "logs", "wait"]

_AT_ONCE = 16
_MOST_REASONS = 8


def get(
    ids: Annotated[list[str], typer.Argument(help="Ids of tasks.", metavar="ID", autocompletion=complete.task_ids)],
    view: Annotated[View, typer.Option(case_sensitive=False, help="How much to show.")] = View.FULL,
    server: Server = None,
    profile: Profile = None,
    json: AsJson = False,
) -> None:
    """Show tasks."""
    from tesk.cli.connect import connect
    from tesk.cli.screen import print_json, print_task

    with connect(server, profile) as client:
        for number, one in enumerate(ids):
            task = client.get(one, view.value)
            if json:
                print_json(task)
                continue
            if number:
                print()
            print_task(task, None if task.get("state") in TERMINAL else client.why(one))


def cancel(
    ids: UnendedIds = None,
    state: States = None,
    name_prefix: NamePrefix = None,
    tag: Tags = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before tasks are canceled by filters.")] = False,
    server: Server = None,
    profile: Profile = None,
) -> None:
    """Cancel tasks, by id or all that match.

    Tasks that have ended stay as they are. With filters, those that match are counted, and you are asked first.
    """
    from tesk.cli.connect import connect
    from tesk.cli.screen import say
    from tesk.client import ServerUnreachableError

    filters = Filters.given(state, name_prefix, tag)
    ids_or_filters(ids, filters, "cancel")
    with connect(server, profile) as client:
        if not ids:
            ids = filters.ids(client, [one for one in State if one not in TERMINAL and one != State.CANCELING])
            if not ids:
                say("no task that could be canceled matches")
                return
            if not yes:
                _confirm(len(ids))
        faults = _cancel_all(client, ids)
    for one, error in faults.items():
        if isinstance(error, ServerUnreachableError):
            raise error
        say(f"{one}: {error}")
    if not faults and filters:
        say(f"canceled: {len(ids)}")
    if faults:
        raise typer.Exit(FAILED)


def _confirm(number: int) -> None:
    if not sys.stdin.isatty():
        raise CommandError(f"tasks that match: {number}; give --yes to cancel them without being asked", USAGE)
    if not typer.confirm(f"Tasks that match: {number}. Cancel them?", err=True):
        raise CommandError("nothing was canceled")


def _cancel_all(client: Client, ids: Sequence[str]) -> dict[str, ClientError]:
    """Cancel each, several at a time; the ones that were not, with the reason."""
    from concurrent.futures import ThreadPoolExecutor

    from tesk.client import ClientError, ServerUnreachableError

    unreachable: list[ClientError] = []

    def one(task_id: str) -> ClientError | None:
        if unreachable:
            return unreachable[0]
        try:
            client.cancel(task_id)
        except ClientError as error:
            if isinstance(error, ServerUnreachableError):
                unreachable.append(error)
            # the others are canceled all the same
            return error
        return None

    first = one(ids[0])  # finds the API, so that the others need not each
    pool = ThreadPoolExecutor(_AT_ONCE)
    try:
        rest = list(pool.map(one, ids[1:]))
    finally:
        pool.shutdown(cancel_futures=True)
    return {each: error for each, error in zip(ids, [first, *rest], strict=True) if error is not None}


def wait(
    ids: UnendedIds = None,
    state: States = None,
    name_prefix: NamePrefix = None,
    tag: Tags = None,
    timeout: Annotated[
        float | None, typer.Option(min=0, help="Give up after so many seconds.", metavar="SECONDS")
    ] = None,
    server: Server = None,
    profile: Profile = None,
    json: AsJson = False,
) -> None:
    """Wait until tasks have ended, by id or all that match.

    Those count that match now. Prints how each ended; exit code 1 if any did not COMPLETE.
    """
    from tesk.cli.connect import connect
    from tesk.cli.screen import print_json, print_line, say
    from tesk.client import WaitTimeoutError

    filters = Filters.given(state, name_prefix, tag)
    ids_or_filters(ids, filters, "wait")

    def changed(task_id: str, state: str) -> None:
        if state not in TERMINAL:
            return
        if json:
            print_json({"id": task_id, "state": state})
        else:
            print_line(f"{task_id}\t{state}")

    with connect(server, profile) as client:
        wanted = ids or filters.ids(client)
        if not wanted:
            raise CommandError("no task matches")
        try:
            states = client.wait(wanted, timeout=timeout, changed=changed, tags=tags_of(tag))
        except WaitTimeoutError as error:
            for one in error.pending[:_MOST_REASONS]:
                if why := client.why(one):
                    say(f"{one}: {why}")
            raise
    if any(each != State.COMPLETE for each in states.values()):
        raise typer.Exit(FAILED)


def logs(
    task_id: Annotated[str, typer.Argument(help="Id of a task.", metavar="ID", autocompletion=complete.task_ids)],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the executor ends.")] = False,
    executor: Annotated[int, typer.Option(min=0, help="Number of the executor, from 0.")] = 0,
    stderr: Annotated[bool, typer.Option("--stderr", help="Standard error instead of standard output.")] = False,
    server: Server = None,
    profile: Profile = None,
) -> None:
    """Print what an executor has written."""
    from tesk.cli.connect import connect

    with connect(server, profile) as client:
        for piece in client.logs(task_id, executor, "stderr" if stderr else "stdout", follow=follow):
            sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
