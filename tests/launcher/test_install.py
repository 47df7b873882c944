"""The launcher puts a copy of itself where executors find it."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from pathlib import Path

import pytest

import tesk


def install(launcher: Path, directory: Path | str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([launcher, "--install", directory], capture_output=True, text=True, check=False, umask=0o077)


def test_the_copy_is_whole_and_for_every_user(launcher: Path, tmp_path: Path) -> None:
    place = tmp_path / "made"
    assert install(launcher, place).returncode == 0
    assert os.listdir(place) == ["launcher"]
    assert (place / "launcher").read_bytes() == launcher.read_bytes()
    assert stat.S_IMODE((place / "launcher").stat().st_mode) == 0o555
    assert subprocess.run([place / "launcher", "--", "true"], stdout=subprocess.DEVNULL, check=False).returncode == 0


def test_a_copy_that_runs_is_replaced(launcher: Path, tmp_path: Path) -> None:
    assert install(launcher, tmp_path).returncode == 0
    with subprocess.Popen([tmp_path / "launcher", "--", "sleep", "300"], stdout=subprocess.DEVNULL) as running:
        assert install(launcher, tmp_path).returncode == 0
        running.terminate()
    assert os.listdir(tmp_path) == ["launcher"]


def test_a_copy_that_fails_leaves_nothing(launcher: Path, tmp_path: Path) -> None:
    small = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", tmp_path]
    if subprocess.run(small, capture_output=True, check=False).returncode != 0:
        pytest.skip("only root can mount a small disk to fill")
    try:
        done = install(launcher, tmp_path)
        assert done.returncode == 125
        assert done.stderr == f"launcher: it cannot be installed in {tmp_path}: No space left on device\n"
        assert os.listdir(tmp_path) == []
    finally:
        subprocess.run(["umount", tmp_path], check=True)


@pytest.mark.parametrize(("place", "why"), [("/proc/none", "No such file"), ("/etc/passwd", "Not a directory")])
def test_a_place_that_cannot_be_is_named(launcher: Path, place: str, why: str) -> None:
    done = install(launcher, place)
    assert done.returncode == 125
    assert done.stderr.startswith(f"launcher: it cannot be installed in {place}: {why}")


def test_the_program_is_small_static_and_says_its_version(launcher: Path) -> None:
    done = subprocess.run([launcher, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"tesk launcher {tesk.__version__}\n"
    assert launcher.stat().st_size < 1 << 20
    assert not re.search(rb"/ld-(musl|linux)[-\w.]*\.so", launcher.read_bytes()), "it needs no dynamic loader"
