"""One attempt, step by step: stage-in, the executors in order, stage-out.

The rules are those of TES 1.1.0: executors run one at a time and stop at the first error unless it is ignored
(`tesExecutor.ignore_error`); COMPLETE means that the outputs were delivered too (`tesState`). Outputs are delivered
also after a failed executor, since clients read its streams and results (wdl-engine, Nextflow).
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Callable
from datetime import UTC, datetime

from tesk.plan.model import Plan
from tesk.taskmaster.report import Report
from tesk.taskmaster.steps import (
    AttemptLost,
    ExecutorResult,
    Interrupted,
    StageInResult,
    StageOutResult,
    StepFailed,
    Steps,
    Usage,
)
from tesk.tes.states import State

__all__ = ["moment", "now", "run_attempt"]

LAST_SIGNAL = 64


def now() -> str:
    """The time in UTC as RFC 3339 with milliseconds."""
    return moment(time.time())


def moment(seconds: float) -> str:
    """A moment, in seconds since 1970, as RFC 3339 with milliseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


async def run_attempt(
    plan: Plan,
    steps: Steps,
    publish: Callable[[Report], None],
    *,
    clock: Callable[[], str] = now,
    notes: tuple[str, ...] = (),
    start_time: str | None = None,
    concluded: Callable[[Report], None] = lambda _: None,
) -> Report:
    """Run `plan` over `steps` and return the last report; `publish` is told each report on the way, not the last.

    `concluded` is told the last one, before anything is removed.
    `notes` are sentences for the user about where it runs. `start_time` is when the attempt began, if that was under a
    predecessor. When cancelled, it cleans up and raises CancelledError. Raises Interrupted, and cleans nothing up.
    """
    attempt = _Attempt(plan, steps, publish, clock, notes, start_time or clock())
    try:
        await attempt.run()
    except Interrupted:
        raise
    except StepFailed as failure:
        attempt.end(State.SYSTEM_ERROR, *failure.sentences)
    except AttemptLost as loss:
        attempt.end(State.SYSTEM_ERROR, lost=str(loss), preempted=loss.preempted)
    except BaseException:
        await _finish(steps.clean())
        raise
    concluded(attempt.report)
    await _finish(steps.clean())
    return attempt.report


async def _finish(work: object) -> None:
    """Await `work` to its end even when we are cancelled meanwhile, then let the cancellation go on."""
    task = asyncio.ensure_future(work)  # type: ignore[call-overload]
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


class _Attempt:
    def __init__(
        self,
        plan: Plan,
        steps: Steps,
        publish: Callable[[Report], None],
        clock: Callable[[], str],
        notes: tuple[str, ...],
        start_time: str,
    ) -> None:
        self.plan = plan
        self.steps = steps
        self.publish = publish
        self.clock = clock
        self.usage: Usage | None = None
        self.brought = StageInResult()
        self.report = Report(State.INITIALIZING, start_time=start_time, system_logs=notes)

    async def run(self) -> None:
        self.publish(self.report)
        self.brought = await self.steps.stage_in()
        failed = False
        for index in range(len(self.plan.executors)):
            failed = not await self._execute(index)
            if failed:
                break
        await self._stage_out(executor_failed=failed)

    def end(self, state: State, *sentences: str, lost: str | None = None, preempted: bool = False) -> None:
        self._note(*sentences, state=State.PREEMPTED if preempted else state, end_time=self.clock(), lost=lost)

    async def _execute(self, index: int) -> bool:
        """Run one executor; whether the next one may run."""
        result = await self.steps.execute(index, self._running)
        executor = self.plan.executors[index]
        ok = result.end.exit_code == 0
        self._note(
            *_sentences(index, result, ignored=executor.ignore_error),
            executors=(*self.report.executors, result.end),
            metadata=self._used(result.usage),
        )
        self.publish(self.report)
        return ok or executor.ignore_error

    def _used(self, usage: Usage | None) -> dict[str, str]:
        """The attempt's metadata after an executor took `usage`."""
        if usage is not None:
            self.usage = usage if self.usage is None else self.usage.then(usage)
        return self.usage.metadata() if self.usage else {}

    def _saved(self, result: StageOutResult) -> dict[str, str]:
        """What shared storage spared the attempt, where it has any."""
        if not self.plan.shared:
            return {}
        mounted = self.brought.mounted + sum(one.size_bytes for one in result.delivered) - result.copied
        return {"bytes_mounted": str(mounted), "bytes_copied": str(self.brought.copied + result.copied)}

    def _running(self) -> None:
        if self.report.state is not State.RUNNING:
            self.report = dataclasses.replace(self.report, state=State.RUNNING)
            self.publish(self.report)

    async def _stage_out(self, *, executor_failed: bool) -> None:
        try:
            result = await self.steps.stage_out()
        except StepFailed as failure:
            if not executor_failed:
                raise
            self.end(State.EXECUTOR_ERROR, *failure.sentences)
            return
        strict = self.plan.missing_outputs == "fail"
        if executor_failed:
            state = State.EXECUTOR_ERROR
        elif result.failed or (result.missing and strict):
            state = State.SYSTEM_ERROR
        else:
            state = State.COMPLETE
        self.report = dataclasses.replace(
            self.report,
            outputs=result.delivered,
            directories=result.directories,
            metadata={**self.report.metadata, **self._saved(result)},
        )
        self.end(state, *result.missing, *result.failed, *result.notes)

    def _note(self, *sentences: str, **changes: object) -> None:
        logs = (*self.report.system_logs, *sentences)
        self.report = dataclasses.replace(self.report, system_logs=logs, **changes)  # type: ignore[arg-type]


def _sentences(index: int, result: ExecutorResult, *, ignored: bool) -> list[str]:
    """What the user is told about an executor's end: nothing when it ended well."""
    code = result.end.exit_code
    if code == 0:
        return []
    signal = code - 128
    how = f"was ended by signal {signal}" if 0 < signal <= LAST_SIGNAL else f"ended with exit code {code}"
    cause = f": {result.problem}" if result.problem else ""
    then = "; the task goes on, since ignore_error is set" if ignored else ""
    return [f"executor {index} {how}{cause}{then}"]
