"""Whole lives of an attempt in layout `pod`: whatever happens to who watches it, it comes to the same end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from tests.backends.kubernetes.attempts import KEY, MINIMAL, REPORT
from tests.backends.kubernetes.test_backend import Served
from tests.backends.kubernetes.test_pods import COMPLETE, ENDED, RUNNING, RUNS, pods, put_pod, soon, tell
from tests.backends.kubernetes.world import TIME, World, settle, world

from tesk.backends.base import Attempt
from tesk.taskmaster.report import Report
from tesk.tes.states import State

__all__ = ["soon"]

Step = Callable[[World], None]

KILLED = {"terminated": {"exitCode": 137, "reason": "Error", "startedAt": TIME, "finishedAt": TIME}}
FULL = 'Usage of EmptyDir volume "scratch" exceeds the limit "1".'


def says(*reports: Report) -> Step:
    """The taskmaster has told so much."""
    return lambda cluster: tell(cluster, *reports)


def shows(taskmaster: Any = RUNS, executor: Any = RUNS, **status: Any) -> Step:
    """The node tells of the pod."""
    return lambda cluster: put_pod(cluster, taskmaster, executor, **status)


BEGIN: list[Step] = [shows(None, None, phase="Pending"), shows(), says(RUNNING)]
ENDS: dict[str, tuple[list[Step], State]] = {
    "complete": (
        [says(RUNNING, REPORT), says(RUNNING, REPORT, COMPLETE), shows(ENDED, ENDED, phase="Succeeded")],
        State.COMPLETE,
    ),
    "deleted": ([lambda cluster: cluster.drop("pods", KEY.task)], State.SYSTEM_ERROR),
    "taskmaster killed": ([shows(KILLED, ENDED, phase="Failed")], State.SYSTEM_ERROR),
    "evicted": (
        [shows(KILLED, KILLED, phase="Failed", reason="Evicted", message=FULL)],
        State.EXECUTOR_ERROR,
    ),
}
STEPS = 1 + len(BEGIN) + max(len(steps) for steps, _ in ENDS.values())


class Watcher:
    """A server that may end and come again; what it told, also before."""

    def __init__(self, cluster: World) -> None:
        self.cluster = cluster
        self.told: list[Report] = []
        self._opened = contextlib.AsyncExitStack()
        self.now: Served

    async def start(self) -> None:
        self.now = await self._opened.enter_async_context(pods(self.cluster))

    async def stop(self) -> None:
        await self._opened.aclose()
        self.told += [report for _, report in self.now.told]

    async def again(self) -> None:
        """Another server, whose controller does what it does about an attempt that is not there."""
        await self.stop()
        await self.start()
        if KEY in await self.now.backend.attempts() or self.ended:
            return
        if self.told:
            self.told.append(Report(State.SYSTEM_ERROR, lost="the server that ran it was stopped"))
        else:
            await self.now.backend.offer(Attempt(KEY, MINIMAL))

    @property
    def ended(self) -> bool:
        return any(one.state.terminal for one in [*self.told, *(report for _, report in self.now.told)])


async def restarted(watcher: Watcher) -> None:
    await watcher.again()


async def dropped(watcher: Watcher) -> None:
    watcher.cluster.end_watches()


async def expired(watcher: Watcher) -> None:
    watcher.cluster.end_watches(expired=True)


async def behind(watcher: Watcher) -> None:
    """Its watches hear of this step and the next only after that."""
    watcher.cluster.catch_up()
    watcher.cluster.fall_behind()


async def live(end: str, disturb: Callable[[Watcher], Any], points: set[int]) -> list[Report]:
    """All that was told of an attempt that came to `end`, where what watches it is disturbed after these steps."""
    steps, _ = ENDS[end]
    async with world() as cluster:
        watcher = Watcher(cluster)
        await watcher.start()
        assert await watcher.now.backend.offer(Attempt(KEY, MINIMAL))
        await settle(lambda: KEY.task in cluster.names("pods"))
        for number, step in enumerate([lambda _: None, *BEGIN, *steps]):
            if ("pods", KEY.task) in cluster.objects:  # a lost attempt is removed
                step(cluster)
            if number in points:
                await disturb(watcher)
            await asyncio.sleep(0.05)
        cluster.catch_up()
        await settle(lambda: watcher.ended, seconds=20)
        await watcher.stop()
        assert cluster.done("POST").count(f"POST pods {KEY.task}") == 1
        return watcher.told


@pytest.mark.parametrize(
    "points",
    [
        pytest.param(set(range(STEPS)), id="always"),
        *(pytest.param({one}, id=f"after {one}", marks=pytest.mark.slow) for one in range(STEPS)),
    ],
)
@pytest.mark.parametrize("disturb", [restarted, dropped, expired, behind], ids=lambda one: one.__name__)
async def test_a_watcher_that_is_disturbed_comes_to_the_same_end(disturb: Any, points: set[int]) -> None:
    for end, (_, state) in ENDS.items():
        told = await live(end, disturb, points)
        last = next(one for one in told if one.state.terminal)
        assert last.state is state, (end, told)
        assert (last.lost is not None) == (end in ("deleted", "taskmaster killed")), (end, last)
        if end == "complete":
            assert last == COMPLETE
        if end == "evicted":
            assert [one.exit_code for one in last.executors] == [137]
