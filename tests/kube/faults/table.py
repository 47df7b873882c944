"""What is done to a task, at which of its steps, and what must come of it. Pure."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

__all__ = ["ALONE", "STEPS", "TOGETHER", "Case", "Expected", "Fault", "Step", "sample"]

Step = Literal["before", "taskmaster", "stage-in", "executor-0", "executor-1", "stage-out", "clean-up"]
"""Where a task is held when the fault strikes.

`before`: its taskmaster has no node yet. `taskmaster`: that runs, and stage-in has no node yet. `clean-up`: stage-out
has ended.
"""

Fault = Literal[
    "pod-deleted",
    "pod-evicted",
    "killed",
    "command-killed",
    "job-deleted",
    "job-orphaned",
    "claim-deleted",
    "taskmaster-deleted",
    "taskmaster-evicted",
    "taskmaster-killed",
    "server-killed",
    "api-away",
]
"""`pod` and `job` are those of the step; `killed` is kill -9 from the machine, of its container's first process.

`command-killed` leaves the launcher alone. `job-orphaned` deletes the Job and leaves its pod.
"""

STEPS: tuple[Step, ...] = get_args(Step)


@dataclass(frozen=True, slots=True)
class Expected:
    """The states that the task may end in, how many attempts it may take, and what each lost one must say."""

    states: tuple[str, ...]
    attempts: tuple[int, ...]
    why: str = ""


@dataclass(frozen=True, slots=True)
class Case:
    """One fault at one step."""

    step: Step
    fault: Fault
    expected: Expected

    def __str__(self) -> str:
        return f"{self.step}/{self.fault}"


_GOES_ON = Expected(("COMPLETE",), (1,))
_KILLED = Expected(("EXECUTOR_ERROR",), (1,))


def _again(why: str) -> Expected:
    return Expected(("COMPLETE",), (2,), why)


_DELETED, _EVICTED = _again("its pod was deleted"), _again("its pod was evicted")
_CLAIM_GONE = _again("the scratch volume was deleted")
_JOB_GONE = _again(" was deleted")  # the Job, or its pod where that is seen first
# a cluster with much to do deletes the pod seconds after its Job, and what ends well meanwhile is done
_JOB_GOES = Expected(("COMPLETE",), (1, 2), _JOB_GONE.why)

_FILER: dict[Fault, Expected] = {
    "pod-deleted": _GOES_ON,
    "pod-evicted": _GOES_ON,
    "killed": _GOES_ON,
    "job-deleted": _JOB_GOES,
    "job-orphaned": _JOB_GONE,
}
_EXECUTOR: dict[Fault, Expected] = {
    "pod-deleted": _DELETED,
    "pod-evicted": _EVICTED,
    "killed": _KILLED,
    "command-killed": _KILLED,
    "job-deleted": _JOB_GOES,
    "job-orphaned": _JOB_GONE,
    "claim-deleted": _CLAIM_GONE,
}
_TASKMASTER: dict[Fault, Expected] = {
    "taskmaster-deleted": _GOES_ON,
    "taskmaster-evicted": _GOES_ON,
    "taskmaster-killed": _GOES_ON,
}

_TABLE: dict[Step, dict[Fault, Expected]] = {
    "before": {
        "pod-deleted": _GOES_ON,
        "pod-evicted": _GOES_ON,
        "job-deleted": _JOB_GONE,
    },
    "taskmaster": {
        "pod-deleted": _GOES_ON,
        "pod-evicted": _GOES_ON,
        "killed": _GOES_ON,
        "job-deleted": _JOB_GONE,
        "job-orphaned": _GOES_ON,
        "claim-deleted": _CLAIM_GONE,
    },
    "stage-in": {**_FILER, **_TASKMASTER, "claim-deleted": _CLAIM_GONE},
    "executor-0": {**_EXECUTOR, **_TASKMASTER},
    "executor-1": {**_EXECUTOR, **_TASKMASTER},
    # the filer that runs keeps the volume until it has delivered
    "stage-out": {**_FILER, **_TASKMASTER, "claim-deleted": _GOES_ON},
    # the last report may be there already, or not
    "clean-up": {**_TASKMASTER, "job-deleted": _JOB_GOES},
}

ALONE: tuple[Case, ...] = tuple(
    Case(step, fault, expected) for step, faults in _TABLE.items() for fault, expected in faults.items()
)
"""Faults that strike one task and no other."""

TOGETHER: dict[Fault, tuple[Case, ...]] = {
    fault: tuple(Case(step, fault, _GOES_ON) for step in STEPS) for fault in ("server-killed", "api-away")
}
"""Faults that strike every task there is: one at each step."""


def sample(seed: int, count: int, cases: Sequence[Case] = ALONE) -> tuple[Case, ...]:
    """`count` of `cases` by chance: at first each step once, and no fault twice before each was there once."""
    rest = list(cases)
    random.Random(seed).shuffle(rest)
    found: list[Case] = []
    while rest and len(found) < count:
        steps, faults = [one.step for one in found], [one.fault for one in found]
        rest.sort(key=lambda one: steps.count(one.step) + faults.count(one.fault))
        found.append(rest.pop(0))
    return tuple(sorted(found, key=cases.index))
