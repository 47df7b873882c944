"""An error of tesk itself with one task ends that task, or leaves it to wait; all others go on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from tests.controller.house import COMPLETE, RUNNING, House, ToldBackend

from tesk.backends.base import AttemptKey, BackendAway
from tesk.controller.later import Later
from tesk.plan.model import Plan
from tesk.store import Change, NewTask, StoreError, Unstorable
from tesk.taskmaster.report import Report
from tesk.tes.states import State

QUICK = 0.02


def refuse(
    house: House, monkeypatch: pytest.MonkeyPatch, wrong: Callable[[Change], bool], error: Exception
) -> list[Any]:
    """Let the store raise `error` for every batch with a change that is `wrong`; the batches it was asked for."""
    real = house.store.apply
    batches: list[Any] = []

    async def apply(changes: Sequence[Change]) -> list[bool]:
        batches.append([one.id for one in changes])
        if any(wrong(one) for one in changes):
            raise error
        return await real(changes)

    monkeypatch.setattr(house.store, "apply", apply)
    return batches


async def run_all(house: House, names: Sequence[str]) -> list[AttemptKey]:
    keys = [await house.create(name) for name in names]
    await house.until(lambda: set(keys) <= set(house.backend.held))
    return keys


@pytest.mark.parametrize("error", [RuntimeError("a bug"), Unstorable("The database refuses it.")])
async def test_a_change_that_cannot_be_stored_ends_its_task_and_no_other(
    house: House, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    await house.start()
    keys = await run_all(house, [f"t{number}" for number in range(64)])
    batches = refuse(house, monkeypatch, lambda one: one.id == "t41" and one.state is State.COMPLETE, error)
    for key in keys:
        house.backend.sink(key, COMPLETE)
    for key in keys:
        if key.task != "t41":
            await house.state(key.task, State.COMPLETE)
    task = await house.state("t41", State.SYSTEM_ERROR)
    assert task["logs"][0]["system_logs"] == [f"an error of tesk itself: {error!r}"]
    assert task["logs"][0]["end_time"]
    await house.until(lambda: not house.backend.held)
    assert len(batches) < 20  # by halves, not one by one
    assert house.controller is not None
    assert house.controller.healthy


async def test_a_running_attempt_whose_report_cannot_be_stored_is_ended_in_the_backend(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.start()
    bad, good = await run_all(house, ["bad", "good"])
    refuse(house, monkeypatch, lambda one: one.id == "bad" and one.state is State.RUNNING, RuntimeError("a bug"))
    house.backend.sink(bad, RUNNING)
    house.backend.sink(good, RUNNING)
    await house.state("good", State.RUNNING)
    await house.state("bad", State.SYSTEM_ERROR)
    await house.until(lambda: house.backend.cancelled == [bad])
    house.backend.sink(bad, Report(State.CANCELED, start_time="2026-01-01T00:00:00Z"))
    await house.until(lambda: list(house.backend.held) == [good])
    assert await house.store.state("bad") is State.SYSTEM_ERROR


async def test_what_cannot_be_stored_at_all_waits_longer_each_time_and_then_is_stored(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.start(first_pause=QUICK)
    bad, good = await run_all(house, ["bad", "good"])
    broken = True
    batches = refuse(house, monkeypatch, lambda one: broken and one.id == "bad", RuntimeError("a bug"))
    house.backend.sink(bad, COMPLETE)
    house.backend.sink(good, COMPLETE)
    await house.state("good", State.COMPLETE)
    await asyncio.sleep(QUICK * 40)
    tries = len([one for one in batches if one == ["bad"]])
    assert 4 <= tries <= 20  # two for each of at most six pauses of 1, 2, 4, …, and the first
    later = await house.create("later")
    await house.until(lambda: later in house.backend.held)
    assert await house.store.state("bad") is State.QUEUED
    broken = False
    task = await house.state("bad", State.COMPLETE)
    assert task["logs"][0]["logs"][0]["stdout"] == "out"
    await house.until(lambda: bad not in house.backend.held)


async def test_a_store_that_is_away_ends_no_task(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    await house.start()
    keys = await run_all(house, ["a", "b"])
    broken = True
    refuse(house, monkeypatch, lambda one: broken, StoreError("the database is away"))
    for key in keys:
        house.backend.sink(key, COMPLETE)
    assert house.controller is not None
    await house.until(lambda: house.controller is not None and not house.controller.healthy)
    broken = False
    for key in keys:
        await house.state(key.task, State.COMPLETE)


async def test_an_error_in_a_new_attempt_ends_its_task_alone(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    await house.start()
    bad, good = await run_all(house, ["bad", "good"])
    real = house.store.retry

    async def retry(id: str, *rest: Any) -> bool:
        if id == "bad":
            raise RuntimeError("a bug")
        return await real(id, *rest)

    monkeypatch.setattr(house.store, "retry", retry)
    for key in (bad, good):
        house.backend.sink(key, Report(State.SYSTEM_ERROR, start_time="2026-01-01T00:00:00Z", lost="it is gone"))
    await house.until(lambda: AttemptKey("good", 2) in house.backend.held)
    task = await house.state("bad", State.SYSTEM_ERROR)
    assert "an error of tesk itself: RuntimeError('a bug')" in task["logs"][0]["system_logs"]


async def test_a_task_that_the_backend_fails_to_take_does_not_stop_the_queue(house: House) -> None:
    house.backend.faults = {f"bad{number}": RuntimeError("a bug") for number in range(5)}
    for name in house.backend.faults:
        await house.create(name)
    good = [await house.create(f"good{number}") for number in range(5)]
    await house.start(first_pause=QUICK)
    await house.until(lambda: house.backend.offered == good)
    house.backend.faults = {}
    await house.until(lambda: len(house.backend.held) == 10)


async def test_a_task_that_the_backend_never_takes_ends_after_eight_tries(house: House) -> None:
    house.backend.faults = {"bad": RuntimeError("a bug")}
    await house.create("bad")
    await house.start(first_pause=QUICK / 10)
    task = await house.state("bad", State.SYSTEM_ERROR)
    assert task["logs"][0]["system_logs"] == ["an error of tesk itself: RuntimeError('a bug')"]
    assert house.backend.tries == ["bad"] * 8
    house.backend.faults = {}
    other = await house.create("other")
    await house.until(lambda: other in house.backend.held)
    assert house.backend.tries == ["bad"] * 8 + ["other"]


async def test_a_backend_that_fails_to_take_any_is_not_asked_for_the_whole_queue(house: House) -> None:
    names = [f"t{number}" for number in range(200)]
    house.backend.faults = dict.fromkeys(names, RuntimeError("a bug"))
    for name in names:
        await house.create(name)
    await house.start(first_pause=60.0)
    await asyncio.sleep(0.5)
    assert house.backend.tries == names[:3]


async def test_a_backend_that_is_away_ends_no_task_and_keeps_the_order(house: House) -> None:
    house.backend.faults = {"a": BackendAway("the cluster does not answer")}
    keys = [await house.create(name) for name in ("a", "b")]
    await house.start()
    await house.until(lambda: len(house.backend.tries) >= 3)
    assert house.controller is not None
    assert not house.controller.healthy
    assert set(house.backend.tries) == {"a"}
    house.backend.faults = {}
    await house.until(lambda: house.backend.offered == keys)


async def test_a_task_canceled_while_it_waits_apart_is_never_offered_again(house: House) -> None:
    house.backend.faults = {"bad": RuntimeError("a bug")}
    await house.create("bad")
    await house.start(first_pause=0.3)
    await house.until(lambda: house.backend.tries == ["bad"])
    house.backend.faults = {}
    await house.store.cancel("bad")
    await house.state("bad", State.CANCELED)
    await asyncio.sleep(0.5)
    assert house.backend.tries == ["bad"]


async def test_a_cancel_that_fails_is_tried_again_and_holds_up_no_other(house: House) -> None:
    await house.start(full_pass=0.3)
    bad, good = await run_all(house, ["bad", "good"])
    house.backend.faults = {"bad": RuntimeError("a bug")}
    await house.store.cancel("bad")
    await house.store.cancel("good")
    await house.until(lambda: good in house.backend.cancelled)
    assert await house.store.state("bad") is State.CANCELING
    house.backend.faults = {}
    await house.until(lambda: bad in house.backend.cancelled)


async def test_a_stored_plan_that_cannot_be_read_does_not_hold_up_a_restart(house: House) -> None:
    await house.store.create(NewTask("bad", None, "2026-01-01T00:00:00Z", b'{"executors":[]}', None, b"{}"))
    await house.store.apply([Change("bad", 1, State.RUNNING)])
    good = await house.create("good")
    house.backend.held = {AttemptKey("bad", 1): None}  # type: ignore[dict-item]
    await house.start()
    await house.until(lambda: good in house.backend.held)
    house.backend.sink(AttemptKey("bad", 1), COMPLETE)
    await house.state("bad", State.COMPLETE)


async def test_a_report_on_an_attempt_that_has_ended_leaves_nothing_behind(house: House) -> None:
    await house.start()
    (key,) = await run_all(house, ["t"])
    house.backend.sink(key, COMPLETE)
    await house.state("t", State.COMPLETE)
    await house.until(lambda: house.backend.forgotten == [key])
    house.backend.held[key] = None  # type: ignore[assignment]
    house.backend.sink(key, RUNNING)
    await house.until(lambda: house.backend.cancelled == [key])
    assert house.controller is not None
    assert not house.controller._known


async def test_what_neither_store_nor_backend_has_is_not_remembered(house: House) -> None:
    await house.start(full_pass=0.2)
    keys = await run_all(house, [f"t{number}" for number in range(20)])
    for key in keys[:10]:
        await house.store.apply([Change(key.task, 1, State.COMPLETE)])  # by another server
    for key in keys[:10]:
        del house.backend.held[key]
    assert house.controller is not None
    known = house.controller._known
    await house.until(lambda: set(known) == set(keys[10:]))


async def test_an_attempt_that_vanished_before_it_was_started_is_offered_again(house: House) -> None:
    await house.start(full_pass=0.2)
    (key,) = await run_all(house, ["t"])
    house.backend.held.clear()
    await house.until(lambda: house.backend.offered == [key, key])


async def test_a_plan_is_read_once_while_there_is_no_room(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    read = 0
    real = Plan.from_json

    def from_json(text: str | bytes) -> Plan:
        nonlocal read
        read += 1
        return real(text)

    monkeypatch.setattr(Plan, "from_json", from_json)
    house.backend.room = 0
    await house.create("t")
    await house.start()
    for tries in range(1, 10):
        await house.until(lambda tries=tries: len(house.backend.tries) >= tries)
        house.backend.freed()
    assert read == 1


async def test_why_an_attempt_waits_is_shown_while_its_task_is_queued(house: House) -> None:
    await house.start()
    (key,) = await run_all(house, ["t"])
    house.backend.sink(key, Report(State.QUEUED, system_logs=("waits for quota",)))

    async def says(*sentences: str) -> bool:
        task = await house.state("t", State.QUEUED)
        return [one.get("system_logs") for one in task.get("logs", [])] == [list(sentences)]

    await house.until(lambda: says("a note", "waits for quota"))
    house.backend.sink(key, Report(State.QUEUED, system_logs=("waits for a node",)))
    await house.until(lambda: says("a note", "waits for a node"))
    house.backend.sink(key, RUNNING)
    task = await house.state("t", State.RUNNING)
    assert task["logs"][0]["system_logs"] == ["a note"]
    house.backend.sink(key, Report(State.QUEUED, system_logs=("late",)))
    (other,) = await run_all(house, ["other"])
    house.backend.sink(other, RUNNING)
    await house.state("other", State.RUNNING)
    assert (await house.state("t", State.RUNNING))["logs"] == task["logs"]


async def test_why_an_attempt_waits_is_shown_after_a_restart_too(house: House) -> None:
    await house.start()
    (key,) = await run_all(house, ["t"])
    held = house.backend.held
    assert house.controller is not None
    await house.controller.stop()
    house.backend = ToldBackend(room=0)
    house.backend.held = held
    await house.start()
    house.backend.sink(key, Report(State.QUEUED, system_logs=("waits for quota",)))

    async def said() -> bool:
        return (await house.state("t", State.QUEUED)).get("logs", [{}])[0].get("system_logs") == [
            "a note",
            "waits for quota",
        ]

    await house.until(said)


def test_pauses_grow_to_a_limit_and_end_with_success() -> None:
    later, key = Later(1.0), AttemptKey("t", 1)
    clock, pauses = 0.0, []
    for tries in range(1, 40):
        assert later.put(key, clock, COMPLETE) == (tries, later.pause(tries - 1))
        pause = later.seconds(clock)
        assert pause is not None
        pauses.append(pause)
        assert later.waits(key, clock + pause - 0.01)
        assert later.reports_due(clock + pause - 0.01) == {}
        clock += pause
        assert later.reports_due(clock) == {key: COMPLETE}
        assert later.seconds(clock) is None
    assert pauses[:7] == [1, 2, 4, 8, 16, 32, 60]
    assert set(pauses[7:]) == {60}
    later.drop(key)
    assert len(later) == 0


def test_of_two_reports_that_wait_the_newer_one_is_kept() -> None:
    later, key = Later(1.0), AttemptKey("t", 1)
    later.put(key, 0.0, RUNNING)
    later.renew(key, COMPLETE)
    assert later.reports_due(1.0) == {key: COMPLETE}
