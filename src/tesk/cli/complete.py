"""What the shell offers on Tab beyond the names of commands and options.

Nothing here may print, take longer than a second, or fail: a shell that completes has no place for an error.
"""

from __future__ import annotations

import typer

__all__ = ["profiles", "task_ids", "unended_ids"]

_SECONDS = 1.0
_NEWEST = 200
Offered = list[tuple[str, str]]


def profiles(incomplete: str) -> Offered:
    """Names of profiles, with their addresses."""
    import os

    from tesk.client.errors import ClientError
    from tesk.client.profiles import profile_file, shown_address

    try:
        file = profile_file(os.environ)
    except ClientError:
        return []
    if file is None:
        return []
    return [(name, shown_address(one)) for name, one in file.profiles.items() if name.startswith(incomplete)]


def task_ids(ctx: typer.Context, incomplete: str) -> Offered:
    """Ids of the newest tasks."""
    return _ids(ctx, incomplete, frozenset())


def unended_ids(ctx: typer.Context, incomplete: str) -> Offered:
    """Ids of those of the newest tasks that have not ended."""
    from tesk.tes.states import TERMINAL

    return _ids(ctx, incomplete, TERMINAL)


def _ids(ctx: typer.Context, incomplete: str, without: frozenset[str]) -> Offered:
    import dataclasses

    from tesk.client import Client, ClientError, find_target

    given = {*(ctx.params.get("ids") or ()), *(ctx.params.get("wait_for") or ())}
    try:
        target = find_target(ctx.params.get("server"), ctx.params.get("profile"))
        with Client(dataclasses.replace(target, timeout=_SECONDS), retry=0) as client:
            tasks, _ = client.page(view="BASIC", page_size=_NEWEST)
    except ClientError:
        return []
    return [
        (one["id"], f"{one.get('state', '')} {one.get('name', '')}".strip())
        for one in tasks
        if one["id"].startswith(incomplete) and one.get("state") not in without and one["id"] not in given
    ]
