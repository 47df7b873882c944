"""Group commit, durability, and databases that are locked, restarted or gone."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest
from tests.postgres import PostgresServer
from tests.store.tasks import all_ids, log, new_task, shown

from tesk.store import Change, Query, Store, StoreError
from tesk.store import database as database_module
from tesk.store.database import Cursor
from tesk.tes.states import State


async def test_a_failing_write_does_no_harm_to_its_neighbours(store: Store) -> None:
    """All are under way at once, so they share transactions; every third has an id that is taken."""
    await store.create(new_task("taken"))
    names = [f"t{number}" if number % 3 else "taken" for number in range(90)]
    answers = await asyncio.gather(
        *(store.create(new_task(id, tags={"a": "b"}, notes=("n",))) for id in names), return_exceptions=True
    )
    for id, answer in zip(names, answers, strict=True):
        assert isinstance(answer, StoreError) if id == "taken" else answer == id
    assert sorted(await all_ids(store, Query(page_size=7))) == sorted({*names})
    assert sorted(await all_ids(store, Query(tags=(("a", "b"),)))) == sorted({*names} - {"taken"})


@pytest.mark.parametrize("others", [20, 0])
async def test_a_connection_that_dies_in_the_middle_of_a_group_costs_nobody_a_write(
    postgresql: PostgresServer, others: int
) -> None:
    store = await Store.open(postgresql.new_database())
    died: list[int] = []

    def die_once(cursor: Cursor) -> None:
        if not died:
            cursor.execute("SELECT pg_backend_pid()")
            died.append(cursor.fetchone()[0])
            cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    writes = [store.create(new_task(f"t{number}")) for number in range(others)]
    writes.insert(others // 2, store._workers.write(die_once))  # type: ignore[arg-type]
    await asyncio.gather(*writes)
    assert died
    assert await store.counts() == ({State.QUEUED: others} if others else {})
    await store.close()


async def test_writes_of_one_caller_are_kept_in_its_order(store: Store) -> None:
    await store.create(new_task("t"))
    words = [str(number) for number in range(200)]
    await asyncio.gather(*(store.apply([Change("t", 1, State.RUNNING, log(word))]) for word in words))
    assert (await shown(store, "t"))["logs"][0]["metadata"] == {"word": "199"}


async def test_a_caller_that_gave_up_does_not_stop_the_others(store: Store) -> None:
    gone = asyncio.ensure_future(store.create(new_task("gone")))
    stays = asyncio.ensure_future(store.create(new_task("stays")))
    await asyncio.sleep(0)
    gone.cancel()
    await stays
    with pytest.raises(asyncio.CancelledError):
        await gone
    # Its write was on the way already: giving up takes nothing back.
    assert await store.state("gone") is State.QUEUED


WRITER = """
import asyncio, sys
from tesk.store import Store
from tests.store.tasks import new_task

async def one(store, lane):
    for number in range(100_000):
        await store.create(new_task(f"{lane}-{number}"))
        print(f"{lane}-{number}", flush=True)

async def main():
    store = await Store.open(sys.argv[1])
    await asyncio.gather(*(one(store, lane) for lane in range(8)))

asyncio.run(main())
"""


async def test_what_was_reported_outlives_a_killed_server(place: str) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    child = subprocess.Popen([sys.executable, "-c", WRITER, place], stdout=subprocess.PIPE, text=True, env=environment)
    assert child.stdout is not None
    with child, child.stdout as output:
        reported = [output.readline().strip() for _ in range(400)]
        child.send_signal(signal.SIGKILL)
        # The last line may be cut off in the middle.
        reported += [line.strip() for line in output if line.endswith("\n")]
    assert child.returncode == -signal.SIGKILL
    assert all(reported)
    store = await Store.open(place)
    kept = set(await all_ids(store, Query(page_size=2047)))
    assert not set(reported) - kept
    for id in reported[-8:]:
        assert (await shown(store, id))["executors"]
        assert await store.plan(id) == b"{}"
    await store.create(new_task("after"))
    await store.close()


async def test_two_servers_on_one_database_see_each_others_tasks(place: str) -> None:
    one, other = await Store.open(place), await Store.open(place)
    await asyncio.gather(
        *(
            store.create(new_task(f"{name}{number}"))
            for number in range(40)
            for name, store in (("a", one), ("b", other))
        )
    )
    assert await one.counts() == await other.counts() == {State.QUEUED: 80}
    await one.close()
    await other.close()


async def test_a_locked_sqlite_file_is_one_sentence_and_cures_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "_BUSY_SECONDS", 0.2)
    store = await Store.open(tmp_path / "tesk.db")
    with closing(sqlite3.connect(tmp_path / "tesk.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match=r"tesk\.db has been locked by another process"):
            await store.create(new_task("t"))
        assert await store.get("t") is None
        other.execute("ROLLBACK")
    await store.create(new_task("t"))
    assert await store.state("t") is State.QUEUED
    await store.close()


async def test_a_full_disk_fails_the_write_alone(tmp_path: Path) -> None:
    store = await Store.open(tmp_path / "tesk.db")

    def fill(cursor: sqlite3.Cursor) -> None:
        pages = cursor.execute("PRAGMA page_count").fetchone()[0]
        cursor.execute(f"PRAGMA max_page_count={pages + 2}")

    await store._workers.write(fill)  # type: ignore[arg-type]  # a limit of the connection stands for a full disk
    big = new_task("big", plan=b"x" * 1_000_000)
    with pytest.raises(StoreError, match="has room"):
        await store.create(big)
    assert await store.get("big") is None
    await store._workers.write(lambda cursor: cursor.execute("PRAGMA max_page_count=1000000").fetchone())
    await store.create(big)
    await store.close()


async def test_a_restarted_postgresql_is_found_again(postgresql: PostgresServer) -> None:
    store = await Store.open(postgresql.new_database())
    await store.create(new_task("before"))
    assert await store.state("before") is State.QUEUED
    await asyncio.to_thread(postgresql.stop)
    try:
        for call in (store.create(new_task("away")), store.state("before")):
            with pytest.raises(StoreError, match="cannot be used"):
                await call
    finally:
        await asyncio.to_thread(postgresql.start)
    assert await store.state("before") is State.QUEUED
    assert await store.state("away") is None
    await store.create(new_task("after"))
    await store.close()


async def test_a_restart_between_two_calls_is_not_noticed(postgresql: PostgresServer) -> None:
    store = await Store.open(postgresql.new_database())
    await asyncio.gather(store.create(new_task("before")), store.state("x"), store.state("x"))
    await asyncio.to_thread(postgresql.stop)
    await asyncio.to_thread(postgresql.start)
    assert await store.state("before") is State.QUEUED
    await store.create(new_task("after"))
    assert await store.counts() == {State.QUEUED: 2}
    await store.close()


async def test_a_task_in_a_file_is_looked_up_without_a_thread(place: str) -> None:
    store = await Store.open(place)
    names = [await store._workers.look_up(lambda _: threading.current_thread().name) for _ in range(3)]
    if place.startswith("postgresql"):
        assert all(name.startswith("tesk-store-reader") for name in names)
    else:
        assert set(names) == {threading.current_thread().name}
    await store.close()


async def test_a_look_up_that_meets_a_lock_is_left_to_a_thread_that_may_wait(tmp_path: Path) -> None:
    store = await Store.open(tmp_path / "tesk.db")

    def locked_here(_: Cursor) -> str:
        if threading.current_thread() is threading.main_thread():
            raise sqlite3.OperationalError("database is locked")
        return "waited"

    assert await store._workers.look_up(locked_here) == "waited"
    await store.close()
