"""How each fault is done to a task that is held at its step."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from typing import Literal

from lightkube import ApiError
from lightkube.resources.core_v1 import Pod

from tests.kube.faults.machine import Machine, ended, until
from tests.kube.faults.table import Case, Step

__all__ = ["strike", "strike_in_clean_up", "strike_pod", "strike_pod_in_clean_up", "strike_pulling", "wait_until_held"]

_CONTAINERS = {"taskmaster": "taskmaster", "stage-in": "filer", "stage-out": "filer", "executor": "executor"}
_CLEAN_UP_SECONDS = 0.4
"""About how long a taskmaster takes from the end of stage-out to its own."""
_TELLING_SECONDS = 0.1
"""The same in a pod, where there is nothing to clean up."""


def wait_until_held(machine: Machine, step: Step, task: str) -> None:
    """Return once `task`, which nothing lets past `step`, has come there; for the steps that pass no gate."""
    if step == "before":
        until(lambda: machine.pod(task, "taskmaster"))
    elif step == "taskmaster":
        until(lambda: machine.pod(task, "stage-in"))


def strike(machine: Machine, case: Case, task: str) -> None:
    """Do the fault of `case` to the first attempt of `task`."""
    step, fault = case.step, case.fault
    if fault.startswith("taskmaster-") or step in ("before", "taskmaster"):
        _strike_pod(machine, task, "taskmaster", fault)
    else:
        _strike_pod(machine, task, step, fault)


def strike_in_clean_up(
    machine: Machine, case: Case, task: str, open_gate: Callable[[], None], chance: random.Random
) -> Literal["", "too late"]:
    """The same while the taskmaster cleans up after stage-out, which is still held by its gate.

    The taskmaster stands still until stage-out has ended, so that the fault comes within what it does then.
    """
    pod = _pod(machine, task, "taskmaster")
    first = _running(machine, pod, "taskmaster")
    machine.signal(first, signal.SIGSTOP)
    try:
        open_gate()
        until(lambda: ended(machine.pod(task, "stage-out")), pause=0.05)
    finally:
        machine.signal(first, signal.SIGCONT)
    time.sleep(chance.uniform(0.0, _CLEAN_UP_SECONDS))
    if case.fault == "taskmaster-killed":
        return "" if machine.signal(first) else "too late"
    over = ended(machine.pod(task, "taskmaster"))
    _strike_pod(machine, task, "taskmaster", case.fault)
    return "too late" if over else ""


def strike_pod(machine: Machine, case: Case, task: str) -> None:
    """Do the fault of `case` to the first attempt of `task`, which is one pod; what it ends has ended then."""
    pod = _pod(machine, task, "taskmaster")
    if case.step == "before":
        _take_pod(machine, case, pod)
        return
    first = _running(machine, pod, "taskmaster")
    if case.fault == "taskmaster-killed":
        assert machine.signal(first), "the taskmaster had ended before it could be killed"
    elif case.fault in ("killed", "command-killed", "next-killed"):
        number = int(case.step.rpartition("-")[2]) + (case.fault == "next-killed")
        find = machine.command if case.fault == "command-killed" else machine.first_of
        pid = until(lambda: find(pod, f"ex-{number:02d}"), 30)
        assert machine.signal(pid), f"the process of executor {number} had ended before it could be killed"
        return
    else:
        _take_pod(machine, case, pod)
    # a task goes on from any gate to its end in less time than a pod takes to be ended
    until(lambda: not machine.signal(first, 0))


def strike_pod_in_clean_up(
    machine: Machine,
    case: Case,
    task: str,
    open_gate: Callable[[], None],
    over: Callable[[], object],
    chance: random.Random,
) -> Literal["", "too late"]:
    """The same while its taskmaster tells the last report, once it is `over` what the gate holds."""
    pod = _pod(machine, task, "taskmaster")
    first = _running(machine, pod, "taskmaster")
    machine.signal(first, signal.SIGSTOP)
    try:
        open_gate()
        until(over, pause=0.02)
    finally:
        machine.signal(first, signal.SIGCONT)
    time.sleep(chance.uniform(0.0, _TELLING_SECONDS))
    if case.fault == "taskmaster-killed":
        return "" if machine.signal(first) else "too late"
    late = not machine.signal(first, 0)
    try:
        _take_pod(machine, case, pod)
    except ApiError as error:
        if error.status.code != 404:
            raise
        return "too late"
    return "too late" if late else ""


def strike_pulling(machine: Machine, case: Case, task: str) -> Pod:
    """The same while the kubelet pulls an image for the pod, and so may end nothing of it; the pod."""
    pod = _pod(machine, task, "taskmaster")
    if case.fault == "taskmaster-killed":
        first = until(lambda: machine.taskmaster(pod), 30)
        assert machine.signal(first), "the taskmaster had ended before it could be killed"
    else:
        _take_pod(machine, case, pod)
    return pod


def _take_pod(machine: Machine, case: Case, pod: Pod) -> None:
    assert pod.metadata is not None
    if case.fault == "plan-deleted":
        machine.delete_config_map(pod.metadata.name or "")
    elif case.fault == "pod-evicted":
        machine.evict(pod)
    elif case.fault in ("pod-deleted", "pod-forced"):
        machine.delete_pod(pod, force=case.fault == "pod-forced")
    else:
        raise ValueError(f"{case.fault} is not done to a pod")


def _strike_pod(machine: Machine, task: str, step: str, fault: str) -> None:
    what = fault.removeprefix("taskmaster-").removeprefix("pod-")
    container = _CONTAINERS[step.partition("-")[0] if step.startswith("executor") else step]
    if what == "deleted":
        machine.delete_pod(_pod(machine, task, step))
    elif what == "evicted":
        machine.evict(_pod(machine, task, step))
    elif what == "killed":
        pid = _running(machine, _pod(machine, task, step), container)
        assert machine.signal(pid), f"the process of {step} had ended before it could be killed"
    elif what == "command-killed":
        pod = _pod(machine, task, step)
        pid = until(lambda: machine.command(pod, container), 30)
        assert machine.signal(pid), f"the command of {step} had ended before it could be killed"
    elif what in ("job-deleted", "job-orphaned"):
        pod = _pod(machine, task, step)
        machine.delete_job(_job_name(task, step), orphan=what == "job-orphaned")
        if what == "job-deleted":  # the garbage collector may be slow, and the step would end well meanwhile
            until(lambda: _is_going(machine, pod))
    elif what == "claim-deleted":
        machine.delete_claim(f"{task}-pvc")
    else:
        raise ValueError(f"{fault} is not done to one task")


def _pod(machine: Machine, task: str, step: str) -> Pod:
    name, _, number = step.partition("-")
    if name == "executor":
        return until(lambda: machine.pod(task, name, int(number)))
    return until(lambda: machine.pod(task, step))


def _running(machine: Machine, pod: Pod, container: str) -> int:
    """Process 1 of a container of `pod`, which may have been looked at before its node told that it runs."""
    return until(lambda: machine.first_of(pod, container), 30)


def _is_going(machine: Machine, pod: Pod) -> bool:
    """Whether a pod is being deleted, or is gone."""
    assert pod.metadata is not None
    now = machine.pod_named(pod.metadata.name or "")
    return now is None or now.metadata is None or now.metadata.deletionTimestamp is not None


def _job_name(task: str, step: str) -> str:
    number = step.rpartition("-")[2]
    return {
        "taskmaster": task,
        "stage-in": f"{task}-inputs-filer",
        "stage-out": f"{task}-outputs-filer",
    }.get(step) or f"{task}-ex-{int(number):02d}"
