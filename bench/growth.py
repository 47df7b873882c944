"""What a server keeps of tasks that are over: after a tenth of them, and after all."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import httpx

from bench.figures import Figure
from bench.server import Server

__all__ = ["growth"]

TASKS = 100_000
BATCH = 500
KEPT_SECONDS = 60
SETTLE_SECONDS = 10.0
TASK = {"executors": [{"image": "none", "command": ["echo", "done"]}], "tags": {"of": "growth"}}
API = "/ga4gh/tes/v1/tasks"
ACTIVE = ("QUEUED", "INITIALIZING", "RUNNING")


@dataclass(frozen=True)
class _Held:
    """What server and keeper hold at one moment; memory and disk in MiB."""

    memory: float
    descriptors: int
    processes: int
    rows: int
    files: int
    disk: float


def growth() -> list[Figure]:
    """No-op tasks in the sandbox through the API, on a server that keeps records for a minute."""
    count = int(os.environ.get("TESK_BENCH_GROWTH", TASKS))
    with tempfile.TemporaryDirectory() as name:
        keep = str(KEPT_SECONDS / 86400)
        with Server(Path(name), TESK_SERVER_ACCESS_LOG="false", TESK_TASKS_KEEP_RECORDS=keep) as server:
            before, after, taken = asyncio.run(_through(server, Path(name, "state"), count))
    tenth = f"after {count // 10:,} tasks"
    return [
        Figure(f"{count:,} tasks, records kept for a minute", count / taken, "tasks/s"),
        Figure(
            "  : memory of server and keeper", after.memory, "MiB", before.memory + 5, beside=_was(before.memory, tenth)
        ),
        Figure(
            "  : open descriptors",
            after.descriptors,
            "",
            before.descriptors + 4,  # a reader of the database, which has two, opens it when it is needed first
            beside=_was(before.descriptors, tenth),
        ),
        Figure("  : processes", after.processes, "", before.processes, beside=_was(before.processes, tenth)),
        Figure("  : rows in the store", after.rows, "", before.rows + BATCH, beside=_was(before.rows, tenth)),
        Figure("  : files in the state directory", after.files, "", before.files, beside=_was(before.files, tenth)),
        Figure("  : what they take", after.disk, "MiB", before.disk * 1.5, beside=_was(before.disk, tenth)),
    ]


def _was(value: float, when: str) -> str:
    return f"{value:.5g} {when}"


async def _through(server: Server, state: Path, count: int) -> tuple[_Held, _Held, float]:
    """What is held after a tenth of `count` tasks and after all, and the seconds that they took.

    Looked at once no client is connected and all records are due, both times alike.
    """
    held, taken = [], 0.0
    for part in (count // 10, count - count // 10):
        begun = time.perf_counter()
        limits = httpx.Limits(max_connections=8)
        async with httpx.AsyncClient(base_url=server.url, limits=limits, timeout=60) as client:
            for done in range(0, part, BATCH):
                await asyncio.gather(*(_create(client) for _ in range(min(BATCH, part - done))))
                await _until_none_is_active(client)
                if done % (BATCH * 20) == 0:
                    print(f"{done + BATCH:,} of {part:,} tasks", file=sys.stderr, flush=True)
        taken += time.perf_counter() - begun
        await asyncio.sleep(KEPT_SECONDS + SETTLE_SECONDS)
        held.append(_look(state))
    return held[0], held[1], taken


async def _create(client: httpx.AsyncClient) -> None:
    (await client.post(API, json=TASK)).raise_for_status()


async def _until_none_is_active(client: httpx.AsyncClient) -> None:
    for state in ACTIVE:
        while (await client.get(API, params={"state": state, "page_size": 1})).json()["tasks"]:
            await asyncio.sleep(0.05)
    for state in ("EXECUTOR_ERROR", "SYSTEM_ERROR"):
        if (await client.get(API, params={"state": state, "page_size": 1})).json()["tasks"]:
            raise RuntimeError(f"tasks ended {state}")


def _look(state: Path) -> _Held:
    processes = _family(state)
    files = [one for one in state.rglob("*") if one.is_file()]
    with contextlib.closing(sqlite3.connect(next(state.glob("*.db")))) as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        rows = sum(database.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in tables)
    return _Held(
        memory=sum(_resident(pid) for pid in processes),
        descriptors=sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in processes),
        processes=len(processes),
        rows=rows,
        files=len(files),
        disk=sum(one.stat().st_size for one in files) / (1 << 20),
    )


def _family(state: Path) -> list[int]:
    """The server of the state directory, its keeper, and all below them."""
    ours = f"TESK_STATE_DIRECTORY={state}".encode()
    parents, found = {}, set()
    for one in Path("/proc").iterdir():
        if one.name.isdigit():
            with contextlib.suppress(OSError):
                parents[int(one.name)] = int((one / "stat").read_text().rpartition(")")[2].split()[1])
                if ours in (one / "environ").read_bytes().split(b"\0"):
                    found.add(int(one.name))
    while below := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= below
    return sorted(found)


def _resident(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)
