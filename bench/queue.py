"""How soon the next of ten thousand queued tasks starts when the one before it makes room."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

from bench.figures import Figure
from bench.server import Server

__all__ = ["queued_tasks"]

QUEUED = 10_000
LOOKED_AT = 200
API = "/ga4gh/tes/v1/tasks"


def queued_tasks() -> list[Figure]:
    """No-op tasks of one core each on a machine of one core, one after the other."""
    settings = {"TESK_SERVER_ACCESS_LOG": "false", "TESK_LOCAL_CPU_CORES": "1"}
    with tempfile.TemporaryDirectory() as directory, Server(Path(directory), **settings) as server:
        tasks = asyncio.run(_through(server.url))
    attempts = sorted((one["logs"][0] for one in tasks), key=lambda one: str(one["start_time"]))
    gaps = [_seconds(before["end_time"], after["start_time"]) for before, after in itertools.pairwise(attempts)]
    runs = [_seconds(one["start_time"], one["end_time"]) for one in attempts]
    return [
        Figure(
            f"{QUEUED:,} queued: end of a task to start of the next",
            statistics.median(gaps) * 1000,
            "ms",
            10.0,
            beside=f"95 % within {statistics.quantiles(gaps, n=20)[-1] * 1000:.0f} ms;"
            f" a task takes {statistics.median(runs) * 1000:.0f} ms",
        )
    ]


def _seconds(earlier: str, later: str) -> float:
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()


async def _through(url: str) -> list[dict[str, Any]]:
    """The first of the queued tasks, FULL, once they have run."""
    async with httpx.AsyncClient(
        base_url=url, limits=httpx.Limits(max_connections=8), timeout=httpx.Timeout(60, pool=None)
    ) as client:
        first = (await client.post(API, json=_task("holds the core", "sleep", "3600"))).json()["id"]
        await asyncio.gather(*(client.post(API, json=_task(f"q-{one:05}", "true")) for one in range(QUEUED)))
        await client.post(f"{API}/{first}:cancel")
        last = {"name_prefix": f"q-{LOOKED_AT:05}", "view": "MINIMAL"}
        while (await client.get(API, params=last)).json()["tasks"][0]["state"] != "COMPLETE":
            await asyncio.sleep(0.5)
        wanted = {"name_prefix": "q-00", "state": "COMPLETE", "view": "FULL", "page_size": 1000}
        return list((await client.get(API, params=wanted)).json()["tasks"])


def _task(name: str, *command: str) -> dict[str, Any]:
    return {"name": name, "executors": [{"image": "none", "command": command}]}
