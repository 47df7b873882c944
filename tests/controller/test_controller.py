"""How tasks go from QUEUED to their end, whatever the backend does."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from tests.controller.house import COMPLETE, PLAN, RUNNING, House, ToldBackend

from tesk.backends.base import AttemptKey
from tesk.plan.model import Resources
from tesk.store import NewTask, StoreError
from tesk.taskmaster.report import Report
from tesk.tes.states import State


async def test_a_task_goes_from_queued_to_its_end(house: House) -> None:
    await house.start()
    key = await house.create("t")
    await house.until(lambda: key in house.backend.held)
    house.backend.sink(key, RUNNING)
    await house.state("t", State.RUNNING)
    house.backend.sink(key, COMPLETE)
    task = await house.state("t", State.COMPLETE)
    assert task["logs"][0]["logs"][0]["stdout"] == "out"
    assert task["logs"][0]["system_logs"] == ["a note"]
    await house.until(lambda: house.backend.forgotten == [key])


async def test_tasks_created_while_nothing_ran_are_found_at_start(house: House) -> None:
    keys = [await house.create(f"t{number}") for number in range(3)]
    await house.start()
    await house.until(lambda: house.backend.offered == keys)


async def test_tasks_are_offered_oldest_first_as_room_is_freed(house: House) -> None:
    house.backend.room = 1
    await house.start()
    keys = [await house.create(f"t{number}") for number in range(200)]
    for number, key in enumerate(keys):
        await house.until(lambda wanted=number + 1: len(house.backend.offered) == wanted)
        assert house.backend.offered[-1] == key
        house.backend.sink(key, COMPLETE)
        house.backend.held.clear()
        house.backend.freed()


async def test_a_state_never_goes_back(house: House) -> None:
    await house.start()
    key = await house.create("t")
    await house.until(lambda: key in house.backend.held)
    house.backend.sink(key, COMPLETE)
    await house.state("t", State.COMPLETE)
    house.backend.sink(key, RUNNING)
    house.backend.sink(key, Report(State.SYSTEM_ERROR))
    other = await house.create("u")
    await house.until(lambda: other in house.backend.held)
    house.backend.sink(other, COMPLETE)
    await house.state("u", State.COMPLETE)
    task = await house.state("t", State.COMPLETE)
    assert task["logs"][0]["logs"][0]["exit_code"] == 0


async def test_a_lost_attempt_is_followed_by_a_new_one_with_its_own_log(house: House) -> None:
    await house.start(max_attempts=2)
    first = await house.create("t")
    await house.until(lambda: first in house.backend.held)
    house.backend.sink(first, Report(State.SYSTEM_ERROR, start_time="2026-01-01T00:00:00Z", lost="the node is gone"))
    second = AttemptKey("t", 2)
    await house.until(lambda: second in house.backend.held)
    house.backend.sink(second, COMPLETE)
    task = await house.state("t", State.COMPLETE)
    assert len(task["logs"]) == 2
    assert task["logs"][0]["system_logs"] == [
        "a note",
        "attempt 1 was lost: the node is gone; a new attempt was started",
    ]
    assert "system_logs" not in task["logs"][1]


async def test_the_last_attempt_that_is_lost_ends_the_task(house: House) -> None:
    await house.start(max_attempts=1)
    key = await house.create("t")
    await house.until(lambda: key in house.backend.held)
    house.backend.sink(key, Report(State.SYSTEM_ERROR, start_time="2026-01-01T00:00:00Z", lost="the node is gone"))
    task = await house.state("t", State.SYSTEM_ERROR)
    assert task["logs"][0]["system_logs"][-1] == "attempt 1 was lost: the node is gone; it was the last of 1 attempts"
    assert task["logs"][0]["end_time"]


@pytest.mark.parametrize(
    ("shown", "asked", "end"),
    [
        ("never", True, State.SYSTEM_ERROR),
        ("preemptible", False, State.SYSTEM_ERROR),
        ("preemptible", True, State.PREEMPTED),
        ("always", False, State.PREEMPTED),
    ],
)
async def test_a_preempted_task_ends_as_the_site_says(house: House, shown: str, asked: bool, end: State) -> None:
    await house.start(max_attempts=2, show_preempted=shown)
    plan = msgspec.structs.replace(PLAN, resources=Resources(preemptible=asked))
    await house.store.create(NewTask("t", None, "2026-01-01T00:00:00Z", b"{}", None, plan.to_json().encode()))
    for attempt in (1, 2):
        key = AttemptKey("t", attempt)
        await house.until(lambda key=key: key in house.backend.held)
        house.backend.sink(
            key, Report(State.PREEMPTED, start_time="2026-01-01T00:00:00Z", lost="the node was reclaimed")
        )
    task = await house.state("t", State.SYSTEM_ERROR, State.PREEMPTED)
    assert task["state"] == end
    assert [len(task["logs"]), task["logs"][1]["system_logs"][-1]] == [
        2,
        "attempt 2 was lost: the node was reclaimed; it was the last of 2 attempts",
    ]


async def test_after_a_restart_what_the_backend_does_not_hold_is_lost_and_its_log_kept(house: House) -> None:
    await house.start()
    key = await house.create("t")
    await house.until(lambda: key in house.backend.held)
    house.backend.sink(key, RUNNING)
    await house.state("t", State.RUNNING)
    await house.restart()
    second = AttemptKey("t", 2)
    await house.until(lambda: second in house.backend.held)
    task = await house.state("t", State.QUEUED)
    assert task["logs"][0]["start_time"] == "2026-01-01T00:00:00Z"
    assert "the server that ran it was stopped" in task["logs"][0]["system_logs"][-1]


async def test_after_a_restart_what_the_backend_still_holds_goes_on(house: House) -> None:
    await house.start()
    key = await house.create("t")
    await house.until(lambda: key in house.backend.held)
    house.backend.sink(key, RUNNING)
    await house.state("t", State.RUNNING)
    await house.restart(still_held=True)
    house.backend.sink(key, COMPLETE)
    task = await house.state("t", State.COMPLETE)
    assert len(task["logs"]) == 1
    assert task["logs"][0]["system_logs"] == ["a note"]


async def test_an_error_of_the_backend_is_not_an_absence(house: House) -> None:
    await house.start()
    key = await house.create("t")
    await house.until(lambda: key in house.backend.held)
    house.backend.sink(key, RUNNING)
    await house.state("t", State.RUNNING)
    assert house.controller is not None
    await house.controller.stop()
    house.backend = ToldBackend()
    house.backend.fails_to_list = True
    await house.start()
    await house.until(lambda: house.controller is not None and not house.controller.healthy)
    assert await house.store.state("t") is State.RUNNING
    house.backend.fails_to_list = False
    await house.until(lambda: AttemptKey("t", 2) in house.backend.held)
    await house.until(lambda: house.controller is not None and house.controller.healthy)


async def test_cancel_ends_when_the_backend_says_that_nothing_is_left(house: House) -> None:
    await house.start()
    key = await house.create("t")
    await house.until(lambda: key in house.backend.held)
    house.backend.sink(key, RUNNING)
    await house.store.cancel("t")
    await house.until(lambda: house.backend.cancelled == [key])
    assert await house.store.state("t") is State.CANCELING
    house.backend.sink(key, Report(State.CANCELED, start_time="2026-01-01T00:00:00Z"))
    await house.state("t", State.CANCELED)
    await house.until(lambda: not house.backend.held)


async def test_a_cancel_beats_an_end_that_was_not_stored_yet(house: House) -> None:
    await house.start()
    key = await house.create("t")
    await house.until(lambda: key in house.backend.held)
    await house.store.cancel("t")
    house.backend.sink(key, COMPLETE)
    task = await house.state("t", State.CANCELED)
    assert task["logs"][0]["logs"][0]["exit_code"] == 0
    await house.until(lambda: not house.backend.held)


async def test_a_task_canceled_while_it_waits_is_never_offered(house: House) -> None:
    house.backend.room = 0
    await house.start()
    await house.create("t")
    last = await house.create("u")
    await house.store.cancel("t")
    await house.state("t", State.CANCELED)
    house.backend.room = 10
    house.backend.freed()
    await house.until(lambda: house.backend.offered == [last])


async def test_a_cancel_from_before_a_restart_is_carried_out_and_keeps_the_log(house: House) -> None:
    await house.start()
    key = await house.create("t")
    await house.until(lambda: key in house.backend.held)
    house.backend.sink(key, RUNNING)
    await house.state("t", State.RUNNING)
    assert house.controller is not None
    await house.controller.stop()
    await house.store.cancel("t")
    house.backend = ToldBackend()
    await house.start()
    task = await house.state("t", State.CANCELED)
    assert task["logs"][0]["start_time"] == "2026-01-01T00:00:00Z"
    assert house.backend.offered == []


async def test_a_store_that_fails_loses_no_report(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    await house.start()
    key = await house.create("t")
    await house.until(lambda: key in house.backend.held)
    real = house.store.apply
    failures = iter([True, True, False])

    async def apply(changes: Any) -> list[bool]:
        if next(failures, False):
            raise StoreError("the database is away")
        return await real(changes)

    monkeypatch.setattr(house.store, "apply", apply)
    house.backend.sink(key, COMPLETE)
    task = await house.state("t", State.COMPLETE)
    assert task["logs"][0]["logs"][0]["stdout"] == "out"


async def test_a_plan_that_cannot_be_read_ends_the_task_and_not_the_queue(house: House) -> None:
    await house.store.create(NewTask("bad", None, "2026-01-01T00:00:00Z", b'{"executors":[]}', None, b"{}"))
    good = await house.create("good")
    await house.start()
    task = await house.state("bad", State.SYSTEM_ERROR)
    assert "plan cannot be read" in task["logs"][0]["system_logs"][0]
    await house.until(lambda: house.backend.offered == [good])


async def test_logs_come_from_the_backend_while_it_holds_the_attempt_then_from_the_store(house: House) -> None:
    await house.start()
    key = await house.create("t")
    await house.until(lambda: key in house.backend.held)
    assert house.controller is not None

    async def read(executor: int = 0) -> bytes:
        assert house.controller is not None
        return b"".join([one async for one in house.controller.logs("t", executor, "stdout", follow=False)])

    assert await read() == b"live"
    house.backend.sink(key, COMPLETE)
    await house.state("t", State.COMPLETE)
    await house.until(lambda: not house.backend.held)
    assert await read() == b"out"
    assert await read(7) == b""
