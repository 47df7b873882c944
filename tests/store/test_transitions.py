"""How a task's state may change: every way that is not listed here is refused."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping
from contextlib import closing

import pytest
from tests.store.tasks import log, new_task, shown

from tesk.store import ActiveTask, Change, Event, Store, TaskLogBytes, Unstorable
from tesk.store.database import database_at
from tesk.store.statements import Statements
from tesk.tes.states import TERMINAL, State
from tesk.tes.views import View

Q, I, R = State.QUEUED, State.INITIALIZING, State.RUNNING  # noqa: E741
ENDS = (State.COMPLETE, State.EXECUTOR_ERROR, State.SYSTEM_ERROR, State.PREEMPTED)
LEGAL = {
    (Q, I),
    (Q, R),
    (I, R),
    *itertools.product((Q, I, R), (*ENDS, State.CANCELING)),
    (State.CANCELING, State.CANCELED),
}
"""Within one attempt; QUEUED is entered by a new attempt alone."""


def force(place: str, states: Mapping[str, State]) -> None:
    """Set tasks' states behind the store's back, also those that TESK never gives."""
    database = database_at(place)
    with closing(database.connect(writing=True)) as connection, closing(connection.cursor()) as cursor:
        cursor.execute(database.begin)
        for id, state in states.items():
            cursor.execute(f"UPDATE tasks SET state = '{state.value}' WHERE id = '{id}'")
        cursor.execute("COMMIT")


async def words(store: Store, id: str) -> list[str]:
    """The word in each attempt's log."""
    return [one["metadata"]["word"] for one in (await shown(store, id)).get("logs", [])]


async def test_every_transition_that_is_not_legal_is_refused(store: Store, place: str) -> None:
    pairs = list(itertools.product(State, State))
    await asyncio.gather(*(store.create(new_task(f"t{number}")) for number in range(len(pairs))))
    force(place, {f"t{number}": before for number, (before, _) in enumerate(pairs)})
    answers = await store.apply([Change(f"t{number}", 1, after) for number, (_, after) in enumerate(pairs)])
    for number, (before, after) in enumerate(pairs):
        legal = (before, after) in LEGAL
        assert answers[number] is legal, (before, after)
        assert await store.state(f"t{number}") is (after if legal else before), (before, after)


async def test_a_refused_change_leaves_the_log_alone_too(store: Store, place: str) -> None:
    stays = {(state, state) for state in (Q, I, R, State.CANCELING)}
    on_the_way_out = {(State.CANCELING, state) for state in (Q, I, R)}
    pairs = list(itertools.product(State, State))
    await asyncio.gather(*(store.create(new_task(f"t{number}")) for number in range(len(pairs))))
    assert all(await store.apply([Change(f"t{number}", 1, None, log("old")) for number in range(len(pairs))]))
    force(place, {f"t{number}": before for number, (before, _) in enumerate(pairs)})
    answers = await store.apply([Change(f"t{number}", 1, after, log("new")) for number, (_, after) in enumerate(pairs)])
    for number, pair in enumerate(pairs):
        kept = pair in LEGAL or pair in stays or pair in on_the_way_out
        assert answers[number] is kept, pair
        assert await words(store, f"t{number}") == ["new" if kept else "old"], pair
        assert await store.state(f"t{number}") is (pair[1] if pair in LEGAL else pair[0]), pair


async def test_a_report_of_another_attempt_changes_nothing(store: Store) -> None:
    await store.create(new_task("t"))
    for attempt in (0, 2):
        assert await store.apply([Change("t", attempt, State.RUNNING, log("x")), Change("t", attempt)]) == [False] * 2
        assert not await store.retry("t", attempt, log("x"))
    assert await shown(store, "t", View.MINIMAL) == {"id": "t", "state": "QUEUED"}
    assert await words(store, "t") == []


async def test_a_report_of_an_unknown_task_changes_nothing(store: Store) -> None:
    assert await store.apply([Change("nobody", 1, State.RUNNING, log("x"))]) == [False]
    assert not await store.retry("nobody", 1, log("x"))
    assert await store.cancel("nobody") is None
    assert await store.counts() == {}


