"""What is known of one attempt: the report that a taskmaster writes and a backend hands to the controller."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any

from tesk.tes.states import State

__all__ = ["ExecutorEnd", "OutputFile", "Report"]


@dataclass(frozen=True, slots=True)
class ExecutorEnd:
    """An executor that has ended. `exit_code` is 128 + n for a command that signal n ended.

    `stdout` and `stderr` are bounded: head and tail, with a line between them that says how much is left out.
    Times are RFC 3339 in UTC.
    """

    start_time: str
    end_time: str
    exit_code: int
    stdout: str = ""
    stderr: str = ""


@dataclass(frozen=True, slots=True)
class OutputFile:
    """One file that was delivered: where it lies now, where it lay in the container, its size in bytes."""

    url: str
    path: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Report:
    """Everything known now of one attempt; the newest replaces the older.

    `state` is QUEUED (from a backend that holds the attempt and says in `system_logs` what it waits for; one that comes
    late changes nothing), INITIALIZING, RUNNING or a terminal state. `directories` are the paths of outputs that turned
    out to be directories, where the task did not say. `lost` is a sentence when the attempt's work is gone through no
    fault of its own; then `state` is SYSTEM_ERROR, or PREEMPTED when the system reclaimed the machine, and the
    controller may start a new attempt. `waiting` is a sentence about what the attempt waits for now; it is not stored.
    `held`: what ran the attempt goes on until it is removed, and must be.
    """

    state: State
    start_time: str | None = None
    end_time: str | None = None
    executors: tuple[ExecutorEnd, ...] = ()
    outputs: tuple[OutputFile, ...] = ()
    system_logs: tuple[str, ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)
    directories: tuple[str, ...] = ()
    lost: str | None = None
    waiting: str | None = None
    held: bool = False

    def to_json(self) -> str:
        """The report as one line of JSON."""
        return json.dumps(dataclasses.asdict(self), separators=(",", ":"), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> Report:
        """Read what `to_json` wrote.

        Raises ValueError when `text` is not a report.
        """
        try:
            raw: dict[str, Any] = json.loads(text)
            return cls(
                **{
                    **raw,
                    "state": State(raw["state"]),
                    "executors": tuple(ExecutorEnd(**one) for one in raw.get("executors", ())),
                    "outputs": tuple(OutputFile(**one) for one in raw.get("outputs", ())),
                    "system_logs": tuple(raw.get("system_logs", ())),
                    "directories": tuple(raw.get("directories", ())),
                }
            )
        except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
            raise ValueError(f"this is not a report: {error}") from error
