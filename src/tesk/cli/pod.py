"""Taskmaster and filer as the Kubernetes backend starts them in pods.

They live for as short as a second, so that neither the other commands nor the library that reads options is imported.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from tesk.cli.faults import USAGE, CommandError, tell
from tesk.cli.lean import importing

__all__ = ["is_ours", "main", "run"]

_FORMS = "tesk taskmaster --kubernetes DIRECTORY, tesk filer --kubernetes DIRECTORY --in, or the same with --out"


def is_ours(arguments: Sequence[str]) -> bool:
    """Whether the command line `arguments` is for `run`."""
    return list(arguments[1:2]) == ["--kubernetes"] and arguments[0] in ("taskmaster", "filer")


def run(arguments: Sequence[str]) -> int:
    """Do the part of the attempt in the directory that `arguments` name; the exit code.

    Raises CommandError for any other form, and where the directory holds no attempt.
    """
    try:
        match arguments:
            case ["taskmaster", "--kubernetes", directory]:
                return _run_steps(Path(directory))
            case ["filer", "--kubernetes", directory, "--in"]:
                return _move(Path(directory), inward=True)
            case ["filer", "--kubernetes", directory, "--out"]:
                return _move(Path(directory), inward=False)
    except ValueError as error:
        raise CommandError(str(error)) from error
    raise CommandError(f"in a pod it is {_FORMS}", USAGE)


def _run_steps(directory: Path) -> int:
    # we speak HTTP/1.1, and httpcore2 would import what speaks HTTP/2 all the same: 25 ms
    sys.modules.setdefault("h2", None)  # type: ignore[arg-type]
    with importing():
        from tesk.backends.kubernetes.taskmaster import main

    return main(directory)


def _move(directory: Path, *, inward: bool) -> int:
    with importing():
        from tesk.backends.kubernetes.filing import main
        from tesk.backends.kubernetes.mounted import SCRATCH_DIRECTORY

    return main(directory, Path(SCRATCH_DIRECTORY), "in" if inward else "out")


def main() -> NoReturn:
    """Run what `sys.argv` says, and exit."""
    try:
        code = run(sys.argv[1:])
    except CommandError as fault:
        code = tell(fault)
    raise SystemExit(code)
