"""`tesk cleanup` finds old directories of a shared storage, and removes nothing unless it is told to."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from tests.cli.command import Call

DAY = 86400.0


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "work"
    for name, days in {"wf/one/a/x": 40, "wf/one/b/x": 20, "wf/two/c/deep/x": 50, "wf/two/file": 50}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x" * 1000)
        age(root / name, days)
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/y").write_text("y")
    (root / "wf/two/link").symlink_to(tmp_path / "precious")
    (root / "wf/two/c/out").symlink_to(tmp_path / "precious")
    for one, days in {"one/a": 40, "one/b": 40, "two/c/deep": 50, "two/c": 50}.items():
        age(root / "wf" / one, days)
    (tmp_path / "tesk.yaml").write_text(
        f"storage: {{shared: [{{name: work, directory: {root}, client_path: /data}}]}}\nstate_directory: {tmp_path}/s\n"
    )
    monkeypatch.chdir(tmp_path)
    return root


def age(path: Path, days: float) -> None:
    when = time.time() - days * DAY
    os.utime(path, (when, when))


def test_what_is_old_is_listed_and_stays(storage: Path, call: Call) -> None:
    result = call("cleanup", "work", "wf/*/*", "--older-than", "30d")
    assert (result.code, result.err) == (0, "")
    assert [line.split()[-1] for line in result.out.splitlines()[:-1]] == ["wf/one/a"]
    assert result.out.endswith("1 directory, 0.000 GB, would be removed with --remove\n")
    assert (storage / "wf/one/a/x").exists()


def test_what_is_old_is_removed_and_nothing_else(storage: Path, tmp_path: Path, call: Call) -> None:
    (storage / "wf/two/c/out").unlink()
    age(storage / "wf/two/c", 50)
    result = call("cleanup", "work", "wf/*/*", "--older-than", "4w", "--remove")
    assert (result.code, result.err) == (0, "")
    assert {line.split()[-1] for line in result.out.splitlines()[:-1]} == {"wf/one/a", "wf/two/c"}
    left = {str(one.relative_to(storage)) for one in storage.rglob("*")}
    assert left == {"wf", "wf/one", "wf/one/b", "wf/one/b/x", "wf/two", "wf/two/file", "wf/two/link"}
    assert (tmp_path / "precious/y").read_text() == "y"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ("other", "*", "--older-than", "30d"),
            "There is no shared storage 'other' in the configuration (known: work)",
        ),
        (("work", "*", "--older-than", "soon"), "'soon' is no age; write 12h, 30d or 8w"),
        (("work", "*", "--older-than", "0d"), "'0d' is no age"),
        (("work", "*"), "--older-than"),
    ],
)
def test_what_is_meant_must_be_said(storage: Path, call: Call, arguments: tuple[str, ...], told: str) -> None:
    result = call("cleanup", *arguments)
    assert result.code == 2
    assert told in result.err
