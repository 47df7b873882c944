"""The launcher in a pod that it shares with its taskmaster: what is made before, turns, orders, deaths."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.launcher.runner import Runner

from tesk.backends.kubernetes.streams import read_end, read_record

SOON = 10.0
Begin = Callable[..., "subprocess.Popen[bytes]"]


class Holder:
    """The taskmaster's container: process 1 holds the FIFOs, here for `sleep`."""

    def __init__(self, launcher: Path, control: Path, count: int = 1, *options: str | Path) -> None:
        self.control = control
        control.mkdir(exist_ok=True)
        argv = [launcher, "--hold", control, str(count), *options, "--", "/bin/sleep", "60"]
        self.process = subprocess.Popen(argv)
        subprocess.run([launcher, "--await", control / "ready"], check=True, timeout=SOON)
        self._go = os.open(control / "ex-00" / "go", os.O_RDWR | os.O_NONBLOCK) if count else -1
        self._end = os.open(control / "ex-00" / "end", os.O_RDONLY | os.O_NONBLOCK) if count else -1

    def say(self, order: bytes) -> None:
        os.write(self._go, order)

    def hear(self, until: bytes = b"\n") -> bytes:
        """What the first launcher tells, up to `until`, or to its end."""
        heard, end = b"", time.monotonic() + SOON
        while until not in heard:
            assert select.select([self._end], [], [], max(0.0, end - time.monotonic()))[0], heard
            if not (piece := os.read(self._end, 65536)):
                break
            heard += piece
        return heard

    def all(self) -> bytes:
        """Everything up to the launcher's end."""
        return self.hear(b"\x00nothing has this")

    def die(self) -> None:
        """As a taskmaster that is killed; only the one who holds is left to do so."""
        os.close(self._go)
        os.close(self._end)
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        if self.process.returncode is None:
            self.die()


@pytest.fixture
def control(tmp_path: Path) -> Path:
    return tmp_path / "control"


@pytest.fixture
def holder(launcher: Path, control: Path) -> Iterator[Holder]:
    with contextlib.closing(Holder(launcher, control)) as holder:
        yield holder


