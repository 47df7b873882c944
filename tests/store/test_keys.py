"""Creation keys: the same request twice makes one task."""

from __future__ import annotations

import asyncio

import pytest
from tests.store.tasks import new_task

from tesk.store import CreationKey, Event, KeyTaken, Store
from tesk.store import store as store_module
from tesk.tes.states import State

KEY = CreationKey("k", b"body")


async def test_a_key_makes_one_task_of_which_is_told_once(store: Store) -> None:
    told: list[Event] = []
    store.on_change(told.append)
    ids = await asyncio.gather(*(store.create(new_task(f"t{number}"), KEY) for number in range(20)))
    assert len(set(ids)) == 1
    assert await store.create(new_task("late"), KEY) == ids[0]
    assert await store.create(new_task("other"), CreationKey("other", b"body")) == "other"
    assert sum((await store.counts()).values()) == 2
    assert [one.id for one in told] == [ids[0], "other"]


async def test_two_servers_make_one_task_of_a_key(place: str) -> None:
    one, two = await Store.open(place), await Store.open(place)
    ids = await asyncio.gather(
        *(one.create(new_task(f"a{number}"), KEY) for number in range(10)),
        *(two.create(new_task(f"b{number}"), KEY) for number in range(10)),
    )
    assert len(set(ids)) == 1
    assert await two.counts() == {State.QUEUED: 1}
    await one.close()
    await two.close()


async def test_a_key_with_another_body_is_refused(store: Store) -> None:
    await store.create(new_task("t"), KEY)
    with pytest.raises(KeyTaken):
        await store.create(new_task("u"), CreationKey("k", b"another"))
    assert await store.state("u") is None


async def test_a_key_outlives_the_server_and_its_task_but_not_a_day(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await Store.open(place)
    await store.create(new_task("t"), KEY)
    await store.close()
    store = await Store.open(place)
    assert await store.create(new_task("u"), KEY) == "t"
    monkeypatch.setattr(store_module, "_KEY_LIFETIME", -1000)
    assert await store.create(new_task("u"), KEY) == "u"
    await store.close()
