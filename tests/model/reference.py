"""What the API must answer, in the plainest Python there is: lists, dictionaries and no time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["MOST_ATTEMPTS", "TERMINAL", "Reference", "Task"]

MOST_ATTEMPTS = 2
TERMINAL = {"COMPLETE", "EXECUTOR_ERROR", "SYSTEM_ERROR", "CANCELED", "PREEMPTED"}

_ORDER = ["QUEUED", "INITIALIZING", "RUNNING"]


@dataclass
class Task:
    """One task: what its client sent, and what has become of it."""

    id: str
    sent: dict[str, Any]
    state: str = "QUEUED"
    attempt: int = 1
    held: bool = False
    exit_codes: list[int] = field(default_factory=list)

    @property
    def ended(self) -> bool:
        """Whether nothing follows."""
        return self.state in TERMINAL

    def report(self, state: str, exit_codes: list[int]) -> None:
        """The backend tells how the present attempt stands."""
        if self.ended:
            return
        if self.state == "CANCELING":
            self.state = "CANCELED" if state in TERMINAL else "CANCELING"
            self.exit_codes = exit_codes
        elif state in TERMINAL or _ORDER.index(state) >= _ORDER.index(self.state):
            self.state = state
            self.exit_codes = exit_codes
        self.held = not self.ended

    def cancel(self) -> None:
        """A client cancels; what no backend holds is CANCELED at once."""
        if not self.ended:
            self.state = "CANCELING" if self.held else "CANCELED"

    def lose(self, *, room: bool) -> None:
        """The backend has lost the present attempt; a new one begins when there is `room`."""
        if self.ended:
            return
        if self.state == "CANCELING":
            self.state = "CANCELED"
        elif self.attempt < MOST_ATTEMPTS:
            self.state = "QUEUED"
            self.attempt += 1
            self.exit_codes = []
        else:
            self.state = "SYSTEM_ERROR"
        self.held = room and not self.ended

    def shown(self, view: str) -> dict[str, Any]:
        """The task in a view, without `logs` and `creation_time`."""
        if view == "MINIMAL":
            return {"id": self.id, "state": self.state}
        shown = {"id": self.id, "state": self.state, **self.sent}
        if view == "BASIC" and "inputs" in shown:
            shown["inputs"] = [{k: v for k, v in one.items() if k != "content"} for one in shown["inputs"]]
        return shown


class Reference:
    """All tasks, oldest first."""

    def __init__(self) -> None:
        self.tasks: list[Task] = []
        self.room = True

    def create(self, id: str, sent: dict[str, Any]) -> None:
        """A client has created a task."""
        self.tasks.append(Task(id, sent, held=self.room))

    def set_room(self, room: bool) -> None:
        """The backend takes attempts from now on, or takes none."""
        self.room = room
        for one in self.tasks:
            one.held = one.held or (room and not one.ended)

    def lose_all(self) -> None:
        """The backend has lost whatever it held; what had not begun is offered again."""
        for one in self.tasks:
            if one.state == "QUEUED":
                one.held = self.room
            else:
                one.lose(room=self.room)

    def find(self, name_prefix: str | None, state: str | None, tags: dict[str, str]) -> list[Task]:
        """The list as TES 1.1.0 has it, newest first."""
        return [
            one
            for one in reversed(self.tasks)
            if (not name_prefix or one.sent.get("name", "").startswith(name_prefix))
            and (state is None or one.state == state)
            and all(
                key in one.sent.get("tags", {}) and value in ("", one.sent["tags"][key]) for key, value in tags.items()
            )
        ]
