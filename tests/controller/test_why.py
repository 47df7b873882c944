"""Why a task does not run, in one sentence."""

from __future__ import annotations

import pytest
from tests.controller.house import COMPLETE, RUNNING, House, ToldBackend

from tesk.taskmaster.report import Report
from tesk.tes.states import State


async def why(house: House, task: str) -> str | None:
    assert house.controller is not None
    return await house.controller.why(task)


async def test_tasks_without_room_wait_behind_the_oldest(house: House) -> None:
    house.backend = ToldBackend(room=1)
    await house.start()
    keys = [await house.create(f"t{number}") for number in range(4)]
    await house.until(lambda: house.backend.offered == keys[:1])
    await house.until(lambda: "t1" in house.backend.tries)
    assert [await why(house, f"t{number}") for number in range(4)] == [
        "it is being started",
        "there is room for 1",
        "it waits behind 1 earlier task; the first of them: there is room for 1",
        "it waits behind 2 earlier tasks; the first of them: there is room for 1",
    ]


@pytest.mark.parametrize("report", [Report(State.QUEUED), Report(State.INITIALIZING, "t"), RUNNING])
async def test_what_was_taken_says_what_it_waits_for(house: House, report: Report) -> None:
    await house.start()
    key = await house.create("t")
    await house.until(lambda: house.backend.offered)
    house.backend.sink(key, report)
    await house.state("t", report.state)
    house.backend.waiting[key] = "no node has room"
    assert await why(house, "t") == "no node has room"


async def test_what_runs_has_ended_or_is_not_there_waits_for_nothing(house: House) -> None:
    await house.start()
    key = await house.create("t")
    await house.until(lambda: house.backend.offered)
    house.backend.sink(key, RUNNING)
    await house.state("t", State.RUNNING)
    assert await why(house, "t") is None
    house.backend.sink(key, COMPLETE)
    await house.state("t", State.COMPLETE)
    assert await why(house, "t") is None
    assert await why(house, "other") is None


async def test_a_cancel_waits_until_nothing_is_left(house: House) -> None:
    await house.start()
    await house.create("t")
    await house.until(lambda: house.backend.offered)
    await house.store.cancel("t")
    assert await why(house, "t") == "it is being canceled, and waits until nothing of it is left"


async def test_a_task_that_tesk_fails_with_says_so(house: House) -> None:
    house.backend.faults["t"] = RuntimeError("a bug")
    await house.start(first_pause=60.0)
    await house.create("t")
    await house.until(lambda: house.backend.tries)

    async def told() -> bool:
        return "an error of tesk itself" in (await why(house, "t") or "")

    await house.until(told)
