"""What the objects of an attempt are called, and who owns them.

Names are the same at every try, so that "already there" can be told from "never made" (docs/architecture.md, law 1).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from tesk.backends.key import AttemptKey

__all__ = [
    "Owner",
    "Phase",
    "attempt_name",
    "claim_name",
    "container_name",
    "executor_name",
    "filer_name",
    "key_in",
    "plan_names",
    "report_name",
]

_BEGIN = re.compile(r"([^-]+-[^-]+)(?:-a([1-9][0-9]*))?(?=-|$)")

Phase = Literal["in", "out"]
"""Which way a filer moves files: into scratch, or out of it."""


@dataclass(frozen=True, slots=True)
class Owner:
    """An attempt's first object, the ConfigMap with its plan, which owns all others.

    `uid` is what the API server called it; `parts` is over how many ConfigMaps the plan is spread.
    """

    key: AttemptKey
    uid: str
    parts: int = 1

    @property
    def name(self) -> str:
        """Its name, which all others begin with."""
        return attempt_name(self.key)


def attempt_name(key: AttemptKey) -> str:
    """The task's id; from the second attempt on with `-aN` behind it."""
    return key.task if key.attempt == 1 else f"{key.task}-a{key.attempt}"


def key_in(name: str) -> AttemptKey | None:
    """The attempt that an object called `name` belongs to, where it is named as ours are: `task-…` and the attempt."""
    found = _BEGIN.match(name)
    return None if found is None else AttemptKey(found[1], int(found[2] or 1))


def plan_names(key: AttemptKey, parts: int) -> tuple[str, ...]:
    """The ConfigMaps that hold the plan, the owner first."""
    name = attempt_name(key)
    return (name, *(f"{name}-plan-{number:02d}" for number in range(1, parts)))


def report_name(key: AttemptKey) -> str:
    """The ConfigMap that holds the newest report."""
    return f"{attempt_name(key)}-report"


def claim_name(key: AttemptKey) -> str:
    """The PersistentVolumeClaim of scratch."""
    return f"{attempt_name(key)}-pvc"


def filer_name(key: AttemptKey, phase: Phase) -> str:
    """The Job that stages in or out."""
    return f"{attempt_name(key)}-{'inputs' if phase == 'in' else 'outputs'}-filer"


def executor_name(key: AttemptKey, index: int) -> str:
    """The Job of executor number `index` (from 0)."""
    return f"{attempt_name(key)}-{container_name(index)}"


def container_name(index: int) -> str:
    """The container of executor number `index` (from 0) in a pod for the whole attempt, and its control directory."""
    return f"ex-{index:02d}"
