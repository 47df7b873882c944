"""A thousand who follow one executor's stdout over HTTP."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from pathlib import Path

import httpx
from tests.backends.crowd import Follower, crowd

from bench.figures import Figure
from bench.server import Server

__all__ = ["followers"]

MANY = 1000
LINES = 10
_API = "/ga4gh/tes/v1/tasks"
_SCRIPT = f"sleep 8; for i in $(seq {LINES}); do echo line $i; sleep 1; done"


def followers() -> list[Figure]:
    """What each costs the server, and how late the last of them hears a line that all are told."""
    with tempfile.TemporaryDirectory() as directory, Server(Path(directory), TESK_SERVER_ACCESS_LOG="false") as server:
        return asyncio.run(_followers(server))


async def _followers(server: Server) -> list[Figure]:
    body = {"executors": [{"image": "none", "command": ["sh", "-c", _SCRIPT]}]}
    async with httpx.AsyncClient(base_url=server.url, timeout=30) as client:
        task = (await client.post(_API, json=body)).json()["id"]
        while (await client.get(f"{_API}/{task}")).json()["state"] != "RUNNING":
            await asyncio.sleep(0.05)
    before = server.rss()
    async with crowd(server.url, f"{_API}/{task}/logs?follow=true", MANY) as them:
        joined = server.rss()
        busy = server.cpu_seconds()
        late = [await _spread(them, number) for number in range(1, LINES)]
        busy = server.cpu_seconds() - busy
        for one in them:
            await one.over()
        grown = max(joined, server.rss()) - before
    return [
        Figure(f"memory a follower, {MANY:,} of one stream", grown * 1024 / MANY, "KiB", 48.0),
        Figure("  : a line, from the first of them to the last", statistics.median(late), "s", 1.0),
        Figure("  : processor time to tell one of a line", busy / len(late) / MANY * 1000, "ms"),
    ]


async def _spread(them: list[Follower], number: int) -> float:
    """Seconds between the first and the last that has heard `number` lines."""
    while not any(one.heard.count(b"\n") >= number for one in them):
        await asyncio.sleep(0.005)
    begun = time.perf_counter()
    while not all(one.heard.count(b"\n") >= number for one in them):
        await asyncio.sleep(0.005)
    return time.perf_counter() - begun
