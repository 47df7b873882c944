"""Static programs from C, with whatever compiler this machine has."""

from __future__ import annotations

import functools
import shutil
import subprocess
import tempfile
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


def build_launcher(directory: Path) -> Path:
    """The launcher, from the sources of this tree."""
    compiler = _need_compiler()
    if shutil.which("make") is None:
        pytest.skip("make is not installed (Debian: apt-get install make)")
    made = directory / "launcher"
    command = ["make", "-s", "-C", ROOT / "launcher", f"CC={compiler}", f"OUT={made}"]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return made


def build_probe(directory: Path) -> Path:
    """The program of probe.c."""
    made = directory / "probe"
    source = Path(__file__).parent / "probe.c"
    subprocess.run([_need_compiler(), "-static", "-Os", "-s", "-D_GNU_SOURCE", "-o", made, source], check=True)
    return made
