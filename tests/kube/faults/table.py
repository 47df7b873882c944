"""What is done to a task, at which of its steps, and what must come of it. Pure."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

__all__ = ["ALONE", "PULLING", "STEPS", "TOGETHER", "Case", "Expected", "Fault", "Layout", "Step", "sample"]

Layout = Literal["jobs", "pod"]

Step = Literal["before", "taskmaster", "stage-in", "executor-0", "executor-1", "stage-out", "clean-up"]
"""Where a task is held when the fault strikes.

`before`: its taskmaster has no node yet. `taskmaster`: that runs, and stage-in has no node yet, which layout `pod` does
not know. `clean-up`: stage-out has ended.
"""

Fault = Literal[
    "pod-deleted",
    "pod-evicted",
    "killed",
    "command-killed",
    "job-deleted",
    "job-orphaned",
    "claim-deleted",
    "pod-forced",
    "plan-deleted",
    "next-killed",
    "taskmaster-deleted",
    "taskmaster-evicted",
    "taskmaster-killed",
    "server-killed",
    "api-away",
    "kubelet-away",
]
"""`pod` and `job` are those of the step; `killed` is kill -9 from the machine, of its container's first process.

`command-killed` leaves the launcher alone. `job-orphaned` deletes the Job and leaves its pod. `pod-forced` does not
wait for the node. `next-killed` is done to the launcher of the executor that waits for its turn.
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

_TASKMASTER_DIED = _again("taskmaster: it ended with exit code 137")
_POD: dict[Fault, Expected] = {
    "pod-deleted": _DELETED,
    "pod-evicted": _EVICTED,
    "pod-forced": _DELETED,
    "plan-deleted": _DELETED,
}
_POD_RUNS: dict[Fault, Expected] = {**_POD, "taskmaster-killed": _TASKMASTER_DIED}
_POD_EXECUTES: dict[Fault, Expected] = {**_POD_RUNS, "killed": _KILLED, "command-killed": _KILLED}

_POD_TABLE: dict[Step, dict[Fault, Expected]] = {
    # without a node it goes before anybody can see why
    "before": {**_POD, "pod-evicted": _again("its pod was ")},
    "stage-in": _POD_RUNS,
    "executor-0": {**_POD_EXECUTES, "next-killed": _KILLED},
    "executor-1": _POD_EXECUTES,
    "stage-out": _POD_RUNS,
    # the last report may be told already, or not
    "clean-up": {fault: Expected(("COMPLETE",), (1, 2), one.why) for fault, one in _POD_RUNS.items()},
}


def _cases(table: Mapping[Step, Mapping[Fault, Expected]]) -> tuple[Case, ...]:
    return tuple(Case(step, fault, expected) for step, faults in table.items() for fault, expected in faults.items())


ALONE: dict[Layout, tuple[Case, ...]] = {"jobs": _cases(_TABLE), "pod": _cases(_POD_TABLE)}
"""Faults that strike one task and no other."""


_PULLS: dict[Fault, Expected] = {
    "taskmaster-killed": _TASKMASTER_DIED,
    "pod-deleted": _again("the task waits: its pod was deleted, and it may still run"),
    "pod-forced": _again("the task waits: its pod was deleted, and it may still run"),
}
PULLING = _cases({"executor-0": _PULLS, "executor-1": _PULLS})
"""Faults that strike a task in layout `pod` while the image of executor 1 is pulled: executor 0 runs, or has ended."""


def _together(steps: Sequence[Step]) -> dict[Fault, tuple[Case, ...]]:
    faults: tuple[Fault, ...] = ("server-killed", "api-away", "kubelet-away")
    return {fault: tuple(Case(step, fault, _GOES_ON) for step in steps) for fault in faults}


TOGETHER: dict[Layout, dict[Fault, tuple[Case, ...]]] = {
    "jobs": _together(STEPS),
    # nothing could hold a pod that has delivered
    "pod": _together([one for one in _POD_TABLE if one != "clean-up"]),
}
"""Faults that strike every task there is: one at each step."""


def sample(seed: int, count: int, cases: Sequence[Case]) -> tuple[Case, ...]:
    """`count` of `cases` by chance: at first each step once, and no fault twice before each was there once."""
    rest = list(cases)
    random.Random(seed).shuffle(rest)
    found: list[Case] = []
    while rest and len(found) < count:
        steps, faults = [one.step for one in found], [one.fault for one in found]
        rest.sort(key=lambda one: steps.count(one.step) + faults.count(one.fault))
        found.append(rest.pop(0))
    return tuple(sorted(found, key=cases.index))
