"""Taskmaster and filer as the Kubernetes backend starts them in pods.

They live for as short as a second, so that neither the other commands nor the library that reads options is imported.
"""

from __future__ import annotations

import importlib.util
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from tesk.cli.faults import USAGE, CommandError, tell
from tesk.cli.lean import importing

__all__ = ["is_ours", "main", "run"]

_FORMS = "tesk taskmaster --kubernetes DIRECTORY [--pod]; tesk filer --kubernetes DIRECTORY --in, or --out"


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
            case ["taskmaster", "--kubernetes", directory, "--pod"]:
                return _run_pod(Path(directory))
            case ["filer", "--kubernetes", directory, "--in"]:
                return _move(Path(directory), inward=True)
            case ["filer", "--kubernetes", directory, "--out"]:
                return _move(Path(directory), inward=False)
    except ValueError as error:
        raise CommandError(str(error)) from error
    raise CommandError(f"in a pod it is {_FORMS}", USAGE)


def _run_steps(directory: Path) -> int:
    with importing():
        _leave_out()
        from tesk.backends.kubernetes.taskmaster import main

    return main(directory)


def _run_pod(directory: Path) -> int:
    with importing():
        from tesk.backends.kubernetes.mounted import CONTROL_DIRECTORY, SCRATCH_DIRECTORY, SCRATCH_TREE
        from tesk.backends.kubernetes.pod_taskmaster import main

    return main(directory, Path(CONTROL_DIRECTORY), Path(SCRATCH_DIRECTORY, SCRATCH_TREE))


def _leave_out() -> None:
    """Keep libraries from importing what a taskmaster never uses: a fifth of all that it would import.

    HTTP/2, since we speak HTTP/1.1; lightkube's own clients and its reader of kubeconfigs, which its package's face
    imports; and how packages' versions are found, for a header that we do not send.
    """
    sys.modules.setdefault("h2", None)  # type: ignore[arg-type]
    spec = importlib.util.find_spec("lightkube")
    if spec is not None:
        sys.modules.setdefault("lightkube", importlib.util.module_from_spec(spec))
    versions = types.ModuleType("importlib.metadata")
    versions.version = lambda name: "unknown"  # type: ignore[attr-defined]
    sys.modules.setdefault(versions.__name__, versions)


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
