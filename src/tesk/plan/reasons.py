"""Why a task cannot be planned: every reason at once, each with the place in the task's JSON."""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["CannotPlan", "Faults", "Reason"]

_PART = re.compile(r"\$\.(\w+)(?:\[(\d+)\])?")
_ORDER = ("inputs", "outputs", "resources", "executors", "volumes")


class Reason(NamedTuple):
    """One thing to change: its JSON path (`$.inputs[0].path`), and a sentence: what is wrong, what to do."""

    path: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.path}: {self.sentence}"


class CannotPlan(ValueError):
    """The task cannot run on this site; `reasons` holds every reason, in the order of the task's parts."""

    def __init__(self, reasons: tuple[Reason, ...]) -> None:
        super().__init__("; ".join(str(reason) for reason in reasons))
        self.reasons = reasons


class Faults:
    """Collects reasons while a task is planned, so that the client hears of all of them at once."""

    def __init__(self) -> None:
        self._found: dict[Reason, None] = {}

    def add(self, path: str, sentence: str) -> None:
        """Note one reason; the same reason twice counts once."""
        self._found.setdefault(Reason(path, sentence))

    def raise_any(self) -> None:
        """Raise CannotPlan when anything was noted."""
        if self._found:
            raise CannotPlan(tuple(sorted(self._found, key=_place)))


def _place(reason: Reason) -> tuple[int, int]:
    """Where a task has the part that `reason` is about; reasons about one part keep their order."""
    match = _PART.match(reason.path)
    if match is None or match[1] not in _ORDER:
        return -1, 0
    return _ORDER.index(match[1]), int(match[2] or 0)
