"""Random histories of clients, backend and restarts: at every step the API says what the plain model says.

`TESK_TEST_MODEL_EXAMPLES=1000` looks longer and elsewhere, and shortens what it finds; usually the histories are
the same each time, and a failure shows its whole history.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from tesk.backends.base import AttemptKey
from tests.model.house import PREFIXES, House
from tests.model.reference import TERMINAL, Reference, Task
from tests.postgres import PostgresServer, postgresql  # noqa: F401 - a fixture

EXAMPLES = int(os.environ.get("TESK_TEST_MODEL_EXAMPLES", "0"))

clients = st.sampled_from(PREFIXES)
views = st.sampled_from(["MINIMAL", "BASIC", "FULL"])
names = st.sampled_from(["", "a", "ab", "ab%", "ab_c", "é", "A"])
keys = st.sampled_from(["k", "l", "K", "é"])
values = st.sampled_from(["", "v", "w", "v "])
tasks = st.fixed_dictionaries(
    {"executors": st.just([{"image": "i", "command": ["c"]}])},
    optional={
        "name": names,
        "tags": st.dictionaries(keys, values, max_size=3),
        "inputs": st.just([{"path": "/in/x", "content": "text", "type": "FILE"}]),
    },
)
refused = st.sampled_from(
    [b"", b"[]", b"{", b'{"executors":[]}', b'{"executors":[{"image":"i","command":["c"],"workdir":"x"}]}']
)
reports = st.sampled_from(
    [
        ("INITIALIZING", []),
        ("RUNNING", []),
        ("RUNNING", [0]),
        ("COMPLETE", [0]),
        ("EXECUTOR_ERROR", [3]),
        ("SYSTEM_ERROR", []),
        ("CANCELED", []),
    ]
)


class TaskLife(RuleBasedStateMachine):
    """Rules are what clients, the backend and the operator do; `agrees` runs after each."""

    place: str
    directory: Path

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.reference = Reference()
        self.house = House(self.place, self.directory)
        self.runner.run(self.house.open())

    def teardown(self) -> None:
        """End the server."""
        self.runner.run(self.house.close())
        self.runner.close()

    def some(self, data: st.DataObject, *, held: bool = False) -> Task:
        """One of the tasks."""
        return data.draw(st.sampled_from([one for one in self.reference.tasks if one.held or not held]))

    def tell(self, key: AttemptKey, state: str, exit_codes: list[int], *, lost: bool = False) -> None:
        """The backend reports, on the server's event loop."""

        async def tell() -> None:
            self.house.backend.tell(key, state, exit_codes, lost=lost)

        self.runner.run(tell())

    def restart_now(self, backend_too: bool) -> None:
        """Another server; `backend_too`, nothing of what ran is left for it."""
        if backend_too:
            self.reference.lose_all()
        self.runner.run(self.house.restart(backend_too=backend_too))

    # What clients do.

    @rule(by=clients, task=tasks)
    def create(self, by: str, task: dict[str, Any]) -> None:
        self.runner.run(self._create(by, task))

    async def _create(self, by: str, task: dict[str, Any]) -> None:
        answer = await self.house.http.post(f"{by}/tasks", json=task)
        assert answer.status_code == 200, answer.text
        assert list(answer.json()) == ["id"]
        self.reference.create(answer.json()["id"], task)

    @rule(task=tasks)
    def each_client_creates_at_once(self, task: dict[str, Any]) -> None:
        async def all_of_them() -> None:
            await asyncio.gather(*(self._create(by, task) for by in PREFIXES))
            # Which of them came first is the server's to say.
            listed = (await self.house.http.get("/tasks", params={"page_size": 3})).json()["tasks"]
            order = [one["id"] for one in listed]
            newest = {one.id: one for one in self.reference.tasks[-3:]}
            assert set(order) == set(newest)
            self.reference.tasks[-3:] = [newest[one] for one in reversed(order)]

        self.runner.run(all_of_them())

    @rule(by=clients, body=refused)
    def create_is_refused(self, by: str, body: bytes) -> None:
        answer = self.runner.run(self.house.http.post(f"{by}/tasks", content=body))
        assert answer.status_code == 400

    @precondition(lambda self: self.reference.tasks)
    @rule(data=st.data(), method=st.sampled_from(["POST", "DELETE"]), how_many=st.integers(1, 3))
    def cancel(self, data: st.DataObject, method: str, how_many: int) -> None:
        """By one client or by several at once."""
        task = self.some(data)
        task.cancel()

        async def all_of_them() -> None:
            urls = [f"{by}/tasks/{task.id}:cancel" for by in PREFIXES[:how_many]]
            for answer in await asyncio.gather(*(self.house.http.request(method, url) for url in urls)):
                assert (answer.status_code, answer.json()) == (200, {})

        self.runner.run(all_of_them())

    @precondition(lambda self: self.reference.tasks)
    @rule(data=st.data(), by=clients, view=views)
    def get(self, data: st.DataObject, by: str, view: str) -> None:
        task = self.some(data)
        answer = self.runner.run(self.house.http.get(f"{by}/tasks/{task.id}", params={"view": view}))
        self.compare(answer.json(), task, view)

    @rule(
        by=clients,
        view=views,
        page_size=st.integers(1, 4),
        prefix=st.none() | names,
        state=st.none() | st.sampled_from(["QUEUED", "RUNNING", "CANCELED", "COMPLETE", "PAUSED"]),
        tags=st.dictionaries(keys, values, max_size=2),
        between=st.sampled_from(["nothing", "a task is created", "the server is restarted"]),
    )
    def list(self, by: str, view: str, page_size: int, prefix: str | None, state: str | None, **rest: Any) -> None:
        """All pages, with or without something between one and the next."""
        tags, between = rest["tags"], rest["between"]
        expected = self.reference.find(prefix, state, tags)
        query: dict[str, Any] = {"view": view, "page_size": page_size}
        query |= {} if prefix is None else {"name_prefix": prefix}
        query |= {} if state is None else {"state": state}
        query |= {"tag_key": [*tags], "tag_value": [*tags.values()]} if tags else {}
        for number in itertools.count():
            page = self.runner.run(self.house.http.get(f"{by}/tasks", params=query)).json()
            wanted = expected[number * page_size : (number + 1) * page_size]
            assert [one["id"] for one in page["tasks"]] == [one.id for one in wanted]
            for shown, task in zip(page["tasks"], wanted, strict=True):
                self.compare(shown, task, view)
            assert ("next_page_token" in page) == ((number + 1) * page_size < len(expected))
            if "next_page_token" not in page:
                return
            query["page_token"] = page["next_page_token"]
            if between == "the server is restarted":
                self.restart_now(backend_too=False)
                between = "nothing"
            elif between == "a task is created" and state != "QUEUED":
                self.create(by, {"executors": [{"image": "i", "command": ["c"]}]})

    # What the backend does.

    @precondition(lambda self: any(one.held for one in self.reference.tasks))
    @rule(data=st.data(), report=reports, and_restart=st.booleans())
    def backend_reports(self, data: st.DataObject, report: tuple[str, list[int]], and_restart: bool) -> None:
        """Legal or not: a state may come again, or after a later one; the server may end before it has heard."""
        task = self.some(data, held=True)
        state, exit_codes = report
        if state == "CANCELED" and task.state != "CANCELING":
            return
        task.report(state, exit_codes)
        self.tell(AttemptKey(task.id, task.attempt), state, exit_codes)
        if and_restart:
            self.restart_now(backend_too=False)

    @precondition(lambda self: any(one.attempt > 1 or one.ended for one in self.reference.tasks))
    @rule(data=st.data(), report=reports)
    def backend_reports_on_what_is_over(self, data: st.DataObject, report: tuple[str, list[int]]) -> None:
        over = [one for one in self.reference.tasks if one.attempt > 1 or one.ended]
        task = data.draw(st.sampled_from(over))
        attempt = task.attempt if task.ended else task.attempt - 1
        self.tell(AttemptKey(task.id, attempt), *report)

    @precondition(lambda self: any(one.held for one in self.reference.tasks))
    @rule(data=st.data())
    def backend_loses_an_attempt(self, data: st.DataObject) -> None:
        task = self.some(data, held=True)
        key = AttemptKey(task.id, task.attempt)
        task.lose(room=self.reference.room)
        self.tell(key, "SYSTEM_ERROR", [], lost=True)

    @rule(room=st.booleans())
    def backend_has_room(self, room: bool) -> None:
        self.reference.set_room(room)

        async def set_room() -> None:
            self.house.backend.set_room(room)

        self.runner.run(set_room())

    # What the operator does.

    @rule(backend_too=st.booleans())
    def restart(self, backend_too: bool) -> None:
        self.restart_now(backend_too)

    # What must hold.

    @invariant()
    def agrees(self) -> None:
        """Every task is where the model has it, in the model's order, and the backend holds what the model says."""
        expected = [one.shown("MINIMAL") for one in reversed(self.reference.tasks)]
        held = {AttemptKey(one.id, one.attempt) for one in self.reference.tasks if one.held}

        async def look() -> tuple[list[Any], set[AttemptKey]]:
            answer = await self.house.http.get("/tasks", params={"page_size": 2047})
            return answer.json()["tasks"], set(self.house.backend.held)

        async def same() -> bool:
            return await look() == (expected, held)

        async def wait() -> None:
            try:
                await self.house.until(same)
            except TimeoutError:
                assert await look() == (expected, held)

        self.runner.run(wait())

    def compare(self, shown: dict[str, Any], task: Task, view: str) -> None:
        """One task of an answer against the model's."""
        logs = shown.pop("logs", [])
        created = shown.pop("creation_time", None)
        assert shown == task.shown(view)
        assert (created is None) == (view == "MINIMAL")
        if view == "MINIMAL":
            assert logs == []
            return
        assert len(logs) <= task.attempt
        last = logs[task.attempt - 1] if len(logs) == task.attempt else {"logs": []}
        assert [one["exit_code"] for one in last["logs"]] == task.exit_codes
        for log in logs:
            assert log["outputs"] == []
            assert ("stdout" in str(log["logs"])) == (view == "FULL" and bool(log["logs"]))
            assert view == "FULL" or "system_logs" not in log
        if task.state in TERMINAL - {"CANCELED"}:
            assert view == "BASIC" or last["system_logs"]


