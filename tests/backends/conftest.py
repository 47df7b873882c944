"""What the tests of engines share: a started engine, and a way to run one executor in it."""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tesk.backends.base import AttemptKey
from tesk.backends.local.engine import Engine, EngineUnavailable, ExecutorExit, Job, Space
from tesk.backends.local.sandbox.engine import Sandbox
from tesk.backends.local.streams import excerpt
from tesk.plan.model import ExecutorPlan, Mount, Plan


@dataclass
class Ran:
    """One executor's end, its streams, and where its scratch lies."""

    exit: ExecutorExit
    stdout: str
    stderr: str
    scratch: Path


@dataclass
class Runner:
    """Runs one command at a time in `engine`."""

    engine: Engine
    state: Path
    numbers: Any = field(default_factory=itertools.count)

    def job(self, *command: str, mounts: Sequence[str | Mount] = (), image: str = "none", **options: Any) -> Job:
        """A job of its own, with each mount's directory made as a backend would."""
        key = AttemptKey(f"task-{next(self.numbers)}", 1)
        space = Space(self.state / "attempts" / str(key))
        binds = [Mount(one) if isinstance(one, str) else one for one in mounts]
        for bind in binds:
            place = Path(f"{space.scratch}{bind.path}")
            if bind.type == "DIRECTORY":
                place.mkdir(parents=True, exist_ok=True)
                place.chmod(0o777)
            else:
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_text("a single file\n")
                place.chmod(0o644)
            if self.engine.owner:
                os.chown(place, *self.engine.owner)
        space.scratch.mkdir(parents=True, exist_ok=True)
        space.streams(0).mkdir(parents=True)
        executor = ExecutorPlan(image, command, **options)
        return Job(key, 0, Plan(executors=(executor,), mounts=tuple(binds)), space)

    async def run(self, job: Job) -> Ran:
        """`job` to its end."""
        end = await self.engine.execute(job, lambda: None)
        streams = str(job.space.streams(0))
        return Ran(end, excerpt(streams, "stdout", 65536), excerpt(streams, "stderr", 65536), job.space.scratch)

    async def __call__(self, *command: str, **options: Any) -> Ran:
        return await self.run(self.job(*command, **options))


@pytest.fixture
async def sandbox(tmp_path: Path) -> AsyncIterator[Runner]:
    """A started sandbox; skips where the machine allows none."""
    state = tmp_path / "state"
    state.mkdir()
    engine = Sandbox(state)
    try:
        await engine.start()
    except EngineUnavailable as error:
        pytest.skip(f"no sandbox here: {error}")
    runner = Runner(engine, state)
    yield runner
    await runner.engine.stop()
