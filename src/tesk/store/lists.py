"""The statements of lists, and which condition leads each.

SQLite keeps no statistics that it could choose by, and a page of 256 tasks must not cost a walk over a million: so it
is told. The leading condition's index is walked, newest task first, until the page is full, and the others are looked
up task by task. What leads is what matches least, by a look into the indexes that ends after a few thousand entries.
PostgreSQL has statistics and is not told.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from tesk.store.database import Cursor
from tesk.store.schema import NAME_START, tags, tasks
from tesk.store.shown import Shown
from tesk.tes.views import View

__all__ = ["Filters", "Lists"]

_DEPTH = 256
"""A condition with fewer tasks than this leads at once; of others the one whose `_DEPTH`th task is the oldest."""

_SORTED = 4096
"""How many tasks are sorted at most, where a condition's index has them in another order. Among a million tasks, what
matches more than that fills a page of 256 by a walk over as many."""

_CHOICE_SECONDS = 10.0
_CHOICES = 1024


@dataclass(frozen=True, slots=True)
class Filters:
    """The shape of a list's query: which conditions it has, not their values.

    `states` is how many states match, 0 for all of them. `name` is a prefix, `name_below` and `prefix_below` whether
    there is a text after everything with that prefix (in the index, which holds the start of a name, and in names).
    `tags` says for each tag whether it has a value.
    """

    view: View
    before: bool = False
    states: int = 0
    name: bool = False
    name_below: bool = False
    prefix_below: bool = False
    tags: tuple[bool, ...] = ()

    @property
    def ordered(self) -> list[str]:
        """The conditions whose index has their tasks in the order of the list."""
        return ["state"] * (self.states == 1) + [f"tag_{number}" for number, exact in enumerate(self.tags) if exact]

    @property
    def unordered(self) -> list[str]:
        """The conditions whose index has their tasks in another order: they must be sorted."""
        tags = [f"tag_{number}" for number, exact in enumerate(self.tags) if not exact]
        return ["state"] * (self.states > 1) + ["name"] * self.name + tags


class Lists:
    """The statements of lists for one dialect; `compile` makes what is kept of each."""

    def __init__(
        self,
        dialect: str,
        compile: Callable[[sa.sql.ClauseElement], Any],
        shown: Shown,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._told = dialect == "sqlite"
        self._compile = compile
        self._shown = shown
        self._choices: dict[tuple[Any, ...], tuple[float, str]] = {}
        self.page = lru_cache(maxsize=512)(self._page)
        self._probe = lru_cache(maxsize=128)(self._make_probe)

    def statement(self, cursor: Cursor, filters: Filters, values: Mapping[str, Any]) -> Any:
        """The statement for `filters`; `limit` is one more than the page, to see whether there is another."""
        return self.page(filters, self.leader(cursor, filters, values))

    def leader(self, cursor: Cursor, filters: Filters, values: Mapping[str, Any]) -> str:
        """Which condition leads; `seq` when none does, `any` when the database may choose."""
        if not self._told:
            return "any"
        conditions = filters.ordered + filters.unordered
        if not conditions:
            return "seq"
        if conditions == filters.ordered[:1]:
            return conditions[0]
        # The choice decides how long an answer takes and not what is in it: it may be a little old.
        key = tuple(one for item in values.items() if item[0] != "seq" for one in item)
        now = self._clock()
        known = self._choices.get(key)
        if known is None or known[0] < now:
            if len(self._choices) >= _CHOICES:
                self._choices.clear()
            known = self._choices[key] = (now + _CHOICE_SECONDS, self._choose(cursor, filters, values))
        return known[1]

    def _choose(self, cursor: Cursor, filters: Filters, values: Mapping[str, Any]) -> str:
        probe = self._probe(filters.states, filters.name, filters.name_below, filters.tags)
        asked = {key: value for key, value in values.items() if key not in ("seq", "prefix_from", "prefix_below")}
        found = dict(zip(filters.ordered + filters.unordered, probe.run(cursor, **asked).fetchone(), strict=True))
        counts = {name: found[name] for name in filters.unordered if found[name] < _SORTED}
        depths = {name: found[name] or 0 for name in filters.ordered}
        oldest = min(depths, key=depths.__getitem__, default="seq")
        if counts and depths.get(oldest, 1):
            return min(counts, key=counts.__getitem__)
        return oldest

    def _make_probe(self, states: int, name: bool, name_below: bool, exact: tuple[bool, ...]) -> Any:
        """For each ordered condition the seq of its `_DEPTH`th task, for each other how many tasks match, if few."""
        filters = Filters(View.MINIMAL, states=states, name=name, name_below=name_below, tags=exact)
        looks: list[sa.ColumnElement[Any]] = []
        for lead in filters.ordered:
            seq, where = _indexed(lead, filters)
            looks.append(sa.select(seq).where(*where).order_by(seq.desc()).limit(1).offset(_DEPTH).scalar_subquery())
        for lead in filters.unordered:
            seq, where = _indexed(lead, filters)
            few = sa.select(seq).where(*where).limit(_SORTED).subquery()
            looks.append(sa.select(sa.func.count()).select_from(few).scalar_subquery())
        return self._compile(sa.select(*(one.label(f"look_{number}") for number, one in enumerate(looks))))

    def _page(self, filters: Filters, lead: str) -> Any:
        leads = filters.ordered + filters.unordered if lead == "any" else [lead]
        seq: sa.ColumnElement[int] = tasks.c.seq
        chosen = sa.select(tasks.c.id)
        for condition in filters.ordered + filters.unordered:
            if condition not in leads:
                chosen = chosen.where(*_looked_up(condition, filters))
                continue
            own, where = _indexed(condition, filters)
            if condition.startswith("tag"):
                chosen = chosen.join(own.table, own == tasks.c.seq)
                seq = own  # SQLite then sees that the index has the list's order
            chosen = chosen.where(*where)
            if condition == "name":
                chosen = chosen.where(*_looked_up(condition, filters))
        if filters.before:
            chosen = chosen.where(seq < sa.bindparam("seq", type_=sa.BigInteger()))
        limit = sa.bindparam("limit", type_=sa.Integer())
        if lead in filters.unordered:  # what is sorted is narrow
            narrow = chosen.with_only_columns(seq.label("seq"), tasks.c.id, tasks.c.state, tasks.c.attempt)
            found = narrow.order_by(seq.desc()).limit(limit).subquery("found")
            rows = sa.select(found.c.seq, self._shown.task(filters.view, found).label("task")).order_by(
                found.c.seq.desc()
            )
        else:
            rows = chosen.with_only_columns(seq.label("seq"), self._shown.task(filters.view).label("task"))
            rows = rows.order_by(seq.desc()).limit(limit)
        return self._compile(self._shown.page(rows.subquery("page")))


def _text(name: str) -> sa.BindParameter[str]:
    return sa.bindparam(name, type_=sa.Text())


def _wanted(state: sa.ColumnElement[str], filters: Filters) -> sa.ColumnElement[bool]:
    states = [_text(f"wanted_{number}") for number in range(filters.states)]
    return state == states[0] if len(states) == 1 else state.in_(states)


def _indexed(condition: str, filters: Filters) -> tuple[sa.Column[Any], list[sa.ColumnElement[bool]]]:
    """A condition so that its index is used, and the column of that index that is `seq`."""
    if condition == "state":
        return tasks.c.seq, [_wanted(tasks.c.state, filters)]
    if condition == "name":
        start: sa.ColumnElement[str] = sa.literal_column(NAME_START, sa.Text())
        where = [start >= _text("name_from")]
        return tasks.c.seq, where + [start < _text("name_below")] * filters.name_below
    number = int(condition.removeprefix("tag_"))
    tag = tags.alias(condition)
    where = [tag.c.key == _text(f"key_{number}")]
    return tag.c.seq, where + [tag.c.value == _text(f"value_{number}")] * filters.tags[number]


def _looked_up(condition: str, filters: Filters) -> list[sa.ColumnElement[bool]]:
    """A condition so that it is looked up for a task that is found already, and no index leads to it."""
    if condition == "state":
        return [_wanted(tasks.c.state.concat(""), filters)]
    if condition == "name":
        where = [tasks.c.name >= _text("prefix_from")]
        return where + [tasks.c.name < _text("prefix_below")] * filters.prefix_below
    number = int(condition.removeprefix("tag_"))
    tag = tags.alias(f"of_{condition}")
    value = sa.select(tag.c.value).where(tag.c.seq == tasks.c.seq, tag.c.key == _text(f"key_{number}"))
    found = value.correlate(tasks).scalar_subquery()
    return [found == _text(f"value_{number}") if filters.tags[number] else found.is_not(None)]
