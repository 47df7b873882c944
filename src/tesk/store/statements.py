"""Every statement of TESK: written once in SQLAlchemy, compiled once for the database at hand.

What runs on the hot paths is the text and a dict for the driver; SQLAlchemy itself is not asked again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import Any

import sqlalchemy as sa

from tesk.store.database import Cursor
from tesk.store.schema import NAME_START, attempts, bodies, creations, meta, tags, tasks
from tesk.tes.states import ACTIVE, State, predecessors
from tesk.tes.views import View

__all__ = ["Filters", "Statement", "Statements"]

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


@dataclass(frozen=True, slots=True)
class Filters:
    """The shape of a list's query: which conditions it has, not their values.

    `states` is how many states match, 0 for all of them. `name_from` and `name_below` bound what the index holds of a
    name, `name_whole` compares a prefix longer than that; `tags` says for each tag whether it has a value.
    """

    view: View
    before: bool = False
    states: int = 0
    name_from: bool = False
    name_below: bool = False
    name_whole: bool = False
    tags: tuple[bool, ...] = ()


class Statements:
    """Every statement, for one dialect. With `hide_canceling`, tasks in CANCELING are shown as RUNNING."""

    def __init__(self, dialect: sa.Dialect, *, hide_canceling: bool = False) -> None:
        self._dialect = dialect
        self._hide_canceling = hide_canceling
        # each dialect's INSERT knows ON CONFLICT; the other dialect takes 30 ms to import
        self._insert: Any = import_module(f"sqlalchemy.dialects.{dialect.name}").insert
        self.page = lru_cache(maxsize=512)(self._page)
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
        self.get = {view: self._compile(self._shown(view).where(tasks.c.id == _ROW)) for view in View}
        self.state = self._compile(sa.select(tasks.c.state).where(tasks.c.id == _ROW))
        self.find = self._compile(sa.select(tasks.c.id, tasks.c.state, tasks.c.attempt).where(tasks.c.id == _ROW))
        self.queued = self._compile(
            sa.select(tasks.c.seq, tasks.c.id, tasks.c.attempt, bodies.c.plan)
            .join(bodies, bodies.c.seq == tasks.c.seq)
            .where(tasks.c.state == State.QUEUED.value, tasks.c.seq > _SEQ)
            .order_by(tasks.c.seq)
            .limit(_LIMIT)
        )
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

    def _shown_state(self) -> sa.ColumnElement[str]:
        if not self._hide_canceling:
            return tasks.c.state
        hidden = tasks.c.state == State.CANCELING.value
        return sa.case((hidden, State.RUNNING.value), else_=tasks.c.state).label("state")

    def _shown(self, view: View) -> sa.Select[Any]:
        """Rows of (seq, id, state[, body, log]), one for each attempt."""
        if view is View.MINIMAL:
            return sa.select(tasks.c.seq, tasks.c.id, self._shown_state())
        return _with_body(view, tasks, self._shown_state()).order_by(attempts.c.attempt)

    def _page(self, filters: Filters) -> Statement:
        """The statement for one shape of list; `limit` is one more than the page, to see whether there is another."""
        chosen = sa.select(tasks.c.seq, tasks.c.id, self._shown_state())
        seq: sa.ColumnElement[int] = tasks.c.seq
        for index, exact in enumerate(filters.tags):
            tag = tags.alias(f"tag_{index}")
            at = [
                tag.c.seq == tasks.c.seq,
                tag.c.key == sa.bindparam(f"key_{index}", type_=sa.Text()),
            ]
            if exact:
                at.append(tag.c.value == sa.bindparam(f"value_{index}", type_=sa.Text()))
                # The index of values is in this order: SQLite then stops at the end of the page and sorts nothing.
                seq = tag.c.seq
            chosen = chosen.join(tag, sa.and_(*at))
        start: sa.ColumnElement[str] = sa.literal_column(NAME_START, sa.Text())
        if filters.before:
            chosen = chosen.where(seq < _SEQ)
        if filters.states:
            states = [sa.bindparam(f"wanted_{index}", type_=sa.Text()) for index in range(filters.states)]
            chosen = chosen.where(tasks.c.state == states[0] if len(states) == 1 else tasks.c.state.in_(states))
        if filters.name_from:
            chosen = chosen.where(start >= sa.bindparam("name_from", type_=sa.Text()))
        if filters.name_below:
            chosen = chosen.where(start < sa.bindparam("name_below", type_=sa.Text()))
        if filters.name_whole:
            length = sa.bindparam("name_length", type_=sa.Integer())
            chosen = chosen.where(
                sa.func.substr(tasks.c.name, 1, length) == sa.bindparam("name_whole", type_=sa.Text())
            )
        chosen = chosen.order_by(seq.desc()).limit(_LIMIT)
        if filters.view is View.MINIMAL:
            return self._compile(chosen)
        page = chosen.subquery("page")
        return self._compile(
            _with_body(filters.view, page, page.c.state).order_by(page.c.seq.desc(), attempts.c.attempt)
        )


def _blob(name: str) -> sa.BindParameter[bytes]:
    return sa.bindparam(name, type_=sa.LargeBinary())


def _among(states: Iterable[State]) -> sa.ColumnElement[bool]:
    # One parameter for each: a bare list would be spelled out only when SQLAlchemy itself executes.
    return tasks.c.state.in_([sa.literal(state.value, sa.Text()) for state in sorted(states)])


def _with_body(view: View, source: sa.FromClause, state: sa.ColumnElement[str]) -> sa.Select[Any]:
    body: sa.ColumnElement[bytes] = bodies.c.basic
    log: sa.ColumnElement[bytes] = attempts.c.log_basic
    if view is View.FULL:
        body = sa.func.coalesce(bodies.c.full, bodies.c.basic)
        log = sa.func.coalesce(attempts.c.log_full, attempts.c.log_basic)
    return (
        sa.select(source.c.seq, source.c.id, state, body, log)
        .select_from(source)
        .join(bodies, bodies.c.seq == source.c.seq)
        .outerjoin(attempts, attempts.c.seq == source.c.seq)
    )
