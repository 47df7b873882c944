"""`tesk run` without a server: a command, its files, its words, its exit code."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
from tests.cli.command import run_tesk, start

from tesk.cli.here import engine_of_images

pytestmark = pytest.mark.usefixtures("sandbox")


def test_a_command_turns_a_file_into_a_file(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("one\ntwo\nthree\n")
    result = run_tesk("run", "wc -l < $in > $out", "-i", "in=README.md", "-o", "out=n.txt", cwd=tmp_path)
    assert (result.code, result.out, result.err) == (0, "", "")
    assert (tmp_path / "n.txt").read_text().strip() == "3"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["README.md", "n.txt"]


def test_what_the_command_writes_and_its_exit_code_are_ours(tmp_path: Path) -> None:
    result = run_tesk("run", "echo out; echo err >&2; exit 7", cwd=tmp_path)
    assert (result.code, result.out) == (7, "out\n")
    assert result.err.splitlines() == ["err", "tesk: executor 0 ended with exit code 7"]


def test_directories_contents_and_redirects(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "x").write_text("in d\n")
    (tmp_path / "script").write_text("cat $d/x - > $r/y; echo said; echo cried >&2\n")
    (tmp_path / "words").write_text("from stdin\n")
    streams = ("--stdin", "words", "--stdout", "said", "--stderr", "cried")
    files = ("-C", "s=script", "-I", "d=d", "-O", "r=made/here")
    result = run_tesk("run", ". $s", *files, *streams, cwd=tmp_path)
    assert (result.code, result.out, result.err) == (0, "", "")
    assert (tmp_path / "made/here/y").read_text() == "in d\nfrom stdin\n"
    assert (tmp_path / "said").read_text() == "said\n"
    assert (tmp_path / "cried").read_text() == "cried\n"


@pytest.mark.slow
def test_an_output_that_is_not_made_is_told_by_name(tmp_path: Path) -> None:
    result = run_tesk("run", "true", "-o", "out=n.txt", cwd=tmp_path)
    assert result.code == 1
    assert "/data/outputs/out/n.txt" in result.err
    assert "Traceback" not in result.err
    assert not (tmp_path / "n.txt").exists()


def test_a_refused_task_tells_every_reason(tmp_path: Path) -> None:
    result = run_tesk("run", "true", "-w", "relative", "--cpu", "100000", cwd=tmp_path)
    assert result.code == 1
    assert len(result.err.splitlines()) == 2
    assert "workdir" in result.err
    assert "100000" in result.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.slow
def test_output_comes_live_and_an_interrupt_ends_the_command_and_leaves_nothing(
    tmp_path: Path, number: signal.Signals
) -> None:
    marker = f"{os.getpid()}.{int(number)}"
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    with start("run", f"echo started; sleep 612.{marker}", cwd=tmp_path, tmpdir=temporary) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert list(temporary.iterdir()) == []
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert f"sleep 612.{marker}" not in running


@pytest.mark.slow
def test_a_termination_at_any_moment_is_told_by_the_exit_code_and_leaves_nothing(tmp_path: Path) -> None:
    chance = random.Random(17)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    began = time.monotonic()
    assert run_tesk("run", "true", cwd=tmp_path).code == 0
    whole = time.monotonic() - began
    moments = sorted(chance.uniform(0.0, 1.1 * whole) for _ in range(8))
    for moment in moments:
        with start("run", "true", cwd=tmp_path, tmpdir=temporary) as process:
            time.sleep(moment)
            heard = hears_terminations(process.pid)
            process.terminate()
            _, err = process.communicate(timeout=30)
        # before Python has come to our first line nobody can hear it, and nothing was begun
        assert process.returncode in ((0, 130) if heard else (0, 130, -signal.SIGTERM)), (moment, err)
        assert err == ("tesk: terminated\n" if process.returncode == 130 else "")
        assert list(temporary.iterdir()) == []


def hears_terminations(process: int) -> bool:
    """Whether SIGTERM is caught or ignored there, or there is nothing left that it could end."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
    masks = [int(line.split()[1], 16) for line in status.splitlines() if line.startswith(("SigCgt", "SigIgn"))]
    return not masks or any(mask >> (signal.SIGTERM - 1) & 1 for mask in masks) or "State:\tZ" in status


def test_a_reader_that_goes_away_ends_the_command(tmp_path: Path) -> None:
    with start("run", "while echo y; do :; done", cwd=tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "y\n"
        process.stdout.close()
        assert process.stderr is not None
        err = process.stderr.read()
        process.wait(30)
    assert "Traceback" not in err
    assert process.returncode == 130


def test_an_image_is_run_by_the_first_engine_that_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert engine_of_images() == "podman", "its error tells what to install"
    for name in ("apptainer", "docker", "podman"):
        (tmp_path / name).write_text("")
        (tmp_path / name).chmod(0o755)
        assert engine_of_images() == name
