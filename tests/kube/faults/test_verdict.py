"""What counts as a task that came out of a fault as it must; no cluster is needed for that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from tests.kube.faults.table import ALONE, STEPS, TOGETHER, Case, Expected, Layout, sample
from tests.kube.faults.verdict import attempt_of, complaints

GOES_ON = Case("stage-in", "killed", Expected(("COMPLETE",), (1,)))
AGAIN = Case("executor-0", "pod-deleted", Expected(("COMPLETE",), (2,), "its pod was deleted"))
KILLED = Case("executor-0", "killed", Expected(("EXECUTOR_ERROR",), (1,)))
TASK = "task-0123456789abc"


def host(attempt: int, executor: int, tail: str = "x1y2z") -> str:
    number = "" if attempt == 1 else f"-a{attempt}"
    return f"{TASK}{number}-ex-0{executor}-{tail}"


def starts(*attempts: int) -> list[tuple[str, str]]:
    return [(f"executor-{one}", host(attempt, one)) for attempt in attempts for one in (0, 1)]


def done() -> dict[str, Any]:
    return {
        "start_time": "t6",
        "end_time": "t9",
        "logs": [{"exit_code": 0}, {"exit_code": 0}],
        "outputs": [{"url": "u"}],
    }


def lost(why: str = "executor 0: its pod was deleted") -> dict[str, Any]:
    return {"end_time": "t5", "logs": [], "system_logs": [f"attempt 1 was lost: {why}; a new attempt was started"]}


def judge(case: Case, state: str, logs: list[dict[str, Any]], ran: Any, delivered: list[bytes] | None = None) -> str:
    found = complaints(case, {"state": state, "logs": logs}, ran, delivered or [], b"wanted")
    return "\n".join(found)


def test_a_task_that_went_on_is_well() -> None:
    assert judge(GOES_ON, "COMPLETE", [done()], starts(1), [b"wanted"]) == ""


def test_a_task_that_was_run_again_is_well() -> None:
    assert judge(AGAIN, "COMPLETE", [lost(), done()], starts(1, 2), [b"wanted", b"wanted"]) == ""


def test_an_executor_that_was_killed_is_told_by_its_exit_code() -> None:
    log = {"end_time": "t9", "logs": [{"exit_code": 137}], "system_logs": ["executor 0 was ended by signal 9"]}
    assert judge(KILLED, "EXECUTOR_ERROR", [log], starts(1)[:1]) == ""
    log["logs"] = [{"exit_code": 1}]
    assert "none with 137" in judge(KILLED, "EXECUTOR_ERROR", [log], starts(1)[:1])


@pytest.mark.parametrize("delivered", [[], [b"wan"], [b"wanted", b"twice"]])
def test_complete_without_the_right_output_is_wrong(delivered: list[bytes]) -> None:
    assert "deliver" in judge(GOES_ON, "COMPLETE", [done()], starts(1), delivered)


def test_an_executor_that_ran_twice_in_an_attempt_is_wrong() -> None:
    twice = [*starts(1), ("executor-0", host(1, 0, "other"))]
    assert "executor-0 ran 2 times in attempt 1" in judge(GOES_ON, "COMPLETE", [done()], twice, [b"wanted"])


def test_an_executor_that_did_not_run_in_the_last_attempt_is_wrong() -> None:
    assert "attempt 2 ran []" in judge(AGAIN, "COMPLETE", [lost(), done()], starts(1), [b"wanted"])


@pytest.mark.parametrize("logs", [[done()], [lost(), lost(), done()]])
def test_more_or_fewer_entries_in_logs_are_wrong(logs: list[dict[str, Any]]) -> None:
    assert "entries in logs" in judge(AGAIN, "COMPLETE", logs, starts(len(logs)), [b"wanted"])


def test_an_attempt_that_began_while_the_one_before_could_write_is_wrong() -> None:
    early = judge(AGAIN, "COMPLETE", [lost(), {**done(), "start_time": "t4"}], starts(1, 2), [b"wanted"])
    assert "attempt 2 began before" in early


def test_a_loss_for_another_reason_is_wrong() -> None:
    logs = [lost("executor 0: a meteorite"), done()]
    assert "does not say" in judge(AGAIN, "COMPLETE", logs, starts(1, 2), [b"wanted"])


def test_an_end_that_says_nothing_is_wrong() -> None:
    assert "nothing says why" in judge(
        AGAIN, "SYSTEM_ERROR", [lost(), {"start_time": "t6", "end_time": "t9", "logs": []}], []
    )


def test_pods_tell_their_attempt() -> None:
    assert [attempt_of(host(number, 0)) for number in (1, 2, 12)] == [1, 2, 12]
    assert attempt_of("task-a2b3c4d5e6f7g-ex-00-xxxxx") == 1, "an id that looks like one"
    assert [attempt_of(f"{TASK}{tail}") for tail in ("", "-a2", "-a12")] == [1, 2, 12]
    assert attempt_of("task-a123456789012") == 1


def test_every_step_meets_faults() -> None:
    assert {one.step for one in ALONE["jobs"]} == set(STEPS)
    assert {one.step for one in ALONE["pod"]} == set(STEPS) - {"taskmaster"}
    assert all([one.step for one in cases] == list(STEPS) for cases in TOGETHER["jobs"].values())


@pytest.mark.parametrize("layout", ALONE)
@pytest.mark.parametrize("seed", range(20))
def test_a_sample_is_the_same_for_a_seed_and_has_every_step(seed: int, layout: Layout) -> None:
    cases = ALONE[layout]
    found = sample(seed, 10, cases)
    assert found == sample(seed, 10, cases)
    assert len(set(found)) == 10
    assert {one.step for one in found} == {one.step for one in cases}


@pytest.mark.parametrize("cases", ALONE.values(), ids=ALONE)
def test_samples_reach_every_case_in_the_end(cases: Sequence[Case]) -> None:
    assert {one for seed in range(100) for one in sample(seed, 10, cases)} == set(cases)
