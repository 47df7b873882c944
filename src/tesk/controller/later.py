"""Attempts that an error of tesk itself holds up, and when each is tried again."""

from __future__ import annotations

from dataclasses import dataclass

from tesk.backends.base import AttemptKey
from tesk.taskmaster.report import Report

__all__ = ["Later"]

LONGEST = 60
"""The longest pause, in first pauses."""


@dataclass(slots=True)
class _Waiting:
    tries: int
    due: float
    report: Report | None
    told: bool = False


class Later:
    """What one attempt cannot get done must not hold up the others: it waits here, and longer each time.

    The first pause is `first` seconds, each is twice the one before, and none is longer than 60 times the first. Times
    are seconds of the event loop's clock. What is kept is one entry for each attempt that fails.
    """

    def __init__(self, first: float) -> None:
        self._first = first
        self._waiting: dict[AttemptKey, _Waiting] = {}

    def pause(self, before: int) -> float:
        """How many seconds the next pause is after so many before it."""
        return self._first * min(2.0 ** min(before, 30), LONGEST)

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, key: AttemptKey, now: float, report: Report | None = None) -> tuple[int, float]:
        """Another try has failed: how many have by now, and the seconds until the next.

        `report` is what the next try is to store; None for an attempt that was not handed over.
        """
        before = self._waiting.get(key)
        tries = 1 if before is None else before.tries + 1
        pause = self.pause(tries - 1)
        self._waiting[key] = _Waiting(tries, now + pause, report)
        return tries, pause

    def drop(self, key: AttemptKey) -> None:
        """It is done, or no longer to be done."""
        self._waiting.pop(key, None)

    def waits(self, key: AttemptKey, now: float) -> bool:
        """Whether its next try is still to come."""
        entry = self._waiting.get(key)
        return entry is not None and entry.due > now

    def renew(self, key: AttemptKey, report: Report) -> None:
        """A newer report came for an attempt that waits: this one is what the next try stores."""
        self._waiting[key].report = report

    def reports_due(self, now: float) -> dict[AttemptKey, Report]:
        """What is to be stored now, told once for each try; it is kept until it is dropped."""
        found = {key: entry for key, entry in self._due(now) if entry.report is not None}
        for entry in found.values():
            entry.told = True
        return {key: entry.report for key, entry in found.items() if entry.report is not None}

    def offers_due(self, now: float) -> bool:
        """Whether, since this was last asked, another attempt may be handed over again."""
        found = [entry for _, entry in self._due(now) if entry.report is None]
        for entry in found:
            entry.told = True
        return bool(found)

    def _due(self, now: float) -> list[tuple[AttemptKey, _Waiting]]:
        return [(key, entry) for key, entry in self._waiting.items() if entry.due <= now and not entry.told]

    def offers(self) -> list[AttemptKey]:
        """The attempts that could not be handed over."""
        return [key for key, entry in self._waiting.items() if entry.report is None]

    def seconds(self, now: float) -> float | None:
        """Until the next try, None when nothing waits."""
        pending = [entry.due for entry in self._waiting.values() if not entry.told]
        return max(0.0, min(pending) - now) if pending else None
