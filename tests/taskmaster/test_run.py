"""The order of steps and the outcome, over steps that do as each test says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec
import pytest

from tesk.plan.model import Delivery, ExecutorPlan, Place, Plan, SharedMount
from tesk.taskmaster.report import ExecutorEnd, OutputFile, Report
from tesk.taskmaster.run import run_attempt
from tesk.taskmaster.steps import AttemptLost, ExecutorResult, StageInResult, StageOutResult, StepFailed, Usage
from tesk.tes.states import State

DELIVERED = OutputFile("file:///out/a", "/data/a", 3)


@dataclass
class ScriptedSteps:
    """Steps that do what they are told and remember the order in which they were called."""

    codes: list[int]
    stage_in_fault: Exception | None = None
    execute_fault: Exception | None = None
    out: StageOutResult | Exception = field(default_factory=lambda: StageOutResult((DELIVERED,)))
    hang_in: str | None = None
    problem: str | None = None
    usage: Usage | None = None
    calls: list[str] = field(default_factory=list)

    async def _call(self, name: str) -> None:
        self.calls.append(name)
        if self.hang_in == name:
            await asyncio.Event().wait()

    async def stage_in(self) -> StageInResult:
        await self._call("stage_in")
        if self.stage_in_fault:
            raise self.stage_in_fault
        return StageInResult(copied=100, mounted=3000)

    async def execute(self, index: int, started: Callable[[], None]) -> ExecutorResult:
        started()
        await self._call(f"execute {index}")
        if self.execute_fault:
            raise self.execute_fault
        return ExecutorResult(ExecutorEnd("t1", "t2", self.codes[index], f"out {index}"), self.problem, self.usage)

    async def stage_out(self) -> StageOutResult:
        await self._call("stage_out")
        if isinstance(self.out, Exception):
            raise self.out
        return self.out

    async def clean(self) -> None:
        await self._call("clean")


def plan(*ignore: bool, missing: str = "fail") -> Plan:
    return Plan(
        executors=tuple(ExecutorPlan("image", ("true",), ignore_error=one) for one in ignore),
        missing_outputs=missing,  # type: ignore[arg-type]
    )


async def run(the_plan: Plan, steps: ScriptedSteps) -> tuple[Report, list[Report]]:
    seen: list[Report] = []
    return await run_attempt(the_plan, steps, seen.append), seen


async def test_steps_run_in_order_and_the_states_never_go_back() -> None:
    steps = ScriptedSteps([0, 0])
    report, seen = await run(plan(False, False), steps)
    assert steps.calls == ["stage_in", "execute 0", "execute 1", "stage_out", "clean"]
    assert [one.state for one in seen] == [State.INITIALIZING, State.RUNNING, State.RUNNING, State.RUNNING]
    assert report.state is State.COMPLETE
    assert report.outputs == (DELIVERED,)
    assert report.start_time
    assert report.end_time
    assert report.start_time <= report.end_time
    assert report.system_logs == ()


async def test_a_running_executor_has_no_entry_yet() -> None:
    _, seen = await run(plan(False, False), ScriptedSteps([0, 0]))
    assert [len(one.executors) for one in seen] == [0, 0, 1, 2]


async def test_a_failed_executor_stops_the_next_but_not_stage_out() -> None:
    steps = ScriptedSteps([3, 0])
    report, _ = await run(plan(False, False), steps)
    assert steps.calls == ["stage_in", "execute 0", "stage_out", "clean"]
    assert report.state is State.EXECUTOR_ERROR
    assert report.system_logs == ("executor 0 ended with exit code 3",)
    assert report.outputs == (DELIVERED,)


async def test_ignore_error_goes_on_and_completes() -> None:
    steps = ScriptedSteps([3, 0])
    report, _ = await run(plan(True, False), steps)
    assert steps.calls == ["stage_in", "execute 0", "execute 1", "stage_out", "clean"]
    assert report.state is State.COMPLETE
    assert [one.exit_code for one in report.executors] == [3, 0]
    assert "ignore_error" in report.system_logs[0]


async def test_what_executors_used_is_added_up_under_the_keys_that_clients_read() -> None:
    report, _ = await run(plan(False, False), ScriptedSteps([0, 0], usage=Usage(1000, 20, 3)))
    assert report.metadata == {
        "peak_memory_bytes": "1000",
        "cpu_time_ms": "46",
        "user_cpu_time_ms": "40",
        "system_cpu_time_ms": "6",
    }


async def test_nothing_is_said_of_usage_where_the_engine_cannot_tell() -> None:
    report, _ = await run(plan(False), ScriptedSteps([0]))
    assert report.metadata == {}


async def test_the_last_executor_may_be_ignored_too() -> None:
    report, _ = await run(plan(True), ScriptedSteps([137]))
    assert report.state is State.COMPLETE
    assert "was ended by signal 9" in report.system_logs[0]


async def test_a_missing_input_is_a_system_error_and_nothing_runs() -> None:
    steps = ScriptedSteps([0], stage_in_fault=StepFailed("input a is missing", "input b is missing"))
    report, _ = await run(plan(False), steps)
    assert steps.calls == ["stage_in", "clean"]
    assert report.state is State.SYSTEM_ERROR
    assert report.system_logs == ("input a is missing", "input b is missing")
    assert report.lost is None


@pytest.mark.parametrize(
    ("codes", "missing", "failed", "policy", "state"),
    [
        ([0], (), (), "fail", State.COMPLETE),
        ([0], ("a is missing",), (), "fail", State.SYSTEM_ERROR),
        ([0], ("a is missing",), (), "warn", State.COMPLETE),
        ([0], (), ("a was refused",), "warn", State.SYSTEM_ERROR),
        ([1], ("a is missing",), (), "fail", State.EXECUTOR_ERROR),
        ([1], (), ("a was refused",), "fail", State.EXECUTOR_ERROR),
    ],
)
async def test_outputs_decide_the_outcome_only_of_good_executors(
    codes: list[int], missing: tuple[str, ...], failed: tuple[str, ...], policy: str, state: State
) -> None:
    steps = ScriptedSteps(codes, out=StageOutResult((DELIVERED,), missing, failed))
    report, _ = await run(plan(False, missing=policy), steps)
    assert report.state is state
    assert {*missing, *failed} <= set(report.system_logs)
    assert report.outputs == (DELIVERED,)


async def test_a_stage_out_that_breaks_never_completes() -> None:
    report, _ = await run(plan(False), ScriptedSteps([0], out=StepFailed("the disk is full")))
    assert report.state is State.SYSTEM_ERROR
    report, _ = await run(plan(False), ScriptedSteps([1], out=StepFailed("the disk is full")))
    assert report.state is State.EXECUTOR_ERROR
    assert "the disk is full" in report.system_logs


async def test_lost_work_is_told_apart_from_a_failure() -> None:
    report, _ = await run(plan(False), ScriptedSteps([0], execute_fault=AttemptLost("the container is gone")))
    assert report.lost == "the container is gone"
    assert report.state is State.SYSTEM_ERROR


async def test_an_image_that_cannot_be_had_ends_without_stage_out() -> None:
    steps = ScriptedSteps([0], execute_fault=StepFailed("image 'x' does not exist"))
    report, _ = await run(plan(False), steps)
    assert report.state is State.SYSTEM_ERROR
    assert steps.calls == ["stage_in", "execute 0", "clean"]


@pytest.mark.parametrize("where", ["stage_in", "execute 0", "stage_out"])
async def test_cancel_cleans_up_at_every_stage(where: str) -> None:
    steps = ScriptedSteps([0], hang_in=where)
    task = asyncio.create_task(run(plan(False), steps))
    while where not in steps.calls:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert steps.calls[-1] == "clean"


async def test_a_sentence_about_the_command_is_part_of_the_executors_end() -> None:
    report, _ = await run(plan(False), ScriptedSteps([127], problem="command 'nope' was not found"))
    assert report.system_logs == ("executor 0 ended with exit code 127: command 'nope' was not found",)


def test_a_report_survives_json() -> None:
    report = Report(
        State.COMPLETE, "a", "b", (ExecutorEnd("a", "b", 0, "ö\x00", ""),), (DELIVERED,), ("s",), {"k": "v"}
    )
    assert Report.from_json(report.to_json()) == report
    with pytest.raises(ValueError, match="not a report"):
        Report.from_json("[]")


async def test_what_was_not_moved_is_counted_where_storage_is_shared() -> None:
    outputs = (
        Delivery("/run/out", "/shared/1/out", in_place=True),
        Delivery("/run/genome", "/shared/1/genome", in_place=True),
        Delivery("/run/log", "s3://b/log"),
    )
    shared = (
        SharedMount("/run", Place("work", "1")),
        SharedMount("/run/genome", Place("work", "g"), "FILE", read_only=True),
    )
    files = tuple(OutputFile(one.url, one.path, size) for one, size in zip(outputs, (20, 4, 1), strict=True))
    out = StageOutResult(files, copied=5)
    the_plan = msgspec.structs.replace(plan(False), outputs=outputs, shared=shared)
    report, _ = await run(the_plan, ScriptedSteps([0], out=out))
    assert report.metadata == {"bytes_mounted": "3020", "bytes_copied": "105"}
    assert (await run(plan(False), ScriptedSteps([0])))[0].metadata == {}
