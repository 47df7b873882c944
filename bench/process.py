"""What a whole process costs: `tesk --help`, and a server until it is ready and while it idles."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.figures import Figure
from bench.server import Server

__all__ = ["busy_seconds", "help_time", "serve_ready"]

RUNS = 7
IDLE_SECONDS = 2.0


def busy_seconds() -> float:
    """Processor seconds that this whole machine has spent on anything since it started; waiting is not in it."""
    user, nice, system, _idle, _waited, *interrupts = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:8]
    return sum(map(int, (user, nice, system, *interrupts))) / os.sysconf("SC_CLK_TCK")


def help_time() -> list[Figure]:
    """`tesk --help` from start to end, beside an empty Python process."""
    tesk = str(Path(sys.executable).with_name("tesk"))
    return [
        Figure("tesk --help", _median([tesk, "--help"]), "s", 0.3),
        Figure("python -c pass", _median([sys.executable, "-c", "pass"]), "s"),
    ]


def _median(command: list[str]) -> float:
    times = []
    for _ in range(RUNS + 1):
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])  # the first one fills the disk cache


def serve_ready() -> list[Figure]:
    """`tesk serve` with a new state directory: seconds until it answers, and its memory when idle."""
    times, memory = [], []
    for _ in range(RUNS):
        with tempfile.TemporaryDirectory() as directory:
            start = time.perf_counter()
            with Server(Path(directory)) as server:
                times.append(time.perf_counter() - start)
                if len(memory) < 2:
                    time.sleep(IDLE_SECONDS)
                    memory.append(server.rss())
    return [
        Figure("tesk serve ready", statistics.median(times[1:]), "s", 1.0),
        Figure("idle server RSS", max(memory), "MiB", 90.0),
    ]
