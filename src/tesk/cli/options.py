"""Options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["AsJson", "ConfigFile", "Ids", "Server", "View"]


class View(StrEnum):
    """How much of a task to show (TES 1.1.0 `view`)."""

    MINIMAL = "MINIMAL"
    BASIC = "BASIC"
    FULL = "FULL"


Server = Annotated[
    str, typer.Option("--server", envvar=["TESK_URL", "TES_URL"], help="Address of the TES server.", metavar="URL")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="Configuration file, instead of tesk.yaml here or in /etc/tesk."),
]
Ids = Annotated[list[str], typer.Argument(help="Ids of tasks.", metavar="ID...")]

DEFAULT_SERVER = "http://127.0.0.1:8000"
