"""From models and reports to the bytes that the store keeps."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Collection, Sequence
from typing import Any

import msgspec

from tesk.plan.model import Plan
from tesk.store.model import NewTask, TaskLogBytes
from tesk.taskmaster.report import ExecutorEnd, Report
from tesk.tes.models import TesTask
from tesk.tes.views import View, log_in_view, task_in_view

__all__ = ["encode_json", "encode_log", "encode_task", "noted_log", "with_directories"]


def encode_json(value: Any) -> bytes:
    """`value` as compact JSON in UTF-8; a half surrogate (from a file name that is not UTF-8) becomes `?`."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")


def encode_task(
    task: TesTask, *, id: str, creation_time: str, plan: Plan, notes: Sequence[str] | None = None
) -> NewTask:
    """`task` as the client sent it, ready to be kept; `notes` are the plan's unless given.

    Nothing is added but `creation_time` and the `type` of inputs and outputs, which clients in Rust cannot do without:
    the plan's where the client said none, and FILE where the plan does not know yet (TES 1.1.0 `tesFileType`).
    """
    shown = task.model_dump(mode="json", exclude_none=True, exclude={"id", "state", "logs", "creation_time"})
    _fill_in_types(shown.get("inputs", ()), {one.path: one.type for one in plan.inputs})
    _fill_in_types(shown.get("outputs", ()), {one.path: one.type for one in plan.outputs})
    shown["creation_time"] = creation_time
    basic, full = _both(task_in_view(shown, View.BASIC), shown)
    return NewTask(
        id=id,
        name=task.name,
        creation_time=creation_time,
        basic=basic,
        full=full,
        plan=plan.to_json().encode("utf-8", "replace"),
        tags=task.tags or {},
        notes=tuple(plan.notes if notes is None else notes),
    )


def encode_log(report: Report, notes: Sequence[str] = ()) -> TaskLogBytes:
    """`report` as the tesTaskLog of its attempt; `notes` come before the report's own system_logs.

    `logs` and `outputs` are always there (TES 1.1.0 requires them), what is not known yet is left out.
    """
    log: dict[str, Any] = {
        "logs": [_executor_log(one) for one in report.executors],
        "metadata": report.metadata or None,
        "start_time": report.start_time,
        "end_time": report.end_time,
        "outputs": [{"url": one.url, "path": one.path, "size_bytes": str(one.size_bytes)} for one in report.outputs],
        "system_logs": [*notes, *report.system_logs] or None,
    }
    return _log_bytes({key: one for key, one in log.items() if one is not None})


def noted_log(stored: bytes | None, sentences: Sequence[str], *, end_time: str) -> TaskLogBytes:
    """`stored`, a tesTaskLog in full or None, ended at `end_time` with `sentences` added to its system_logs."""
    log: dict[str, Any] = json.loads(stored) if stored else {"logs": [], "outputs": []}
    log.setdefault("end_time", end_time)
    log["system_logs"] = [*log.get("system_logs", ()), *sentences]
    return _log_bytes(log)


def _log_bytes(full: dict[str, Any]) -> TaskLogBytes:
    return TaskLogBytes(*_both(log_in_view(full, View.BASIC), full))


def _executor_log(end: ExecutorEnd) -> dict[str, Any]:
    return {
        "start_time": end.start_time,
        "end_time": end.end_time,
        "stdout": end.stdout,
        "stderr": end.stderr,
        "exit_code": end.exit_code,
    }


def with_directories(task: bytes, paths: Collection[str]) -> bytes:
    """An encoded task, with DIRECTORY as the type of the outputs at `paths`."""
    found = json.loads(task)
    for one in found.get("outputs", ()):
        if posixpath.normpath(one["path"]) in paths:
            one["type"] = "DIRECTORY"
    return encode_json(found)


def _both(basic: dict[str, Any], full: dict[str, Any]) -> tuple[bytes, bytes | None]:
    return encode_json(basic), None if basic == full else encode_json(full)


def _fill_in_types(files: Sequence[dict[str, Any]], planned: dict[str, Any]) -> None:
    for one in files:
        if "type" not in one:
            one["type"] = planned.get(posixpath.normpath(one["path"])) or "FILE"
