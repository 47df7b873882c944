"""Where the command's streams go: the log with its frames, the task's files, the record."""

from __future__ import annotations

import hashlib
import os
import re
import resource
import subprocess
import time
from pathlib import Path

import pytest
from tests.launcher.runner import Runner, read_log
from tests.launcher.test_command import PATIENCE, children, wait_until

LINE = re.compile(rb"[OEoe] [^\n]{0,8192}\n|R [^\n]*\n")


def test_streams_are_kept_apart(run: Runner) -> None:
    ran = run("sh", "-c", "echo one; echo two >&2; printf three; printf four >&2")
    assert (ran.stdout, ran.stderr) == (b"one\nthree", b"two\nfour")
    assert ran.kept == ("one\nthree", "two\nfour")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        b"\n\n\n",
        b"x",
        b"x\n",
        b"\r\n\0\xff\xfeO x\nR {}\n",
        b"a" * 8191 + b"\n",
        b"a" * 8192 + b"\n",
        b"a" * 8193 + b"\n",
        b"a" * 16384,
        b"\n" * 100_000,
        bytes(range(256)) * 4000,
        os.urandom(3_000_000),
        b"b" * 1_000_000 + b"\nend",
    ],
    ids=range(14),
)
def test_whatever_is_written_is_read_back(run: Runner, probe: Path, data: bytes, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(data)
    ran = run(probe, "cat", stdin=tmp_path / "in", stdout=tmp_path / "out")
    assert ran.stdout == data
    assert ran.stderr == b""
    assert (tmp_path / "out").read_bytes() == data
    assert b"".join(LINE.findall(ran.log)) == ran.log, "the log is nothing but frames, none of them long"


def test_without_stdin_nothing_is_read(run: Runner) -> None:
    assert run("cat", popen={"stdin": subprocess.PIPE}).stdout == b""


def test_it_outlives_what_was_not_read_yet(run: Runner) -> None:
    with run.start("seq", "5000") as process:
        assert process.stdout is not None
        while not process.stdout.readline().startswith(b"R "):
            assert process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.05)


def test_it_waits_for_no_reader_of_a_few_lines(run: Runner) -> None:
    with run.start("seq", "50") as process:
        process.wait(1)


def test_it_does_not_wait_for_ever_for_one_who_never_reads(run: Runner) -> None:
    with run.start("seq", "1000") as process:
        process.wait(PATIENCE)


def test_a_prompt_is_seen_while_the_command_waits(run: Runner) -> None:
    with run.start("sh", "-c", "printf 'Continue? '; sleep 300") as process:
        assert process.stdout is not None
        started = time.monotonic()
        assert process.stdout.readline() == b"o Continue? \n"
        assert time.monotonic() - started < PATIENCE
        process.terminate()


def test_a_line_is_seen_at_once(run: Runner) -> None:
    with run.start("sh", "-c", "echo one; echo two >&2; sleep 300") as process:
        assert process.stdout is not None
        assert sorted(process.stdout.readline() for _ in range(2)) == [b"E two\n", b"O one\n"]
        process.terminate()


def test_a_log_that_nobody_reads_loses_nothing_and_keeps_no_signal(run: Runner) -> None:
    with run.start("yes", "0123456789") as process:
        wait_until(lambda: children(process.pid))
        time.sleep(0.3)  # until every pipe is full
        process.terminate()
        wait_until(lambda: not children(process.pid))
        assert process.poll() is None, "it still holds what nobody has read"
        assert process.stdout is not None
        log = process.stdout.read()
    ran = read_log(process.returncode, log, run.end.read_text())
    assert ran.code == 143
    assert ran.stdout[:11] == b"0123456789\n"
    assert set(ran.stdout.split(b"\n")[:-1]) == {b"0123456789"}
    assert ran.kept is not None


def test_a_reader_that_keeps_up_gets_whole_lines(run: Runner) -> None:
    script = "i=0; while [ $i -lt 50 ]; do printf '%03000d\\n%03000d\\n%03000d\\n' 1 2 3; i=$((i+1)); sleep 0.01; done"
    with run.start("sh", "-c", script, log_bytes=0) as process:
        assert process.stdout is not None
        parts = list(iter(lambda: os.read(process.stdout.fileno(), 1 << 16), b""))
    assert len(parts) > 10
    assert all(one.endswith(b"\n") for one in parts)


def test_a_slow_reader_gets_everything(run: Runner) -> None:
    data = hashlib.md5()
    with run.start("sh", "-c", "yes abcdefg | head -c 800000; yes 1234 | head -c 200000 >&2") as process:
        assert process.stdout is not None
        log = b""
        while part := os.read(process.stdout.fileno(), 40_000):
            log += part
            time.sleep(0.002)
    ran = read_log(process.returncode, log, "")
    data.update(ran.stdout)
    assert data.hexdigest() == hashlib.md5(b"abcdefg\n" * 100_000).hexdigest()
    assert ran.stderr == b"1234\n" * 40_000


def test_a_hundred_mebibytes_cost_little_more_than_without_it(launcher: Path, tmp_path: Path) -> None:
    """In processor time: how long it takes is for a machine that does nothing else."""
    data = tmp_path / "data"
    data.write_bytes(os.urandom(1 << 20) * 100)

    def cost(*argv: str | Path) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            while os.read(process.stdout.fileno(), 1 << 16):
                pass
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime

    plain = min(cost("cat", data) for _ in range(3))
    through = min(cost(launcher, "--", "cat", data) for _ in range(3))
    print(f"100 MiB: {plain:.3f} s of processor plain, {through:.3f} s through the launcher")
    assert through < 5 * plain + 0.2


