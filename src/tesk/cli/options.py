"""Options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tesk.cli import complete
from tesk.tes.states import State

__all__ = ["AsJson", "ConfigFile", "NamePrefix", "Profile", "Server", "States", "Tags", "UnendedIds", "View", "tags_of"]


class View(StrEnum):
    """How much of a task to show (TES 1.1.0 `view`)."""

    MINIMAL = "MINIMAL"
    BASIC = "BASIC"
    FULL = "FULL"


Server = Annotated[
    str | None,
    typer.Option("--server", "-S", help="Address of the TES server; else $TES_URL or a profile.", metavar="URL"),
]
Profile = Annotated[
    str | None,
    typer.Option(
        "--profile",
        help="A server of your file of profiles (see 'tesk profiles').",
        metavar="NAME",
        autocompletion=complete.profiles,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="Configuration file, instead of tesk.yaml here or in /etc/tesk."),
]
UnendedIds = Annotated[
    list[str] | None, typer.Argument(help="Ids of tasks.", metavar="ID", autocompletion=complete.unended_ids)
]
States = Annotated[
    list[State] | None,
    typer.Option(
        "--state",
        case_sensitive=False,
        help="Only tasks in this state; may be given again.",
        show_choices=False,
        metavar="STATE",
    ),
]
NamePrefix = Annotated[str | None, typer.Option(help="Only tasks whose name starts so.", metavar="TEXT")]
Tags = Annotated[
    list[str] | None,
    typer.Option(
        "--tag",
        help="Only tasks with this tag; without =VALUE any value counts. May be given again.",
        metavar="KEY[=VALUE]",
    ),
]


def tags_of(given: list[str] | None) -> dict[str, str]:
    """Tags to filter by; an empty value matches any."""
    return {key: value for key, _, value in (one.partition("=") for one in given or ())}
