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

__all__ = ["Shown", "fragment"]


def fragment(json_object: bytes) -> bytes:
    """The members of an encoded JSON object, without its braces.

    Raises ValueError when it is not an object.
    """
    stripped = json_object.strip()
    if stripped[:1] != b"{" or stripped[-1:] != b"}":
        raise ValueError("a task is kept as a JSON object")
    return stripped[1:-1].strip()


class Shown:
    """How one dialect makes JSON. With `hide_canceling`, tasks in CANCELING are shown as RUNNING.

    Ids and states need no escapes (`Store.create` sees to that).
    """

    def __init__(self, dialect: str, *, hide_canceling: bool = False) -> None:
        self._sqlite = dialect == "sqlite"
        self._hide_canceling = hide_canceling

    def task(self, view: View, source: sa.FromClause = tasks) -> sa.ColumnElement[bytes]:
        """The task in a row of `source`, which has `seq`, `id` and `state`."""
        pieces = [self._text('{"id":"'), self._raw(source.c.id), self._text('","state":"'), self._state(source)]
        pieces.append(self._text('"'))
        if view is not View.MINIMAL:
            pieces += self._members(view, source.c.seq)
        joined = pieces[0]
        for piece in [*pieces[1:], self._text("}")]:
            joined = joined.concat(piece)
        return sa.cast(joined, sa.LargeBinary) if self._sqlite else joined

    def page(self, rows: sa.Subquery) -> sa.Select[Any]:
        """From `rows` of seq and task, newest first: one row of (how many, seq of the last, bytes of the last, all the
        tasks joined by commas)."""
        task, seq = rows.c.task, rows.c.seq
        if self._sqlite:
            # Beside min(), SQLite takes a bare column from the row that has the minimum; group_concat goes through
            # `rows` in their order.
            return sa.select(
                sa.func.count(),
                sa.func.min(seq),
                sa.func.length(task),
                sa.cast(sa.func.group_concat(task), sa.LargeBinary),
            )
        sizes = sa.func.array_agg(_ordered(sa.func.octet_length(task), seq), type_=sa.ARRAY(sa.Integer))
        joined = sa.func.string_agg(task, _ordered(self._text(","), seq.desc()))
        return sa.select(sa.func.count(), sa.func.min(seq), sizes[1], joined)

    def _members(self, view: View, seq: sa.ColumnElement[int]) -> list[sa.ColumnElement[Any]]:
        """The body, and the logs of all attempts. Looked up for each task, and so never sorted with it."""
        body: sa.ColumnElement[Any] = bodies.c.basic
        log: sa.ColumnElement[Any] = attempts.c.log_basic
        if view is View.FULL:
            body = sa.func.coalesce(bodies.c.full, bodies.c.basic)
            log = sa.func.coalesce(attempts.c.log_full, attempts.c.log_basic)
        if self._sqlite:
            logs: sa.ColumnElement[Any] = sa.func.group_concat(log)  # found by the primary key, and in its order
        else:
            logs = sa.func.string_agg(log, _ordered(self._text(","), attempts.c.attempt))
        found_body = sa.select(body).where(bodies.c.seq == seq).scalar_subquery()
        found_logs = sa.select(logs).where(attempts.c.seq == seq).scalar_subquery()
        none = self._text("")
        some_logs = self._text(',"logs":[').concat(found_logs).concat(self._text("]"))
        return [
            sa.func.coalesce(self._text(",").concat(sa.func.nullif(found_body, self._empty())), none),
            sa.func.coalesce(some_logs, none),
        ]

    def _state(self, source: sa.FromClause) -> sa.ColumnElement[Any]:
        state = source.c.state
        if not self._hide_canceling:
            return self._raw(state)
        return self._raw(sa.case((state == State.CANCELING.value, State.RUNNING.value), else_=state))

    def _text(self, text: str) -> sa.ColumnElement[Any]:
        """A constant without quotes or backslashes in it."""
        return sa.literal_column(f"'{text}'" if self._sqlite else f"'{text}'::bytea", sa.LargeBinary)

    def _empty(self) -> sa.ColumnElement[Any]:
        return sa.literal_column("x''", sa.LargeBinary) if self._sqlite else self._text("")

    def _raw(self, text: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        return text if self._sqlite else sa.func.convert_to(text, sa.literal_column("'UTF8'"), type_=sa.LargeBinary)


def _ordered(value: sa.ColumnElement[Any], by: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    from sqlalchemy.dialects.postgresql import aggregate_order_by  # 30 ms that SQLite must not pay

    return aggregate_order_by(value, by)
