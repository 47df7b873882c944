"""The tasks that a command means when it is given filters."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from tesk.cli.faults import USAGE, CommandError
from tesk.cli.options import tags_of
from tesk.tes.states import State

if TYPE_CHECKING:
    from tesk.client import Client, Task
    from tesk.client import View as ViewName

__all__ = ["Filters", "ids_or_filters"]

_LARGEST_PAGE = 2000


@dataclass(frozen=True, slots=True)
class Filters:
    """`--state`, `--name-prefix` and `--tag` as they were given."""

    states: tuple[State, ...] = ()
    name_prefix: str | None = None
    tags: tuple[str, ...] = ()

    @classmethod
    def given(cls, states: Sequence[State] | None, name_prefix: str | None, tags: Sequence[str] | None) -> Filters:
        """From the options as a command has them, None where one was not given."""
        return cls(tuple(states or ()), name_prefix, tuple(tags or ()))

    def __bool__(self) -> bool:
        return bool(self.states or self.name_prefix or self.tags)

    def each(self, client: Client, view: ViewName, page_size: int | None = None) -> Iterator[Task]:
        """Every task that matches, newest first, page by page as they are consumed.

        TES filters by one state; several are asked for one by one and merged.
        """
        if len(self.states) < 2:
            return self._one(client, self.states[0] if self.states else None, view, page_size)
        # only with its time of creation can a task find its place among the others
        wide = "BASIC" if view == "MINIMAL" else view
        streams = [self._one(client, state, cast("ViewName", wide), page_size) for state in dict.fromkeys(self.states)]
        merged = heapq.merge(*streams, key=lambda task: task.get("creation_time") or "", reverse=True)
        return (_minimal(task) for task in merged) if view == "MINIMAL" else merged

    def _one(self, client: Client, state: State | None, view: ViewName, page_size: int | None) -> Iterator[Task]:
        tasks = client.list(
            name_prefix=self.name_prefix, state=state, tags=tags_of(list(self.tags)), view=view, page_size=page_size
        )
        # a server of TES 1.0 knows no such filter and sends every task
        return (task for task in tasks if state is None or task.get("state") == state)

    def ids(self, client: Client, states: Sequence[State] = ()) -> list[str]:
        """The ids of every task that matches; of those in `states` when no state was asked for."""
        wanted = Filters(self.states or tuple(states), self.name_prefix, self.tags)
        found = [
            task["id"]
            for state in wanted.states or (None,)
            for task in wanted._one(client, state, "MINIMAL", _LARGEST_PAGE)
        ]
        # a task whose state changes meanwhile may be found twice
        return list(dict.fromkeys(found))


def _minimal(task: Task) -> Task:
    return {key: task[key] for key in ("id", "state") if key in task}  # type: ignore[return-value]


def ids_or_filters(ids: Sequence[str] | None, filters: Filters, command: str) -> None:
    """Raise CommandError unless exactly one of the two was given."""
    if ids and filters:
        raise CommandError(f"name the tasks to {command} by id or by --state, --name-prefix, --tag; not by both", USAGE)
    if not ids and not filters:
        raise CommandError(f"{command} which tasks? Give ids, or --state, --name-prefix, --tag", USAGE)
