"""A task from its creation to its removal, as the floors above see it."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from datetime import UTC, datetime, timedelta

import pytest
from tests.store.tasks import CREATED, log, new_task, shown

from tesk.store import ActiveTask, Change, Event, NewTask, QueuedTask, Store, StoreError
from tesk.tes.states import State
from tesk.tes.views import View

EXECUTORS = [{"image": "i", "command": ["c"]}]


async def test_each_view_shows_its_part(store: Store) -> None:
    await store.create(new_task("t", name="n"))
    head = {"id": "t", "state": "QUEUED"}
    body = {"executors": EXECUTORS, "name": "n"}
    assert await shown(store, "t", View.MINIMAL) == head
    assert await shown(store, "t", View.BASIC) == {**head, **body, "inputs": [{"path": "/a"}]}
    assert await shown(store, "t", View.FULL) == {**head, **body, "inputs": [{"path": "/a", "content": "x"}]}
    await store.apply([Change("t", 1, State.RUNNING, log("w"))])
    basic = {"logs": [], "outputs": [], "metadata": {"word": "w"}}
    assert await shown(store, "t", View.MINIMAL) == {"id": "t", "state": "RUNNING"}
    assert (await shown(store, "t", View.BASIC))["logs"] == [basic]
    assert (await shown(store, "t", View.FULL))["logs"] == [{**basic, "system_logs": ["w"]}]


async def test_a_task_without_members_of_its_own_is_json_too(store: Store) -> None:
    await store.create(NewTask("t", None, CREATED, b"{}", None, b"{}"))
    for view in View:
        assert await shown(store, "t", view) == {"id": "t", "state": "QUEUED"}


async def test_an_unknown_id_is_none(store: Store) -> None:
    for view in View:
        assert await store.get("nobody", view) is None
    assert await store.state("nobody") is None
    assert await store.plan("nobody") is None
    assert await store.attempt_logs("nobody", 1) is None


async def test_an_id_is_never_used_twice(store: Store) -> None:
    await store.create(new_task("t", name="first", tags={"a": "b"}))
    with pytest.raises(StoreError, match="There is a task with the id t already"):
        await store.create(new_task("t", name="second", tags={"a": "b"}))
    assert (await shown(store, "t"))["name"] == "first"


@pytest.mark.parametrize("id", ["", 'quo"te', "new\nline", "ä", "a/b"])
async def test_an_id_that_json_would_escape_is_refused(store: Store, id: str) -> None:
    with pytest.raises(ValueError, match="a task's id consists of"):
        await store.create(new_task(id))


async def test_find_says_where_any_task_stands(store: Store) -> None:
    await store.create(new_task("t"))
    await store.retry("t", 1, log("lost"))
    await store.apply([Change("t", 2, State.COMPLETE)])
    assert await store.find("t") == ActiveTask("t", State.COMPLETE, 2)
    assert await store.find("nobody") is None


async def test_a_body_that_is_no_object_is_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="JSON object"):
        await store.create(NewTask("t", None, CREATED, b"[]", None, b"{}"))


async def test_notes_are_in_the_first_attempts_system_logs_at_once(store: Store) -> None:
    await store.create(new_task("t", notes=("one", "two")))
    await store.create(new_task("quiet"))
    assert (await shown(store, "t"))["logs"] == [{"logs": [], "outputs": [], "system_logs": ["one", "two"]}]
    assert (await shown(store, "t", View.BASIC))["logs"] == [{"logs": [], "outputs": []}]
    assert "logs" not in await shown(store, "quiet")


async def test_attempt_logs_are_the_full_log_of_one_attempt(store: Store) -> None:
    await store.create(new_task("t"))
    await store.retry("t", 1, log("lost"))
    assert await store.attempt_logs("t", 1) == log("lost").full
    assert await store.attempt_logs("t", 2) is None
    basic_alone = log("x").basic
    await store.apply([Change("t", 2, None, type(log("x"))(basic_alone))])
    assert await store.attempt_logs("t", 2) == basic_alone


async def test_queued_tasks_come_oldest_first_with_their_plan(store: Store) -> None:
    for number in range(5):
        await store.create(new_task(f"t{number}", plan=f'{{"n":{number}}}'.encode()))
    await store.apply([Change("t1", 1, State.INITIALIZING)])
    await store.cancel("t2")
    first = await store.queued(2)
    assert first == [QueuedTask(1, "t0", 1, b'{"n":0}'), QueuedTask(4, "t3", 1, b'{"n":3}')]
    assert [one.id for one in await store.queued(2, first[-1].seq)] == ["t4"]
    # A task that is tried again keeps its place.
    await store.retry("t1", 1, log("lost"))
    assert [(one.id, one.attempt) for one in await store.queued(9)] == [("t0", 1), ("t1", 2), ("t3", 1), ("t4", 1)]
    assert await store.plan("t1") == b'{"n":1}'


async def test_the_queued_tasks_before_one_are_counted_from_a_task_on(store: Store) -> None:
    for number in range(5):
        await store.create(new_task(f"t{number}"))
    await store.apply([Change("t2", 1, State.INITIALIZING)])
    assert [await store.queued_before("t4", seq, 9) for seq in (1, 2, 3, 5)] == [3, 2, 1, 0]
    assert await store.queued_before("t4", 1, 2) == 2, "no more are counted than asked for"
    assert await store.queued_before("none", 1, 9) == 0


async def test_listeners_hear_of_what_was_committed(store: Store) -> None:
    heard: list[Event] = []
    seen: list[State | None] = []
    asking: list[asyncio.Task[None]] = []

    async def ask(event: Event) -> None:
        seen.append(await store.state(event.id))

    def listen(event: Event) -> None:
        heard.append(event)
        asking.append(asyncio.ensure_future(ask(event)))

    async def listened() -> None:
        await asyncio.sleep(0)
        await asyncio.gather(*asking)

    store.on_change(listen)
    await store.create(new_task("t"))
    await listened()
    await store.apply([Change("t", 1, State.RUNNING)])
    await listened()
    assert await store.retry("t", 1, log("lost"))
    await listened()
    with pytest.raises(StoreError):
        await store.create(new_task("t"))
    assert not await store.retry("t", 1, log("refused"))
    await listened()
    await store.cancel("t")
    await listened()
    assert seen == [State.QUEUED, State.QUEUED, State.CANCELING]
    assert heard == [Event("t", state) for state in seen]


async def test_the_secret_outlives_the_server(place: str) -> None:
    store = await Store.open(place)
    secret = await store.secret()
    assert len(secret) == 32
    await store.close()
    store = await Store.open(place)
    assert await store.secret() == secret
    await store.close()


async def test_old_records_are_removed_whole_and_others_stay(store: Store) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    for number in range(5):
        await store.create(new_task(f"t{number}", tags={"a": "b"}, notes=("x",)))
    ended = [State.COMPLETE, State.EXECUTOR_ERROR, State.SYSTEM_ERROR]
    await store.apply([Change(f"t{number}", 1, state, log("x")) for number, state in enumerate(ended)])
    await store.cancel("t3")
    assert await store.remove_ended_before(before, 10) == 0
    after = datetime.now(UTC) + timedelta(seconds=1)
    assert await store.remove_ended_before(after, 2) == 2
    assert await store.remove_ended_before(after, 2) == 1
    assert await store.remove_ended_before(after, 2) == 0
    assert await store.get("t0") is None
    assert await store.attempt_logs("t0", 1) is None
    assert await store.counts() == {State.CANCELING: 1, State.QUEUED: 1}
    await store.create(new_task("t0"))
    assert "logs" not in await shown(store, "t0")
    assert [one.seq for one in await store.queued(9)] == [5, 6]


async def test_a_closed_store_says_so(place: str) -> None:
    store = await Store.open(place)
    writing = asyncio.ensure_future(store.create(new_task("t")))
    await asyncio.sleep(0)
    await store.close()
    await writing
    for call in (store.create(new_task("u")), store.get("t")):
        with pytest.raises(StoreError, match="closed"):
            await call
    await store.close()
    store = await Store.open(place)
    assert await store.state("t") is State.QUEUED
    await store.close()


async def test_the_type_of_an_output_is_shown_once_it_is_known(store: Store) -> None:
    body = {"outputs": [{"path": path, "url": "s3://b", "type": "FILE"} for path in ("/a/", "/b")]}
    full = {**body, "inputs": [{"path": "/i", "content": "x"}]}
    await store.create(
        dataclasses.replace(new_task("t"), basic=json.dumps(body).encode(), full=json.dumps(full).encode())
    )
    assert await store.apply([Change("t", 1, State.COMPLETE, log("x"), directories=("/a",))]) == [True]
    for view in (View.BASIC, View.FULL):
        task = await shown(store, "t", view)
        assert [one["type"] for one in task["outputs"]] == ["DIRECTORY", "FILE"]
        assert ("inputs" in task) is (view is View.FULL)
    # too late: the task has ended
    assert await store.apply([Change("t", 1, State.COMPLETE, None, directories=("/b",))]) == [False]
    assert (await shown(store, "t"))["outputs"][1]["type"] == "FILE"
