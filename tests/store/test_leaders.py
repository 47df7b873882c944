"""Which index a list walks, at sizes where a wrong one would cost seconds: the plans of SQLite, not its clock."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest
from tests.store.tasks import all_ids

from tesk.store import Query, Store
from tesk.store import lists as lists_module
from tesk.store.database import SqliteDatabase
from tesk.store.statements import Statements
from tesk.store.store import _conditions
from tesk.tes.states import State
from tesk.tes.views import View

TASKS = 6000
RARE = {5, 2500, 2501, 5999}
"""Tasks in EXECUTOR_ERROR, with the tag `project` = `rare`, the tag `held`, and a name that begins with `rare`."""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with many tasks, all COMPLETE but a few."""
    from tesk.store.migrate import prepare

    path = tmp_path_factory.mktemp("many") / "tesk.db"
    prepare(SqliteDatabase(path))
    with closing(sqlite3.connect(path)) as connection:
        for seq in range(1, TASKS + 1):
            rare = seq in RARE
            state = "EXECUTOR_ERROR" if rare else "COMPLETE"
            name = f"{'rare' if rare else 'often'} {seq}"
            connection.execute("INSERT INTO tasks VALUES (?,?,?,1,?,'t',1)", (seq, f"t{seq}", state, name))
            connection.execute("INSERT INTO bodies VALUES (?,?,NULL,?)", (seq, b',"a":1', b"{}"))
            tags = {"project": "rare" if rare else "often", "sample": str(seq)} | ({"held": "yes"} if rare else {})
            connection.executemany("INSERT INTO tags VALUES (?,?,?)", [(seq, *tag) for tag in tags.items()])
        connection.commit()
    return path


@pytest.fixture
def connection(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path)) as opened:
        yield opened


