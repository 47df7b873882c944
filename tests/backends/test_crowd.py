"""A thousand followers of one executor, over HTTP: one reading, bounded memory, and nobody waits for the slow."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml
from tests.backends.crowd import crowd
from tests.backends.kubernetes.attempts import REPORT
from tests.backends.kubernetes.world import TIME, World, metadata, settle, world
from tests.behaviour.sites import Ground, Place, Site

from tesk.backends.base import AttemptKey
from tesk.backends.kubernetes.labels import EXECUTOR
from tesk.backends.kubernetes.names import Owner, executor_name
from tesk.backends.kubernetes.options import KubernetesOptions
from tesk.backends.kubernetes.report_map import make_report_config_map
from tesk.taskmaster.report import Report

pytestmark = pytest.mark.slow

MANY = 1000
MOST_KIB = 48
"""Of memory for a follower; 26 were seen."""


class Served(Site):
    """A server whose memory is told."""

    def memory(self) -> int:
        """Resident, in KiB."""
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))


@contextlib.contextmanager
def serving(directory: Path, **settings: str) -> Iterator[Served]:
    site = Served(Place(settings, "not-used", prepare=lambda _: contextlib.nullcontext(Ground({}, list))), directory)
    with site.running():
        yield site


def logs_of(task: str) -> str:
    return f"/ga4gh/tes/v1/tasks/{task}/logs?follow=true"


async def test_a_thousand_follow_a_task_on_this_machine(tmp_path: Path) -> None:
    with serving(tmp_path, TESK_LOCAL_ENGINE="sandbox") as site:
        task = site.create(site.shell("sleep 5; for i in 1 2 3 4 5; do echo line $i; sleep 0.2; done"))
        site.wait(task, "RUNNING")
        before = site.memory()
        async with crowd(site.url, logs_of(task), MANY) as followers:
            assert {await one.over() for one in followers} == {b"".join(b"line %d\n" % i for i in range(1, 6))}
            assert (site.memory() - before) / MANY < MOST_KIB


class Cluster:
    """A cluster in memory and a server before it, in which one task's executor runs and has written `log` so far."""

    def __init__(self, cluster: World, site: Served, task: str) -> None:
        self.world = cluster
        self.site = site
        self.task = task
        self.key = AttemptKey(task, 1)
        self.pod = f"{executor_name(self.key, 0)}-pod"
        self.live: asyncio.Queue[bytes | None] = asyncio.Queue()

    def reports(self, report: Report) -> None:
        made = make_report_config_map(Owner(self.key, "uid"), report, KubernetesOptions(image="tesk"))
        self.world.put("configmaps", json.loads(json.dumps(made.to_dict())))

    async def begin(self, log: bytes) -> None:
        """The executor runs, and has written `log`."""
        self.world.logs[self.pod] = log
        self.world.live_logs[self.pod] = self.live
        labels = metadata(self.pod, self.key, "executor")
        labels["labels"][EXECUTOR] = "0"
        status = [{"name": "executor", "image": "i", "imageID": "", "ready": True, "restartCount": 0}]
        status[0]["state"] = {"running": {"startedAt": TIME}}
        self.world.put("pods", {"metadata": labels, "status": {"phase": "Running", "containerStatuses": status}})
        self.reports(dataclasses.replace(REPORT, executors=()))
        await asyncio.to_thread(self.site.wait, self.task, "RUNNING")

    def end(self, *last: bytes) -> None:
        """The executor writes the `last` lines, and ends."""
        for one in (*last, b"R {}\n", None):
            self.live.put_nowait(one)
        self.reports(REPORT)

    def log_reads(self) -> int:
        return sum(one.path.endswith("/log") for one in self.world.api.asked)


@asynccontextmanager
async def clustered(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with world() as cluster:
        named = {"name": "world", "cluster": {"server": cluster.api.url}}
        context = {"name": "world", "context": {"cluster": "world", "user": "me", "namespace": "somewhere"}}
        config = {"clusters": [named], "contexts": [context], "users": [{"name": "me", "user": {}}]}
        kubeconfig = tmp_path / "kubeconfig"
        kubeconfig.write_text(yaml.safe_dump({**config, "current-context": "world"}))
        settings = {
            "TESK_BACKEND": "kubernetes",
            "TESK_KUBERNETES_IMAGE": "tesk",
            "TESK_KUBERNETES_LAYOUT": "jobs",
            "TESK_KUBERNETES_KUBECONFIG": str(kubeconfig),
            "TESK_KUBERNETES_INSTANCE": "tesk",
            "TESK_STORAGE_FILE_ROOTS": "[]",
        }
        opened = contextlib.ExitStack()
        site = await asyncio.to_thread(opened.enter_context, serving(tmp_path, **settings))
        try:
            task = await asyncio.to_thread(site.create, site.task("true"))
            yield Cluster(cluster, site, task)
        finally:
            await asyncio.to_thread(opened.close)


async def test_a_thousand_follow_a_task_on_a_cluster_by_one_connection(tmp_path: Path) -> None:
    async with clustered(tmp_path) as made:
        await made.begin(b"O line 0\nE other\n")
        before = made.site.memory()
        async with crowd(made.site.url, logs_of(made.task), MANY) as followers:
            await settle(lambda: all(one.heard for one in followers), 20)
            assert made.world.logs_open == 1
            for number in range(1, 6):
                made.live.put_nowait(b"O line %d\n" % number)
                await asyncio.sleep(0.2)
            for one in followers[MANY // 2 :]:
                await one.leave()
            made.end(b"O last\n")
            lines = b"".join(b"line %d\n" % number for number in range(6))
            assert {await one.over() for one in followers[: MANY // 2]} == {lines + b"last\n"}
            assert made.log_reads() == 1
            assert (made.site.memory() - before) / MANY < MOST_KIB


async def test_the_last_follower_closes_the_connection_to_the_cluster(tmp_path: Path) -> None:
    async with clustered(tmp_path) as made:
        await made.begin(b"O line\n")
        async with crowd(made.site.url, logs_of(made.task), 20) as followers:
            await settle(lambda: all(one.heard for one in followers), 20)
            for one in followers[1:]:
                await one.leave()
            made.live.put_nowait(b"O more\n")
            await settle(lambda: followers[0].heard == b"line\nmore\n")
            assert made.world.logs_open == 1
        for _ in range(4):  # that the other side of a connection has gone is seen when it is written to
            made.live.put_nowait(b"O nobody hears\n")
            await asyncio.sleep(0.1)
        await settle(lambda: made.world.logs_open == 0)


async def test_those_who_do_not_listen_cost_little_memory_and_hold_up_nobody(tmp_path: Path) -> None:
    async with clustered(tmp_path) as made:
        await made.begin(b"O begun\n")
        async with crowd(made.site.url, logs_of(made.task), 100) as deaf:
            await settle(lambda: all(one.heard for one in deaf), 20)
            for one in deaf:
                one.listen = False
            async with crowd(made.site.url, logs_of(made.task), 1) as [listener]:
                block = b"".join(b"O %059d\n" % number for number in range(1000))
                before = made.site.memory()
                made.end(*[block] * 200)
                heard = await asyncio.wait_for(listener.over(), 60)
            wanted = b"begun\n" + block.replace(b"O ", b"") * 200
            assert heard == wanted
            assert (made.site.memory() - before) / 100 < 256
