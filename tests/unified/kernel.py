"""The kernel: the installed one, or one that is unpacked below `build/`."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Kernel", "NoKernel", "find_kernel"]

PACKAGE = "user-mode-linux"
SECONDS = 120
INSTALL = f"there is no {PACKAGE}, in which these tests run (Debian: apt-get install {PACKAGE})"


class NoKernel(Exception):
    """There is none; the message says what to install."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """The program, and the directory of its modules."""

    program: Path
    modules: Path


def find_kernel(cache: Path) -> Kernel:
    """The one on the PATH, else the one of `cache`, where Debian's package is unpacked once. Raises NoKernel."""
    installed = shutil.which("linux.uml")
    if installed is not None:
        return _kernel(Path(installed).parents[2])
    if not (cache / "kernel").exists():
        _fetch(cache)
    return _kernel(cache / "kernel")


def _kernel(root: Path) -> Kernel:
    modules = sorted(root.glob("usr/lib/uml/modules/*/modules.dep"))
    if not modules:
        raise NoKernel(INSTALL)
    return Kernel(root / "usr/bin/linux.uml", modules[-1].parent)


def _fetch(cache: Path) -> None:
    """Unpack the package, as a whole or not at all."""
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        raise NoKernel(INSTALL)
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as directory:
        try:
            _run(directory, "apt-get", "download", "-qq", PACKAGE)
            (package,) = Path(directory).glob("*.deb")
            _run(directory, "dpkg", "-x", str(package), "kernel")
        except subprocess.SubprocessError as error:
            said = (getattr(error, "stderr", None) or b"").decode().strip().splitlines()
            raise NoKernel(f"{INSTALL}; to fetch it failed: {said[-1] if said else error}") from error
        (Path(directory) / "kernel").replace(cache / "kernel")


def _run(directory: str, *command: str) -> None:
    subprocess.run(command, cwd=directory, stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=SECONDS)
