"""The launcher and the probe, built once; a way to run commands through the launcher."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.launcher.compiler import build_launcher, build_probe
from tests.launcher.runner import Runner


@pytest.fixture(scope="session")
def launcher() -> Path:
    """The program."""
    return build_launcher()


@pytest.fixture(scope="session")
def probe() -> Path:
    """A static command that tells what it was given."""
    return build_probe()


@pytest.fixture
def run(launcher: Path, tmp_path: Path) -> Runner:
    """Runs the launcher on this machine."""
    return Runner(launcher, tmp_path)
