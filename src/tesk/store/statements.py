"""Every statement of TESK: written once in SQLAlchemy, compiled once for the database at hand.

What runs on the hot paths is the text and a dict for the driver; SQLAlchemy itself is not asked again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import sqlalchemy as sa

from tesk.store.database import Cursor
from tesk.store.lists import Lists
from tesk.store.schema import attempts, bodies, creations, meta, tags, tasks
from tesk.store.shown import Shown
from tesk.tes.states import ACTIVE, State, predecessors
from tesk.tes.views import View

__all__ = ["Statement", "Statements"]

_ROW = sa.bindparam("id", type_=sa.Text())
_ATTEMPT = sa.bindparam("attempt", type_=sa.Integer())
_NOW = sa.bindparam("now", type_=sa.BigInteger())
_LIMIT = sa.bindparam("limit", type_=sa.Integer())
_SEQ = sa.bindparam("seq", type_=sa.BigInteger())


@dataclass(frozen=True, slots=True)
class Statement:
    """One SQL text in the driver's language, and the parameters that are always the same."""

    sql: str
    constants: Mapping[str, Any]

    def run(self, cursor: Cursor, **parameters: Any) -> Cursor:
        """Execute on `cursor`, and hand it back."""
        cursor.execute(self.sql, {**self.constants, **parameters})
        return cursor

    def run_each(self, cursor: Cursor, rows: Sequence[Mapping[str, Any]]) -> None:
        """Execute once for each of `rows`, without waiting in between where the driver can."""
        cursor.executemany(self.sql, [{**self.constants, **row} for row in rows])


