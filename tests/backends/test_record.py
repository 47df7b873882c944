"""The record of an attempt: what a later server finds, wherever the one before was stopped."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tesk.backends.base import Attempt, AttemptKey
from tesk.backends.local import record as module
from tesk.backends.local.backend import LocalBackend, LocalOptions
from tesk.backends.local.engine import EngineUnavailable
from tesk.backends.local.record import Record
from tesk.plan.model import ExecutorPlan, Plan
from tesk.storage import Storage, StorageOptions
from tesk.taskmaster.report import ExecutorEnd, Report
from tesk.taskmaster.steps import ExecutorResult, StageInResult, Usage
from tesk.tes.states import State

KEY = AttemptKey("t", 2)
START = "2026-01-01T00:00:00.000Z"


def attempt() -> Attempt:
    return Attempt(KEY, Plan((ExecutorPlan("x", ("true",)),)))


@pytest.fixture
def begun(tmp_path: Path) -> Record:
    """A record that is begun."""
    record = Record(tmp_path / "record", "sandbox", lasting=True)
    record.begin(attempt(), START)
    return record


def test_what_was_written_is_found(begun: Record) -> None:
    ended = ExecutorResult(ExecutorEnd(START, START, 3, "out", "\ufffd"), "why", Usage(1, 2, 3))
    assert begun.begun() == (attempt(), START)
    assert begun.staged_in() is begun.ended(0) is begun.concluded() is None
    begun.stage_in(StageInResult(5, 6))
    begun.end(0, ended)
    begun.end(1, ExecutorResult(ended.end))
    report = Report(State.COMPLETE, START, executors=(ended.end,))
    begun.conclude(report)
    assert begun.staged_in() == StageInResult(5, 6)
    assert (begun.ended(0), begun.ended(1)) == (ended, ExecutorResult(ended.end))
    assert begun.concluded() == report
    begun.close()
    assert begun.begun() == (attempt(), START), "what is concluded is told, whatever else happens"


def test_nobody_goes_on_with_what_is_closed(begun: Record) -> None:
    begun.close()
    assert begun.begun() is None


def test_nobody_goes_on_after_the_machine_began_anew(
    begun: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "boot").write_text("another\n")
    monkeypatch.setattr(module, "BOOT", tmp_path / "boot")
    assert begun.begun() is None


def test_only_what_is_concluded_counts_for_a_server_with_another_engine(begun: Record, tmp_path: Path) -> None:
    other = Record(tmp_path / "record", "podman", lasting=True)
    assert other.begun() is None
    begun.conclude(Report(State.COMPLETE, START))
    assert other.begun() == (attempt(), START)


@pytest.mark.parametrize("torn", ["", "{", "[]", '{"task": "t"}'])
@pytest.mark.parametrize("name", ["attempt", "plan"])
def test_nobody_goes_on_with_what_cannot_be_read(begun: Record, tmp_path: Path, name: str, torn: str) -> None:
    (tmp_path / "record" / name).write_text(torn)
    assert begun.begun() is None


async def test_what_was_concluded_and_not_stored_is_told_again(begun: Record, tmp_path: Path) -> None:
    state = tmp_path / "state"
    place = state / "attempts" / str(KEY)
    place.mkdir(parents=True)
    (tmp_path / "record").rename(place / "record")
    report = Report(State.COMPLETE, START, START)
    Record(place / "record", "sandbox", lasting=True).conclude(report)
    told: list[tuple[AttemptKey, Report]] = []
    async with Storage(StorageOptions()) as storage:
        backend = LocalBackend(LocalOptions(state, "sandbox", lasting=True), storage)
        try:
            await backend.start(lambda *one: told.append(one), lambda: None)
        except EngineUnavailable as error:
            pytest.skip(f"no sandbox here: {error}")
        assert told == [(KEY, report)]
        assert await backend.attempts() == {KEY}
        await asyncio.sleep(0.1)
        assert place.exists(), "nobody has stored it"
        await backend.forget(KEY)
        assert not place.exists()
        await backend.stop()


def test_where_it_cannot_be_written_no_later_server_goes_on(begun: Record, tmp_path: Path) -> None:
    (tmp_path / "record/stage-in.new").mkdir()
    begun.stage_in(StageInResult(1, 2))
    assert begun.begun() is None
    (tmp_path / "file").touch()
    unmade = Record(tmp_path / "file/record", "sandbox", lasting=True)
    unmade.begin(attempt(), START)
    unmade.close()
    assert unmade.begun() is None
