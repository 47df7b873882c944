"""Many tasks at once: created, listed live, waited for and canceled by filters."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from shutil import which

import pytest
from tests.cli.command import Call, Server, environment, start


@pytest.fixture
def tell(call: Call, server: Server, monkeypatch: pytest.MonkeyPatch) -> Call:
    """`tesk` with the server's address in the environment."""
    monkeypatch.setenv("TES_URL", server.url)
    return call


def task(command: str = "true", **fields: object) -> dict[str, object]:
    return {"executors": [{"image": "any", "command": ["/bin/sh", "-c", command]}], **fields}


def test_ids_come_in_the_order_of_the_tasks(tell: Call, tmp_path: Path) -> None:
    (tmp_path / "t").write_text(json.dumps([task(name=str(number)) for number in range(50)]))
    ids = tell("create", "t").out.split()
    shown = [json.loads(line) for line in tell("get", "--json", "--view", "basic", *ids).out.splitlines()]
    assert [one["name"] for one in shown] == [str(number) for number in range(50)]


def test_refused_tasks_are_told_by_their_place_and_the_others_created(tell: Call, tmp_path: Path) -> None:
    (tmp_path / "t").write_text(json.dumps([task(), {"executors": [], "name": "bad"}, task()]))
    result = tell("create", "t")
    assert result.code == 1
    assert len(result.out.split()) == 2
    first, last = result.err.splitlines()
    assert first.startswith("tesk: t, task 2 (bad): $.executors: ")
    assert last == "tesk: 2 of 3 tasks were created"


