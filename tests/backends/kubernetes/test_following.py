"""An executor's stream as it comes, out of the log of its pod, against a cluster in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tests.backends.kubernetes.attempts import KEY, SITE
from tests.backends.kubernetes.fake_api import status
from tests.backends.kubernetes.world import TIME, World, metadata, settle, world

from tesk.backends.kubernetes import following as following_module
from tesk.backends.kubernetes.errors import Unreachable
from tesk.backends.kubernetes.following import _LATE_READS, read_streams
from tesk.backends.kubernetes.labels import STEP, selector_of

JOB = f"{KEY.task}-ex-00"
RECORD = b"R {}\n"


class Follower:
    """Reads in a task of its own; `heard` is what it was given so far."""

    def __init__(self, cluster: World) -> None:
        self.world = cluster
        self.heard: list[bytes] = []
        self.errors = b""
        self.expected = True
        self.reading: asyncio.Task[None] | None = None

    async def read(self, *, follow: bool = True) -> None:
        labels = {**selector_of(SITE.instance, KEY), STEP: "executor"}
        async with self.world.api.cluster(patience=0.5) as api:
            async for out, err in read_streams(api, labels, "executor", follow=follow, expected=lambda: self.expected):
                self.heard += [out] if out else []
                self.errors += err

    async def over(self) -> bytes:
        assert self.reading is not None
        async with asyncio.timeout(20):
            await self.reading
        return b"".join(self.heard)


@asynccontextmanager
async def following() -> AsyncIterator[Follower]:
    """A follower of an executor whose Job is there and has no pod yet."""
    async with world() as cluster:
        labels = metadata(JOB, KEY, "executor")
        cluster.put("jobs", {"metadata": labels, "spec": {"template": {"metadata": labels, "spec": None}}})
        made = Follower(cluster)
        made.reading = asyncio.create_task(made.read())
        try:
            yield made
        finally:
            made.reading.cancel()
            await asyncio.gather(made.reading, return_exceptions=True)


def runs(cluster: World, log: bytes) -> None:
    cluster.logs[f"{JOB}-pod"] = log
    cluster.pod_of(JOB, "executor", running={"startedAt": TIME})


async def test_one_who_comes_before_the_pod_hears_all_of_it() -> None:
    async with following() as made:
        await asyncio.sleep(0.3)
        cluster = made.world
        runs(cluster, b"O one\nE other\nO two\n" + RECORD)
        assert await made.over() == b"one\ntwo\n"
        assert made.errors == b"other\n"


async def test_what_came_before_a_connection_broke_is_not_told_twice() -> None:
    async with following() as made:
        runs(made.world, b"O one\nO tw")
        await settle(lambda: made.heard, 10)
        made.world.refusals["GET", "pods"] = status(503, "ServiceUnavailable")
        await asyncio.sleep(0.5)
        del made.world.refusals["GET", "pods"]
        runs(made.world, b"O one\nO two\nO three\n" + RECORD)
        assert await made.over() == b"one\ntwo\nthree\n"


async def test_what_comes_to_the_log_after_the_end_is_waited_for() -> None:
    async with following() as made:
        made.world.late_logs[f"{JOB}-pod"] = b"O one\nO two\n" + RECORD
        made.expected = False
        made.world.ended(JOB, "executor", log=b"O one\n")
        assert await made.over() == b"one\ntwo\n"


async def test_the_record_of_a_launcher_that_came_to_its_end_is_waited_for_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(following_module, "_SOONEST", 0.05)
    monkeypatch.setattr(following_module, "_LATEST", 0.05)
    message = f'{{"exit_code":0,"start":"{TIME}","end":"{TIME}"}}'
    async with following() as made:
        made.world.ended(JOB, "executor", message=message, log=b"O one\n")
        await settle(lambda: sum(one.path.endswith("/log") for one in made.world.api.asked) > _LATE_READS + 2)
        made.world.logs[f"{JOB}-pod"] = b"O one\nO two\n" + RECORD
        assert await made.over() == b"one\ntwo\n"


async def test_a_log_without_its_record_has_an_end_too() -> None:
    async with following() as made:
        made.world.ended(JOB, "executor", code=137, log=b"O one\n")
        assert await made.over() == b"one\n"


async def test_following_ends_with_the_pod() -> None:
    async with following() as made:
        runs(made.world, b"O one\n")
        await settle(lambda: made.heard, 10)
        made.world.drop("pods", f"{JOB}-pod")
        assert await made.over() == b"one\n"


async def test_following_ends_when_the_executor_is_not_expected_any_more() -> None:
    async with following() as made:
        await asyncio.sleep(0.3)
        made.expected = False
        assert await made.over() == b""


async def test_one_who_does_not_follow_is_told_what_there_is_or_that_nobody_answers() -> None:
    async with following() as made:
        runs(made.world, b"O one\n")
        reader = Follower(made.world)
        await reader.read(follow=False)
        assert reader.heard == [b"one\n"]
        made.world.refusals["GET", "pods"] = status(503, "ServiceUnavailable")
        with pytest.raises(Unreachable):
            await reader.read(follow=False)
