"""ListTasks: filters, views, pages."""

from __future__ import annotations

from typing import Any

import pytest

from tesk.server.tokens import BadToken, PageTokens
from tesk.tes.states import State

from .conftest import Api


async def listed(api: Api, **params: Any) -> list[str]:
    answer = await api.http.get("/v1/tasks", params=params)
    assert answer.status_code == 200, answer.text
    return [one["id"] for one in answer.json()["tasks"]]


@pytest.mark.parametrize(
    ("wanted", "tags", "match"),
    [  # the table of TES 1.1.0, `tag_key`
        ({"foo": "bar"}, {"foo": "bar"}, True),
        ({"foo": "bar"}, {"foo": "bat"}, False),
        ({"foo": ""}, {"foo": ""}, True),
        ({"foo": "bar", "baz": "bat"}, {"foo": "bar", "baz": "bat"}, True),
        ({"foo": "bar"}, {"foo": "bar", "baz": "bat"}, True),
        ({"foo": "bar", "baz": "bat"}, {"foo": "bar"}, False),
        ({"foo": ""}, {"foo": "bar"}, True),
        ({"foo": ""}, {}, False),
    ],
)
async def test_tags_match_as_the_specification_has_it(api: Api, wanted, tags, match):
    task_id = await api.create(tags=tags)
    assert await listed(api, tag_key=list(wanted), tag_value=list(wanted.values())) == [task_id] * match


async def test_a_key_without_a_value_matches_any(api: Api):
    with_it = await api.create(tags={"a": "1", "b": "2"})
    await api.create(tags={"b": "2"})
    assert await listed(api, tag_key="a") == [with_it]
    assert await listed(api, tag_key=["b", "a"], tag_value="2") == [with_it]


async def test_name_prefix_and_state_are_anded(api: Api):
    first = await api.create(name="align-1")
    second = await api.create(name="align-2")
    await api.create(name="Align-3")
    await api.create()
    await api.finish(first)
    assert await listed(api, name_prefix="align") == [second, first]
    assert await listed(api, name_prefix="align", state="QUEUED") == [second]
    assert await listed(api, state="COMPLETE") == [first]
    assert await listed(api, state="UNKNOWN") == []
    assert await listed(api, name_prefix="%") == []


async def test_the_views_differ_as_the_specification_has_it(api: Api):
    task_id = await api.create(inputs=[{"path": "/in", "content": "secret"}])
    await api.finish(task_id)
    (minimal,), (basic,), (full,) = [
        (await api.http.get("/v1/tasks", params={"view": view})).json()["tasks"]
        for view in ("MINIMAL", "BASIC", "FULL")
    ]
    assert minimal == {"id": task_id, "state": "COMPLETE"}
    assert full["inputs"][0]["content"] == "secret"
    assert full["logs"][0]["logs"][0]["stdout"] == "out"
    assert full["logs"][0]["system_logs"] == ["a sentence"]
    assert full == await api.get(task_id, "FULL")
    assert basic == await api.get(task_id, "BASIC")
    for removed in (full["inputs"][0], full["logs"][0]["logs"][0], full["logs"][0]):
        for key in ("content", "stdout", "stderr", "system_logs"):
            removed.pop(key, None)
    assert basic == full


async def test_pages_are_stable_while_tasks_are_created_and_end_exactly(api: Api):
    there = [await api.create() for _ in range(6)]
    seen, params = [], {"page_size": 2}
    while True:
        page = (await api.http.get("/v1/tasks", params=params)).json()
        seen += [one["id"] for one in page["tasks"]]
        await api.create()
        if "next_page_token" not in page:
            break
        params["page_token"] = page["next_page_token"]
    assert seen == there[::-1]


async def test_a_page_has_256_tasks_unless_told_otherwise(api: Api):
    for _ in range(257):
        await api.create()
    assert len(await listed(api)) == 256
    assert len(await listed(api, page_size=2047)) == 257


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("view=BRIEF", ["view"]),
        ("view=minimal", ["view"]),
        ("view=", ["view"]),
        ("view=BASIC&view=FULL", ["view"]),
        ("state=DONE", ["state"]),
        ("state=", ["state"]),
        ("page_size=0", ["page_size"]),
        ("page_size=2048", ["page_size"]),
        ("page_size=-1", ["page_size"]),
        ("page_size=many", ["page_size"]),
        ("page_size=", ["page_size"]),
        ("page_size=1e2", ["page_size"]),
        ("page_size=%D9%A1", ["page_size"]),
        ("page_size=" + "9" * 5000, ["page_size"]),
        ("page_token=abc", ["page_token"]),
        ("page_token=%00%ff", ["page_token"]),
        ("tag_value=a", ["tag_value"]),
        ("tag_key=a&tag_value=1&tag_value=2", ["tag_value"]),
        ("tag_key=a&tag_key=a", ["tag_key"]),
        ("&".join(f"tag_key={n}" for n in range(33)), ["tag_key"]),
        ("name_prefix=a&name_prefix=b", ["name_prefix"]),
        ("page_size=x&view=y&state=z", ["view", "page_size", "state"]),
    ],
)
async def test_a_wrong_query_is_400_with_every_fault(api: Api, query: str, names: list[str]):
    answer = await api.http.get(f"/v1/tasks?{query}")
    assert answer.status_code == 400
    assert sorted(one["path"] for one in answer.json()["errors"]) == sorted(names)


async def test_a_token_of_another_server_or_a_changed_one_is_refused(api: Api):
    for _ in range(2):
        await api.create()
    token = (await api.http.get("/v1/tasks?page_size=1")).json()["next_page_token"]
    assert len(await listed(api, page_token=token)) == 1
    foreign = PageTokens(b"another").make(1)
    changed = ("A" if token[5] != "A" else "B").join((token[:5], token[6:]))
    for bad in (foreign, changed, token[:-4], token + token, token + "=", " " + token):
        assert (await api.http.get("/v1/tasks", params={"page_token": bad})).status_code == 400, bad


def test_tokens_come_back_and_say_nothing():
    tokens = PageTokens(b"secret")
    assert tokens.read(tokens.make(2**62)) == 2**62
    with pytest.raises(BadToken):
        tokens.read(PageTokens(b"other").make(5))


async def test_get_refuses_an_unknown_view(api: Api):
    task_id = await api.create()
    assert (await api.http.get(f"/v1/tasks/{task_id}?view=ALL")).status_code == 400


async def test_a_canceled_task_is_listed_as_such(api: Api):
    task_id = await api.create()
    await api.tasks.cancel(task_id)
    assert await listed(api, state=State.CANCELING) == [task_id]