@pytest.fixture
async def store(path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(path)
    yield opened
    await opened.close()


QUERIES: dict[str, tuple[Query, str, str, bool]] = {
    # what is asked for, what leads, the index or table that is walked, whether tasks are sorted
    "all": (Query(), "seq", "SCAN tasks", False),
    "deep page": (Query(before=2000), "seq", "SEARCH tasks USING INTEGER PRIMARY KEY (rowid<?)", False),
    "state": (Query(state=State.COMPLETE), "state", "tasks_state (state=?)", False),
    "rare state": (Query(state=State.EXECUTOR_ERROR), "state", "tasks_state (state=?)", False),
    "state, deep": (Query(state=State.COMPLETE, before=2000), "state", "tasks_state (state=? AND seq<?)", False),
    "tag": (Query(tags=(("project", "often"),)), "tag_0", "tags_value (key=? AND value=?)", False),
    "tag, deep": (
        Query(tags=(("project", "often"),), before=2000),
        "tag_0",
        "tags_value (key=? AND value=? AND seq<?)",
        False,
    ),
    "rare tag": (Query(tags=(("project", "rare"),)), "tag_0", "tags_value (key=? AND value=?)", False),
    "often tag, rare state": (
        Query(tags=(("project", "often"),), state=State.EXECUTOR_ERROR),
        "state",
        "tasks_state (state=?)",
        False,
    ),
    "rare tag, often state": (
        Query(tags=(("project", "rare"),), state=State.COMPLETE),
        "tag_0",
        "tags_value (key=? AND value=?)",
        False,
    ),
    "two tags": (
        Query(tags=(("project", "often"), ("sample", "77"))),
        "tag_1",
        "tags_value (key=? AND value=?)",
        False,
    ),
    "often any value": (Query(tags=(("sample", ""),)), "seq", "SCAN tasks", False),
    "often prefix": (Query(name_prefix="often"), "seq", "SCAN tasks", False),
    "often prefix, deep": (Query(name_prefix="often", before=2000), "seq", "INTEGER PRIMARY KEY (rowid<?)", False),
    "rare state, often prefix": (
        Query(name_prefix="often", state=State.EXECUTOR_ERROR),
        "state",
        "tasks_state (state=?)",
        False,
    ),
    # What few tasks match is sorted: no index has it in the order of the list.
    "rare any value": (Query(tags=(("held", ""),)), "tag_0", "tags_value (key=?)", True),
    "rare prefix": (Query(name_prefix="rare"), "name", "tasks_name (<expr>>? AND <expr><?)", True),
    "rare prefix, often state": (
        Query(name_prefix="rare", state=State.COMPLETE),
        "name",
        "tasks_name (<expr>>? AND <expr><?)",
        True,
    ),
    "long prefix": (Query(name_prefix="rare" * 99), "name", "tasks_name (<expr>>? AND <expr><?)", True),
}


@pytest.mark.parametrize("view", list(View))
@pytest.mark.parametrize("case", QUERIES)
def test_a_list_walks_the_index_of_its_rarest_condition(
    connection: sqlite3.Connection, path: Path, case: str, view: View
) -> None:
    query, leads, walks, sorts = QUERIES[case]
    query = Query(view, 16, query.before, query.name_prefix, query.state, query.tags)
    shape, values = _conditions(query, (query.state,) if query.state else ())
    lists = Statements(SqliteDatabase(path).dialect).lists
    cursor = connection.cursor()
    assert lists.leader(cursor, shape, values) == leads
    plan = _plan(cursor, lists.statement(cursor, shape, values), {**values, "limit": 17})
    first = next(step for step in plan if step.startswith(("SCAN tasks", "SEARCH")))
    assert walks in first, plan
    assert any("TEMP B-TREE" in step for step in plan) is sorts, plan
    # Whatever else is touched is found by its key: one look-up for each task that is walked over.
    others = [step for step in plan if step.startswith(("SCAN", "SEARCH")) and step != first]
    assert all("PRIMARY KEY" in one or one.startswith(("SCAN page", "SCAN found")) for one in others), plan


def _plan(cursor: sqlite3.Cursor, statement: object, values: Mapping[str, object]) -> list[str]:
    sql, constants = statement.sql, statement.constants  # type: ignore[attr-defined]
    return [row[3] for row in cursor.execute(f"EXPLAIN QUERY PLAN {sql}", {**constants, **values})]


@pytest.mark.parametrize("case", QUERIES)
async def test_the_tasks_are_the_same_whatever_leads(store: Store, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    query = QUERIES[case][0]
    query = Query(View.MINIMAL, 500, query.before, query.name_prefix, query.state, query.tags)
    shape = _conditions(query, (query.state,) if query.state else ())[0]
    found = await all_ids(store, query)
    for lead in ["seq", *shape.ordered, *shape.unordered]:
        monkeypatch.setattr(lists_module.Lists, "leader", lambda *_, lead=lead: lead)
        assert await all_ids(store, query) == found, lead


def test_what_leads_is_chosen_anew_after_a_while(connection: sqlite3.Connection, path: Path) -> None:
    now = 0.0
    lists = Statements(SqliteDatabase(path).dialect).lists
    lists._clock = lambda: now
    query = Query(tags=(("project", "often"),), state=State.PAUSED)
    shape, values = _conditions(query, (State.PAUSED,))
    cursor = connection.cursor()
    assert lists.leader(cursor, shape, values) == "state"
    connection.execute("UPDATE tasks SET state = 'PAUSED'")
    connection.execute("UPDATE tags SET value = 'seldom' WHERE key = 'project'")
    assert lists.leader(cursor, shape, values) == "state"
    now = 60.0
    assert lists.leader(cursor, shape, values) == "tag_0"
    connection.rollback()


def test_choices_do_not_grow_without_bound(connection: sqlite3.Connection, path: Path) -> None:
    lists = Statements(SqliteDatabase(path).dialect).lists
    cursor = connection.cursor()
    for number in range(3000):
        shape, values = _conditions(Query(name_prefix=f"x{number}"), ())
        lists.leader(cursor, shape, values)
    assert 0 < len(lists._choices) <= 1024
