"""The completion scripts in the shells themselves."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.cli.command import environment

pytestmark = pytest.mark.slow

LINES = [
    ("tesk li", "tesk list "),
    ("tesk list --state EXEC", "tesk list --state EXECUTOR_ERROR "),
    ("tesk create af", "tesk create afile.json "),
    ("tesk run -i in=af", "tesk run -i in=afile.json "),
]


def shell(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"needs {name} (Debian: apt-get install {name})")
    return found


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A directory with a file to complete, `tesk` to call, and nothing of whoever runs the tests."""
    (tmp_path / "afile.json").touch()
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "tesk"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m tesk "$@"\n')
    command.chmod(0o755)
    return tmp_path


def settings(home: Path) -> dict[str, str]:
    path = f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return environment(HOME=str(home), ZDOTDIR=str(home), XDG_CONFIG_HOME=str(home / ".config"), PATH=path, TERM="dumb")


def call(home: Path, *command: str) -> str:
    result = subprocess.run(command, cwd=home, env=settings(home), capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


@contextmanager
def terminal(home: Path, *command: str) -> Iterator[int]:
    """The other side of a terminal that `command` has."""
    process, side = pty.fork()
    if process == 0:
        os.chdir(home)
        os.execve(command[0], command, settings(home))
    try:
        yield side
    finally:
        os.close(side)
        os.kill(process, 9)
        os.waitpid(process, 0)


def answered(side: int, keys: str, awaited: str) -> str:
    """Type `keys`; what is on the terminal once `awaited` is."""
    os.write(side, keys.encode())
    seen = b""
    end = time.monotonic() + 30
    while awaited.encode() not in seen and time.monotonic() < end:
        if select.select([side], [], [], 0.1)[0]:
            seen += os.read(side, 65536)
    assert awaited in seen.decode()
    return seen.decode()


def typed_in_zsh(home: Path, zsh: str, line: str) -> None:
    """Type `line` and Tab in a new zsh, and let it be printed as a whole instead of executed."""
    with terminal(home, zsh, "-i") as side:
        answered(side, "bindkey '^X' self-print; zle -N self-print; PS1='> '; print RE''ADY\n", "READY\r")
        answered(side, 'self-print() { print -r "<$BUFFER>" }; print RE""ADY\n', "READY\r")
        before, after = next(one for one in LINES if one[0] == line)
        answered(side, f"{before}\t\x18", f"<{after}>")


@pytest.mark.parametrize("line", [before for before, _ in LINES])
def test_zsh_completes_once_the_script_is_sourced(home: Path, line: str) -> None:
    zsh = shell("zsh")
    (home / ".zshrc").write_text("source <(tesk completion zsh)\n")
    typed_in_zsh(home, zsh, line)


def test_zsh_completes_at_the_first_tab_after_the_script_was_installed(home: Path) -> None:
    zsh = shell("zsh")
    assert "zsh completion installed" in call(home, zsh, "-c", "tesk --install-completion; true")
    typed_in_zsh(home, zsh, "tesk li")


@pytest.mark.parametrize("installed", [False, True])
def test_fish_completes(home: Path, installed: bool) -> None:
    fish = shell("fish")
    if installed:
        assert "fish completion installed" in call(home, fish, "-c", "tesk --install-completion; true")
    begin = "" if installed else "tesk completion fish | source; "
    asked = "; ".join(f"complete -C '{before}'" for before, _ in LINES)
    offered = [one.split("\t")[0] for one in call(home, fish, "-c", begin + asked).splitlines()]
    assert offered == ["list", "EXECUTOR_ERROR", "afile.json", "in=afile.json"]


def test_bash_completes(home: Path) -> None:
    bash = shell("bash")
    script = (
        "source <(tesk completion bash); COMP_WORDS=(tesk list --state EXEC); COMP_CWORD=3;"
        ' _tesk_completion tesk; echo "${COMPREPLY[@]}"; complete -p tesk'
    )
    offered, how = call(home, bash, "--norc", "-c", script).splitlines()
    assert offered == "EXECUTOR_ERROR"
    assert "-o default" in how  # files where nothing is offered
