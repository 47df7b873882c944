"""Reads the store's file, the disk and the machine by itself, and says what is not as it must be."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tests.chaos.work import Work

__all__ = ["leftovers", "wrong_files", "wrong_histories", "wrong_records"]

_ENDS = {"COMPLETE", "EXECUTOR_ERROR", "SYSTEM_ERROR", "CANCELED", "PREEMPTED"}
_FOLLOWS = {
    "QUEUED": {"INITIALIZING", "RUNNING", "CANCELING"} | _ENDS,
    "INITIALIZING": {"RUNNING", "QUEUED", "CANCELING"} | _ENDS,
    "RUNNING": {"QUEUED", "INITIALIZING", "CANCELING"} | _ENDS,
    "CANCELING": {"CANCELED"},
}
"""What a client may see after a state, some of the states between unseen; a new attempt is QUEUED again."""


def wrong_records(database: Path, tasks: Mapping[str, Work]) -> list[str]:
    """What the store's file holds: every task once, ended as it may, with a log for each attempt."""
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        found = {row[0]: row[1:] for row in connection.execute("SELECT id, seq, state, attempt, ended_at FROM tasks")}
        logs: dict[int, list[tuple[int, bytes]]] = {}
        for seq, attempt, basic, full in connection.execute("SELECT * FROM attempts ORDER BY seq, attempt"):
            logs.setdefault(seq, []).append((attempt, full or basic))
    wrong = [f"{one} was never created" for one in found.keys() - tasks.keys()]
    for id, work in tasks.items():
        if id not in found:
            wrong.append(f"{id} was created and is not there")
            continue
        seq, state, attempt, ended_at = found[id]
        wrong += [f"{id}: {one}" for one in _of_record(work, state, attempt, ended_at, logs.get(seq, []))]
    return wrong


def _of_record(
    work: Work, state: str, attempt: int, ended_at: int | None, logs: Sequence[tuple[int, bytes]]
) -> list[str]:
    wrong = []
    if state not in work.kind.states:
        wrong.append(f"it is {state} and not {' or '.join(sorted(work.kind.states))}")
    if ended_at is None:
        wrong.append("it has no end in the store")
    if work.cancel_after is not None and state == "CANCELED":
        return wrong  # in whatever attempt it was, or in none
    if [number for number, _ in logs] != list(range(1, attempt + 1)):
        wrong.append(f"it is in attempt {attempt} and has logs of {[number for number, _ in logs]}")
        return wrong
    for number, raw in logs[:-1]:
        said = "\n".join(json.loads(raw).get("system_logs", []))
        if f"attempt {number} was lost" not in said:
            wrong.append(f"attempt {number} does not say that it was lost: {said}")
    last = json.loads(logs[-1][1])
    codes = tuple(one["exit_code"] for one in last["logs"])
    if work.cancel_after is None and codes != work.kind.codes:
        wrong.append(f"its executors ended with {codes} and not with {work.kind.codes}")
    if work.kind.says not in "\n".join(last.get("system_logs", [])):
        wrong.append(f"its log does not say {work.kind.says!r}: {last.get('system_logs')}")
    if "end_time" not in last:
        wrong.append("its last attempt has no end_time")
    listed = sorted(one["url"].rpartition("/outputs/")[2] for one in last.get("outputs", []))
    if listed != sorted(work.files):
        wrong.append(f"it lists {listed} and delivers {sorted(work.files)}")
    return wrong


def wrong_files(outputs: Path, tasks: Mapping[str, Work], states: Mapping[str, str]) -> list[str]:
    """What was delivered: every file whole, and none that no task delivers."""
    there = {str(one.relative_to(outputs)) for one in outputs.rglob("*") if not one.is_dir()}
    wrong, known = [], set()
    for id, work in tasks.items():
        known |= work.files.keys()
        for name, data in work.files.items():
            if name in there:
                if (outputs / name).read_bytes() != data:
                    wrong.append(f"{id}: {name} holds something else")
            elif states[id] != "CANCELED":
                wrong.append(f"{id}: {name} is not there")
    return wrong + [f"nobody delivers {name}" for name in there - known]


def wrong_histories(seen: Mapping[str, Sequence[str]]) -> list[str]:
    """States that clients saw in an order in which they must not."""
    return [
        f"{id} went {' → '.join(states)}"
        for id, states in seen.items()
        if any(later not in _FOLLOWS.get(state, ()) for state, later in itertools.pairwise(states))
    ]


def leftovers(directory: Path, state: Path) -> list[str]:
    """Scratch, mounts, containers and processes of tasks, once no server runs in `directory`."""
    attempts = state / "attempts"
    left = [f"scratch: {one}" for one in attempts.iterdir()] if attempts.is_dir() else []
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    left += [f"mount: {one}" for one in mounts if f"{state}/" in one]
    left += [f"container: {one}" for one in _containers(state)]
    return left + [f"process {pid}: {command}" for pid, command in _processes(str(directory).encode())]


def _containers(state: Path) -> list[str]:
    if shutil.which("podman") is None:
        return []
    command = ["podman", "ps", "-a", "--format={{.Names}}", "--filter", f"label=tesk.state={state}"]
    return subprocess.run(command, capture_output=True, check=True, text=True).stdout.split()


def _processes(word: bytes) -> Iterable[tuple[int, str]]:
    """Every process but this one and those above it that has `word` in its arguments or its environment."""
    above = {os.getpid(), os.getppid()}
    for one in Path("/proc").iterdir():
        if one.name.isdigit() and int(one.name) not in above:
            with contextlib.suppress(OSError):
                arguments = (one / "cmdline").read_bytes()
                if word in arguments or word in (one / "environ").read_bytes():
                    yield int(one.name), arguments.replace(b"\0", b" ").decode(errors="replace")
