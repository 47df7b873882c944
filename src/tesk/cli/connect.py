"""From `--server`, `--profile` and the environment to a client."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tesk.client import AsyncClient, Client

__all__ = ["connect", "connect_async"]

_RETRY_SECONDS = 10.0  # a person waits for it


def connect(server: str | None, profile: str | None) -> Client:
    """A client of the server that is meant (tesk.client.profiles tells which)."""
    from tesk.cli.screen import say
    from tesk.client import Client, find_target

    target = find_target(server, profile)
    for warning in target.warnings:
        say(warning)
    return Client(target, retry=_RETRY_SECONDS)


def connect_async(server: str | None, profile: str | None) -> AsyncClient:
    """`connect`, for asynchronous commands."""
    from tesk.cli.screen import say
    from tesk.client import AsyncClient, find_target

    target = find_target(server, profile)
    for warning in target.warnings:
        say(warning)
    return AsyncClient(target, retry=_RETRY_SECONDS)
