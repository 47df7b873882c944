"""`tesk run --scatter` to its end, with and without a server, and tasks that wait for others."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from tests.cli.command import Server, run_tesk, start

pytestmark = pytest.mark.usefixtures("sandbox")


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Three rows, each with its own input and output."""
    for name in "abc":
        (tmp_path / f"{name}.txt").write_text(f"{name}\n")
    file = tmp_path / "rows"
    file.write_text("".join(f"-i in={name}.txt -o out={name}.out\n" for name in "abc"))
    return file


def test_each_row_runs_here_and_what_it_wrote_stays_together(rows: Path) -> None:
    command = "cat $in > $out; echo begin $in; echo end $in"
    result = run_tesk("run", command, "--scatter", rows, cwd=rows.parent)
    assert result.code == 0
    paths = [f"/data/inputs/in/{name}.txt" for name in "abc"]
    lines = result.out.splitlines()
    assert sorted(zip(lines[::2], lines[1::2], strict=True)) == [(f"begin {one}", f"end {one}") for one in paths]
    assert result.err == "tesk: 3 tasks: 3 COMPLETE\n"
    assert [(rows.parent / f"{name}.out").read_text() for name in "abc"] == ["a\n", "b\n", "c\n"]


def test_a_row_that_fails_is_told_by_its_line_and_the_others_end(rows: Path) -> None:
    result = run_tesk("run", 'cp $in $out; grep -q "[ac]" $in', "--scatter", rows, cwd=rows.parent)
    assert result.code == 1
    assert f"tesk: {rows}:2: executor 0 ended with exit code 1" in result.err.splitlines()
    assert "2 COMPLETE" in result.err
    assert "1 EXECUTOR_ERROR" in result.err
    assert "image names are noted" not in result.err


def test_a_server_runs_rows_too_and_refuses_some(server: Server, rows: Path) -> None:
    rows.write_text("-e A=1\n-e A=2 -w relative\n-e A=3 --stdout " + str(server.files / "three") + "\n")
    result = run_tesk("run", "echo $A", "-c", "alpine", "--scatter", rows, "--server", server.url)
    assert (result.code, result.out) == (1, "1\n")
    assert f"tesk: {rows}:2: " in result.err
    assert "2 COMPLETE, 1 refused" in result.err
    assert (server.files / "three").read_text() == "3\n"


@pytest.mark.slow
def test_no_wait_prints_ids_and_wait_for_holds_the_next_back(server: Server) -> None:
    common = ("-c", "alpine", "--server", server.url)
    sent = run_tesk("run", "sleep 1", *common, "--no-wait")
    failing = run_tesk("run", "exit 3", *common, "--no-wait")
    assert sent.code == failing.code == 0
    began = time.monotonic()
    after = run_tesk("run", "echo after", *common, "--wait-for", sent.out.strip())
    assert (after.code, after.out) == (0, "after\n")
    assert run_tesk("get", sent.out.strip(), "--server", server.url).out.splitlines()[1] == "state     COMPLETE"
    assert time.monotonic() - began < 30
    never = run_tesk("run", "echo never", *common, "--wait-for", f"{sent.out.strip()},{failing.out.strip()}")
    assert (never.code, never.out) == (1, "")
    assert never.err == f"tesk: task {failing.out.strip()} ended EXECUTOR_ERROR\ntesk: nothing was sent\n"


def test_an_interrupt_cancels_every_row(tmp_path: Path) -> None:
    marker = f"613.{os.getpid()}"
    (tmp_path / "rows").write_text("-e A=1\n-e A=2\n-e A=3\n-e A=4\n")
    with start("run", f"touch $TMPDIR/x; sleep {marker}", "--scatter", "rows", cwd=tmp_path) as process:
        for _ in range(200):
            if f"sleep {marker}" in _running():
                break
            time.sleep(0.05)
        else:
            pytest.fail("nothing was started")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=40)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert f"sleep {marker}" not in _running()


def _running() -> str:
    # the whole argument, so that our own command line does not count
    found = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    return "\n".join(line for line in found.splitlines() if line.startswith("sleep "))
