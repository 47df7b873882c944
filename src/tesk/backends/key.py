"""What an attempt is called; apart from `tesk.backends.base`, since it is all that a filer needs of that."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["AttemptKey"]


class AttemptKey(NamedTuple):
    """One try at one task; `attempt` counts from 1. Everything a backend makes is named after it."""

    task: str
    attempt: int

    def __str__(self) -> str:
        return f"{self.task}-a{self.attempt}"
