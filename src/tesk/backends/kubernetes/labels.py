"""The labels by which every object of an attempt, and every pod, is found again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from tesk.backends.key import AttemptKey

__all__ = [
    "ATTEMPT",
    "EXECUTOR",
    "INSTANCE",
    "MANAGED_BY",
    "STEP",
    "TASK",
    "Step",
    "key_of",
    "labels_of",
    "selector_of",
]

MANAGED_BY = "app.kubernetes.io/managed-by"
INSTANCE = "app.kubernetes.io/instance"
TASK = "tesk/task"
ATTEMPT = "tesk/attempt"
STEP = "tesk/step"
EXECUTOR = "tesk/executor"

Step = Literal["plan", "taskmaster", "report", "scratch", "stage-in", "executor", "stage-out"]
"""What an object is for."""


def labels_of(instance: str, key: AttemptKey, step: Step, executor: int | None = None) -> dict[str, str]:
    """The labels of the object that is there for `step`; `executor` is an executor's number, from 0."""
    found = {**selector_of(instance, key), STEP: step}
    return found if executor is None else {**found, EXECUTOR: str(executor)}


def selector_of(instance: str, key: AttemptKey | None = None) -> dict[str, str]:
    """The labels that all objects of one installation share; with `key`, all of one attempt."""
    found = {MANAGED_BY: "tesk", INSTANCE: instance}
    return found if key is None else {**found, TASK: key.task, ATTEMPT: str(key.attempt)}


def key_of(labels: Mapping[str, str] | None) -> AttemptKey | None:
    """Which attempt an object with `labels` belongs to; None for one that is not ours."""
    task, attempt = (labels or {}).get(TASK, ""), (labels or {}).get(ATTEMPT, "")
    if not task or not attempt.isascii() or not attempt.isdigit():
        return None
    return AttemptKey(task, int(attempt))
