"""The three views of a task (TES 1.1.0, `view` of GetTask and ListTasks)."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

__all__ = ["View", "log_in_view", "task_in_view"]


class View(StrEnum):
    """How much of a task an answer shows; MINIMAL is the default of the specification."""

    MINIMAL = "MINIMAL"
    BASIC = "BASIC"
    FULL = "FULL"


_NOT_IN_BASIC = {"executor log": ("stdout", "stderr"), "task log": ("system_logs",), "input": ("content",)}


def task_in_view(task: Mapping[str, Any], view: View) -> dict[str, Any]:
    """`task`, a tesTask as JSON data in full, as `view` shows it.

    MINIMAL is `id` and `state` alone. BASIC is all but `inputs[].content`, `logs[].system_logs` and the text of
    `logs[].logs[].stdout` and `.stderr`; an executor's `stdout` and `stderr` are paths, and stay.
    """
    if view is View.MINIMAL:
        return {key: task[key] for key in ("id", "state") if key in task}
    shown = dict(task)
    if view is View.BASIC and "inputs" in task:
        shown["inputs"] = [_without(one, "input") for one in task["inputs"]]
    if "logs" in task:
        shown["logs"] = [log_in_view(one, view) for one in task["logs"]]
    return shown


def log_in_view(log: Mapping[str, Any], view: View) -> dict[str, Any]:
    """`log`, one tesTaskLog as JSON data in full, as BASIC or FULL shows it."""
    if view is View.FULL:
        return dict(log)
    shown = _without(log, "task log")
    shown["logs"] = [_without(one, "executor log") for one in log["logs"]]
    return shown


def _without(value: Mapping[str, Any], what: str) -> dict[str, Any]:
    left_out = _NOT_IN_BASIC[what]
    return {key: one for key, one in value.items() if key not in left_out}
