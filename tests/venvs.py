"""Virtual environments of the tests' own, for what conflicts with TESK's packages or with each other.

They lie below `build/` in the checkout and stay from run to run; nothing outside the checkout is installed.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
import venv
from pathlib import Path

__all__ = ["CannotInstall", "NoIndex", "venv_python"]

ROOT = Path(__file__).parents[1]

_SECONDS = 180
_UNREACHABLE = (
    "Retrying (",  # pip's word whenever a connection fails
    "Network is unreachable",
    "Temporary failure in name resolution",
    "ReadTimeoutError",
    "ProxyError",
)


class CannotInstall(Exception):
    """The packages cannot be installed as they are pinned; the message is pip's."""


class NoIndex(Exception):
    """The package index does not answer, so that nothing can be installed now; the message says what to do."""


def venv_python(requirements: Path) -> Path:
    """The interpreter of a virtual environment with exactly the packages of `requirements`, made if it is not there.

    Two processes may ask at once: one makes it, the other waits. Raises NoIndex or CannotInstall.
    """
    content = requirements.read_bytes() + sys.version.encode()
    name = f"{requirements.stem}-{hashlib.sha256(content).hexdigest()[:12]}"
    parent = ROOT / "build" / "venvs"
    parent.mkdir(parents=True, exist_ok=True)
    place = parent / name
    with (parent / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / "ready").exists():
            _make(place, requirements)
    return place / "bin" / "python"


def _make(place: Path, requirements: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)
    venv.create(place, symlinks=True)
    python = place / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check"]
    try:
        done = subprocess.run(
            [*pip, "install", "--no-deps", "--retries", "1", "--timeout", "20", "-r", str(requirements)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise NoIndex(_what_to_do(requirements)) from None
    if done.returncode:
        if any(one in done.stdout for one in _UNREACHABLE):
            raise NoIndex(_what_to_do(requirements))
        raise CannotInstall(f"{requirements.relative_to(ROOT)} cannot be installed: {done.stdout[-2000:]}")
    (place / "ready").touch()


def _what_to_do(requirements: Path) -> str:
    return (
        f"the package index does not answer, which {requirements.relative_to(ROOT)} has to be installed from: "
        "run the tests once where it does (build/venvs is kept), or set PIP_INDEX_URL or PIP_FIND_LINKS"
    )
