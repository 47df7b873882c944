"""Static programs from C, with whatever compiler this machine has."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

__all__ = ["build_launcher", "build_probe"]

ROOT = Path(__file__).parent.parent.parent
COMPILERS = ("musl-gcc", "gcc")


@functools.cache
def _compiler() -> str | None:
    """The first that makes a static program."""
    with tempfile.TemporaryDirectory() as directory:
        for one in COMPILERS:
            command = [one, "-static", "-x", "c", "-o", f"{directory}/program", "-"]
            source = b'#include <stdio.h>\nint main(void) { return puts(""); }\n'
            if shutil.which(one) and subprocess.run(command, input=source, capture_output=True).returncode == 0:
                return one
    return None


def _need_compiler() -> str:
    found = _compiler()
    if found is None:
        pytest.skip("no compiler makes static programs here (Debian: apt-get install musl-tools, or gcc libc6-dev)")
    return found


@contextlib.contextmanager
def _directory() -> Iterator[Path]:
    """Where programs are kept between runs, for one test process at a time."""
    made = ROOT / "build" / "tests"
    made.mkdir(parents=True, exist_ok=True)
    with (made / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield made


def build_launcher() -> Path:
    """The launcher, from the sources of this tree."""
    compiler = _need_compiler()
    if shutil.which("make") is None:
        pytest.skip("make is not installed (Debian: apt-get install make)")
    with _directory() as directory:
        made = directory / "launcher"
        command = ["make", "-s", "-C", ROOT / "launcher", f"CC={compiler}", f"OUT={made}"]
        subprocess.run(command, check=True)
    return made


def build_probe() -> Path:
    """The program of probe.c."""
    compiler, source = _need_compiler(), Path(__file__).parent / "probe.c"
    with _directory() as directory:
        made = directory / "probe"
        if not made.exists() or made.stat().st_mtime <= source.stat().st_mtime:
            subprocess.run([compiler, "-static", "-Os", "-s", "-D_GNU_SOURCE", "-o", made, source], check=True)
    return made
