"""create, get, list, cancel, wait and logs against a real server, by the words and codes they end with."""

from __future__ import annotations

import json
import os
import re
import socket
from pathlib import Path

import pytest
from tests.cli.command import Call, Server, run_tesk, start


def write(path: Path, *commands: str, **fields: object) -> Path:
    """A file of tasks, one for each shell command."""
    tasks = [{"executors": [{"image": "any", "command": ["/bin/sh", "-c", one]}], **fields} for one in commands]
    path.write_text(json.dumps(tasks[0] if len(tasks) == 1 else tasks))
    return path


@pytest.fixture
def tell(call: Call, server: Server, monkeypatch: pytest.MonkeyPatch) -> Call:
    """`tesk` with the server's address in the environment."""
    monkeypatch.setenv("TESK_URL", server.url)
    return call


def test_a_task_from_creation_to_its_log(tell: Call, tmp_path: Path) -> None:
    file = write(tmp_path / "t.json", "echo out; echo err >&2; exit 3", name="three", tags={"k": "v"})
    created = tell("create", file)
    assert created.code == 0
    task = created.out.strip()
    waited = tell("wait", task)
    assert (waited.code, waited.out) == (1, f"{task}\tEXECUTOR_ERROR\n")
    assert tell("logs", task).out == "out\n"
    assert tell("logs", "-f", task, "--stderr").out == "err\n"
    shown = tell("get", task).out
    for fact in ("state     EXECUTOR_ERROR", "name      three", "tag       k=v", "executor 0: exit code 3"):
        assert fact in shown
    assert "executor 0 ended with exit code 3" in shown
    full = json.loads(tell("get", "--json", task).out)
    assert full["logs"][0]["logs"][0]["stderr"] == "err\n"
    assert json.loads(tell("get", "--json", "--view", "minimal", task).out) == {
        "id": task,
        "state": "EXECUTOR_ERROR",
    }


def test_why_a_task_waits_is_shown_with_it(tell: Call, tmp_path: Path) -> None:
    cores = len(os.sched_getaffinity(0))
    first, second = (
        tell("create", write(tmp_path / "t.json", command, resources={"cpu_cores": cores})).out.strip()
        for command in ("sleep 30", "true")
    )
    try:
        waited = tell("wait", second, "--timeout", 1)
        why = f"it needs {cores} cpu cores, and 0 of {cores} are free"
        assert waited.code != 0
        assert f"{second}: {why}" in waited.err
        assert f"why       {why}\n" in tell("get", second).out
    finally:
        tell("cancel", first, second)
    tell("wait", first, second)
    assert "why" not in tell("get", second).out


