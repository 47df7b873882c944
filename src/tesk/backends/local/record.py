"""What of an attempt is done, in files from which a later server goes on with it.

Each appears whole, by a rename. They outlive any end of the server, but count for nothing after the machine itself
began anew: what scratch then holds, nobody knows. Where one cannot be written, as on a full disk, this server goes on
and a later one does not.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
from pathlib import Path
from typing import Any

from tesk.backends.base import Attempt, AttemptKey
from tesk.plan.model import Plan
from tesk.storage.errors import reason
from tesk.taskmaster.report import ExecutorEnd, Report
from tesk.taskmaster.steps import ExecutorResult, StageInResult, Usage

__all__ = ["Record"]

log = logging.getLogger(__name__)

BOOT = Path("/proc/sys/kernel/random/boot_id")


class Record:
    """The record of one attempt, in a directory of its own.

    `engine` names what runs its executors: a server with another cannot go on with them, only tell what is concluded.
    Where its executors are not `lasting`, nothing is written.
    """

    def __init__(self, directory: Path, engine: str, *, lasting: bool) -> None:
        self._directory = directory
        self._engine = engine
        self._lasting = lasting

    def begin(self, attempt: Attempt, start_time: str) -> None:
        """Write down what is to be done."""
        if self._lasting:
            with contextlib.suppress(OSError):
                self._directory.mkdir(parents=True, exist_ok=True)
        about = {
            "task": attempt.key.task,
            "attempt": attempt.key.attempt,
            "start_time": start_time,
            "boot": _boot(),
            "engine": self._engine,
        }
        self._write("plan", json.loads(attempt.plan.to_json()))
        self._write("attempt", about)

    def begun(self) -> tuple[Attempt, str] | None:
        """What is to be done, and when that began; None where nobody can go on with it."""
        try:
            about = self._read("attempt")
            if about is None or about["boot"] != _boot():
                return None
            if not (self._lasting and about["engine"] == self._engine) and self.concluded() is None:
                return None
            plan = Plan.from_json((self._directory / "plan").read_bytes())
            return Attempt(AttemptKey(about["task"], about["attempt"]), plan), about["start_time"]
        except (OSError, ValueError, KeyError, TypeError):  # torn by the machine's end, or of another version
            return None

    def staged_in(self) -> StageInResult | None:
        """What stage-in came to, if it is done."""
        found = self._read("stage-in")
        return StageInResult(**found) if found is not None else None

    def stage_in(self, result: StageInResult) -> None:
        """Stage-in is done."""
        self._write("stage-in", dataclasses.asdict(result))

    def ended(self, index: int) -> ExecutorResult | None:
        """How executor number `index` ended, if it has."""
        found = self._read(f"executor-{index:02}")
        if found is None:
            return None
        usage = Usage(**found["usage"]) if found["usage"] else None
        return ExecutorResult(ExecutorEnd(**found["end"]), found["problem"], usage)

    def end(self, index: int, result: ExecutorResult) -> None:
        """Executor number `index` has ended."""
        self._write(f"executor-{index:02}", dataclasses.asdict(result))

    def concluded(self) -> Report | None:
        """What the attempt came to, if nothing but to tell it is left to do."""
        try:
            return Report.from_json((self._directory / "report").read_bytes())
        except (OSError, ValueError):
            return None

    def conclude(self, report: Report) -> None:
        """Everything is done; the record stays until that is stored."""
        self._write("report", json.loads(report.to_json()))

    def close(self) -> None:
        """Nobody goes on with the attempt, unless it is concluded."""
        if self.concluded() is None:
            self._withdraw()

    def _write(self, name: str, content: Any) -> None:
        if not self._lasting:
            return
        new = self._directory / f"{name}.new"
        try:
            new.write_text(json.dumps(content))
            os.replace(new, self._directory / name)
        except OSError as error:
            log.warning("no later server can go on with the attempt in %s: %s", self._directory, reason(error))
            self._withdraw()

    def _withdraw(self) -> None:
        for name in ("attempt", "report"):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                (self._directory / name).unlink()

    def _read(self, name: str) -> Any:
        try:
            return json.loads((self._directory / name).read_bytes())
        except FileNotFoundError:
            return None


def _boot() -> str:
    """What differs each time the machine begins anew."""
    try:
        return BOOT.read_text().strip()
    except OSError:
        return ""
