"""The virtual environments that other projects' clients run in."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path

import pytest
from tests import venvs

pytestmark = pytest.mark.slow  # installs packages


@pytest.fixture
def requirements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of requirements in a checkout of its own, whose package index cannot be reached."""
    monkeypatch.setattr(venvs, "ROOT", tmp_path)
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "PIP_NO_INDEX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    file = tmp_path / "some.txt"
    file.write_text("six==1.17.0\n")
    return file


def test_without_a_package_index_the_reason_says_what_to_do(requirements: Path):
    with pytest.raises(venvs.NoIndex, match=r"some\.txt.*PIP_INDEX_URL"):
        venvs.venv_python(requirements)


def test_what_cannot_be_installed_is_an_error_and_no_reason_to_skip(
    requirements: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(venvs.CannotInstall, match=r"some\.txt.*six==1\.17\.0"):
        venvs.venv_python(requirements)


def test_two_that_want_one_at_once_get_one_that_is_whole(requirements: Path, monkeypatch: pytest.MonkeyPatch):
    requirements.write_text("")
    made: list[Path] = []
    real = venvs._make
    monkeypatch.setattr(venvs, "_make", lambda place, file: (made.append(place), real(place, file)))
    got: list[Path] = []
    threads = [threading.Thread(target=lambda: got.append(venvs.venv_python(requirements))) for _ in range(2)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(made) == 1
    assert len(set(got)) == 1
    assert subprocess.run([got[0], "-c", ""], check=False).returncode == 0


def test_one_that_was_made_only_by_half_is_made_anew(requirements: Path):
    requirements.write_text("")
    python = venvs.venv_python(requirements)
    (python.parents[1] / "ready").unlink()
    python.unlink()
    assert subprocess.run([venvs.venv_python(requirements), "-c", ""], check=False).returncode == 0
