"""The store: every task that this TESK knows, durable before anybody is told of it."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from tesk.store.database import Cursor, Database, database_at
from tesk.store.encode import encode_log, with_directories
from tesk.store.errors import KeyTaken, StoreError
from tesk.store.lists import Filters
from tesk.store.migrate import prepare
from tesk.store.model import ActiveTask, Change, CreationKey, Event, NewTask, Page, Query, QueuedTask, TaskLogBytes
from tesk.store.shown import BETWEEN, fragment, whole
from tesk.store.statements import Statements
from tesk.store.terms import after_prefix, name_term, tag_term
from tesk.store.workers import Workers
from tesk.taskmaster.report import Report
from tesk.tes.states import State
from tesk.tes.views import View

__all__ = ["Store"]

_ID = re.compile(r"[A-Za-z0-9._-]+")
_INDEXED = 128
_KEY_LIFETIME = 24 * 3600 * 1000
"""Milliseconds for which a creation key is remembered."""


class Store:
    """Tasks in a database, by an asynchronous interface.

    Every method may raise StoreError. What a method has written is durable when it returns. Bytes are JSON in UTF-8.
    """

    def __init__(self, database: Database, workers: Workers, statements: Statements) -> None:
        self._sql = statements
        self._workers = workers
        self._listeners: list[Callable[[Event], None]] = []
        self._secret: bytes | None = None
        self.place = database.place
        """How messages call the database; never with a password."""

    @classmethod
    async def open(cls, url_or_path: str | Path, *, readers: int | None = None, hide_canceling: bool = False) -> Store:
        """Open the database that `url_or_path` names, and make or migrate its schema.

        A path or a `sqlite:///` URL names a file, made with its directory where it is missing; a `postgresql://` URL a
        database that is there. `readers` is the number of threads that read; None takes what suits the database. With
        `hide_canceling`, tasks in CANCELING are shown, and found, as RUNNING.
        """
        database = database_at(url_or_path)
        await asyncio.to_thread(prepare, database)
        statements = Statements(database.dialect, hide_canceling=hide_canceling)
        workers = Workers(database, database.readers if readers is None else readers)
        return cls(database, workers, statements)

    async def close(self) -> None:
        """Finish what was asked for, and close every connection. No call may follow."""
        await self._workers.close()

    def on_change(self, listener: Callable[[Event], None]) -> None:
        """Call `listener` on the event loop each time a task was created, canceled or sent into a new attempt.

        It is called after the commit, and hears only of what this process did.
        """
        self._listeners.append(listener)

    def _tell(self, id: str, state: State) -> None:
        for listener in self._listeners:
            listener(Event(id, state))

    async def create(self, task: NewTask, key: CreationKey | None = None) -> str:
        """Keep a new task in state QUEUED, with attempt 1; its id.

        With a `key` of which the store heard in the last 24 hours, nothing is kept, and the id is that of the task that
        was created then. Raises KeyTaken when that was another request, and ValueError when the task's id has other
        characters than letters, digits and `._-`.
        """
        if not _ID.fullmatch(task.id):
            raise ValueError(f"a task's id consists of letters, digits and ._-, not {task.id!r}")
        insert = self._insertion(task)

        def write(cursor: Cursor) -> str:
            earlier = None if key is None else self._created(cursor, key, task.id)
            if earlier is None:
                insert(cursor)
            return earlier or task.id

        def committed(id: str) -> None:
            if id == task.id:
                self._tell(id, State.QUEUED)

        return await self._workers.write(write, committed)

    def _created(self, cursor: Cursor, key: CreationKey, id: str) -> str | None:
        """The task that was created under `key` before; None when from now on that is `id`."""
        now = time.time_ns() // 1_000_000
        self._sql.expire_keys.run(cursor, before=now - _KEY_LIFETIME)
        self._sql.insert_key.run(cursor, key=key.name, id=id, fingerprint=key.fingerprint, now=now)
        if cursor.rowcount == 1:
            return None
        earlier, fingerprint = self._sql.created.run(cursor, key=key.name).fetchone()
        if bytes(fingerprint) != key.fingerprint:
            raise KeyTaken(key.name)
        return str(earlier)

    def _insertion(self, task: NewTask) -> Callable[[Cursor], None]:
        """What writes `task`; all that can be made ready is, outside of the transaction."""
        body = {
            "basic": fragment(task.basic),
            "full": None if task.full is None else fragment(task.full),
            "plan": task.plan,
        }
        log = encode_log(Report(State.QUEUED), task.notes) if task.notes else None
        terms = {tag_term(key): tag_term(value) for key, value in task.tags.items()}
        tags = [{"id": task.id, "key": key, "value": value} for key, value in terms.items()]
        name = None if task.name is None else name_term(task.name)

        def insert(cursor: Cursor) -> None:
            self._sql.insert_task.run(cursor, id=task.id, name=name, creation_time=task.creation_time)
            if cursor.rowcount != 1:
                raise StoreError(f"There is a task with the id {task.id} already: create the task again.")
            self._sql.insert_body.run(cursor, id=task.id, **body)
            if tags:
                self._sql.insert_tag.run_each(cursor, tags)
            if log is not None:
                self._log(cursor, task.id, 1, log)

        return insert

    async def get(self, id: str, view: View = View.MINIMAL) -> bytes | None:
        """The task as JSON, or None when there is none with this id."""
        statement = self._sql.get[view]
        row = await self._workers.look_up(lambda cursor: statement.run(cursor, id=id).fetchone())
        return b"{%s}" % row[0] if row else None

    async def state(self, id: str) -> State | None:
        """The task's state, or None when there is no such task."""
        row = await self._workers.look_up(lambda cursor: self._sql.state.run(cursor, id=id).fetchone())
        return State(row[0]) if row else None

    async def find(self, id: str) -> ActiveTask | None:
        """Where the task stands, ended or not, or None when there is no such task."""
        row = await self._workers.look_up(lambda cursor: self._sql.find.run(cursor, id=id).fetchone())
        return ActiveTask(row[0], State(row[1]), row[2]) if row else None

    async def page(self, query: Query) -> Page:
        """One page of tasks, newest first (TES 1.1.0 ListTasks).

        Pages stay as they are while tasks are created, and the last page is never empty unless it is the first.
        """
        shape, values = _conditions(query, self._sql.shown.states(query.state))

        def read(cursor: Cursor) -> Page:
            statement = self._sql.lists.statement(cursor, shape, values)
            count, last, tasks = statement.run(cursor, limit=query.page_size + 1, **values).fetchone()
            if not count:
                return Page(b"[]", None)
            if count <= query.page_size:
                return Page(b"[{%s}]" % tasks, None)
            # One more was asked for, to see whether there is another page: it is that page's first.
            return Page(b"[{%s}]" % memoryview(tasks)[: tasks.rindex(BETWEEN)], last + 1)

        return await self._workers.read(read)

    async def cancel(self, id: str) -> State | None:
        """Set CANCELING unless the task has ended; the state afterwards, or None when there is no such task."""

        def write(cursor: Cursor) -> tuple[bool, State | None]:
            took_effect = self._sql.cancel.run(cursor, id=id).rowcount == 1
            row = self._sql.state.run(cursor, id=id).fetchone()
            return took_effect, State(row[0]) if row else None

        def committed(outcome: tuple[bool, State | None]) -> None:
            if outcome[0]:
                self._tell(id, State.CANCELING)

        return (await self._workers.write(write, committed))[1]

    async def apply(self, changes: Sequence[Change]) -> list[bool]:
        """Fold reports into the store, all in one transaction; which of them took effect, in order.

        A change takes effect when its attempt is the current one and its state may follow the present one
        (`tesk.tes.states`). The state that is there already, or none, still replaces the log while the task has not
        ended; on the way to CANCELED, the log of a report that knows nothing of that is kept and its state is not.
        """
        now = time.time_ns() // 1_000_000
        # In one order in every server, so that two transactions cannot wait for each other.
        in_order = sorted(range(len(changes)), key=lambda index: changes[index].id)

        def write(cursor: Cursor) -> list[bool]:
            took_effect = [False] * len(changes)
            for index in in_order:
                took_effect[index] = self._apply(cursor, changes[index], now)
            return took_effect

        return await self._workers.write(write) if changes else []

    def _show_directories(self, cursor: Cursor, id: str, paths: Collection[str]) -> None:
        bodies = self._sql.body.run(cursor, id=id).fetchone()
        basic, full = (None if one is None else fragment(with_directories(whole(bytes(one)), paths)) for one in bodies)
        self._sql.update_body.run(cursor, id=id, basic=basic, full=full)

    def _apply(self, cursor: Cursor, change: Change, now: int) -> bool:
        entered = False
        if change.state is not None and (enter := self._sql.enter.get(change.state)):
            moment = {"now": now} if change.state.terminal else {}
            entered = enter.run(cursor, id=change.id, attempt=change.attempt, **moment).rowcount == 1
        if entered and change.directories:
            self._show_directories(cursor, change.id, change.directories)
        if change.log is None:
            return entered
        if entered:
            self._log(cursor, change.id, change.attempt, change.log)
            return True
        guarded = self._sql.log_while.get(change.state)
        if guarded is None:
            return False
        guarded.run(
            cursor,
            id=change.id,
            attempt=change.attempt,
            log_basic=change.log.basic,
            log_full=change.log.full,
        )
        return cursor.rowcount == 1

    def _log(self, cursor: Cursor, id: str, attempt: int, log: TaskLogBytes) -> None:
        self._sql.log.run(cursor, id=id, attempt=attempt, log_basic=log.basic, log_full=log.full)

    async def retry(self, id: str, attempt: int, log: TaskLogBytes) -> bool:
        """Attempt `attempt` is lost: keep its last log, and queue the task for the next.

        False, and nothing is changed, when another attempt is the current one, or the task has ended or is to be
        canceled.
        """

        def write(cursor: Cursor) -> bool:
            if self._sql.requeue.run(cursor, id=id, attempt=attempt).rowcount != 1:
                return False
            self._log(cursor, id, attempt, log)
            return True

        def committed(took_effect: bool) -> None:
            if took_effect:
                self._tell(id, State.QUEUED)

        return await self._workers.write(write, committed)

    async def queued(self, limit: int, after_seq: int | None = None) -> list[QueuedTask]:
        """The oldest `limit` tasks in state QUEUED, oldest first; those created after task `after_seq` if given."""
        rows = await self._workers.read(
            lambda cursor: self._sql.queued.run(cursor, seq=after_seq or 0, limit=limit).fetchall()
        )
        return [QueuedTask(*row) for row in rows]

    async def queued_before(self, id: str, from_seq: int, limit: int) -> int:
        """How many tasks in state QUEUED were created before this one, from task `from_seq` on; at most `limit`."""
        values = {"id": id, "seq": from_seq, "limit": limit}
        row = await self._workers.read(lambda cursor: self._sql.queued_before.run(cursor, **values).fetchone())
        return int(row[0])

    async def active(self) -> list[ActiveTask]:
        """Every task in INITIALIZING, RUNNING or CANCELING, oldest first."""
        rows = await self._workers.read(lambda cursor: self._sql.active.run(cursor).fetchall())
        return [ActiveTask(id, State(state), attempt) for id, state, attempt in rows]

    async def plan(self, id: str) -> bytes | None:
        """The task's plan as JSON, or None when there is no such task."""
        return _only(await self._workers.read(lambda cursor: self._sql.plan.run(cursor, id=id).fetchone()))

    async def attempt_logs(self, id: str, attempt: int) -> bytes | None:
        """The tesTaskLog of one attempt in the FULL view, or None when nothing is known of it."""
        return _only(
            await self._workers.read(
                lambda cursor: self._sql.attempt_log.run(cursor, id=id, attempt=attempt).fetchone()
            )
        )

    async def counts(self) -> Mapping[State, int]:
        """How many tasks are in each state; states without a task are left out."""
        rows = await self._workers.read(lambda cursor: self._sql.counts.run(cursor).fetchall())
        return {State(state): count for state, count in rows}

    async def secret(self) -> bytes:
        """32 random bytes for signing page tokens: made once, the same in every server on this database."""
        if self._secret is None:
            new = secrets.token_bytes(32)

            def write(cursor: Cursor) -> bytes:
                self._sql.insert_meta.run(cursor, key="secret", value=new)
                return bytes(self._sql.meta.run(cursor, key="secret").fetchone()[0])

            self._secret = await self._workers.write(write)
        return self._secret

    async def remove_ended_before(self, time: datetime, limit: int = 1000) -> int:
        """Remove the records of at most `limit` tasks that ended before `time`; how many were removed."""
        ended_at = int(time.timestamp() * 1000)
        return await self._workers.write(
            lambda cursor: self._sql.remove.run(cursor, ended_at=ended_at, limit=limit).rowcount
        )


def _conditions(query: Query, states: Sequence[State]) -> tuple[Filters, dict[str, object]]:
    """What the list must fulfil, as the shape of its statement and the values in it."""
    values: dict[str, object] = {}
    if query.before is not None:
        values["seq"] = query.before
    values |= {f"wanted_{index}": state.value for index, state in enumerate(states)}
    if query.name_prefix:
        prefix = name_term(query.name_prefix)
        indexed = prefix[:_INDEXED]
        bounds = {
            "name_from": indexed,
            "name_below": after_prefix(indexed),
            "prefix_from": prefix,
            "prefix_below": after_prefix(prefix),
        }
        values |= {key: bound for key, bound in bounds.items() if bound is not None}
    for index, (key, value) in enumerate(query.tags):
        values[f"key_{index}"] = tag_term(key)
        if value:
            values[f"value_{index}"] = tag_term(value)
    shape = Filters(
        view=query.view,
        before="seq" in values,
        states=len(states),
        name="name_from" in values,
        name_below="name_below" in values,
        prefix_below="prefix_below" in values,
        tags=tuple(bool(value) for _, value in query.tags),
    )
    return shape, values


def _only(row: Iterable[bytes] | None) -> bytes | None:
    return bytes(next(iter(row))) if row else None