def test_a_reader_that_goes_away_does_not_end_the_command(run: Runner, tmp_path: Path) -> None:
    script = "yes | head -c 1000000; exit 9"
    with run.start("sh", "-c", script, stdout=tmp_path / "out") as process:
        assert process.stdout is not None
        process.stdout.close()
    assert process.returncode == 9
    assert (tmp_path / "out").stat().st_size == 1_000_000


def test_redirects_write_the_tasks_own_files_and_the_log(run: Runner, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("from stdin\n")
    (tmp_path / "out").write_text("what an earlier executor left there, and longer")
    paths = {"stdin": tmp_path / "in", "stdout": tmp_path / "out", "stderr": tmp_path / "err"}
    ran = run("sh", "-c", "cat; echo err >&2", **paths)
    assert (tmp_path / "out").read_bytes() == ran.stdout == b"from stdin\n"
    assert (tmp_path / "err").read_bytes() == ran.stderr == b"err\n"


def test_redirects_to_dev_null_leave_the_log(run: Runner) -> None:
    ran = run("sh", "-c", "cat; echo out; echo err >&2", stdin="/dev/null", stdout="/dev/null", stderr="/dev/null")
    assert (ran.code, ran.stdout, ran.stderr) == (0, b"out\n", b"err\n")


def test_one_file_for_both_streams_holds_both(run: Runner, tmp_path: Path) -> None:
    both = tmp_path / "both"
    run("sh", "-c", "for n in 1 2 3; do echo out; echo err >&2; done", stdout=both, stderr=both)
    assert sorted(both.read_text().split()) == ["err"] * 3 + ["out"] * 3


def test_a_command_that_writes_into_its_own_stdout_file_has_each_line_once(run: Runner, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run("sh", "-c", 'for n in 1 2 3; do echo $n; done | tee "$0"', out, stdout=out)
    assert out.read_text() == "1\n2\n3\n"


@pytest.mark.parametrize("name", ["stdin", "stdout", "stderr"])
def test_a_redirect_that_cannot_be_opened_is_named(run: Runner, tmp_path: Path, name: str) -> None:
    ran = run("touch", tmp_path / "started", **{name: "/no/such/file"})
    assert ran.code == 126
    assert ran.end is not None
    assert ran.end.problem == f"its {name} /no/such/file cannot be opened: No such file or directory"
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_a_full_disk_is_a_broken_pipe_and_never_a_success(run: Runner, name: str) -> None:
    where = "" if name == "stdout" else " >&2"
    ran = run("sh", "-c", f"yes{where}; true", **{name: "/dev/full"})
    assert ran.end is not None
    assert ran.end.fault == f"its {name} could not be written to /dev/full: No space left on device"
    assert ran.end.exit_code == 0
    assert ran.code == 125, "the container's own code must not look like a success"


@pytest.mark.parametrize("log_bytes", [0, 1, 10, 100_000])
@pytest.mark.parametrize("size", [0, 1, 4, 5, 6, 9, 10, 11, 19, 20, 21, 70_000, 200_001])
def test_the_record_has_head_and_tail(run: Runner, probe: Path, tmp_path: Path, size: int, log_bytes: int) -> None:
    data = (b"0123456789abc" * (size // 13 + 1))[:size]
    (tmp_path / "in").write_bytes(data)
    ran = run(probe, "cat", stdin=tmp_path / "in", log_bytes=log_bytes)
    assert ran.kept is not None
    if size <= log_bytes:
        assert ran.kept[0].encode() == data
        return
    half = log_bytes // 2
    head, tail = data[:half].decode(), data[size - (log_bytes - half) :].decode()
    assert ran.kept[0] == f"{head}\n[... {size - log_bytes} bytes left out ...]\n{tail}"


@pytest.mark.parametrize("sizes", [(0, 0), (3, 0), (0, 4), (750, 750), (1499, 1)])
def test_short_streams_are_told_with_the_end(run: Runner, sizes: tuple[int, int]) -> None:
    out, err = ("\\377" + one * (size - 1) if size else "" for one, size in zip("oe", sizes, strict=True))
    ran = run("sh", "-c", f"printf '{out}'; printf '{err}' >&2; exit 3")
    assert ran.end is not None
    assert ran.end.exit_code == 3
    assert ran.end.streams == ran.kept


@pytest.mark.parametrize(("sizes", "log_bytes"), [((1500, 1), 65536), ((0, 100_000), 65536), ((6, 0), 10)])
def test_longer_streams_are_in_the_log_alone(run: Runner, sizes: tuple[int, int], log_bytes: int) -> None:
    ran = run("sh", "-c", "yes | head -c {}; yes | head -c {} >&2".format(*sizes), log_bytes=log_bytes)
    assert ran.end is not None
    assert ran.end.streams is None
    assert ran.kept is not None


def test_the_record_of_a_stream_that_came_in_small_pieces_is_right(run: Runner) -> None:
    ran = run("sh", "-c", "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done", log_bytes=1000)
    text = ran.stdout.decode()
    assert ran.kept is not None
    assert ran.kept[0] == f"{text[:500]}\n[... {len(text) - 1000} bytes left out ...]\n{text[-500:]}"


def test_memory_is_bounded(run: Runner) -> None:
    log_bytes = 65536
    script = "yes abcdefghijklmnop | head -c 30000000; head -c 30000000 /dev/zero >&2; sleep 300"
    with run.start("sh", "-c", script, log_bytes=log_bytes) as process:
        assert process.stdout is not None
        got = 0
        while got < 60_000_000:
            got += len(process.stdout.read1(1 << 16))
        status = Path(f"/proc/{process.pid}/status").read_text()
        process.terminate()
        process.stdout.read()
    peak = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))
    assert peak < (2 << 20) + 2 * log_bytes
