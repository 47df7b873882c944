"""The reports that a taskmaster keeps in the cluster: what a successor may write, and that the last one gets there."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from lightkube.resources.core_v1 import ConfigMap
from tests.backends.kubernetes.attempts import KEY, MINIMAL, OWNER, SITE, STORAGE
from tests.backends.kubernetes.fake_api import status
from tests.backends.kubernetes.world import World, settle, world

from tesk.backends.kubernetes import taskmaster
from tesk.backends.kubernetes.mounted import Handout
from tesk.backends.kubernetes.names import report_name
from tesk.backends.kubernetes.report_map import make_report_config_map, read_report
from tesk.backends.kubernetes.taskmaster import _Reports
from tesk.taskmaster.report import ExecutorEnd, Report
from tesk.tes.states import State

END = ExecutorEnd("t1", "t2", 0)
INITIALIZING, RUNNING = Report(State.INITIALIZING, "t0"), Report(State.RUNNING, "t0")
ONE_ENDED = Report(State.RUNNING, "t0", executors=(END,))
COMPLETE = Report(State.COMPLETE, "t0", "t9", executors=(END,))


def kept(cluster: World) -> Report | None:
    """The report that a server would read."""
    found = cluster.objects.get(("configmaps", report_name(KEY)))
    return None if found is None else read_report(ConfigMap.from_dict(found))  # type: ignore[arg-type]


def left_by_a_predecessor(cluster: World, report: Report) -> None:
    cluster.put("configmaps", make_report_config_map(OWNER, report, SITE).to_dict())


@asynccontextmanager
async def reporting(cluster: World) -> AsyncIterator[_Reports]:
    """Reports that were opened, and not yet begun to be written."""
    async with cluster.api.cluster(patience=2.0) as api:
        made = _Reports(Handout(OWNER, MINIMAL, SITE, STORAGE), api)
        await made.open()
        yield made


async def test_each_report_replaces_the_one_before() -> None:
    async with world() as cluster, reporting(cluster) as reports:
        async with reports:
            for report in (INITIALIZING, RUNNING, ONE_ENDED):
                reports.publish(report)
                await settle(lambda wanted=report: kept(cluster) == wanted)  # type: ignore[misc]
            reports.last = COMPLETE
        assert kept(cluster) == COMPLETE


async def test_a_successor_never_tells_less_than_was_told() -> None:
    async with world() as cluster:
        left_by_a_predecessor(cluster, ONE_ENDED)
        async with reporting(cluster) as reports, reports:
            for report in (INITIALIZING, RUNNING):
                reports.publish(report)
            await asyncio.sleep(0.2)
            assert kept(cluster) == ONE_ENDED
            assert cluster.done("PUT") == []
            reports.publish(ONE_ENDED)
            await settle(lambda: cluster.done("PUT"))


async def test_a_last_report_is_never_held_back() -> None:
    lost = Report(State.SYSTEM_ERROR, "t0", "t5", lost="its Job was deleted")
    async with world() as cluster:
        left_by_a_predecessor(cluster, ONE_ENDED)
        async with reporting(cluster) as reports:
            async with reports:
                reports.publish(INITIALIZING)
                reports.last = lost
            assert kept(cluster) == lost


async def test_what_it_waits_for_is_told_with_the_report() -> None:
    async with world() as cluster, reporting(cluster) as reports, reports:
        reports.publish(INITIALIZING)
        reports.note("stage-in waits: no node has enough cpu")
        await settle(lambda: (kept(cluster) or INITIALIZING).system_logs == ("stage-in waits: no node has enough cpu",))


async def test_a_report_that_is_refused_is_written_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taskmaster, "_WRITE_AGAIN", 0.1)
    async with world() as cluster, reporting(cluster) as reports, reports:
        cluster.refusals["POST", "configmaps"] = status(403, "Forbidden", "not now")
        reports.publish(RUNNING)
        await settle(lambda: cluster.done("POST"))
        cluster.refusals.clear()
        await settle(lambda: kept(cluster) == RUNNING)


async def test_a_first_report_that_was_stored_though_nobody_heard_so_is_replaced() -> None:
    async with world() as cluster, reporting(cluster) as reports:
        async with reports:
            cluster.refusals["POST", "configmaps"] = status(403, "Forbidden", "not now")
            reports.publish(INITIALIZING)
            await settle(lambda: cluster.done("POST"))
            left_by_a_predecessor(cluster, INITIALIZING)
            cluster.refusals.clear()
            reports.last = COMPLETE
        assert kept(cluster) == COMPLETE


async def test_a_report_that_somebody_deleted_is_made_anew() -> None:
    async with world() as cluster, reporting(cluster) as reports, reports:
        reports.publish(INITIALIZING)
        await settle(lambda: kept(cluster) == INITIALIZING)
        cluster.drop("configmaps", report_name(KEY))
        reports.publish(RUNNING)
        await settle(lambda: kept(cluster) == RUNNING)


async def test_after_an_error_nothing_is_taken_for_the_end() -> None:
    async with world() as cluster, reporting(cluster) as reports:
        with contextlib.suppress(RuntimeError):
            async with reports:
                reports.publish(RUNNING)
                await settle(lambda: kept(cluster) == RUNNING)
                raise RuntimeError
        assert kept(cluster) == RUNNING
