"""What the backend keeps account of: offers, places, adoption, losses and removal, against a cluster in memory."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.backends.kubernetes.attempts import KEY, MINIMAL, OWNER, SITE, STORAGE
from tests.backends.kubernetes.fake_api import status
from tests.backends.kubernetes.world import World, metadata, settle, world

from tesk.backends.base import Attempt, AttemptKey
from tesk.backends.kubernetes.backend import KubernetesBackend
from tesk.backends.kubernetes.names import Owner, attempt_name, report_name
from tesk.backends.kubernetes.options import KubernetesOptions
from tesk.backends.kubernetes.report_map import make_report_config_map
from tesk.taskmaster.report import Report
from tesk.tes.states import State

OPTIONS = dataclasses.replace(SITE, layout="jobs", keep_finished=0.0, max_active=2)
RUNNING = Report(State.RUNNING, "2026-05-01T09:00:00.000Z")
COMPLETE = Report(State.COMPLETE, "2026-05-01T09:00:00.000Z", "2026-05-01T09:00:05.000Z")


class Served:
    """A backend that was started, what it told, and how often it said that there is room."""

    def __init__(self, backend: KubernetesBackend, cluster: World) -> None:
        self.backend = backend
        self.world = cluster
        self.told: list[tuple[AttemptKey, Report]] = []
        self.freed = 0

    def note_freed(self) -> None:
        self.freed += 1

    def states(self, key: AttemptKey = KEY) -> list[State]:
        """What was told of one attempt."""
        return [report.state for about, report in self.told if about == key]

    def last(self) -> Report:
        return self.told[-1][1]

    async def offered(self, key: AttemptKey = KEY) -> None:
        """Offer an attempt, and see its taskmaster made."""
        assert await self.backend.offer(Attempt(key, MINIMAL))
        await settle(lambda: attempt_name(key) in self.world.names("jobs"))

    def reports(self, report: Report, key: AttemptKey = KEY) -> None:
        """The taskmaster leaves a report."""
        put_report(self.world, report, key)


@asynccontextmanager
async def served(
    cluster: World, options: KubernetesOptions = OPTIONS, report_secret: bytes = b""
) -> AsyncIterator[Served]:
    made = Served(KubernetesBackend(options, STORAGE, lambda _: cluster.api.cluster(), report_secret), cluster)
    await made.backend.start(lambda key, report: made.told.append((key, report)), made.note_freed)
    try:
        yield made
    finally:
        await made.backend.stop()


def put_report(cluster: World, report: Report, key: AttemptKey = KEY) -> None:
    made = make_report_config_map(Owner(key, OWNER.uid), report, OPTIONS)
    cluster.put("configmaps", json.loads(json.dumps(made.to_dict())))


def put_plan(cluster: World, key: AttemptKey = KEY) -> None:
    cluster.put("configmaps", {"metadata": metadata(attempt_name(key), key, "plan")})


def put_job(cluster: World, key: AttemptKey = KEY, **status_: Any) -> None:
    labels = metadata(attempt_name(key), key, "taskmaster")
    spec = {"backoffLimit": 6, "template": {"metadata": labels, "spec": None}}
    cluster.put("jobs", {"metadata": labels, "spec": spec, "status": status_})


def number(count: int) -> AttemptKey:
    return AttemptKey(f"task-{count:013d}", 1)


async def test_no_more_attempts_than_max_active_until_one_has_ended() -> None:
    async with world() as cluster, served(cluster) as made:
        for count in (1, 2):
            await made.offered(number(count))
        assert not await made.backend.offer(Attempt(number(3), MINIMAL))
        assert made.freed == 0
        made.reports(COMPLETE, number(1))
        await settle(lambda: made.freed == 1)
        assert await made.backend.offer(Attempt(number(3), MINIMAL))


async def test_an_offer_is_idempotent() -> None:
    async with world() as cluster, served(cluster) as made:
        await made.offered()
        await made.offered()
        assert len(cluster.done("POST")) == 2


async def test_an_offer_after_a_crash_goes_on_where_it_was() -> None:
    async with world() as cluster:
        put_plan(cluster)
        async with served(cluster) as made:
            assert await made.backend.attempts() == frozenset(), "nothing runs, so the controller offers it again"
            await made.offered()
            assert await made.backend.attempts() == {KEY}
            assert cluster.objects["jobs", KEY.task]["metadata"]["ownerReferences"][0]["uid"] == "uid-1"


async def test_reports_of_an_earlier_servers_attempts_are_told_at_the_start() -> None:
    async with world() as cluster:
        put_plan(cluster)
        put_job(cluster)
        put_report(cluster, COMPLETE)
        async with served(cluster) as made:
            assert made.told == [(KEY, COMPLETE)]
            assert await made.backend.attempts() == {KEY}


async def test_reports_are_told_as_they_come() -> None:
    async with world() as cluster, served(cluster) as made:
        await made.offered()
        made.reports(RUNNING)
        await settle(lambda: made.states() == [State.RUNNING])
        made.reports(COMPLETE)
        await settle(lambda: made.states() == [State.RUNNING, State.COMPLETE])


async def test_what_is_left_goes_at_once_without_keep_finished() -> None:
    async with world() as cluster, served(cluster) as made:
        await made.offered()
        made.reports(COMPLETE)
        await settle(lambda: made.told)
        await made.backend.forget(KEY)
        await settle(lambda: not cluster.objects, 15)
        assert await made.backend.attempts() == frozenset()


async def test_what_is_left_stays_for_keep_finished() -> None:
    async with world() as cluster, served(cluster, dataclasses.replace(OPTIONS, keep_finished=1e9)) as made:
        await made.offered()
        made.reports(COMPLETE)
        await settle(lambda: made.told)
        await made.backend.forget(KEY)
        await asyncio.sleep(0.3)
        assert len(cluster.objects) == 3
        assert await made.backend.attempts() == frozenset(), "nobody waits for it any more"


async def test_the_taskmaster_goes_first_and_what_tells_of_the_attempt_last() -> None:
    async with world() as cluster, served(cluster) as made:
        await made.offered()
        cluster.put("jobs", {"metadata": metadata("executor", KEY, "executor")})
        cluster.put("persistentvolumeclaims", {"metadata": metadata("claim", KEY, "scratch")})
        made.reports(RUNNING)
        await settle(lambda: made.told)
        await made.backend.cancel(KEY)
        await settle(lambda: made.states()[-1] is State.CANCELED, 15)
        assert not cluster.objects
        gone = [one.removeprefix("DELETE ") for one in cluster.done("DELETE")]
        wanted = [
            f"jobs {KEY.task}",
            "jobs executor",
            "persistentvolumeclaims claim",
            f"configmaps {KEY.task}",
            f"configmaps {report_name(KEY)}",
        ]
        assert list(dict.fromkeys(gone)) == wanted


async def test_a_cancel_waits_until_the_last_pod_has_gone() -> None:
    async with world() as cluster, served(cluster) as made:
        await made.offered()
        cluster.pod_of(KEY.task, "taskmaster", running={"startedAt": "2026-05-01T09:00:00Z"})
        cluster.refusals["DELETE", "pods"] = {"kind": "Status", "code": 200}  # it ends in its own time
        await made.backend.cancel(KEY)
        await asyncio.sleep(1.0)
        assert State.CANCELED not in made.states()
        cluster.drop("pods", f"{KEY.task}-pod")
        await settle(lambda: State.CANCELED in made.states(), 15)


async def test_a_cancel_of_what_is_not_held_is_reported_at_once() -> None:
    async with world() as cluster, served(cluster) as made:
        await made.backend.cancel(KEY)
        assert made.states() == [State.CANCELED]


async def test_a_taskmaster_whose_job_is_gone_is_lost_once_nothing_is_left() -> None:
    async with world() as cluster, served(cluster) as made:
        await made.offered()
        made.reports(RUNNING)
        await settle(lambda: made.told)
        cluster.drop("jobs", KEY.task)
        await settle(lambda: made.last().lost, 15)
        assert made.last().lost == "taskmaster: its Job was deleted"
        assert not cluster.objects


async def test_a_last_report_counts_although_the_job_is_gone() -> None:
    async with world() as cluster, served(cluster) as made:
        await made.offered()
        made.reports(COMPLETE)
        cluster.drop("jobs", KEY.task)
        await settle(lambda: made.told)
        await asyncio.sleep(0.3)
        assert made.states() == [State.COMPLETE]


async def test_an_attempt_that_was_lost_while_no_server_ran_is_told_as_lost() -> None:
    async with world() as cluster:
        put_plan(cluster)
        put_report(cluster, RUNNING)
        async with served(cluster) as made:
            await settle(lambda: made.told and made.last().lost, 15)
            assert not cluster.objects


async def test_a_loss_that_the_taskmaster_tells_is_told_once_nothing_is_left() -> None:
    async with world() as cluster, served(cluster) as made:
        await made.offered()
        made.reports(dataclasses.replace(RUNNING, state=State.SYSTEM_ERROR, lost="its pod was deleted"))
        await settle(lambda: made.told, 15)
        assert made.last().lost == "its pod was deleted"
        assert not cluster.objects


@pytest.mark.slow
async def test_rights_that_lack_for_a_while_end_no_attempt() -> None:
    async with world() as cluster, served(cluster) as made:
        await made.offered()
        made.reports(RUNNING)
        await settle(lambda: made.told)
        for method in ("GET", "DELETE"):
            cluster.refusals[method, "jobs"] = status(403, "Forbidden", "not now")
        cluster.drop("jobs", KEY.task)
        await asyncio.sleep(1.0)
        assert made.states() == [State.RUNNING]
        await made.backend.cancel(KEY)
        await asyncio.sleep(1.0)
        assert made.states() == [State.RUNNING]
        cluster.refusals.clear()
        await settle(lambda: made.states()[-1] is State.CANCELED, 15)


@pytest.mark.parametrize("reason", ["PodSecurity"])
async def test_what_is_refused_for_good_ends_after_start_timeout_and_leaves_nothing(reason: str) -> None:
    async with world() as cluster, served(cluster, dataclasses.replace(OPTIONS, start_timeout=0.5)) as made:
        cluster.refusals["POST", "jobs"] = status(403, "Forbidden", f"violates {reason}")
        assert await made.backend.offer(Attempt(KEY, MINIMAL))
        await settle(lambda: made.states() and made.states()[-1] is State.SYSTEM_ERROR, 15)
        assert f"violates {reason}" in "".join(made.last().system_logs)
        assert made.last().lost is None
        assert not cluster.objects


@pytest.mark.slow
async def test_what_a_taskmaster_on_its_node_waits_for_is_told() -> None:
    async with world() as cluster, served(cluster) as made:
        await made.offered()
        cluster.pod_of(attempt_name(KEY), "taskmaster", waiting={"reason": "ErrImagePull", "message": "not found"})
        await settle(lambda: made.told and "cannot be pulled" in "".join(made.last().system_logs), 15)
        assert made.states() == [State.INITIALIZING, State.INITIALIZING]
        assert made.last().start_time is None, "nothing of it has run"
