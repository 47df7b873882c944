"""A task whose executor fails is tried again as often as it asks for, each time in an attempt of its own."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest
from tests.controller.house import COMPLETE, PLAN, RUNNING, House

from tesk.backends.base import AttemptKey
from tesk.controller.retries import Retries
from tesk.plan.model import ExecutorPlan, Plan
from tesk.store import NewTask, StoreError
from tesk.taskmaster.report import ExecutorEnd, Report
from tesk.tes.states import State

START, END = "2026-01-01T00:00:00Z", "2026-01-01T00:00:02Z"
FAILED = Report(
    State.EXECUTOR_ERROR,
    START,
    END,
    (ExecutorEnd("a", "b", 3, "tried", ""),),
    system_logs=("executor 0 ended with exit code 3",),
)
LOST = Report(State.SYSTEM_ERROR, START, lost="the node is gone")


def asking(retries: int) -> Plan:
    return msgspec.structs.replace(PLAN, parameters={"executor_retries": str(retries)})


async def run(house: House, plan: Plan, *reports: Report) -> dict[str, Any]:
    """A task whose attempts end as `reports` say, one after the other; the task after the last of them."""
    await house.create("t", plan)
    for number, report in enumerate(reports, 1):
        key = AttemptKey("t", number)
        await house.until(lambda key=key: key in house.backend.held)
        house.backend.sink(key, report)
    return await house.state("t", State.COMPLETE, State.EXECUTOR_ERROR, State.SYSTEM_ERROR)


def said(task: dict[str, Any]) -> list[str]:
    """The last sentence of each attempt."""
    return [(one.get("system_logs") or [""])[-1] for one in task["logs"]]


async def test_a_failed_executor_is_tried_again_in_an_attempt_of_its_own(house: House) -> None:
    await house.start(max_attempts=1)
    task = await run(house, asking(2), FAILED, COMPLETE)
    assert task["state"] == "COMPLETE"
    assert [one["logs"][0]["exit_code"] for one in task["logs"]] == [3, 0]
    assert task["logs"][0]["system_logs"] == [
        "a note",
        "executor 0 ended with exit code 3",
        "attempt 1 failed; a new attempt was started",
    ]
    assert task["logs"][0]["end_time"] == END
    assert "system_logs" not in task["logs"][1]
    await house.until(lambda: house.backend.forgotten == [AttemptKey("t", 1), AttemptKey("t", 2)])


async def test_retries_have_an_end(house: House) -> None:
    await house.start(max_attempts=1)
    task = await run(house, asking(2), FAILED, FAILED, FAILED)
    assert task["state"] == "EXECUTOR_ERROR"
    assert said(task) == [
        "attempt 1 failed; a new attempt was started",
        "attempt 2 failed; a new attempt was started",
        "attempt 3 failed; it was the last of 3 attempts",
    ]


@pytest.mark.parametrize("plan", [PLAN, asking(0)])
async def test_nothing_is_tried_again_that_did_not_ask_for_it(house: House, plan: Plan) -> None:
    await house.start(max_attempts=5)
    task = await run(house, plan, FAILED)
    assert task["state"] == "EXECUTOR_ERROR"
    assert said(task) == ["executor 0 ended with exit code 3"]


async def test_only_a_failed_executor_is_tried_again(house: House) -> None:
    await house.start(max_attempts=5)
    task = await run(house, asking(2), Report(State.SYSTEM_ERROR, START, END, system_logs=("an input is missing",)))
    assert task["state"] == "SYSTEM_ERROR"
    assert said(task) == ["an input is missing"]


async def test_lost_attempts_use_up_no_retries(house: House) -> None:
    await house.start(max_attempts=3)
    task = await run(house, asking(1), LOST, LOST, FAILED, FAILED)
    assert task["state"] == "EXECUTOR_ERROR"
    assert said(task)[-1] == "attempt 4 failed; it was the last of 4 attempts"


async def test_retries_use_up_none_of_the_attempts_at_what_is_lost(house: House) -> None:
    await house.start(max_attempts=2)
    task = await run(house, asking(1), FAILED, LOST, LOST)
    assert task["state"] == "SYSTEM_ERROR"
    assert said(task)[1:] == [
        "attempt 2 was lost: the node is gone; a new attempt was started",
        "attempt 3 was lost: the node is gone; it was the last of 3 attempts",
    ]


async def test_attempts_that_are_lost_after_their_executor_failed_have_an_end_too(house: House) -> None:
    await house.start(max_attempts=2)
    late = Report(State.SYSTEM_ERROR, START, executors=FAILED.executors, lost="the node is gone")
    task = await run(house, asking(1), late, late, late)
    assert task["state"] == "SYSTEM_ERROR"


async def test_a_cancel_before_the_failure_was_stored_beats_the_retry(house: House) -> None:
    await house.start()
    key = await house.create("t", asking(2))
    await house.until(lambda: key in house.backend.held)
    await house.store.cancel("t")
    house.backend.sink(key, FAILED)
    task = await house.state("t", State.CANCELED)
    assert [one["logs"][0]["exit_code"] for one in task["logs"]] == [3]
    assert said(task) == ["attempt 1 failed"]
    await house.until(lambda: not house.backend.held)
    assert house.backend.offered == [key]


async def test_a_cancel_between_two_attempts_starts_none(house: House) -> None:
    house.backend.room = 1
    await house.start()
    key = await house.create("t", asking(2))
    await house.until(lambda: key in house.backend.held)
    house.backend.room = 0
    house.backend.sink(key, FAILED)
    await house.state("t", State.QUEUED)
    await house.until(lambda: not house.backend.held)
    await house.store.cancel("t")
    task = await house.state("t", State.CANCELED)
    house.backend.room = 1
    house.backend.freed()
    last = await house.create("last")
    await house.until(lambda: last in house.backend.held)
    assert house.backend.offered == [key, last]
    assert said(task)[0] == "attempt 1 failed; a new attempt was started"


async def test_an_attempt_that_was_canceled_is_not_tried_again(house: House) -> None:
    await house.start()
    key = await house.create("t", asking(2))
    await house.until(lambda: key in house.backend.held)
    house.backend.sink(key, RUNNING)
    await house.store.cancel("t")
    await house.until(lambda: house.backend.cancelled == [key])
    house.backend.sink(key, Report(State.CANCELED, START, END, (ExecutorEnd("a", "b", 143),)))
    task = await house.state("t", State.CANCELED)
    assert len(task["logs"]) == 1
    assert house.backend.offered == [key]


async def test_after_a_restart_the_retries_that_were_used_are_still_counted(house: House) -> None:
    await house.start()
    plan = asking(1)
    first, second = AttemptKey("t", 1), AttemptKey("t", 2)
    await house.create("t", plan)
    await house.until(lambda: first in house.backend.held)
    house.backend.sink(first, FAILED)
    await house.until(lambda: second in house.backend.held)
    house.backend.sink(second, RUNNING)
    await house.state("t", State.RUNNING)
    await house.restart(still_held=True)
    house.backend.sink(first, FAILED)  # a backend that still has it tells it again
    house.backend.sink(second, FAILED)
    task = await house.state("t", State.EXECUTOR_ERROR)
    assert [len(one["logs"]) for one in task["logs"]] == [1, 1]
    assert house.backend.offered == []


async def test_a_store_that_fails_loses_no_retry(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    await house.start()
    key = await house.create("t", asking(1))
    await house.until(lambda: key in house.backend.held)
    real = house.store.retry
    failures = iter([True, True])

    async def retry(*args: Any) -> bool:
        if next(failures, False):
            raise StoreError("the database is away")
        return await real(*args)

    monkeypatch.setattr(house.store, "retry", retry)
    house.backend.sink(key, FAILED)
    await house.until(lambda: AttemptKey("t", 2) in house.backend.held)


async def test_outputs_that_turned_out_to_be_directories_are_shown_after_the_last_failure(house: House) -> None:
    await house.start()
    shown = b'{"executors":[],"outputs":[{"path":"/out","url":"s3://b/out","type":"FILE"}]}'
    await house.store.create(NewTask("t", None, START, shown, None, asking(1).to_json().encode()))
    for number in (1, 2):
        key = AttemptKey("t", number)
        await house.until(lambda key=key: key in house.backend.held)
        report = Report(State.EXECUTOR_ERROR, START, END, FAILED.executors, directories=("/out",))
        house.backend.sink(key, report)
    task = await house.state("t", State.EXECUTOR_ERROR)
    assert task["outputs"][0]["type"] == "DIRECTORY"


async def test_who_follows_a_stream_follows_it_through_the_retries(house: House) -> None:
    await house.start()
    first, second = await house.create("t", asking(1)), AttemptKey("t", 2)
    await house.until(lambda: first in house.backend.held)
    assert house.controller is not None
    pieces: list[bytes] = []

    async def follow() -> None:
        assert house.controller is not None
        pieces.extend([one async for one in house.controller.logs("t", 0, "stdout", follow=True)])

    house.backend.sink(first, Report(State.RUNNING, START, executors=FAILED.executors))
    await house.state("t", State.RUNNING)
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        group.create_task(follow())
        await asyncio.sleep(0)
        house.backend.sink(first, FAILED)
        await house.until(lambda: second in house.backend.held)
        house.backend.sink(second, COMPLETE)
    assert pieces == [b"live", b"live"]


@pytest.mark.parametrize(
    ("exit_codes", "failed"),
    [([], False), ([0], False), ([3], False), ([3, 0], False), ([3, 4], True), ([0, 1], True), ([0, 0, 137], True)],
)
def test_an_executor_whose_errors_are_ignored_fails_no_attempt(exit_codes: list[int], failed: bool) -> None:
    executors = (ExecutorPlan("i", ("a",), ignore_error=True), ExecutorPlan("i", ("b",)), ExecutorPlan("i", ("c",)))
    retries = Retries.of(Plan(executors, parameters={"executor_retries": "1"}))
    assert retries.failed(exit_codes) is failed
    log = {"logs": [{"exit_code": one} for one in exit_codes], "outputs": []}
    assert retries.failed_in(json.dumps(log).encode()) is failed
    assert not retries.failed_in(None)
