"""The filer's transfers beside those of the tools that people use: curl, and `aws s3`.

Everything lies in memory (/dev/shm), so that programs are compared and not disks; the servers share the machine with
the clients. Both sides take turns, and a figure is the ratio of their medians.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.servers import S3Server, serving_s3
from tests.venvs import CannotInstall, NoIndex, venv_python

from bench.figures import Figure
from bench.file_server import FileServer
from tesk.plan.model import Delivery, Plan, Transfer

__all__ = ["transfers"]

BIG = 2 << 30
SMALL = 4096
MANY = 5000
PART, AT_ONCE = 256 << 20, 8
ROUNDS = 3
LOOK_SECONDS = 0.02
AWSCLI = Path(__file__).with_name("requirements") / "awscli.txt"


@dataclass
class _Times:
    """Seconds of each run, and the most memory that one took, in MiB."""

    seconds: list[float] = field(default_factory=list)
    rss: float = 0.0

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def transfers(only: str = "") -> list[Figure]:
    """2 GiB down and up over HTTP and S3, several large files at once, and 5,000 files of 4 KiB down from S3;
    `only` picks parts with that text in their names: http, s3, many.
    """
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as name:
        place = Path(name)
        if only in "http":
            figures += _http(place)
        if only in "s3" or only in "many":
            try:
                aws = str(venv_python(AWSCLI).with_name("aws"))
                with serving_s3(place) as server:
                    figures += _s3(place, server, aws, only)
            except (CannotInstall, NoIndex, pytest.skip.Exception) as reason:
                print(f"S3 is not measured: {reason}", file=sys.stderr)
    return figures


def _http(place: Path) -> list[Figure]:
    if shutil.which("curl") is None:
        print("HTTP is not measured: install curl", file=sys.stderr)
        return []
    web = place / "web"
    web.mkdir()
    _fill(web / "big", BIG)
    with FileServer(web) as server, _scratch(place) as scratch:
        big, out = f"{server.url}/big", f"{server.url}/out"
        figures = _beside(
            "2 GiB down over HTTP",
            lambda: _filer(place, "--in", _down("/big", big), scratch),
            lambda: _run(["curl", "-sSf", "-o", str(scratch / "big"), big]),
            lambda: _same(scratch / "big", web / "big"),
            "curl",
            0.9,
        )
        figures += _beside(
            "2 GiB up over HTTP",
            lambda: _filer(place, "--out", _up("/big", out), scratch),
            lambda: _run(["curl", "-sSf", "-o", os.devnull, "-T", str(scratch / "big"), out]),
            lambda: _same(web / "out", web / "big"),
            "curl",
            0.9,
        )
    shutil.rmtree(web)
    return figures


def _s3(place: Path, server: S3Server, aws: str, only: str) -> list[Figure]:
    environment = server.environment
    bucket = server.bucket("bench")
    figures: list[Figure] = []
    copy = [aws, "s3", "cp", "--quiet"]
    with _scratch(place) as scratch:
        if only in "s3":
            _fill(scratch / "big", BIG)
            figures += _beside(
                "2 GiB up over S3",
                lambda: _filer(place, "--out", _up("/big", "s3://bench/out"), scratch, environment),
                lambda: _run([*copy, str(scratch / "big"), "s3://bench/out"], environment),
                lambda: _same(bucket / "out", scratch / "big"),
                "aws s3 cp",
                0.9,
            )
            figures += _beside(
                "2 GiB down over S3",
                lambda: _filer(place, "--in", _down("/down", "s3://bench/out"), scratch, environment),
                lambda: _run([*copy, "s3://bench/out", str(scratch / "down")], environment),
                lambda: _same(scratch / "down", bucket / "out"),
                "aws s3 cp",
                0.9,
            )
            figures += _at_once(place, scratch, environment)
        if only in "many":
            (bucket / "many").mkdir()
            for number in range(MANY):
                (bucket / f"many/{number:05}").write_bytes(os.urandom(SMALL))
            plan = Plan(executors=(), inputs=(Transfer("/many", "DIRECTORY", "s3://bench/many"),))
            figures += _beside(
                f"{MANY:,} files down over S3",
                lambda: _filer(place, "--in", plan, scratch, environment),
                lambda: _run([*copy, "--recursive", "s3://bench/many", str(scratch / "many")], environment),
                lambda: _all_there(scratch / "many"),
                "aws s3 cp --recursive",
                1.0,
            )
    return figures


def _at_once(place: Path, scratch: Path, environment: dict[str, str]) -> list[Figure]:
    """The memory that files take that move at once, as many as the filer moves at a time."""
    _fill(scratch / "part", PART)
    urls = [f"s3://bench/part-{number}" for number in range(AT_ONCE)]
    up = Plan(executors=(), outputs=tuple(Delivery("/part", one, "FILE") for one in urls))
    down = Plan(executors=(), inputs=tuple(Transfer(f"/parts/{one[-1]}", "FILE", one) for one in urls))
    figures = []
    for way, phase, plan in (("up", "--out", up), ("down", "--in", down)):
        spent, rss = _filer(place, phase, plan, scratch, environment)
        name = f"peak RSS, {AT_ONCE} files of {PART >> 20} MiB at once {way} over S3"
        figures.append(Figure(name, rss, "MiB", 150.0, "less", f"{spent:.2f} s"))
    shutil.rmtree(scratch / "parts")
    return figures


def _beside(
    name: str,
    ours: Callable[[], tuple[float, float]],
    theirs: Callable[[], tuple[float, float]],
    check: Callable[[], None],
    tool: str,
    goal: float,
) -> list[Figure]:
    """Both in turns; each answers with its seconds and its peak RSS in MiB."""
    mine, other = _Times(), _Times()
    for _ in range(ROUNDS):
        for times, run in ((mine, ours), (other, theirs)):
            spent, rss = run()
            times.seconds.append(spent)
            times.rss = max(times.rss, rss)
            check()
    beside = f"{mine.median:.2f} s, {tool} {other.median:.2f} s"
    return [
        Figure(f"{name}, speed beside {tool}", other.median / mine.median, "×", goal, "more", beside),
        Figure("  peak RSS of the filer", mine.rss, "MiB", 150.0, "less", f"{tool} {other.rss:.0f} MiB"),
    ]


def _filer(
    place: Path, phase: str, plan: Plan, scratch: Path, environment: dict[str, str] | None = None
) -> tuple[float, float]:
    (place / "plan.json").write_text(plan.to_json())
    tesk = str(Path(sys.executable).with_name("tesk"))
    return _run([tesk, "filer", phase, "--scratch", str(scratch), str(place / "plan.json")], environment)


def _run(command: list[str], environment: dict[str, str] | None = None) -> tuple[float, float]:
    """Seconds and peak RSS in MiB of a process that must end well."""
    start, rss = time.perf_counter(), 0.0
    process = subprocess.Popen(
        command, env={**os.environ, **(environment or {})}, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    while process.poll() is None:
        rss = max(rss, _peak(process.pid))
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(LOOK_SECONDS)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command[:3])} … ended with {process.returncode}")
    return time.perf_counter() - start, rss


def _peak(pid: int) -> float:
    """The most that the process has had resident since it began its program, in MiB.

    Not what `wait4` tells: there our own memory counts, which the process had for a moment when it was forked.
    """
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return 0.0


def _down(path: str, url: str) -> Plan:
    return Plan(executors=(), inputs=(Transfer(path, "FILE", url),))


def _up(path: str, url: str) -> Plan:
    return Plan(executors=(), outputs=(Delivery(path, url, "FILE"),))


@contextlib.contextmanager
def _scratch(place: Path) -> Iterator[Path]:
    made = place / "scratch"
    made.mkdir()
    yield made
    shutil.rmtree(made)


def _fill(path: Path, size: int) -> None:
    """Make a file that no two blocks of are alike."""
    with path.open("wb") as file:
        for _ in range(size >> 24):
            file.write(os.urandom(1 << 24))


def _same(found: Path, expected: Path) -> None:
    """Raise CalledProcessError unless both hold the same."""
    subprocess.run(["cmp", str(found), str(expected)], check=True)


def _all_there(directory: Path) -> None:
    if sum(one.stat().st_size == SMALL for one in directory.iterdir()) != MANY:
        raise RuntimeError(f"not all of the {MANY} files came to {directory}")
    shutil.rmtree(directory)
