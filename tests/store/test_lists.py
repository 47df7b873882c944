"""Lists: filters as TES 1.1.0 ListTasks has them, and pages that stay while tasks are created."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.store.tasks import all_ids, ids, log, new_task, shown

from tesk.store import Change, Page, Query, Store
from tesk.store.terms import after_prefix, tag_term
from tesk.tes.states import State
from tesk.tes.views import View

TAGS: list[tuple[dict[str, str], dict[str, str], bool]] = [
    # The table of the specification's `tag_key`.
    ({"foo": "bar"}, {"foo": "bar"}, True),
    ({"foo": "bar"}, {"foo": "bat"}, False),
    ({"foo": ""}, {"foo": ""}, True),
    ({"foo": "bar", "baz": "bat"}, {"foo": "bar", "baz": "bat"}, True),
    ({"foo": "bar"}, {"foo": "bar", "baz": "bat"}, True),
    ({"foo": "bar", "baz": "bat"}, {"foo": "bar"}, False),
    ({"foo": ""}, {"foo": "bar"}, True),
    ({"foo": ""}, {}, False),
    # Exact, in both databases.
    ({"foo": "bar"}, {"foo": "BAR"}, False),
    ({"foo": "bar"}, {"FOO": "bar"}, False),
    ({"foo": "ba_"}, {"foo": "bar"}, False),
    ({"foo": "%"}, {"foo": "bar"}, False),
    ({"foo": "b"}, {"foo": "bar"}, False),
    ({"fo": ""}, {"foo": "bar"}, False),
    ({"foo": "bar", "baz": ""}, {"foo": "bar", "baz": "x"}, True),
    ({"foo": "bar", "baz": ""}, {"foo": "bar"}, False),
    ({"schlüssel": "größe"}, {"schlüssel": "größe"}, True),
    ({"long": "v" * 5000 + "a"}, {"long": "v" * 5000 + "a"}, True),
    ({"long": "v" * 5000 + "a"}, {"long": "v" * 5000 + "b"}, False),
    ({"k" * 5000: ""}, {"k" * 5000: "v"}, True),
    ({"nul": "a\x00b"}, {"nul": "a\x00b"}, True),
]
"""What is asked for, the tags of a task, and whether it is found."""


@pytest.mark.parametrize("view", [View.MINIMAL, View.FULL])
async def test_tag_filters_match_as_the_specification_says(store: Store, view: View) -> None:
    for number, (_, tags, _) in enumerate(TAGS):
        await store.create(new_task(f"t{number}", tags=tags))
    for number, (wanted, tags, match) in enumerate(TAGS):
        found = ids(await store.page(Query(view=view, tags=tuple(wanted.items()))))
        assert (f"t{number}" in found) is match, (wanted, tags)


async def test_a_tag_asked_for_twice_must_match_twice(store: Store) -> None:
    await store.create(new_task("t", tags={"foo": "bar"}))
    assert ids(await store.page(Query(tags=(("foo", "bar"), ("foo", ""))))) == ["t"]
    assert ids(await store.page(Query(tags=(("foo", "bar"), ("foo", "bat"))))) == []


NAMES = {
    "plain": "abc",
    "upper": "ABC",
    "longer": "abcd",
    "percent": "a%c",
    "underscore": "a_c",
    "high": "ab\U0010ffffz",
    "umlaut": "äbc",
    "long": "x" * 3000 + "1",
    "long too": "x" * 3000 + "2",
    "nul": "n\x00ul",
}


PREFIXES: list[tuple[str, set[str]]] = [
    ("", {*NAMES, "none"}),
    ("a", {"plain", "longer", "percent", "underscore", "high"}),
    ("ab", {"plain", "longer", "high"}),
    ("abc", {"plain", "longer"}),
    ("abcd", {"longer"}),
    ("abcde", set()),
    ("bc", set()),
    ("AB", {"upper"}),
    ("a%", {"percent"}),
    ("%", set()),
    ("a_", {"underscore"}),
    ("_", set()),
    ("ab\U0010ffff", {"high"}),
    ("\U0010ffff", set()),
    ("ä", {"umlaut"}),
    ("x" * 127, {"long", "long too"}),
    ("x" * 128, {"long", "long too"}),
    ("x" * 129, {"long", "long too"}),
    ("x" * 3000, {"long", "long too"}),
    ("x" * 3000 + "2", {"long too"}),
    ("x" * 3001, set()),
    ("n\x00", {"nul"}),
    ("'; DROP TABLE tasks; --", set()),
]


async def test_a_name_prefix_is_taken_literally(store: Store) -> None:
    key = {name: f"t{number}" for number, name in enumerate([*NAMES, "none"])}
    for which, id in key.items():
        await store.create(new_task(id, name=NAMES.get(which)))
    for prefix, found in PREFIXES:
        assert set(ids(await store.page(Query(name_prefix=prefix)))) == {key[which] for which in found}, prefix


async def test_filters_are_all_to_be_fulfilled(store: Store) -> None:
    for number in range(8):
        await store.create(new_task(f"t{number}", name="ab"[number & 1], tags={"k": str(number >> 1 & 1)}))
        if number & 4:
            await store.apply([Change(f"t{number}", 1, State.COMPLETE)])
    query = Query(name_prefix="b", state=State.COMPLETE, tags=(("k", "1"),))
    assert ids(await store.page(query)) == ["t7"]
    assert ids(await store.page(Query(state=State.COMPLETE))) == ["t7", "t6", "t5", "t4"]
    assert ids(await store.page(Query(state=State.QUEUED, name_prefix="a"))) == ["t2", "t0"]
    assert ids(await store.page(Query(state=State.PAUSED))) == []


@pytest.mark.parametrize("view", list(View))
async def test_pages_end_exactly(store: Store, view: View) -> None:
    expected: list[str] = []
    for number in range(7):
        pages: list[Page] = [await store.page(Query(view=view, page_size=2))]
        while (after := pages[-1].next) is not None:
            pages.append(await store.page(Query(view=view, page_size=2, before=after)))
        cut = [expected[at : at + 2] for at in range(0, number, 2)]
        assert [ids(page) for page in pages] == (cut or [[]])
        id = f"t{number}"
        expected.insert(0, id)
        await store.create(new_task(id))
        if number % 2:
            await store.retry(id, 1, log("one"))
            await store.apply([Change(id, 2, None, log("two"))])


async def test_pages_stay_while_tasks_are_created_and_removed(store: Store) -> None:
    for number in range(6):
        await store.create(new_task(f"old{number}"))
    first = await store.page(Query(page_size=2))
    for number in range(5):
        await store.create(new_task(f"new{number}"))
    await store.apply([Change("old3", 1, State.COMPLETE)])
    rest = await all_ids(store, Query(page_size=2, before=first.next))
    assert [*ids(first), *rest] == [f"old{number}" for number in reversed(range(6))]


@pytest.mark.parametrize("view", list(View))
async def test_a_list_shows_each_task_as_get_does(store: Store, view: View) -> None:
    tasks: list[dict[str, Any]] = []
    for number in range(5):
        await store.create(new_task(f"t{number}", name="näme", notes=("a note",) if number == 1 else ()))
    await store.apply([Change("t2", 1, State.RUNNING, log("running"))])
    await store.retry("t3", 1, log("lost"))
    await store.apply([Change("t3", 2, State.COMPLETE, log("done"))])
    for number in reversed(range(5)):
        tasks.append(await shown(store, f"t{number}", view))
    assert json.loads((await store.page(Query(view=view))).tasks) == tasks


@pytest.mark.parametrize(
    ("prefix", "after"),
    [
        ("a", "b"),
        ("ab", "ac"),
        ("a\U0010ffff", "b"),
        ("\U0010ffff", None),
        ("\U0010ffff\U0010ffff", None),
        ("\ud7ff", "\ue000"),
        ("\x7f", "\x80"),
        ("é", "ê"),
    ],
)
def test_what_follows_a_prefix(prefix: str, after: str | None) -> None:
    assert after_prefix(prefix) == after


def test_only_long_tags_are_kept_as_digests() -> None:
    assert tag_term("v" * 256) == "v" * 256
    assert tag_term("v" * 257).startswith("sha256:")
    assert tag_term("ä" * 128) == "ä" * 128
    assert len(tag_term("ä" * 129)) == len("sha256:") + 64


async def test_a_site_may_hide_that_tasks_are_being_canceled(place: str) -> None:
    store = await Store.open(place, hide_canceling=True)
    for name in ("stays", "goes"):
        await store.create(new_task(name))
        await store.apply([Change(name, 1, State.RUNNING)])
    assert await store.cancel("goes") is State.CANCELING
    for view in View:
        shown = await store.get("goes", view)
        assert shown is not None
        assert json.loads(shown)["state"] == "RUNNING"
        page = await store.page(Query(view=view))
        assert [one["state"] for one in json.loads(page.tasks)] == ["RUNNING", "RUNNING"]
    assert await all_ids(store, Query(state=State.RUNNING)) == ["goes", "stays"]
    assert await all_ids(store, Query(state=State.CANCELING)) == []
    assert [one.state for one in await store.active()] == [State.RUNNING, State.CANCELING]
    await store.close()
