"""Tasks as JSON, joined from stored pieces by the database itself: no task is ever parsed to be shown.

One row comes out, however many tasks are on a page: each row that Python fetches would cost a turn of the interpreter's
lock, for which a reader waits while the event loop works.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from tesk.store.schema import attempts, bodies, tasks
from tesk.tes.states import State
from tesk.tes.views import View

__all__ = ["BETWEEN", "Shown", "fragment", "whole"]


def fragment(json_object: bytes) -> bytes:
    """The members of an encoded JSON object, without its braces, each after a comma.

    Raises ValueError when it is not an object.
    """
    stripped = json_object.strip()
    if stripped[:1] != b"{" or stripped[-1:] != b"}":
        raise ValueError("a task is kept as a JSON object")
    members = stripped[1:-1].strip()
    return members and b"," + members


def whole(members: bytes) -> bytes:
    """The encoded JSON object that `fragment` took the members of."""
    return b"{" + members.removeprefix(b",") + b"}"


BETWEEN = b"},\n{"
"""Between two tasks of a page. Stored JSON has no line breaks, so it is nowhere else."""


class Shown:
    """How one dialect makes JSON. With `hide_canceling`, tasks in CANCELING are shown as RUNNING.

    Ids and states need no escapes (`Store.create` sees to that).
    """

    def __init__(self, dialect: str, *, hide_canceling: bool = False) -> None:
        self._sqlite = dialect == "sqlite"
        self._hide_canceling = hide_canceling

    def task(self, view: View, source: sa.FromClause = tasks) -> sa.ColumnElement[bytes]:
        """The members, without braces, of the task in a row of `source`, which has `seq`, `id`, `state` and `attempt`.

        The body comes last: each `||` copies what stands before it.
        """
        pieces = [self._text('"id":"'), self._raw(source.c.id), self._text('","state":"'), self._state(source)]
        if view is View.MINIMAL:
            pieces.append(self._text('"'))
        else:
            body, logs = self._members(view, source)
            some_logs = self._text('","logs":[').concat(logs).concat(self._text("]"))
            pieces += [sa.func.coalesce(some_logs, self._text('"')), body]
        joined = pieces[0]
        for piece in pieces[1:]:
            joined = joined.concat(piece)
        return sa.cast(joined, sa.LargeBinary) if self._sqlite else joined

    def page(self, rows: sa.Subquery) -> sa.Select[Any]:
        """From `rows` of seq and task, newest first: one row of (how many, seq of the last, all the tasks joined by
        `BETWEEN`)."""
        task, seq = rows.c.task, rows.c.seq
        between = self._text(BETWEEN.decode())
        if self._sqlite:
            joined: sa.ColumnElement[Any] = sa.func.group_concat(task, between)  # goes through `rows` in their order
            joined = sa.cast(joined, sa.LargeBinary)
        else:
            joined = sa.func.string_agg(task, _ordered(between, seq.desc()))
        return sa.select(sa.func.count(), sa.func.min(seq), joined)

    def _members(self, view: View, source: sa.FromClause) -> tuple[sa.ColumnElement[Any], sa.ColumnElement[Any]]:
        """The body, and the logs of all attempts or null. Looked up for each task, and so never sorted with it."""
        body: sa.ColumnElement[Any] = bodies.c.basic
        log: sa.ColumnElement[Any] = attempts.c.log_basic
        if view is View.FULL:
            body = sa.func.coalesce(bodies.c.full, bodies.c.basic)
            log = sa.func.coalesce(attempts.c.log_full, attempts.c.log_basic)
        if self._sqlite:
            joined: sa.ColumnElement[Any] = sa.func.group_concat(log)  # found by the primary key, and in its order
        else:
            joined = sa.func.string_agg(log, _ordered(self._text(","), attempts.c.attempt))
        mine = attempts.c.seq == source.c.seq
        one = sa.select(log).where(mine, attempts.c.attempt == 1).scalar_subquery()
        several = sa.select(joined).where(mine).scalar_subquery()
        logs = sa.case((source.c.attempt == 1, one), else_=several)  # to join the logs of most tasks would be in vain
        return sa.select(body).where(bodies.c.seq == source.c.seq).scalar_subquery(), logs

    def states(self, shown: State | None) -> tuple[State, ...]:
        """The states of tasks that are shown in state `shown`; none for None, which is any."""
        if shown is None:
            return ()
        if self._hide_canceling and shown is State.RUNNING:
            return (State.RUNNING, State.CANCELING)
        # no task is ever kept in UNKNOWN
        return (State.UNKNOWN,) if self._hide_canceling and shown is State.CANCELING else (shown,)

    def _state(self, source: sa.FromClause) -> sa.ColumnElement[Any]:
        state = source.c.state
        if not self._hide_canceling:
            return self._raw(state)
        return self._raw(sa.case((state == State.CANCELING.value, State.RUNNING.value), else_=state))

    def _text(self, text: str) -> sa.ColumnElement[Any]:
        """A constant without quotes or backslashes in it."""
        return sa.literal_column(f"'{text}'" if self._sqlite else f"'{text}'::bytea", sa.LargeBinary)

    def _raw(self, text: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        return text if self._sqlite else sa.func.convert_to(text, sa.literal_column("'UTF8'"), type_=sa.LargeBinary)


def _ordered(value: sa.ColumnElement[Any], by: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    from sqlalchemy.dialects.postgresql import aggregate_order_by  # 30 ms that SQLite must not pay

    return aggregate_order_by(value, by)
