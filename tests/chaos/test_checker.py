"""The checker finds what it is there to find."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tesk.store import Change, Store, TaskLogBytes
from tesk.tes.states import State
from tests.chaos.checker import leftovers, wrong_files, wrong_histories, wrong_records
from tests.chaos.work import Kind, Work
from tests.images import load_busybox
from tests.store.tasks import new_task

WORK = Work({}, Kind(frozenset({"COMPLETE"}), (0,), "all well"), {"1": b"right", "2/in": b"too"})
GOOD: dict[str, Any] = {
    "logs": [{"exit_code": 0}],
    "end_time": "2026-01-01T00:00:00Z",
    "outputs": [{"url": "file:///x/outputs/1"}, {"url": "file:///x/outputs/2/in"}],
    "system_logs": ["all well"],
}


async def stored(place: Path, log: dict[str, Any], *, attempt: int = 1, state: State = State.COMPLETE) -> list[str]:
    """What is wrong with one task that ended so."""
    store = await Store.open(place)
    await store.create(new_task("t1"))
    for number in range(1, attempt):
        lost = json.dumps({"logs": [], "system_logs": [f"attempt {number} was lost: killed"]}).encode()
        await store.apply([Change("t1", number, State.RUNNING)])
        assert await store.retry("t1", number, TaskLogBytes(lost, None))
    await store.apply([Change("t1", attempt, state, TaskLogBytes(json.dumps(log).encode(), None))])
    await store.close()
    return wrong_records(place, {"t1": WORK})


async def test_a_right_record_passes_also_after_a_lost_attempt(tmp_path: Path) -> None:
    assert await stored(tmp_path / "one", GOOD) == []
    assert await stored(tmp_path / "two", GOOD, attempt=3) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"logs": [{"exit_code": 1}]}, "ended with (1,)"),
        ({"logs": [{"exit_code": 0}, {"exit_code": 0}]}, "ended with (0, 0)"),
        ({"system_logs": []}, "does not say"),
        ({"outputs": GOOD["outputs"][:1]}, "it lists ['1']"),
        ({"outputs": GOOD["outputs"] * 2}, "it lists"),
    ],
)
async def test_a_wrong_log_is_found(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    wrong = await stored(tmp_path / "db", {**GOOD, **change})
    assert len(wrong) == 1
    assert words in wrong[0]


async def test_a_wrong_end_and_a_missing_task_are_found(tmp_path: Path) -> None:
    assert await stored(tmp_path / "db", GOOD, state=State.RUNNING) == [
        "t1: it is RUNNING and not COMPLETE",
        "t1: it has no end in the store",
    ]
    assert wrong_records(tmp_path / "db", {"t2": WORK}) == [
        "t1 was never created",
        "t2 was created and is not there",
    ]


def test_wrong_files_are_found(tmp_path: Path) -> None:
    (tmp_path / "1").write_bytes(b"wrong")
    (tmp_path / ".2.part").touch()
    canceled = Work({}, WORK.kind, {"3": b"x"}, cancel_after=1.0)
    wrong = wrong_files(tmp_path, {"t1": WORK, "t3": canceled}, {"t1": "COMPLETE", "t3": "CANCELED"})
    assert wrong == ["t1: 1 holds something else", "t1: 2/in is not there", "nobody delivers .2.part"]
    assert wrong_files(tmp_path, {"t3": canceled}, {"t3": "COMPLETE"})[0] == "t3: 3 is not there"


@pytest.mark.parametrize("states", ["RUNNING COMPLETE", "QUEUED RUNNING QUEUED INITIALIZING CANCELING CANCELED"])
def test_good_histories_pass(states: str) -> None:
    assert wrong_histories({"t": states.split()}) == []


@pytest.mark.parametrize("states", ["COMPLETE RUNNING", "COMPLETE SYSTEM_ERROR", "CANCELING COMPLETE"])
def test_two_outcomes_are_found(states: str) -> None:
    assert wrong_histories({"t": states.split()}) == [f"t went {' → '.join(states.split())}"]


def test_leftovers_are_found(tmp_path: Path) -> None:
    state = tmp_path / "state"
    assert leftovers(tmp_path, state) == []
    (state / "attempts/t1-1").mkdir(parents=True)
    given = {"OF": str(tmp_path)}
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=given) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(b"\n")
            process.stdin.flush()
            assert process.stdout.readline() == b"\n"  # before its first word the kernel may not show its environment
            scratch, left = leftovers(tmp_path, state)
            assert scratch == f"scratch: {state}/attempts/t1-1"
            assert left.startswith(f"process {process.pid}: ")
        finally:
            process.kill()


def test_a_leftover_container_is_found(tmp_path: Path) -> None:
    image = load_busybox(tmp_path)
    name = f"tesk-left-{os.getpid()}"
    create = ["podman", "create", f"--name={name}", f"--label=tesk.state={tmp_path}", image, "true"]
    subprocess.run(create, check=True, capture_output=True)
    try:
        assert leftovers(tmp_path / "site", tmp_path) == [f"container: {name}"]
        assert leftovers(tmp_path / "site", tmp_path / "another") == []
    finally:
        subprocess.run(["podman", "rm", "-f", name], check=True, capture_output=True)