def run(machine: type[TaskLife], histories: int) -> None:
    """So many histories, unless more are asked for."""
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES or histories,
            stateful_step_count=30,
            derandomize=not EXAMPLES,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, *([Phase.shrink] if EXAMPLES else [])],  # shrinking takes minutes
        ),
    )


@pytest.mark.timeout(3600 if EXAMPLES else 120)
@pytest.mark.parametrize("histories", [6, pytest.param(30, marks=pytest.mark.slow)])
def test_every_history_goes_as_the_model_says_on_sqlite(tmp_path: Path, histories: int) -> None:
    numbers = itertools.count()

    class OnSqlite(TaskLife):
        def __init__(self) -> None:
            self.directory = tmp_path / str(next(numbers))
            self.place = str(self.directory / "tesk.db")
            super().__init__()

    run(OnSqlite, histories)


@pytest.mark.timeout(3600 if EXAMPLES else 120)
@pytest.mark.parametrize("histories", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_every_history_goes_as_the_model_says_on_postgresql(
    tmp_path: Path,
    histories: int,
    postgresql: PostgresServer,  # noqa: F811
) -> None:
    class OnPostgres(TaskLife):
        def __init__(self) -> None:
            self.directory, self.place = tmp_path, postgresql.new_database()
            super().__init__()

    run(OnPostgres, histories)