@pytest.fixture
def begin(run: Runner, control: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts the launcher of the first executor."""
    with contextlib.ExitStack() as begun:

        def start(*command: str, **options: Any) -> subprocess.Popen[bytes]:
            launcher = begun.enter_context(run.start(*command, turn=control / "ex-00", **options))
            begun.callback(launcher.kill)
            return launcher

        yield start


def test_a_command_starts_when_it_is_its_turn_and_not_before(
    begin: Begin, run: Runner, holder: Holder, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    launcher = begin("sh", "-c", f"touch {mark}; echo out; echo err >&2; exit 7")
    assert holder.hear() == b"H\n"
    time.sleep(0.1)
    assert not mark.exists()
    holder.say(b"g")
    told = holder.all().decode()
    end = read_end(told)
    assert end is not None
    assert (end.exit_code, end.streams) == (7, ("out\n", "err\n"))
    assert launcher.wait(SOON) == 7
    assert run.end.read_text() == told


def test_long_streams_are_told_in_a_line_of_their_own(begin: Begin, holder: Holder) -> None:
    log = {"stdout": subprocess.DEVNULL}
    begin("sh", "-c", "yes | head -c 300000; echo late >&2", log_bytes=65536, popen=log)
    holder.hear()
    holder.say(b"g")
    first, _, rest = holder.all().partition(b"\n")
    assert json.loads(first)["exit_code"] == 0
    kept = read_record(b"\n" + rest, 65536)
    assert kept is not None
    assert "234464 bytes left out" in kept[0]
    assert kept[1] == "late\n"


@pytest.mark.parametrize("order", [b"n", b"s"])
def test_a_turn_that_never_comes_is_no_failure(begin: Begin, holder: Holder, order: bytes) -> None:
    launcher = begin("false")
    holder.hear()
    holder.say(order)
    assert launcher.wait(SOON) == 0
    assert holder.all() == b""


def test_a_taskmaster_that_dies_takes_a_waiting_launcher_with_it(begin: Begin, holder: Holder) -> None:
    launcher = begin("sleep", "60")
    holder.hear()
    holder.die()
    assert launcher.wait(SOON) == 125


def test_a_taskmaster_that_dies_takes_a_running_command_with_it(begin: Begin, holder: Holder) -> None:
    launcher = begin("sh", "-c", "trap '' TERM; echo $$; sleep 60")
    holder.hear()
    holder.say(b"g")
    assert launcher.stdout is not None
    command = int(launcher.stdout.readline().removeprefix(b"O "))
    holder.die()
    assert launcher.wait(SOON) == 125
    end = time.monotonic() + SOON
    while Path(f"/proc/{command}/cmdline").exists() and Path(f"/proc/{command}/cmdline").read_bytes():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_launcher_that_comes_late_finds_no_taskmaster(begin: Begin, holder: Holder) -> None:
    holder.die()
    launcher = begin("true", popen={"stderr": subprocess.PIPE})
    assert launcher.wait(SOON) == 125
    assert launcher.stderr is not None
    assert b"there is no taskmaster" in launcher.stderr.read()


def test_the_death_of_a_launcher_is_seen(begin: Begin, holder: Holder) -> None:
    launcher = begin("sleep", "60")
    holder.hear()
    holder.say(b"g")
    launcher.kill()
    assert holder.all() == b""


def test_a_daemon_that_outlives_its_command_does_not_hide_the_end(begin: Begin, holder: Holder) -> None:
    launcher = begin("sh", "-c", "setsid sleep 5 & exit 3")
    holder.hear()
    holder.say(b"g")
    end = read_end(holder.all().decode())
    assert end is not None
    assert end.exit_code == 3
    assert launcher.wait(SOON) == 3


def test_an_order_to_stop_is_a_signal_to_the_command(begin: Begin, holder: Holder) -> None:
    launcher = begin("sh", "-c", "trap 'echo bye; exit 9' TERM; echo up; while :; do sleep 0.1; done")
    holder.hear()
    holder.say(b"g")
    assert launcher.stdout is not None
    assert launcher.stdout.readline() == b"O up\n"
    holder.say(b"s")
    end = read_end(holder.all().decode())
    assert end is not None
    assert end.streams is not None
    assert (end.exit_code, end.streams[0]) == (9, "up\nbye\n")


def test_a_waiting_launcher_ends_when_its_container_is_told_to(begin: Begin, holder: Holder) -> None:
    launcher = begin("true")
    holder.hear()
    launcher.send_signal(signal.SIGTERM)
    assert launcher.wait(SOON) == 143


def test_what_containers_need_is_there_before_they_start(launcher: Path, control: Path, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    made = ["--dir", scratch / "a b/deep", "--file", scratch / "etc/tool.conf", "--dir", scratch / "a b"]
    with contextlib.closing(Holder(launcher, control, 3, *made)):
        assert stat.S_IMODE((scratch / "a b/deep").stat().st_mode) == 0o777
        assert stat.S_IMODE((scratch / "etc").stat().st_mode) == 0o777
        assert (scratch / "etc/tool.conf").read_bytes() == b""
        copies = {f"ex-0{one}.{name}" for one in range(3) for name in ("hosts", "resolv.conf")}
        assert {one.name for one in control.iterdir()} == {"ex-00", "ex-01", "ex-02", "ready", *copies}
        for name in copies:
            there = Path("/etc", name.partition(".")[2])
            assert (control / name).read_bytes() == (there.read_bytes() if there.exists() else b"")
        for number in range(3):
            place = control / f"ex-{number:02d}"
            assert sorted(one.name for one in place.iterdir()) == ["end", "go", "launcher"]
            assert stat.S_IMODE((place / "go").stat().st_mode) == 0o644
            assert stat.S_IMODE((place / "end").stat().st_mode) == 0o622
            assert stat.S_IMODE((place / "launcher").stat().st_mode) == 0o555


def test_what_cannot_be_made_is_said(launcher: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    argv = [launcher, "--hold", tmp_path, "1", "--dir", tmp_path / "file" / "below", "--", "/bin/true"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 125
    assert "file/below cannot be made: Not a directory" in done.stderr