def test_many_tasks_at_once_from_files_and_standard_input(
    tell: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = write(tmp_path / "1", "true"), write(tmp_path / "2", "true", "true")
    two.write_text(two.read_text() + "\n\n" + one.read_text())
    with one.open() as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        created = tell("create", two, "-", "--json")
    ids = [json.loads(line)["id"] for line in created.out.splitlines()]
    assert len(set(ids)) == 4
    waited = tell("wait", *ids, "--json")
    assert waited.code == 0
    ended = [json.loads(line) for line in waited.out.splitlines()]
    assert {(each["id"], each["state"]) for each in ended} == {(each, "COMPLETE") for each in ids}


def test_list_shows_and_filters(tell: Call, tmp_path: Path) -> None:
    tags = {"set": "list-test", "empty": ""}
    ids = tell("create", write(tmp_path / "t", *["true"] * 3, name="lister \x1b[31m\tx", tags=tags)).out.split()
    assert tell("wait", *ids).code == 0
    rows = [line.split("\t") for line in tell("list", "--tag", "set=list-test").out.splitlines()]
    assert sorted(row[:2] for row in rows) == sorted([one, "COMPLETE"] for one in ids)
    assert [row[2] for row in rows] == sorted((row[2] for row in rows), reverse=True)
    assert {row[3] for row in rows} == {"lister \\x1b[31m\\tx"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT.*Z", rows[0][2])
    assert tell("list", "--tag", "set=list-test", "--state", "running").out == ""
    assert len(tell("list", "--tag", "set", "--name-prefix", "list").out.splitlines()) == 3
    page = tell("list", "--tag", "set", "--page-size", "2", "--json", "--view", "MINIMAL")
    assert [set(json.loads(line)) for line in page.out.splitlines()] == [{"id", "state"}] * 2
    assert page.err == "tesk: there are more tasks; --all lists them\n"
    everything = tell("list", "--tag", "set", "--page-size", "2", "--all")
    assert (len(everything.out.splitlines()), everything.err) == (3, "")


def test_cancel_ends_running_tasks_and_tells_of_unknown_ones(tell: Call, tmp_path: Path) -> None:
    ids = tell("create", write(tmp_path / "t", "sleep 300", "sleep 300")).out.split()
    result = tell("cancel", ids[0], "task-unknown", ids[1])
    assert result.code == 1
    assert result.err.startswith("tesk: task-unknown: There is no task")
    waited = tell("wait", *ids)
    assert waited.code == 1
    assert sorted(waited.out.splitlines()) == sorted(f"{one}\tCANCELED" for one in ids)
    assert tell("cancel", *ids).code == 0


def test_wait_has_an_end(tell: Call, tmp_path: Path) -> None:
    task = tell("create", write(tmp_path / "t", "sleep 300")).out.strip()
    result = tell("wait", task, "--timeout", "0.2")
    assert (result.code, result.err) == (1, "tesk: 1 of 1 tasks have not ended after 0.2 s.\n")
    assert tell("cancel", task).code == 0
    tell("wait", task)


def test_logs_follow_while_the_task_runs(server: Server, tell: Call, tmp_path: Path) -> None:
    task = tell("create", write(tmp_path / "t", "echo first; sleep 300")).out.strip()
    with start("logs", "-f", task, "--server", server.url) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "first\n"
        assert process.poll() is None
        tell("cancel", task)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, "", "")


def test_run_on_a_server_is_run_all_the_same(server: Server) -> None:
    (server.files / "in.txt").write_text("a\nb\n")
    result = run_tesk(
        *("run", "wc -l < $in > $out; echo said; exit 4", "-c", "alpine", "--server", server.url),
        *("-i", f"in={server.files}/in.txt", "-o", f"out={server.files}/n.txt"),
    )
    assert (result.code, result.out) == (4, "said\n")
    assert "executor 0 ended with exit code 4" in result.err
    assert (server.files / "n.txt").read_text().strip() == "2"


def test_a_refused_task_is_told_in_the_servers_words(tell: Call, tmp_path: Path) -> None:
    (tmp_path / "t").write_text('{"executors": [{"image": 1}]}')
    result = tell("create", "t")
    assert (result.code, result.out) == (1, "")
    assert set(result.err.splitlines()) == {
        "tesk: $.executors[0].image: must be text",
        "tesk: $.executors[0].command: is required",
    }


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "t is not JSON: Expecting property name enclosed in double quotes at line 1, column 2"),
        ('{"a": 1}\n nonsense', "t is not JSON: Expecting value at line 2, column 2"),
        (" ", "t is empty; give a TES task as JSON"),
        ("[{}, 3]", "t holds 3 where a TES task should be"),
        (b"\xff", "t is not JSON: byte 0 is not UTF-8"),
        (None, "cannot read t: No such file or directory"),
    ],
)
def test_a_file_that_holds_no_task_sends_nothing(
    call: Call, tmp_path: Path, text: str | bytes | None, sentence: str
) -> None:
    good = write(tmp_path / "good", "true")
    if text is not None:
        (tmp_path / "t").write_bytes(text if isinstance(text, bytes) else text.encode())
    result = call("create", good, "t", "--server", "http://127.0.0.1:9")
    assert (result.code, result.out, result.err) == (2, "", f"tesk: {sentence}\n")


def test_no_server_is_exit_code_3(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("TES_URL", f"http://127.0.0.1:{taken.getsockname()[1]}")
        for command in (["list"], ["cancel", "x"], ["logs", "x"], ["get", "x"], ["wait", "x"]):
            result = call(*command)
            assert result.code == 3
            sentences = result.err.splitlines()
            assert re.fullmatch(r"tesk: no TES server answers at http://127.0.0.1:\d+: .*", sentences[0])
            assert "tesk serve" in sentences[1]
            assert len(sentences) == 2
