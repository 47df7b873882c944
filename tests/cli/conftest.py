"""The command in this process, where only the words count, and a server to speak with."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.command import Call, Result, Server, run_tesk, start
from tests.servers import s3_server

__all__ = ["s3_server"]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Call:
    """Run `tesk ARGS` in this process, in a directory of its own."""
    for name in [one for one in os.environ if one.startswith(("TESK_", "TES_", "FUNNEL_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "no-configuration"))
    monkeypatch.chdir(tmp_path)

    def run(*args: object) -> Result:
        from tesk.cli import main

        monkeypatch.setattr(sys, "argv", ["tesk", *map(str, args)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return Result(int(ended.value.code or 0), out, err)

    return run


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skips where no sandbox can run."""
    result = run_tesk("run", "true", cwd=tmp_path_factory.mktemp("probe"))
    if result.code != 0 and "no engine works" in result.err:
        pytest.skip(f"the sandbox does not work here: {result.err.strip()}")


@pytest.fixture(scope="module")
def server(sandbox: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`tesk serve` on a free port."""
    directory = tmp_path_factory.mktemp("server")
    files = directory / "files"
    files.mkdir()
    settings = ("--state-directory", directory / "state", "--file-root", files, "--engine", "sandbox")
    with start("serve", "--port", 0, *settings, cwd=directory) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("TESK is ready at "), line
            yield Server(line.split()[-1], files)
        finally:
            process.terminate()
            process.communicate(timeout=20)
    assert process.returncode == 0