async def test_apply_answers_in_the_order_of_the_changes(store: Store) -> None:
    for id in ("c", "a", "b"):
        await store.create(new_task(id))
    await store.cancel("a")
    changes = [Change("c", 1, State.RUNNING), Change("a", 1, State.RUNNING), Change("b", 1, State.COMPLETE)]
    assert await store.apply(changes) == [True, False, True]
    assert await store.apply([]) == []


async def test_changes_of_one_task_are_applied_one_after_the_other(store: Store) -> None:
    await store.create(new_task("t"))
    changes = [
        Change("t", 1, State.INITIALIZING, log("first")),
        Change("t", 1, State.RUNNING, log("second")),
        Change("t", 1, State.COMPLETE, log("third")),
        Change("t", 1, State.RUNNING, log("late")),
    ]
    assert await store.apply(changes) == [True, True, True, False]
    assert await store.state("t") is State.COMPLETE
    assert await words(store, "t") == ["third"]


async def test_a_terminal_state_and_its_log_never_change(store: Store) -> None:
    for state in ENDS:
        await store.create(new_task(state))
        assert await store.apply([Change(state, 1, state, log("end"))]) == [True]
        for after in (None, *State):
            assert await store.apply([Change(state, 1, after, log("late"))]) == [False]
        assert not await store.retry(state, 1, log("late"))
        assert await store.cancel(state) is state
        assert await words(store, state) == ["end"]


async def test_why_a_task_waits_is_kept_while_it_is_queued_and_for_its_attempt_alone(store: Store) -> None:
    await store.create(new_task("t", notes=("a note",)))
    assert await store.apply([Change("t", 1, Q, log("quota"))]) == [True]
    assert await store.apply([Change("t", 1, Q, log("node"))]) == [True]
    assert (await shown(store, "t"))["state"] == "QUEUED"
    assert await words(store, "t") == ["node"]
    assert await store.retry("t", 1, log("lost"))
    assert await store.apply([Change("t", 1, Q, log("late")), Change("t", 2, Q, log("quota again"))]) == [False, True]
    assert await store.apply([Change("t", 2, R, log("running")), Change("t", 2, Q, log("late"))]) == [True, False]
    assert await words(store, "t") == ["lost", "running"]
    assert (await shown(store, "t"))["state"] == "RUNNING"


async def test_what_the_database_refuses_to_keep_is_told_from_a_database_that_is_away(store: Store) -> None:
    await store.create(new_task("t"))
    nothing = TaskLogBytes(None)  # type: ignore[arg-type]
    with pytest.raises(Unstorable, match="an error of tesk itself"):
        await store.apply([Change("t", 1, R, nothing)])
    assert await store.apply([Change("t", 1, R, log("running"))]) == [True]


async def test_cancel_sets_canceling_once(store: Store) -> None:
    heard: list[Event] = []
    await store.create(new_task("t"))
    store.on_change(heard.append)
    assert await store.cancel("t") is State.CANCELING
    assert await store.cancel("t") is State.CANCELING
    assert await store.apply([Change("t", 1, State.CANCELED, log("end"))]) == [True]
    assert await store.cancel("t") is State.CANCELED
    await asyncio.sleep(0)
    assert heard == [Event("t", State.CANCELING)]


async def test_a_lost_attempt_is_logged_and_the_next_is_queued(store: Store) -> None:
    await store.create(new_task("t"))
    assert await store.apply([Change("t", 1, State.RUNNING, log("running"))]) == [True]
    assert await store.retry("t", 1, log("lost"))
    assert await store.state("t") is State.QUEUED
    assert [(one.id, one.attempt) for one in await store.queued(9)] == [("t", 2)]
    assert not await store.retry("t", 1, log("again"))
    assert await store.apply([Change("t", 1, State.COMPLETE, log("late"))]) == [False]
    assert await store.apply([Change("t", 2, State.COMPLETE, log("second"))]) == [True]
    assert await words(store, "t") == ["lost", "second"]
    assert [one["system_logs"] for one in (await shown(store, "t"))["logs"]] == [["lost"], ["second"]]


async def test_only_a_task_that_waits_or_runs_is_tried_again(store: Store, place: str) -> None:
    for state in State:
        await store.create(new_task(state))
    force(place, {state: state for state in State})
    for state in State:
        again = state in (Q, I, R)
        assert await store.retry(state, 1, log("x")) is again, state
        assert await store.state(state) is (Q if again else state)


