"""How the tasks of a server looked to their users, all the time."""

from __future__ import annotations

import json
import threading
import time
from collections import defaultdict
from types import TracebackType
from typing import Any

from tests.behaviour.sites import Site
from tests.kube.eventually import until

__all__ = ["ENDS", "Diary"]

ENDS = frozenset({"COMPLETE", "EXECUTOR_ERROR", "SYSTEM_ERROR", "CANCELED", "PREEMPTED"})
"""The states that no task leaves."""

_ACTIVE = ("INITIALIZING", "RUNNING")
_EVERY = 0.1


class Diary:
    """`with Diary(site) as diary`: reads every task ten times a second until the block ends."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._states: defaultdict[str, list[tuple[str, float]]] = defaultdict(list)
        self._said: defaultdict[str, dict[str, float]] = defaultdict(dict)
        self._starts: defaultdict[str, list[str]] = defaultdict(list)
        self._tasks: dict[str, dict[str, Any]] = {}
        self.most_active = 0
        """The most tasks that were INITIALIZING or RUNNING at one time."""
        self._problem: Exception | None = None
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._read_all, daemon=True)

    def __enter__(self) -> Diary:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        self._thread.join(30)

    def why(self, task: str) -> str | None:
        """Why `task` does not run, by what the server says now."""
        with self._site.client as client:
            return client.why(task)

    def states(self, task: str) -> list[str]:
        """The states that were seen, in order."""
        return [state for state, _ in list(self._states[task])]

    def since(self, task: str, state: str) -> float | None:
        """When `task` was first seen in `state` (`time.time()`)."""
        return dict(reversed(list(self._states[task]))).get(state)

    def executed(self, task: str) -> int:
        """How many executors of its last attempt have ended."""
        logs = self._tasks.get(task, {}).get("logs") or [{}]
        return len(logs[-1].get("logs") or ())

    def starts(self, task: str) -> list[str]:
        """What its first attempt's `start_time` was, in order; one where that never changed."""
        return list(self._starts[task])

    def said(self, task: str) -> dict[str, float]:
        """Each sentence of its attempts' `system_logs`, and when it was first seen."""
        return dict(self._said[task])

    def when_said(self, task: str, words: str) -> float | None:
        """When a sentence with `words` was first seen."""
        return min((at for sentence, at in self.said(task).items() if words in sentence), default=None)

    def wait(self, task: str, *states: str, seconds: float = 180.0) -> dict[str, Any]:
        """The task, FULL, once it is or was in one of `states`, or has ended if none is given."""
        wanted = set(states) or ENDS

        def there() -> bool:
            if self._problem is not None:
                raise AssertionError(f"the server cannot be read: {self._problem}")
            return not wanted.isdisjoint(self.states(task))

        until(there, f"{task} is {wanted}: {json.dumps(self._tasks.get(task), indent=1)}", seconds=seconds)
        return self._tasks[task]

    def wait_said(self, task: str, words: str, *, seconds: float = 120.0) -> float:
        """When `task` said `words`, which is awaited."""
        found = until(
            lambda: self.when_said(task, words), f"{task} says {words!r}; it said {self.said(task)}", seconds=seconds
        )
        assert found is not None
        return found

    def _read_all(self) -> None:
        with self._site.client as client:
            while not self._ending.wait(_EVERY):
                try:
                    found = [dict(task) for task in client.list(view="FULL", page_size=2000)]
                except Exception as error:
                    if not self._ending.is_set():
                        self._problem = error
                    return
                self.most_active = max(self.most_active, sum(one["state"] in _ACTIVE for one in found))
                for task in found:
                    self._note(task)

    def _note(self, task: dict[str, Any]) -> None:
        now, states = time.time(), self._states[task["id"]]
        self._tasks[task["id"]] = task
        if not states or states[-1][0] != task["state"]:
            states.append((task["state"], now))
        start = next((one["start_time"] for one in task.get("logs", [])[:1] if one.get("start_time")), None)
        if start is not None and start not in self._starts[task["id"]]:
            self._starts[task["id"]].append(start)
        for attempt in task.get("logs", []):
            for sentence in attempt.get("system_logs", []):
                self._said[task["id"]].setdefault(sentence, now)
