"""What the command is given, how its end is told, and what becomes of signals and of processes it leaves."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.launcher.runner import ODD, Ran, Runner

PATIENCE = 20.0


def told(ran: Ran, key: str) -> list[str]:
    """What the probe says of `key`."""
    return [line.removeprefix(f"{key} ") for line in ran.stdout.decode().split("\n") if line.startswith(f"{key} ")]


def children(pid: int) -> list[int]:
    """The processes whose parent is `pid`, zombies too."""
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait_until(condition: Any) -> None:
    """Until `condition()` holds, or fail."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it never came to be"
        time.sleep(0.01)


def test_argv_arrives_exactly(run: Runner, probe: Path) -> None:
    ran = run(probe, "begin", *ODD, "x" * 131071)
    expected = "".join(f"argument {len(one.encode())} {one}\n" for one in ["begin", *ODD, "x" * 131071])
    assert ran.stdout.decode().startswith(expected + "environment ")


def test_the_environment_arrives_exactly(run: Runner, probe: Path) -> None:
    given = {"PATH": "/bin", "ODD": "a=b\n'c' \"d\" $(e)", "EMPTY": "", "UTF": "ü"}
    ran = run(probe, popen={"env": given})
    body = ran.stdout.decode().partition("environment ")[2].partition("\ndirectory ")[0]
    assert sorted(body.split("\nenvironment ")) == sorted(f"{key}={value}" for key, value in given.items())


def test_a_path_is_given_where_there_is_none(run: Runner, probe: Path) -> None:
    ran = run(probe, popen={"env": {}})
    assert told(ran, "environment") == ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]


def test_the_command_is_found_on_the_path_of_the_environment(run: Runner, probe: Path, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "mine").symlink_to(probe)
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "mine").write_text("not executable")
    assert run("mine", "exit", "9", popen={"env": {"PATH": f"/none:{tmp_path}/first:{tmp_path}/bin"}}).code == 9
    assert run("mine", "exit", "9", popen={"env": {"PATH": ""}, "cwd": tmp_path / "bin"}).code == 9


def test_the_command_has_a_session_and_nothing_else_of_the_launcher(run: Runner, probe: Path, tmp_path: Path) -> None:
    def ignore_and_block() -> None:
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGUSR1])

    with (tmp_path / "held").open("w") as held:
        popen = {"pass_fds": [held.fileno()], "preexec_fn": ignore_and_block, "restore_signals": False}
        ran = run(probe, popen=popen, stdout=tmp_path / "out", stderr=tmp_path / "err")
    assert told(ran, "leads its session") == ["1"]
    assert told(ran, "files") == ["3"]
    lines = ran.stdout.decode().splitlines()
    masks = dict(line.split() for line in lines if line.startswith("Sig"))
    # the C library keeps 32 and 33 for itself: whoever was started by make ignores them, and no program can change that
    kept = 1 << 31 | 1 << 32
    assert {name: int(mask, 16) & ~kept for name, mask in masks.items()} == {"SigPnd:": 0, "SigBlk:": 0, "SigIgn:": 0}


@pytest.mark.parametrize("closed", [0, 1, 2])
def test_a_stream_that_is_closed_is_not_taken_for_another(
    run: Runner, probe: Path, tmp_path: Path, closed: int
) -> None:
    (tmp_path / "in").write_text("from stdin")
    options = {"stdin": tmp_path / "in", "stdout": tmp_path / "out"}
    ran = run(probe, "cat", popen={"preexec_fn": lambda: os.close(closed)}, **options)
    assert ran.code == 0
    assert (tmp_path / "out").read_text() == "from stdin"


def test_every_exit_code_comes_through(run: Runner, probe: Path) -> None:
    def code(number: int) -> int:
        argv = [run.launcher, "--", probe, "exit", str(number)]
        return subprocess.run(argv, stdout=subprocess.DEVNULL, check=False).returncode

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(code, range(256))) == list(range(256))


@pytest.mark.parametrize("number", [1, 2, 6, 9, 11, 13, 15, 34, 64])
def test_a_signal_is_told_as_128_and_its_number(run: Runner, probe: Path, number: int) -> None:
    ran = run(probe, "die", str(number))
    assert ran.code == 128 + number
    assert ran.end is not None
    assert (ran.end.exit_code, ran.end.problem, ran.end.oom) == (128 + number, None, False)