class Statements:
    """Every statement, for one dialect. With `hide_canceling`, tasks in CANCELING are shown as RUNNING."""

    def __init__(self, dialect: sa.Dialect, *, hide_canceling: bool = False) -> None:
        self._dialect = dialect
        self.shown = Shown(dialect.name, hide_canceling=hide_canceling)
        # each dialect's INSERT knows ON CONFLICT; the other dialect takes 30 ms to import
        self._insert: Any = import_module(f"sqlalchemy.dialects.{dialect.name}").insert
        self.lists = Lists(dialect.name, self._compile, self.shown)
        self._creating()
        self._changing()
        self._reading()

    def _compile(self, clause: sa.sql.ClauseElement) -> Statement:
        compiled = clause.compile(dialect=self._dialect)
        parameters = compiled.params or {}
        return Statement(str(compiled), {key: one for key, one in parameters.items() if one is not None})

    def _creating(self) -> None:
        self.insert_task = self._compile(
            self._insert(tasks)
            .values(
                id=_ROW,
                state=State.QUEUED.value,
                attempt=1,
                name=sa.bindparam("name", type_=sa.Text()),
                creation_time=sa.bindparam("creation_time", type_=sa.Text()),
            )
            .inline()
            .on_conflict_do_nothing()
        )
        self.insert_body = self._compile(
            sa.insert(bodies).from_select(
                ["seq", "basic", "full", "plan"],
                sa.select(tasks.c.seq, _blob("basic"), _blob("full"), _blob("plan")).where(tasks.c.id == _ROW),
            )
        )
        self.body = self._compile(
            sa.select(bodies.c.basic, bodies.c.full).join(tasks, bodies.c.seq == tasks.c.seq).where(tasks.c.id == _ROW)
        )
        this_task = sa.select(tasks.c.seq).where(tasks.c.id == _ROW).scalar_subquery()
        self.update_body = self._compile(
            sa.update(bodies).where(bodies.c.seq == this_task).values(basic=_blob("basic"), full=_blob("full"))
        )
        self.insert_tag = self._compile(
            sa.insert(tags).from_select(
                ["seq", "key", "value"],
                sa.select(
                    tasks.c.seq, sa.bindparam("key", type_=sa.Text()), sa.bindparam("value", type_=sa.Text())
                ).where(tasks.c.id == _ROW),
            )
        )
        name = sa.bindparam("key", type_=sa.Text())
        self.insert_key = self._compile(
            self._insert(creations)
            .values(key=name, id=_ROW, fingerprint=_blob("fingerprint"), created_at=_NOW)
            .on_conflict_do_nothing()
        )
        self.created = self._compile(sa.select(creations.c.id, creations.c.fingerprint).where(creations.c.key == name))
        self.expire_keys = self._compile(
            sa.delete(creations).where(creations.c.created_at < sa.bindparam("before", type_=sa.BigInteger()))
        )
        self.log = self._compile(self._upsert_log(tasks.c.id == _ROW))
        """Keep the log of an attempt, without a guard: for a row that this transaction has just changed."""

    def _upsert_log(self, guard: sa.ColumnElement[bool]) -> sa.sql.ClauseElement:
        # FOR UPDATE (PostgreSQL): the guard must still hold when another server ends the task at this moment.
        source = sa.select(tasks.c.seq, _ATTEMPT, _blob("log_basic"), _blob("log_full")).where(guard).with_for_update()
        insert = self._insert(attempts).from_select(["seq", "attempt", "log_basic", "log_full"], source)
        upsert: sa.sql.ClauseElement = insert.on_conflict_do_update(
            index_elements=["seq", "attempt"],
            set_={"log_basic": insert.excluded.log_basic, "log_full": insert.excluded.log_full},
        )
        return upsert

    def _changing(self) -> None:
        this_attempt = sa.and_(tasks.c.id == _ROW, tasks.c.attempt == _ATTEMPT)
        self.enter: dict[State, Statement] = {}
        """Go to a state within an attempt. QUEUED is not among them: only a new attempt enters it."""
        for state in State:
            before = predecessors(state)
            if state is State.QUEUED or not before:
                continue
            values: dict[str, Any] = {"state": state.value}
            if state.terminal:
                values["ended_at"] = _NOW
            self.enter[state] = self._compile(sa.update(tasks).where(this_attempt, _among(before)).values(values))
        self.log_while: dict[State | None, Statement] = {
            state: self._compile(self._upsert_log(sa.and_(this_attempt, _among({state, State.CANCELING}))))
            for state in ACTIVE
        }
        """Keep the log that came with this state: while the task is in it, or on its way to CANCELED."""
        self.log_while[None] = self._compile(self._upsert_log(sa.and_(this_attempt, _among(ACTIVE))))
        self.cancel = self._compile(
            sa.update(tasks)
            .where(tasks.c.id == _ROW, _among(predecessors(State.CANCELING)))
            .values(state=State.CANCELING.value)
        )
        self.requeue = self._compile(
            sa.update(tasks)
            .where(this_attempt, _among({State.QUEUED, *predecessors(State.QUEUED)}))
            .values(state=State.QUEUED.value, attempt=tasks.c.attempt + 1)
        )
        old = (
            sa.select(tasks.c.seq)
            .where(tasks.c.ended_at < sa.bindparam("ended_at", type_=sa.BigInteger()))
            .order_by(tasks.c.ended_at)
            .limit(_LIMIT)
        )
        self.remove = self._compile(sa.delete(tasks).where(tasks.c.seq.in_(old.scalar_subquery())))
        key = sa.bindparam("key", type_=sa.Text())
        self.insert_meta = self._compile(
            self._insert(meta).values(key=key, value=_blob("value")).on_conflict_do_nothing()
        )
        self.meta = self._compile(sa.select(meta.c.value).where(meta.c.key == key))

    def _reading(self) -> None:
        self.get = {
            view: self._compile(sa.select(self.shown.task(view)).select_from(tasks).where(tasks.c.id == _ROW))
            for view in View
        }
        self.state = self._compile(sa.select(tasks.c.state).where(tasks.c.id == _ROW))
        self.find = self._compile(sa.select(tasks.c.id, tasks.c.state, tasks.c.attempt).where(tasks.c.id == _ROW))
        self.queued = self._compile(
            sa.select(tasks.c.seq, tasks.c.id, tasks.c.attempt, bodies.c.plan)
            .join(bodies, bodies.c.seq == tasks.c.seq)
            .where(tasks.c.state == State.QUEUED.value, tasks.c.seq > _SEQ)
            .order_by(tasks.c.seq)
            .limit(_LIMIT)
        )
        mine = sa.select(tasks.c.seq).where(tasks.c.id == _ROW).scalar_subquery()
        between = (tasks.c.seq >= _SEQ, tasks.c.seq < mine)
        earlier = sa.select(tasks.c.seq).where(tasks.c.state == State.QUEUED.value, *between).limit(_LIMIT)
        self.queued_before = self._compile(sa.select(sa.func.count()).select_from(earlier.subquery("earlier")))
        self.active = self._compile(
            sa.select(tasks.c.id, tasks.c.state, tasks.c.attempt)
            .where(_among(ACTIVE - {State.QUEUED}))
            .order_by(tasks.c.seq)
        )
        self.plan = self._compile(
            sa.select(bodies.c.plan).join(tasks, bodies.c.seq == tasks.c.seq).where(tasks.c.id == _ROW)
        )
        self.attempt_log = self._compile(
            sa.select(sa.func.coalesce(attempts.c.log_full, attempts.c.log_basic))
            .join(tasks, attempts.c.seq == tasks.c.seq)
            .where(tasks.c.id == _ROW, attempts.c.attempt == _ATTEMPT)
        )
        self.counts = self._compile(sa.select(tasks.c.state, sa.func.count()).group_by(tasks.c.state))


def _blob(name: str) -> sa.BindParameter[bytes]:
    return sa.bindparam(name, type_=sa.LargeBinary())


def _among(states: Iterable[State]) -> sa.ColumnElement[bool]:
    # One parameter for each: a bare list would be spelled out only when SQLAlchemy itself executes.
    return tasks.c.state.in_([sa.literal(state.value, sa.Text()) for state in sorted(states)])
