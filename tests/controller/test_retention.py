"""Old records go, the others stay."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.store.tasks import log, new_task

from tesk.controller import Retention
from tesk.controller import retention as module
from tesk.store import Change, Store, StoreError
from tesk.tes.states import State


@pytest.fixture
async def store(tmp_path: Path):
    opened = await Store.open(tmp_path / "tesk.db")
    yield opened
    await opened.close()


async def filled(store: Store, count: int) -> None:
    for number in range(count):
        await store.create(new_task(f"t{number}", tags={"a": "b"}))
    await store.apply([Change(f"t{number}", 1, State.COMPLETE, log("x")) for number in range(count - 1)])


def in_days(days: float) -> datetime:
    return datetime.now(UTC) + timedelta(days=days)


async def test_records_go_once_their_time_is_over_in_as_many_batches_as_it_takes(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BATCH", 3)
    await filled(store, 8)
    keep = timedelta(days=2)
    assert await Retention(store, keep, clock=lambda: in_days(1.9)).remove() == 0
    assert await Retention(store, keep, clock=lambda: in_days(2.1)).remove() == 7
    assert await store.get("t0") is None
    assert await store.counts() == {State.QUEUED: 1}


async def test_a_store_that_is_away_is_tried_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SHORTEST", 0.01)
    await filled(store, 2)
    tries = []

    async def remove(before: datetime, limit: int) -> int:
        tries.append(before)
        if len(tries) == 1:
            raise StoreError("away")
        return await Store.remove_ended_before(store, before, limit)

    monkeypatch.setattr(store, "remove_ended_before", remove)
    running = asyncio.create_task(Retention(store, timedelta(milliseconds=1)).run())
    async with asyncio.timeout(10):
        while await store.get("t0") is not None:
            await asyncio.sleep(0.01)
    assert len(tries) >= 2
    assert not running.done()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await store.counts() == {State.QUEUED: 1}
