"""The tasks that are to be started next, read ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass

from tesk.backends.base import Attempt, AttemptKey
from tesk.plan.model import Plan
from tesk.store import QueuedTask, Store

__all__ = ["Queued", "Window"]

SIZE = 64
"""How many queued tasks are held ready, so that a freed place is filled without asking the store."""


@dataclass(slots=True)
class Queued:
    """A queued task; its plan is read once, however long it is the next."""

    task: QueuedTask
    made: Attempt | None = None

    @property
    def key(self) -> AttemptKey:
        """The attempt that waits."""
        return AttemptKey(self.task.id, self.task.attempt)

    def attempt(self) -> Attempt:
        """What the backend is offered; raises ValueError when the stored plan cannot be read."""
        if self.made is None:
            try:
                self.made = Attempt(self.key, Plan.from_json(self.task.plan))
            except RecursionError as error:
                raise ValueError(str(error)) from error
        return self.made


class Window:
    """The oldest queued tasks, oldest first.

    `elsewhere` says which attempts are not to be read: those that the backend holds, or that wait apart; `number_there`
    how many there may be of them.
    """

    def __init__(self, store: Store, elsewhere: Callable[[AttemptKey], bool], number_there: Callable[[], int]) -> None:
        self._store = store
        self._elsewhere = elsewhere
        self._number_there = number_there
        self._tasks: deque[Queued] = deque()
        self._more = True

    @property
    def oldest(self) -> Queued | None:
        """The first of those that were read, if any."""
        return self._tasks[0] if self._tasks else None

    def expect_more(self) -> None:
        """The store may hold queued tasks that were not read yet."""
        self._more = True

    async def first(self) -> Queued | None:
        """The oldest, None when no task waits; it stays the first until it is removed."""
        if not self._tasks and self._more:
            self._more = False  # before the question: a task created while it is asked sets it again
            found = [Queued(one) for one in await self._store.queued(SIZE + self._number_there())]
            self._tasks.extend(one for one in found if not self._elsewhere(one.key))
            self._more = self._more or bool(self._tasks)
        return self.oldest

    def remove_first(self) -> None:
        """It was taken, or is no longer to be run."""
        self._tasks.popleft()

    def remove(self, tasks: Collection[str]) -> None:
        """These are no longer to be run."""
        self._tasks = deque(one for one in self._tasks if one.task.id not in tasks)
