"""The local backend between its attempts and those who read their logs."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tesk.backends.base import Attempt, AttemptKey
from tesk.backends.local.backend import LocalBackend, LocalOptions
from tesk.backends.local.engine import EngineUnavailable
from tesk.backends.local.steps import LocalSteps
from tesk.plan.model import ExecutorPlan, Plan
from tesk.storage import Storage, StorageOptions
from tesk.taskmaster.report import Report


async def test_streams_go_also_when_their_reader_leaves_while_the_attempt_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, ended = AttemptKey("t", 1), asyncio.Event()

    def told(_: AttemptKey, report: Report) -> None:
        if report.state.terminal:
            ended.set()

    async with Storage(StorageOptions()) as storage:
        backend = LocalBackend(LocalOptions(tmp_path, "sandbox"), storage)
        try:
            await backend.start(told, lambda: None)
        except EngineUnavailable as error:
            pytest.skip(f"no sandbox here: {error}")
        clean = LocalSteps.clean

        async def clean_and_lose_the_reader(steps: LocalSteps) -> None:
            await clean(steps)
            assert list((tmp_path / "attempts").glob("*/ex-00/streams/*"))
            await reading.aclose()  # type: ignore[attr-defined]

        monkeypatch.setattr(LocalSteps, "clean", clean_and_lose_the_reader)
        plan = Plan(executors=(ExecutorPlan("x", ("sh", "-c", "echo begun; sleep 0.3")),))
        assert await backend.offer(Attempt(key, plan))
        reading = backend.logs(key, 0, "stdout", follow=True)
        assert await anext(reading) == b"begun\n"
        await asyncio.wait_for(ended.wait(), 20)
        assert list((tmp_path / "attempts").iterdir()) == []
        await backend.stop()
