"""Tasks that do nothing, through the API, in the sandbox."""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import httpx

from bench.figures import Figure
from bench.server import Server

__all__ = ["no_op_round", "no_op_tasks"]

TASKS = 400
ROUNDS = 3
POLL_SECONDS = 0.05


def no_op_tasks() -> list[Figure]:
    """Tasks a second from the first POST until the last is COMPLETE; with what bare processes reach beside it."""
    with tempfile.TemporaryDirectory() as directory, Server(Path(directory), TESK_SERVER_ACCESS_LOG="false") as server:
        asyncio.run(no_op_round(server.url, 50))
        before, start = server.cpu_seconds(), time.perf_counter()
        rates = [asyncio.run(no_op_round(server.url, TASKS)) for _ in range(ROUNDS)]
        cpu = (server.cpu_seconds() - before) / (TASKS * ROUNDS)
        share = (server.cpu_seconds() - before) / (time.perf_counter() - start)
        memory = server.rss()
    return [
        Figure("no-op tasks in the sandbox", statistics.median(rates), "tasks/s", 100.0, "more"),
        Figure("  server CPU a task", cpu * 1000, "ms"),
        Figure("  server's share of one core", share * 100, "%"),
        Figure("  server RSS afterwards", memory, "MiB"),
        Figure("unshare -Urmpf true, two at a time", _bare(), "runs/s"),
    ]


async def no_op_round(url: str, count: int, image: str = "none") -> float:
    """Tasks a second of `count` tasks."""
    task = {"executors": [{"image": image, "command": ["true"]}]}
    limits = httpx.Limits(max_connections=8)
    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=60) as client:
        start = time.perf_counter()
        ids = [
            answer.json()["id"]
            for answer in await asyncio.gather(*[client.post("/ga4gh/tes/v1/tasks", json=task) for _ in range(count)])
        ]
        waiting = set(ids)
        while waiting:
            await asyncio.sleep(POLL_SECONDS)
            states = await _states(client)
            failed = {
                one for one in waiting if states.get(one) not in ("COMPLETE", "QUEUED", "INITIALIZING", "RUNNING")
            }
            if failed:
                raise RuntimeError(f"{len(failed)} no-op tasks failed")
            waiting = {one for one in waiting if states[one] != "COMPLETE"}
        return count / (time.perf_counter() - start)


async def _states(client: httpx.AsyncClient) -> dict[str, str]:
    answer = await client.get("/ga4gh/tes/v1/tasks", params={"page_size": 2047})
    return {one["id"]: one["state"] for one in answer.json()["tasks"]}


def _bare(runs: int = 200) -> float:
    """How many times a second this machine makes namespaces and runs `true` in them, two processes at a time."""
    script = f"for i in $(seq {runs // 2}); do unshare --user --map-root-user --mount --pid --fork true; done"
    start = time.perf_counter()
    workers = [subprocess.Popen(["sh", "-c", script]) for _ in range(2)]
    if any(one.wait() for one in workers):
        raise RuntimeError("unshare does not work here")
    return runs / (time.perf_counter() - start)
