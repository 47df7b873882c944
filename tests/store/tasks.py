"""Tasks to keep, as short as they can be."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tesk.store import NewTask, Page, Query, Store, TaskLogBytes
from tesk.tes.views import View

__all__ = ["CREATED", "all_ids", "ids", "log", "new_task", "shown"]

CREATED = "2026-01-02T03:04:05Z"


def new_task(
    id: str,
    *,
    name: str | None = None,
    tags: Mapping[str, str] | None = None,
    notes: tuple[str, ...] = (),
    plan: bytes = b"{}",
) -> NewTask:
    """A task whose FULL view has `content` and whose BASIC view has not."""
    basic: dict[str, Any] = {"executors": [{"image": "i", "command": ["c"]}], "inputs": [{"path": "/a"}]}
    if name is not None:
        basic["name"] = name
    full = {**basic, "inputs": [{"path": "/a", "content": "x"}]}
    return NewTask(
        id=id,
        name=name,
        creation_time=CREATED,
        basic=json.dumps(basic).encode(),
        full=json.dumps(full).encode(),
        plan=plan,
        tags=tags or {},
        notes=notes,
    )


def log(word: str) -> TaskLogBytes:
    """A log that can be told from others by one word, in both views."""
    basic = {"logs": [], "outputs": [], "metadata": {"word": word}}
    return TaskLogBytes(json.dumps(basic).encode(), json.dumps({**basic, "system_logs": [word]}).encode())


async def shown(store: Store, id: str, view: View = View.FULL) -> dict[str, Any]:
    """The task as a client reads it; it must be there."""
    found = await store.get(id, view)
    assert found is not None
    task: dict[str, Any] = json.loads(found)
    return task


def ids(page: Page) -> list[str]:
    """The ids on a page, in its order."""
    return [task["id"] for task in json.loads(page.tasks)]


async def all_ids(store: Store, query: Query) -> list[str]:
    """The ids of every page from `query` on."""
    found: list[str] = []
    while True:
        page = await store.page(query)
        found += ids(page)
        if page.next is None:
            return found
        query = Query(query.view, query.page_size, page.next, query.name_prefix, query.state, query.tags)
