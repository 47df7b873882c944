"""A watch through what a real API server does rarely; the ordinary is in tests/kube."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from lightkube.resources.core_v1 import ConfigMap
from tests.backends.kubernetes.fake_api import Asked, FakeApi, Reply, config_map, event, fake_api, listed, status

from tesk.backends.kubernetes.errors import Refused
from tesk.backends.kubernetes.pace import Backoff
from tesk.backends.kubernetes.watch import Watch

Heard = list[tuple[str, str]]


def kept(obj: ConfigMap) -> str:
    """Name and data, as the tests compare them."""
    assert obj.metadata is not None
    return f"{obj.metadata.name}={(obj.data or {}).get('x', '')}"


def lists(version: str, *items: dict[str, Any]) -> Callable[[Asked, Reply], Any]:
    async def answer(asked: Asked, reply: Reply) -> None:
        assert not asked.watches, "a list was due"
        await reply.send(listed(version, *items))

    return answer


def watches(*events: dict[str, Any], then: str = "hang") -> Callable[[Asked, Reply], Any]:
    async def answer(asked: Asked, reply: Reply) -> None:
        assert asked.watches, "a watch was due"
        await reply.begin()
        await reply.tell(*events)
        if then == "end":
            await reply.end()
        elif then == "cut":
            await asyncio.sleep(0.02)
            reply.cut()
        else:
            await asyncio.sleep(60)

    return answer


def refuses(code: int, reason: str) -> Callable[[Asked, Reply], Any]:
    async def answer(asked: Asked, reply: Reply) -> None:
        await reply.send(status(code, reason), code)

    return answer


@asynccontextmanager
async def watching(api: FakeApi, **options: Any) -> AsyncIterator[tuple[Watch[ConfigMap, str], Heard]]:
    heard: Heard = []
    backoff = Backoff(0.01, 0.05)
    async with api.cluster() as cluster:
        watch: Watch[ConfigMap, str] = Watch(
            cluster,
            ConfigMap,
            {"tesk/task": None},
            keep=kept,
            **{"tell": lambda change, one: heard.append((change, one)), "backoff": backoff, **options},
        )
        async with watch:
            yield watch, heard


async def until(true: Callable[[], bool], within: float = 5.0) -> None:
    async with asyncio.timeout(within):
        while not true():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("way", ["status", "event"])
async def test_gone_version_lists_again_and_tells_what_changed_meanwhile(way: str) -> None:
    gone = refuses(410, "Expired") if way == "status" else watches(event("ERROR", status(410, "Expired")))
    before = [config_map("stays"), config_map("changes", x="1"), config_map("vanishes")]
    after = [config_map("stays"), config_map("changes", "7", x="2"), config_map("comes", "8")]
    async with (
        fake_api(lists("5", *before), gone, lists("9", *after), watches()) as api,
        watching(api) as (watch, heard),
    ):
        await until(lambda: len(api.asked) == 4 and watch.synced)
        assert set(watch.objects) == {"stays", "changes", "comes"}
        assert heard[3:] == [("modified", "changes=2"), ("added", "comes="), ("deleted", "vanishes=")]
        assert api.asked[-1].query["resourceVersion"] == "9"


async def test_bookmark_moves_the_version_that_the_next_watch_goes_on_from() -> None:
    bookmark = event("BOOKMARK", {"kind": "ConfigMap", "metadata": {"resourceVersion": "77"}})
    async with fake_api(lists("5"), watches(bookmark, then="end"), watches()) as api, watching(api) as (watch, heard):
        await until(lambda: len(api.asked) == 3)
        assert api.asked[1].query["allowWatchBookmarks"] == "true"
        assert api.asked[2].query["resourceVersion"] == "77"
        assert (watch.synced, watch.lists, heard) == (True, 1, [])


async def test_watch_that_falls_silent_is_taken_for_dead_and_renewed() -> None:
    new = event("ADDED", config_map("new", "6"))
    async with (
        fake_api(lists("5"), watches(), watches(new)) as api,
        watching(api, renew_seconds=0.1, grace_seconds=0.2) as (watch, _),
    ):
        await until(lambda: "new" in watch.objects)
        assert api.lists() == 1


async def test_cut_watch_goes_on_where_it_was_and_says_while_it_cannot_look() -> None:
    first, second = event("ADDED", config_map("one", "6")), event("ADDED", config_map("two", "7"))
    free = asyncio.Event()

    async def late(asked: Asked, reply: Reply) -> None:
        await free.wait()
        await watches(second)(asked, reply)

    async with fake_api(lists("5"), watches(first, then="cut"), late) as api, watching(api) as (watch, heard):
        await until(lambda: not watch.synced)
        assert watch.objects == {"one": "one="}
        assert "cannot watch ConfigMaps" in (watch.problem or "")
        lost = watch.since
        free.set()
        await until(lambda: "two" in watch.objects)
        assert (watch.synced, watch.problem, watch.since > lost) == (True, None, True)
        assert api.asked[2].query["resourceVersion"] == "6"
        assert heard == [("added", "one="), ("added", "two=")]


async def test_version_forgotten_after_a_break_never_counts_as_a_view() -> None:
    believed = []

    async def accepts_then_forgets(asked: Asked, reply: Reply) -> None:
        await reply.begin()
        await asyncio.sleep(0.1)
        believed.append(watch.synced)
        await reply.tell(event("ERROR", status(410, "Expired")))

    answers = (lists("5"), watches(then="cut"), accepts_then_forgets, lists("9", config_map("new")), watches())
    async with fake_api(*answers) as api, watching(api) as (watch, _):
        await until(lambda: "new" in watch.objects and watch.synced)
        assert believed == [False]


async def test_watch_without_news_is_a_view_again_soon_after_a_break() -> None:
    async with fake_api(lists("5"), watches(then="cut"), watches()) as api, watching(api) as (watch, _):
        await until(lambda: not watch.synced)
        await until(lambda: watch.synced, 2.0)
        assert api.lists() == 1


async def test_error_event_that_is_no_410_lists_again() -> None:
    failing = watches(event("ERROR", status(500, "InternalError")))
    async with (
        fake_api(lists("5"), failing, lists("6", config_map("new")), watches()) as api,
        watching(api) as (watch, _),
    ):
        await until(lambda: "new" in watch.objects)
        assert watch.lists == 2


async def test_object_made_anew_under_its_name_is_deleted_then_added() -> None:
    again = lists("9", config_map("one", "8", uid="another", x="2"))
    async with (
        fake_api(lists("5", config_map("one", x="1")), refuses(410, "Expired"), again, watches()) as api,
        watching(api) as (watch, heard),
    ):
        await until(lambda: watch.lists == 2)
        assert heard == [("added", "one=1"), ("deleted", "one=1"), ("added", "one=2")]


async def test_change_that_keep_does_not_show_is_not_told() -> None:
    same = event("MODIFIED", config_map("one", "6", y="other"))
    seen = event("MODIFIED", config_map("one", "7", x="2"))
    async with fake_api(lists("5", config_map("one")), watches(same, seen)) as api, watching(api) as (_, heard):
        await until(lambda: len(heard) == 2)
        assert heard == [("added", "one="), ("modified", "one=2")]


async def test_deletion_tells_the_last_state() -> None:
    end = event("DELETED", config_map("one", "6", x="end"))
    async with fake_api(lists("5", config_map("one")), watches(end)) as api, watching(api) as (watch, heard):
        await until(lambda: len(heard) == 2)
        assert heard[1] == ("deleted", "one=end")
        assert watch.objects == {}


async def test_event_in_pieces_and_odd_line_ends_in_names_are_read_whole() -> None:
    line = b'{"type":"ADDED","object":%s}\n'
    odd = "a\x85b\u2028c"
    text = line % json.dumps(config_map("one", "6", x=odd), ensure_ascii=False).encode()

    async def in_pieces(asked: Asked, reply: Reply) -> None:
        await reply.begin()
        for at in range(0, len(text), 7):
            await reply.raw(text[at : at + 7])
        await asyncio.sleep(60)

    async with fake_api(lists("5"), in_pieces) as api, watching(api) as (watch, _):
        await until(lambda: watch.objects == {"one": f"one={odd}"})


async def test_listener_that_raises_does_not_end_the_watch() -> None:
    def raises(change: str, one: str) -> None:
        raise RuntimeError("a bug")

    new = event("ADDED", config_map("new", "6"))
    async with fake_api(lists("5", config_map("old")), watches(new)) as api, watching(api, tell=raises) as (watch, _):
        await until(lambda: set(watch.objects) == {"old", "new"})
        assert watch.synced


async def test_watch_without_the_right_says_so_and_works_once_it_has_it() -> None:
    async with (
        fake_api(refuses(403, "Forbidden")) as api,
        api.cluster() as cluster,
    ):
        watch = Watch(cluster, ConfigMap, {"a": "b"}, keep=kept, backoff=Backoff(0.01, 0.05))
        await watch.start()
        with pytest.raises(Refused, match="said the server"):
            await watch.wait_synced(0.2)
        assert "refused" in (watch.problem or "")
        api.answers = [lists("5", config_map("one")), watches()]
        with contextlib.suppress(Refused):
            await watch.wait_synced(2)
        assert watch.objects == {"one": "one="}
        await watch.stop()
        assert not watch.synced


async def test_server_that_ends_each_watch_at_once_is_not_asked_without_pause() -> None:
    async with (
        fake_api(lists("5"), watches(then="end")) as api,
        watching(api, backoff=Backoff(0.1, 0.1)) as (watch, _),
    ):
        await asyncio.sleep(0.5)
        assert watch.synced
        assert len(api.asked) < 15
