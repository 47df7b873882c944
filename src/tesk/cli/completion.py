"""`tesk completion`: the script by which a shell completes `tesk`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

__all__ = ["completion"]


class Shell(StrEnum):
    """The shells that there is a script for."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(
    shell: Annotated[Shell, typer.Argument(help="bash, zsh or fish.", metavar="SHELL", show_choices=False)],
) -> None:
    """Print the script by which a shell completes 'tesk'.

    It completes commands, options, states, profiles, and ids of tasks, for which the server is asked.
    In ~/.bashrc: source <(tesk completion bash). 'tesk --install-completion' writes it for the shell you are in.
    """
    from typer.completion import get_completion_script  # type: ignore[attr-defined]

    typer.echo(get_completion_script(prog_name="tesk", complete_var="_TESK_COMPLETE", shell=shell.value))