def test_create_reads_standard_input_when_no_file_is_named(server: Server, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tesk", "create", "--server", server.url]
    given = json.dumps(task()) * 2
    result = subprocess.run(command, input=given, env=environment(), capture_output=True, text=True, timeout=60)
    assert (result.returncode, len(result.stdout.split())) == (0, 2)


def test_several_states_are_merged_newest_first(tell: Call, tmp_path: Path) -> None:
    tags = {"set": "merge"}
    (tmp_path / "t").write_text(json.dumps([task(f"exit {number % 2}", tags=tags) for number in range(6)]))
    ids = tell("create", "t").out.split()
    assert tell("wait", "--tag", "set=merge").code == 1
    both = ("--state", "complete", "--state", "executor_error", "--tag", "set=merge")
    rows = [line.split("\t") for line in tell("list", *both).out.splitlines()]
    assert {row[0] for row in rows} == set(ids)
    assert {row[1] for row in rows} == {"COMPLETE", "EXECUTOR_ERROR"}
    assert [row[2] for row in rows] == sorted((row[2] for row in rows), reverse=True)
    few = tell("list", *both, "--page-size", "4", "--json", "--view", "minimal")
    assert [set(json.loads(line)) for line in few.out.splitlines()] == [{"id", "state"}] * 4
    assert few.err == "tesk: there are more tasks; --all lists them\n"
    assert len(tell("list", *both, "--page-size", "4", "--all").out.splitlines()) == 6


def test_a_list_of_exactly_one_page_does_not_promise_more(tell: Call, tmp_path: Path) -> None:
    (tmp_path / "t").write_text(json.dumps([task(tags={"set": "page"})] * 3))
    tell("create", "t")
    result = tell("list", "--tag", "set=page", "--page-size", "3")
    assert (len(result.out.splitlines()), result.err) == (3, "")


def test_tasks_are_canceled_and_waited_for_by_tag(tell: Call, tmp_path: Path) -> None:
    (tmp_path / "t").write_text(json.dumps([task("sleep 300", tags={"set": "cancel"})] * 5))
    ids = tell("create", "t").out.split()
    refused = tell("cancel", "--tag", "set=cancel")
    assert refused.code == 2
    assert refused.err == "tesk: tasks that match: 5; give --yes to cancel them without being asked\n"
    done = tell("cancel", "--tag", "set=cancel", "--yes")
    assert (done.code, done.err) == (0, "tesk: canceled: 5\n")
    waited = tell("wait", "--tag", "set=cancel")
    assert waited.code == 1
    assert sorted(waited.out.splitlines()) == sorted(f"{one}\tCANCELED" for one in ids)
    again = tell("cancel", "--tag", "set=cancel", "--yes")
    assert (again.code, again.err) == (0, "tesk: no task that could be canceled matches\n")


@pytest.mark.parametrize("command", ["wait", "cancel"])
def test_ids_or_filters_but_one_of_them(tell: Call, command: str) -> None:
    assert "which tasks?" in tell(command).err
    both = tell(command, "x", "--tag", "a")
    assert (both.code, "not by both" in both.err) == (2, True)


def test_waiting_for_nothing_is_a_failure(tell: Call) -> None:
    result = tell("wait", "--tag", "set=nothing")
    assert (result.code, result.err) == (1, "tesk: no task matches\n")


def test_watch_prints_each_change_where_there_is_no_terminal(server: Server, tell: Call, tmp_path: Path) -> None:
    tags = {"set": "watch"}
    (tmp_path / "t").write_text(json.dumps(task("sleep 300", tags=tags)))
    one = tell("create", "t").out.strip()
    with start("list", "--watch", "--tag", "set=watch", "--server", server.url) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(f"{one}\t")
        tell("cancel", one)
        lines = iter(process.stdout.readline, "")
        assert next(line for line in lines if "\tCANCELED\t" in line).startswith(one)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (130, "")


@pytest.mark.skipif(which("script") is None, reason="install bsdutils (script) to test on a terminal")
@pytest.mark.slow
def test_watch_redraws_a_table_on_a_terminal(server: Server, tell: Call, tmp_path: Path) -> None:
    (tmp_path / "t").write_text(json.dumps(task(name="seen on a terminal")))
    tell("create", "t")
    command = f"stty rows 10 cols 100; exec {sys.executable} -m tesk list --watch --server {server.url}"
    with subprocess.Popen(
        ["script", "-qc", command, "/dev/null"],
        env=environment(TERM="xterm"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        out, began = b"", time.monotonic()
        while out.count(b"seen on a terminal") < 2 and time.monotonic() - began < 30:
            out += process.stdout.read1(65536)
        process.terminate()
        process.wait(20)
    assert out.count(b"seen on a terminal") >= 2
    assert b"Ctrl-C ends" in out
    assert b"\x1b[2K" in out


def test_profiles_are_shown_without_secrets_and_used(tell: Call, server: Server, tmp_path: Path) -> None:
    directory = tmp_path / "no-configuration" / "tesk"
    directory.mkdir(parents=True)
    file = directory / "client.yaml"
    file.write_text(
        f"default: away\nprofiles:\n  here: {{url: '{server.url}', token: s3cret}}\n  away: {{url: 'http://away'}}\n"
    )
    file.chmod(0o644)
    shown = tell("profiles")
    assert shown.out.splitlines() == [
        f"\there\t{server.url}\ttoken in the file",
        "\taway\thttp://away\tnone",
    ]
    assert shown.err == f"tesk: commands speak with {server.url}: $TES_URL\n"
    listed = tell("list", "--profile", "here", "--page-size", "1")
    assert listed.code == 0
    assert f"chmod 600 {file}" in listed.err
    assert "s3cret" not in shown.out + shown.err + listed.err
    in_force = [json.loads(line) for line in tell("profiles", "--json", "--profile", "here").out.splitlines()]
    assert [one["in_force"] for one in in_force] == [True, False]
    file.write_text("profiles:\n  here: {urk: x}\n")
    wrong = tell("list", "--profile", "here")
    assert (wrong.code, f"tesk: {file}:2: unknown key 'urk' in 'here'; did you mean 'url'?" in wrong.err) == (2, True)


def completed(words: str, **changes: str) -> list[str]:
    """What bash would offer for the last of `words`."""
    env = environment(COMP_WORDS=words, COMP_CWORD=str(len(words.split(" ")) - 1), **changes)
    env["_TESK_COMPLETE"] = "complete_bash"
    command = [sys.executable, "-c", "import sys; sys.argv[0] = 'tesk'; from tesk.cli import main; main()"]
    result = subprocess.run(command, env=env, capture_output=True, text=True, timeout=30)
    assert result.stderr == ""
    return result.stdout.split()


@pytest.mark.slow
def test_the_shell_completes_ids_states_and_profiles(tell: Call, server: Server, tmp_path: Path) -> None:
    (tmp_path / "t").write_text(json.dumps(task(tags={"set": "complete"})))
    one = tell("create", "t").out.strip()
    assert tell("wait", one).code == 0
    assert completed(f"tesk get {one[:12]}", TES_URL=server.url) == [one]
    assert completed(f"tesk cancel {one[:12]}", TES_URL=server.url) == []
    assert completed("tesk list --state EXEC") == ["EXECUTOR_ERROR"]
    (tmp_path / "c").write_text("profiles: {lab: {url: 'http://a'}, cloud: {url: 'http://b'}}")
    assert completed("tesk list --profile l", TESK_CLIENT_CONFIG=str(tmp_path / "c")) == ["lab"]


def test_completion_is_quick_and_quiet_without_a_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        assert completed("tesk get task-", TES_URL=f"http://127.0.0.1:{silent.getsockname()[1]}") == []
        assert time.monotonic() - began < 5


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_for_each_shell(call: Call, shell: str) -> None:
    result = call("completion", shell)
    assert result.code == 0
    assert "_TESK_COMPLETE" in result.out