async def test_cancel_and_complete_at_once_exactly_one_wins(place: str) -> None:
    """Two servers' stores: one cancels while the other completes."""
    one, other = await Store.open(place, readers=1), await Store.open(place, readers=1)
    tasks = [f"t{number}" for number in range(60)]
    for id in tasks:
        await one.create(new_task(id))
    answers = await asyncio.gather(
        *itertools.chain.from_iterable(
            (one.cancel(id), other.apply([Change(id, 1, State.COMPLETE, log("done"))]))
            if number % 2
            else (other.cancel(id), one.apply([Change(id, 1, State.COMPLETE, log("done"))]))
            for number, id in enumerate(tasks)
        )
    )
    for number, id in enumerate(tasks):
        canceled, (completed,) = answers[2 * number], answers[2 * number + 1]
        state = await one.state(id)
        assert canceled is state
        assert state is (State.COMPLETE if completed else State.CANCELING)
        assert await words(other, id) == (["done"] if completed else [])
    await one.close()
    await other.close()


async def test_a_late_log_does_not_replace_the_last_one_of_another_server(store: Store, place: str) -> None:
    """The other server's transaction is open while ours begins to wait for it."""
    await store.create(new_task("t"))
    assert await store.apply([Change("t", 1, R, log("running"))]) == [True]
    database = database_at(place)
    statements = Statements(database.dialect)
    end = log("end")
    with closing(database.connect(writing=True)) as connection, closing(connection.cursor()) as cursor:
        cursor.execute(database.begin)
        statements.enter[State.COMPLETE].run(cursor, id="t", attempt=1, now=0)
        statements.log.run(cursor, id="t", attempt=1, log_basic=end.basic, log_full=end.full)
        late = [
            asyncio.ensure_future(store.apply([Change("t", 1, R, log("late"))])),
            asyncio.ensure_future(store.apply([Change("t", 1, None, log("late"))])),
            asyncio.ensure_future(store.retry("t", 1, log("late"))),
        ]
        canceling = asyncio.ensure_future(store.cancel("t"))
        await asyncio.wait([*late, canceling], timeout=0.3)
        assert not any(one.done() for one in (*late, canceling))
        cursor.execute("COMMIT")
    assert await asyncio.gather(*late) == [[False], [False], False]
    assert await canceling is State.COMPLETE
    assert await words(store, "t") == ["end"]


async def test_many_servers_in_each_others_way_lose_no_change(place: str) -> None:
    """Each server changes the same tasks, in another order, in large transactions."""
    stores = [await Store.open(place, readers=1) for _ in range(3)]
    tasks = [f"t{number}" for number in range(30)]
    for id in tasks:
        await stores[0].create(new_task(id))
    orders = [tasks, tasks[::-1], tasks[15:] + tasks[:15]]
    answers = await asyncio.gather(
        *(
            store.apply([Change(id, 1, State.COMPLETE, log(str(number)))])
            for number, store in enumerate(stores)
            for id in orders[number]
        )
    )
    assert sum(one for (one,) in answers) == len(tasks)
    for store in stores:
        assert await store.counts() == {State.COMPLETE: len(tasks)}
        await store.close()


async def test_active_lists_what_a_backend_should_hold(store: Store) -> None:
    for id in ("queued", "started", "running", "canceling", "done"):
        await store.create(new_task(id))
    await store.retry("running", 1, log("x"))
    await store.apply(
        [
            Change("started", 1, State.INITIALIZING),
            Change("running", 2, State.RUNNING),
            Change("done", 1, State.COMPLETE),
        ]
    )
    await store.cancel("canceling")
    assert await store.active() == [
        ActiveTask("started", State.INITIALIZING, 1),
        ActiveTask("running", State.RUNNING, 2),
        ActiveTask("canceling", State.CANCELING, 1),
    ]
    assert await store.counts() == dict.fromkeys(
        (State.QUEUED, State.INITIALIZING, State.RUNNING, State.CANCELING, State.COMPLETE), 1
    )


def test_the_table_above_never_leaves_a_terminal_state() -> None:
    assert not {before for before, _ in LEGAL} & TERMINAL
