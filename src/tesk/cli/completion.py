"""`tesk completion`: the script by which a shell completes `tesk`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

__all__ = ["completion", "use_our_scripts"]

_ZSH = """
#compdef %(prog_name)s

%(complete_func)s() {
  local offered
  offered="$(env _TYPER_COMPLETE_ARGS="${words[1,$CURRENT]}" %(autocomplete_var)s=complete_zsh %(prog_name)s)"
  if [[ $offered == _files ]]; then
    compset -P '*='  # NAME=PATH
    _files
  else
    eval $offered
  fi
}

if [[ $funcstack[1] == _%(prog_name)s ]]; then  # zsh has found this file by itself, for a completion that is going on
  %(complete_func)s
else
  (( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
  compdef %(complete_func)s %(prog_name)s
fi
"""


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
    In ~/.bashrc: source <(tesk completion bash); in ~/.zshrc: source <(tesk completion zsh); for fish:
    tesk completion fish > ~/.config/fish/completions/tesk.fish. 'tesk --install-completion' does it for the
    shell you are in.
    """
    from typer.completion import get_completion_script  # type: ignore[attr-defined]

    typer.echo(get_completion_script(prog_name="tesk", complete_var="_TESK_COMPLETE", shell=shell.value))


def use_our_scripts() -> None:
    """Have typer print and install our script for zsh.

    Typer's own offers nothing at the first Tab after it was installed, no files behind `NAME=`, and needs a compinit
    before it.
    """
    from typer import _completion_shared

    _completion_shared._completion_scripts["zsh"] = _ZSH