def test_the_end_tells_code_times_and_usage(run: Runner) -> None:
    before = datetime.now(UTC)
    end = run("sh", "-c", "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; sleep 0.2; exit 3").end
    after = datetime.now(UTC)
    assert end is not None
    assert end.exit_code == 3
    start, finish = datetime.fromisoformat(end.start), datetime.fromisoformat(end.end)
    assert before.replace(microsecond=0) <= start <= finish <= after
    assert (finish - start).total_seconds() >= 0.2
    assert end.usage is not None
    assert 0 < end.usage.peak_memory_bytes < 64 << 20
    assert 20 <= end.usage.user_cpu_ms + end.usage.system_cpu_ms < 10_000


@pytest.mark.parametrize(
    ("command", "code", "problem"),
    [
        ("no-such-command", 127, "the command 'no-such-command' was not found on the PATH"),
        ("/no/such/command", 127, "the command '/no/such/command' was not found"),
        ("/etc/passwd", 126, "the command '/etc/passwd' cannot be executed: Permission denied"),
        ("/etc/passwd/x", 126, "the command '/etc/passwd/x' cannot be executed: Not a directory"),
        ("/usr", 126, "the command '/usr' is a directory"),
    ],
)
def test_a_command_that_cannot_run_has_the_code_a_shell_would_give(
    run: Runner, command: str, code: int, problem: str
) -> None:
    ran = run(command)
    assert (ran.code, ran.stdout, ran.stderr, ran.kept) == (code, b"", b"", ("", ""))
    assert ran.end is not None
    assert (ran.end.exit_code, ran.end.problem) == (code, problem)


@pytest.mark.parametrize("on_path", [True, False])
def test_a_missing_interpreter_is_told(run: Runner, tmp_path: Path, on_path: bool) -> None:
    script = tmp_path / "a-script"
    script.write_text("#!/no/interpreter\n")
    script.chmod(0o755)
    name = "a-script" if on_path else str(script)
    ran = run(name, popen={"env": {"PATH": f"/bin:{tmp_path}"}})
    assert ran.code == 127
    assert ran.end is not None
    assert ran.end.problem == f"the interpreter that '{name}' names in its first line was not found"


