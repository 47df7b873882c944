"""What containers see of this machine: mounts, as podman, docker and apptainer read them; a root with its programs."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

__all__ = ["empty_root", "mount_option", "program_mounts"]

PROGRAMS = ("/usr", "/bin", "/lib", "/lib64")
MADE = ("dev", "etc", "proc", "root", "run", "sys", "tmp", "var/tmp", *(one[1:] for one in PROGRAMS))


def mount_option(source: str, target: str, read_only: bool) -> str:
    """`--mount` for a file or directory of the machine."""
    fields = ["type=bind", _field("source", source), _field("destination", target)]
    return f"--mount={','.join([*fields, 'ro'] if read_only else fields)}"


def _field(name: str, value: str) -> str:
    """One field of `--mount`, which is read as CSV."""
    if any(one in value for one in ',"\n'):
        return '"' + f"{name}={value}".replace('"', '""') + '"'
    return f"{name}={value}"


def program_mounts() -> list[str]:
    """Options that show the machine's own programs in a container without any."""
    return [mount_option(one, one, True) for one in PROGRAMS if os.path.isdir(one)]


@contextlib.contextmanager
def empty_root(path: Path) -> Iterator[Path]:
    """A directory `path` to be a container's root, with what is mounted over in one; gone after the block."""
    for name in MADE:
        (path / name).mkdir(parents=True, exist_ok=True)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
