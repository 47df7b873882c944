"""Whether a task came out of a fault as it must. Pure."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tests.kube.faults.table import Case

__all__ = ["complaints"]

_KILLED = 137
_ID_SIZE = 13
"""Letters of a task's id after its `task-`; the first may be an `a`, and the others digits."""


def complaints(
    case: Case,
    task: Mapping[str, Any],
    starts: Sequence[tuple[str, str]],
    delivered: Sequence[bytes],
    wanted: bytes,
) -> list[str]:
    """What is wrong with `task`, FULL, after the fault; nothing when all is well.

    Args:
        starts: the step and the pod of each start of an executor, as the executors themselves told it.
        delivered: the bytes of each delivery.
        wanted: what must be delivered.
    """
    logs, state = task.get("logs") or [], task["state"]
    found = []
    if state not in case.expected.states:
        found.append(f"it is {state} and not {' or '.join(case.expected.states)}")
    if len(logs) not in case.expected.attempts:
        found.append(f"it has {len(logs)} entries in logs and not {' or '.join(map(str, case.expected.attempts))}")
    found += _of_lost(case, logs[:-1])
    found += [
        f"attempt {number} began before the one before it had surely ended"
        for number, (before, log) in enumerate(itertools.pairwise(logs), 2)
        if (log.get("start_time") or "") < (before.get("end_time") or "")
    ]
    found += _of_starts(starts)
    if logs and not logs[-1].get("end_time"):
        found.append("its last attempt has no end_time")
    if state == "COMPLETE":
        found += _of_success(logs[-1], len(logs), starts, delivered, wanted)
    elif state == "EXECUTOR_ERROR":
        codes = [one["exit_code"] for one in logs[-1]["logs"]]
        if not codes or codes[-1] != _KILLED:
            found.append(f"its executors ended with {codes}, and none with {_KILLED} at last")
    elif not (logs and logs[-1].get("system_logs")):
        found.append("nothing says why")
    return found


def _of_lost(case: Case, logs: Sequence[Mapping[str, Any]]) -> list[str]:
    found = []
    for number, log in enumerate(logs, 1):
        said = "\n".join(log.get("system_logs") or ())
        if f"attempt {number} was lost: " not in said or case.expected.why not in said:
            found.append(f"attempt {number} does not say that it was lost since {case.expected.why!r}: {said!r}")
        if not log.get("end_time"):
            found.append(f"attempt {number} has no end_time")
    return found


def _of_starts(starts: Sequence[tuple[str, str]]) -> list[str]:
    """Each executor runs at most once in an attempt."""
    counts = Counter((attempt_of(host), step) for step, host in starts)
    return [f"{step} ran {count} times in attempt {attempt}" for (attempt, step), count in counts.items() if count > 1]


def _of_success(
    log: Mapping[str, Any],
    attempt: int,
    starts: Sequence[tuple[str, str]],
    delivered: Sequence[bytes],
    wanted: bytes,
) -> list[str]:
    found = []
    if not delivered:
        found.append("it is COMPLETE and nothing was delivered")
    found += [f"it delivered {one!r}" for one in delivered if one != wanted]
    if len(log.get("outputs") or ()) != 1:
        found.append(f"it lists {log.get('outputs')} as its outputs")
    if [one["exit_code"] for one in log["logs"]] != [0, 0]:
        found.append(f"it is COMPLETE with executors {log['logs']}")
    ran = sorted(step for step, host in starts if attempt_of(host) == attempt)
    if ran != ["executor-0", "executor-1"]:
        found.append(f"it is COMPLETE, and attempt {attempt} ran {ran}")
    return found


def attempt_of(host: str) -> int:
    """The attempt that a pod belongs to, by its name: `TASK-aN-ex-00-xxxxx` or `TASK-aN`, the first without `-aN`."""
    name, _, _ = host.rpartition("-ex-")
    before, _, number = (name or host).rpartition("-a")
    return int(number) if before and number.isdecimal() and len(number) < _ID_SIZE - 1 else 1