def test_a_script_without_a_first_line_is_no_program(run: Runner, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("echo x\n")
    script.chmod(0o755)
    ran = run(script)
    assert ran.code == 126
    assert ran.end is not None
    assert ran.end.problem == f"the command '{script}' cannot be executed: Exec format error"


@pytest.mark.parametrize(
    "name", ["\\\"'" * 30000, "\x01" * 100_000, "ü" * 50_000, b"/\xff\xfe" * 1000, b"\xed\xa0\x80x"]
)
def test_the_end_is_small_and_whole_whatever_the_name(run: Runner, name: str | bytes) -> None:
    ran = run(name)
    assert ran.code in (126, 127)
    assert ran.end is not None
    assert ran.end.problem is not None
    assert ran.end.problem.startswith(("the command '", "the interpreter"))
    assert len(run.end.read_bytes()) < 4096


def test_the_workdir_is_entered_and_made_where_it_is_missing(run: Runner, tmp_path: Path) -> None:
    assert run("pwd", workdir="/usr").stdout == b"/usr\n"
    missing = tmp_path / "not/there yet/"
    assert run("sh", "-c", "pwd; touch x", workdir=missing).stdout == f"{missing}\n".encode()
    assert (missing / "x").exists()


@pytest.mark.parametrize(
    ("path", "why"), [("/etc/passwd", "Not a directory"), ("/proc/none", "No such file or directory")]
)
def test_a_workdir_that_cannot_be_entered_is_told(run: Runner, path: str, why: str) -> None:
    ran = run("pwd", workdir=path)
    assert ran.code == 126
    assert ran.end is not None
    assert ran.end.problem == f"its workdir {path} cannot be opened: {why}"


def test_an_end_that_the_command_wrote_is_replaced(run: Runner) -> None:
    ran = run("sh", "-c", 'i=0; while [ $i -lt 900 ]; do echo forged; i=$((i+1)); done >"$0"; exit 4', run.end)
    assert ran.end is not None
    assert ran.end.exit_code == 4


def test_an_end_that_cannot_be_written_does_no_harm(run: Runner) -> None:
    argv = [run.launcher, "--end", "/no/such/place", "--", "sh", "-c", "echo x; exit 5"]
    done = subprocess.run(argv, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (5, b"")
    assert done.stdout.startswith(b"O x\n")


@pytest.mark.parametrize(
    "number", ["HUP", "INT", "QUIT", "TERM", "USR1", "USR2", "ALRM", "CONT", "TSTP", "WINCH", "RTMIN", "RTMAX"]
)
def test_signals_are_passed_on(run: Runner, probe: Path, number: str) -> None:
    number_ = int(getattr(signal, f"SIG{number}"))
    with run.start(probe, "catch") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"O ready\n"
        process.send_signal(number_)
        assert process.stdout.readline() == f"O caught {number_}\n".encode()
    assert process.returncode == 0


def test_signals_reach_the_whole_group_of_the_command(run: Runner, probe: Path) -> None:
    with run.start("sh", "-c", 'trap "" TERM; "$0" catch & "$0" catch & wait', probe) as process:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(2)] == [b"O ready\n"] * 2
        process.terminate()
        assert [process.stdout.readline() for _ in range(2)] == [b"O caught 15\n"] * 2
    assert process.returncode == 0


def test_a_command_that_does_not_care_for_sigterm_is_told_as_ended_by_it(run: Runner) -> None:
    with run.start("sleep", "300") as process:
        wait_until(lambda: children(process.pid))
        process.terminate()
    assert process.returncode == 143


def test_a_daemon_that_the_command_leaves_does_not_keep_the_launcher(run: Runner) -> None:
    started = time.monotonic()
    ran = run("sh", "-c", "sleep 300 & echo $!; echo done >&2; exit 6")
    with contextlib.suppress(ProcessLookupError):
        os.kill(int(ran.stdout), signal.SIGKILL)
    assert time.monotonic() - started < PATIENCE
    assert (ran.code, ran.stderr) == (6, b"done\n")


def test_a_daemon_that_writes_for_ever_does_not_keep_the_launcher(run: Runner) -> None:
    ran = run("sh", "-c", "cat /dev/zero & echo $! >&2; exec sleep 0.2")
    with contextlib.suppress(ProcessLookupError):
        os.kill(int(ran.stderr), signal.SIGKILL)
    assert ran.code == 0
    assert ran.stdout.startswith(b"\0")


def test_nothing_that_the_command_left_goes_on_once_its_end_is_told(run: Runner, tmp_path: Path) -> None:
    """In a container: there it could tell another end, or change what is being delivered."""
    alone = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child"]
    if subprocess.run([*alone, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("this machine gives no process namespaces (unshare)")
    forges = f"while :; do echo forged >{run.end}; echo more >>{tmp_path}/out; done"
    # its record is longer than a pipe, so that the launcher stays after it has told the end while nobody reads on
    script = f"setsid sh -c '{forges}' & while [ ! -s {tmp_path}/out ]; do :; done; head -c 60000 /dev/zero; exit 3"
    argv = [*alone, *run.argv(["sh", "-c", script])]
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.read(60000)
        wait_until(lambda: run.end.exists() and run.end.read_text().startswith("{"))
        size = (tmp_path / "out").stat().st_size
        time.sleep(0.2)
        assert '"exit_code":3,' in run.end.read_text()
        assert (tmp_path / "out").stat().st_size == size
        process.stdout.read()
    assert process.returncode == 3


@pytest.mark.parametrize(("code", "said"), [(0, "refused"), (-1, "sent")])
def test_a_command_cannot_feign_that_its_container_is_told_to_end(
    run: Runner, probe: Path, code: int, said: str
) -> None:
    """By a signal that says of itself that it comes from nobody inside."""
    ran = run(probe, "feign", str(code))
    assert ran.end is not None
    assert (ran.stdout.decode(), ran.end.asked) == (said, False)


def test_orphans_are_taken_in(run: Runner) -> None:
    script = "for one in 1 2 3 4 5; do (sleep 0.1 & sleep 0.05 &); done; echo left; exec sleep 300"
    with run.start("sh", "-c", script) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"O left\n"
        wait_until(lambda: len(children(process.pid)) == 1)
        process.terminate()


@pytest.mark.parametrize(
    ("arguments", "about"),
    [
        ([], "no command is given"),
        (["--"], "no command is given"),
        (["--stdin"], "an option without its value: --stdin"),
        (["true"], "an option without its value: true"),
        (["--nothing", "x", "--", "true"], "no such option: --nothing"),
        (["--log-bytes", "-5", "--", "true"], "not a number of bytes: -5"),
        (["--log-bytes", "5k", "--", "true"], "not a number of bytes: 5k"),
    ],
)
def test_a_wrong_command_line_is_refused(launcher: Path, arguments: list[str], about: str) -> None:
    done = subprocess.run([launcher, *arguments], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr.startswith(f"launcher: {about}\nusage: ")
