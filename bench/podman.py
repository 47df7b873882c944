"""Tasks that do nothing, through the API, in podman; beside `podman run` in a loop, as many at a time."""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from tests.images import load_busybox

from bench.figures import Figure
from bench.local import no_op_round
from bench.server import Server

__all__ = ["podman_tasks"]

TASKS = 30
ROUNDS = 3
AT_ONCE = 2


def podman_tasks() -> list[Figure]:
    """Tasks a second, and `podman run` of the same image and command a second, in turn; nothing without podman."""
    with tempfile.TemporaryDirectory() as directory:
        try:
            image = load_busybox(Path(directory))
        except pytest.skip.Exception as why:
            print(f"podman is not measured: {why}", file=sys.stderr)
            return []
        settings = {"TESK_LOCAL_ENGINE": "podman", "TESK_LOCAL_CPU_CORES": str(AT_ONCE)}
        with Server(Path(directory), TESK_SERVER_ACCESS_LOG="false", **settings) as server:
            asyncio.run(no_op_round(server.url, 4, image))
            rounds = [(_bare(image), asyncio.run(no_op_round(server.url, TASKS, image))) for _ in range(ROUNDS)]
    alone, tasks = (statistics.median(one) for one in zip(*rounds, strict=True))
    share = statistics.median(task / bare for bare, task in rounds)
    return [
        Figure("no-op tasks in podman", tasks, "tasks/s"),
        Figure(f"podman run, {AT_ONCE} at a time", alone, "runs/s"),
        Figure("  tasks of as many runs", share, "", 0.9, "more", beside="median of each round's own"),
    ]


def _bare(image: str) -> float:
    """How many times a second podman runs `true`, AT_ONCE processes at a time."""
    command = f"podman run --rm --entrypoint= {image} true"
    script = f"for i in $(seq {TASKS // AT_ONCE}); do {command}; done"
    start = time.perf_counter()
    workers = [subprocess.Popen(["sh", "-c", script]) for _ in range(AT_ONCE)]
    if any(one.wait() for one in workers):
        raise RuntimeError(f"'{command}' does not work here")
    return TASKS / (time.perf_counter() - start)
