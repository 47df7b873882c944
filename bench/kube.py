"""Tasks on a cluster, each figure beside bare Jobs and pods in the same run: `python -m bench kube`."""

from __future__ import annotations

import asyncio
import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Mapping
from datetime import datetime
from typing import Any

import httpx
import pytest

from bench import kube_bare as bare
from bench.figures import Figure
from bench.kube_sight import MOMENTS, Sight, watching
from bench.kube_site import MAX_ACTIVE, KubeSite, kube_site
from bench.kube_waiting import SETTINGS, waiting
from bench.process import busy_seconds
from tesk.backends.base import Attempt, AttemptKey
from tesk.backends.kubernetes.backend import KubernetesBackend
from tesk.backends.kubernetes.cluster import Cluster
from tesk.config import load
from tesk.plan.make import make_plan
from tesk.plan.site import Capacity
from tesk.tes.models import TesTask

__all__ = ["kubernetes"]

ROUNDS = 4
POD_ROUNDS = 10
SETTLE_SECONDS = 3.0
"""For the cluster to remove what the measurement before has left."""
MANY = 50
RUNNING = 30
API = "/ga4gh/tes/v1/tasks"
STEPS = {"taskmaster": "", "stage-in": "-inputs-filer", "executor": "-ex-00", "stage-out": "-outputs-filer"}


def kubernetes(only: str = "") -> list[Figure]:
    """One task, fifty at once, and what they cost, in both layouts; `only` picks parts with that text in their names:
    one, many, memory, requests, pod-one, pod-many, pod-requests, shared, pod-waiting.
    """
    layouts: dict[str, dict[str, Callable[[KubeSite], Coroutine[None, None, list[Figure]]]]] = {
        "jobs": {"one": _one, "many": _many, "memory": _memory, "requests": _requests},
        "pod": {"pod-one": _one_pod, "pod-many": _many_pods, "pod-requests": _pod_requests},
    }
    figures: list[Figure] = []
    try:
        for layout, parts in layouts.items():
            asked = [part for name, part in parts.items() if only in name]
            if not asked:
                continue
            with kube_site(TESK_KUBERNETES_LAYOUT=layout) as site:
                for part in asked:
                    figures += asyncio.run(part(site))
        for layout in layouts:
            if only in "shared":
                with kube_site(shares=True, TESK_KUBERNETES_LAYOUT=layout, TESK_KUBERNETES_SCRATCH_GB="4") as site:
                    figures += asyncio.run(_shared(site, layout))
        if only in "pod-waiting":
            with kube_site(TESK_KUBERNETES_LAYOUT="pod", **SETTINGS) as site:
                figures += asyncio.run(waiting(site))
    except pytest.skip.Exception as reason:
        print(f"the cluster is not measured: {reason}", file=sys.stderr)
    return figures


def _connect(site: KubeSite, kubeconfig: str | None = None) -> Cluster:
    return Cluster.connect(kubeconfig or site.kubeconfig, namespace=site.space.name, qps=1000, burst=1000)


def _task(site: KubeSite, name: str) -> dict[str, Any]:
    """One input and one output over S3."""
    (site.bucket / name).write_text(f"{name}\n")
    return {
        "name": name,
        "executors": [{"image": site.image, "command": ["sh", "-c", "md5sum /data/in > /out/sum"]}],
        "inputs": [{"path": "/data/in", "url": f"s3://bench/{name}"}],
        "outputs": [{"path": "/out/sum", "url": f"s3://bench/{name}.md5"}],
    }


async def _one(site: KubeSite) -> list[Figure]:
    """In turns with bare Jobs and bare pods, so that what else the machine does hits all alike."""
    tasks, jobs, pods, firsts, bare_firsts = [], [], [], [], []
    lines: list[dict[str, float]] = []
    async with _connect(site) as cluster, watching(cluster) as sight, _client(site) as client:
        await _run(client, _task(site, "warm-up"))
        for turn in range(ROUNDS):
            await asyncio.sleep(SETTLE_SECONDS)
            begun = time.perf_counter()
            task, answered, over = await _run(client, _task(site, f"one-{turn}"))
            tasks.append(over - begun)
            lines.append({"POST answered": answered - begun, **_timeline(sight, task, begun, over)})
            firsts.append(lines[-1]["taskmaster created"])
            jobs.append(await bare.jobs(cluster, sight, site.image, f"jobs-{turn}"))
            pods.append(await bare.pods(cluster, sight, site.image, f"pods-{turn}"))
            await asyncio.sleep(SETTLE_SECONDS)
            bare_firsts.append(await bare.first_pod(cluster, sight, site.image, f"first-{turn}"))
    task_, jobs_, pods_ = (statistics.median(one) for one in (tasks, jobs, pods))
    beside = f"three bare Jobs on a volume {jobs_:.2f} s, three bare pods {pods_:.2f} s"
    return [
        Figure("POST to COMPLETE, S3 in and out", task_, "s", beside=beside),
        Figure("  : three bare Jobs", task_ / jobs_, "times", 0.8),
        Figure("  : three bare pods", task_ / pods_, "times"),
        Figure(
            "POST to first pod created",
            statistics.median(firsts) * 1000,
            "ms",
            50.0,
            beside=f"a bare Job's pod {statistics.median(bare_firsts) * 1000:.0f} ms",
        ),
        *(Figure(f"  at: {name}", statistics.median(one[name] for one in lines), "s") for name in lines[0]),
    ]


def _timeline(sight: Sight, task: str, begun: float, over: float) -> dict[str, float]:
    """When each pod came to each moment, in seconds from the POST."""
    found = {}
    for step, suffix in STEPS.items():
        pod = sight.pod_of(task + suffix)
        times = sight.times.get(pod or "", {})
        found |= {f"{step} {moment}": times[moment] - begun for moment in MOMENTS if moment in times}
    found = {name: at for name, at in sorted(found.items(), key=lambda one: one[1]) if name != "taskmaster ended"}
    return {**found, "COMPLETE": over - begun}


async def _many(site: KubeSite) -> list[Figure]:
    """Fifty tasks at once, looked at by one client as a poller does, and fifty chains by hand: all at once, and held
    to as many as the site lets run.
    """
    bodies = [_task(site, f"many-{number}") for number in range(MANY)]
    async with _client(site) as client:
        begun, busy = time.perf_counter(), busy_seconds()
        await asyncio.gather(*(client.post(API, json=body) for body in bodies))
        await _all_complete(client, "many-")
        taken, used = time.perf_counter() - begun, busy_seconds() - busy
    print(f"{MANY} tasks: {taken:.1f} s", file=sys.stderr, flush=True)
    chains, by_hand = {}, {}
    async with _connect(site) as cluster, watching(cluster) as sight:
        for at_once in (MANY, MAX_ACTIVE):
            await asyncio.sleep(SETTLE_SECONDS)
            busy = busy_seconds()
            chains[at_once] = await bare.chains(cluster, sight, site.image, f"chain-{at_once}", MANY, at_once)
            by_hand[at_once] = (busy_seconds() - busy) / MANY
    beside = f"{MANY} chains of four pods by hand, all at once: {chains[MANY]:.1f} s"
    held = f"the chains held to {MAX_ACTIVE}: {chains[MAX_ACTIVE]:.1f} s"
    return [
        Figure(f"{MANY} tasks at once, max_active {MAX_ACTIVE}", taken, "s", beside=beside),
        Figure("  : the chains", taken / chains[MANY], "times", 1.2),
        Figure("  : the chains, held too", taken / chains[MAX_ACTIVE], "times", beside=held),
        Figure(
            "processor time a task",
            used / MANY,
            "s",
            beside=f"of a chain {by_hand[MANY]:.2f} s, held {by_hand[MAX_ACTIVE]:.2f} s, by the whole machine",
        ),
    ]


async def _one_pod(site: KubeSite) -> list[Figure]:
    """In turns with the Job that anybody would write: two init containers and a container on an emptyDir."""
    tasks, jobs = [], []
    lines: list[dict[str, float]] = []
    async with _connect(site) as cluster, watching(cluster) as sight, _client(site) as client:
        await _run(client, _task(site, "warm-up"))
        for turn in range(POD_ROUNDS):
            await asyncio.sleep(1.0)
            begun = time.perf_counter()
            task, answered, over = await _run(client, _task(site, f"one-{turn}"), poll=0.02)
            tasks.append(over - begun)
            times = sight.times.get(task, {})
            seen = {f"pod {moment}": times[moment] - begun for moment in ("created", "runs") if moment in times}
            lines.append({"POST answered": answered - begun, **seen, **await _own_times(client, task, over - begun)})
            jobs.append(await bare.whole_job(cluster, sight, site.image, f"whole-{turn}"))
    task_, job = statistics.median(tasks), statistics.median(jobs)
    known = [name for name in lines[0] if all(name in one for one in lines)]
    return [
        Figure("layout pod: POST to COMPLETE, S3 in and out", task_, "s", beside=f"one bare Job {job:.2f} s"),
        Figure("  : the bare Job", task_ / job, "times", 0.4),
        *(Figure(f"  at: {name}", statistics.median(one[name] for one in lines), "s") for name in known),
    ]


async def _shared(site: KubeSite, layout: str) -> list[Figure]:
    """An input of 2 GiB that is seen where it lies, a small one, and the large one by S3, in turns."""
    for name, size in (("large", 2 << 30), ("small", 1 << 10)):
        block = bytes(min(size, 1 << 20))
        with (site.files / name).open("wb") as file:
            for _ in range(size // len(block)):
                file.write(block)
    os.link(site.files / "large", site.bucket / "large")
    urls = {
        "2 GiB, shared": f"{site.files}/large",
        "1 KiB, shared": f"{site.files}/small",
        "2 GiB by S3": "s3://bench/large",
    }
    taken: dict[str, list[float]] = {name: [] for name in urls}
    async with _client(site) as client:
        for turn in range(ROUNDS):
            for name, url in urls.items():
                task = {
                    "executors": [{"image": site.image, "command": ["stat", "/data/in"]}],
                    "inputs": [{"path": "/data/in", "url": url}],
                }
                begun = time.perf_counter()
                _, _, over = await _run(client, task, poll=0.02)
                if turn:  # the first warms up
                    taken[name].append(over - begun)
    large, small, moved = (statistics.median(one) for one in taken.values())
    return [
        Figure(f"layout {layout}: an input of 2 GiB, shared", large, "s", beside=f"by S3 {moved:.2f} s"),
        Figure("  : the same by S3", large / moved, "times"),
        Figure("  : one of 1 KiB, shared", large / small, "times", 1.25, beside=f"{small:.2f} s"),
    ]


async def _own_times(client: httpx.AsyncClient, task: str, complete: float) -> dict[str, float]:
    """What the task itself tells, in seconds from the POST."""
    told = (await client.get(f"{API}/{task}?view=FULL")).json()
    attempt = told["logs"][0]
    made = datetime.fromisoformat(told["creation_time"])
    moments = {
        "taskmaster began": attempt["start_time"],
        "executor began": attempt["logs"][0]["start_time"],
        "executor ended": attempt["logs"][0]["end_time"],
        "outputs delivered": attempt["end_time"],
    }
    return {name: (datetime.fromisoformat(at) - made).total_seconds() for name, at in moments.items()} | {
        "COMPLETE": complete
    }


async def _many_pods(site: KubeSite) -> list[Figure]:
    """Fifty at once, and fifty such Jobs."""
    bodies = [_task(site, f"many-{number}") for number in range(MANY)]
    async with _connect(site) as cluster, watching(cluster) as sight:
        busy = busy_seconds()
        jobs = await bare.whole_jobs(cluster, sight, site.image, "many", MANY)
        by_hand = busy_seconds() - busy
    await asyncio.sleep(SETTLE_SECONDS)
    async with _client(site) as client:
        begun, busy = time.perf_counter(), busy_seconds()
        await asyncio.gather(*(client.post(API, json=body) for body in bodies))
        await _all_complete(client, "many-")
        taken, used = time.perf_counter() - begun, busy_seconds() - busy
    beside = f"{MANY} bare Jobs {jobs:.1f} s"
    return [
        Figure(f"layout pod: {MANY} tasks at once, max_active {MAX_ACTIVE}", taken, "s", beside=beside),
        Figure("  : the throughput of the bare Jobs", jobs / taken, "times", 1.3, "more"),
        Figure("processor time a task", used / MANY, "s", beside=f"of a bare Job {by_hand / MANY:.2f} s"),
    ]


async def _memory(site: KubeSite) -> list[Figure]:
    """What the server's memory grows by while tasks run."""
    async with _client(site) as client:
        # as many before, so that connections and caches are there; what is kept of them is part of `before`
        short = {"executors": [{"image": site.image, "command": ["true"]}]}
        await asyncio.gather(*(_run(client, short, poll=0.5) for _ in range(RUNNING)))
        before = site.server.rss()
        body = {"executors": [{"image": site.image, "command": ["sleep", "3600"]}]}
        ids = [(await client.post(API, json=body)).json()["id"] for _ in range(RUNNING)]
        await _all_are(client, ids, "RUNNING")
        grown = site.server.rss() - before
        for one in ids:
            await client.post(f"{API}/{one}:cancel")
        await _all_are(client, ids, "CANCELED")
    beside = f"{before:.1f} MiB before, {RUNNING} tasks"
    return [Figure("server memory a running task", grown * 1024 / RUNNING, "KiB", 50.0, beside=beside)]


async def _requests(site: KubeSite) -> list[Figure]:
    """Requests to the API server for one task, as the server and the taskmaster count them."""
    server = await _requests_of_a_server(site)
    while not (said := re.search(r"requests to the API server: (\d+)(.*)", _log(site))):
        await asyncio.sleep(0.2)
    return [
        Figure("requests a task, of the server", server, "", beside="while it runs; to remove it takes 8 more"),
        Figure("requests a task, of its taskmaster", int(said[1]), "", beside=said[2].strip(" ()")),
    ]


async def _pod_requests(site: KubeSite) -> list[Figure]:
    """The same of layout `pod`, whose taskmaster cannot make any."""
    sent, read = await _requests_of_a_server(site, b"k" * 32), await _requests_of_a_server(site)
    return [
        Figure("layout pod: requests a task, of the server", sent, "", beside=f"{read} where reports are read in logs")
    ]


async def _requests_of_a_server(site: KubeSite, report_secret: bytes = b"") -> int:
    """What a backend asks of the API server from the offer of one task until its end."""
    config = load(
        None, {**site.settings, "TESK_KUBERNETES_INSTANCE": "counted", "TESK_STATE_DIRECTORY": tempfile.gettempdir()}
    )
    plan = make_plan(TesTask.model_validate(_task(site, "counted")), config.site(Capacity()))
    cluster = _connect(site, config.kubernetes.kubeconfig)
    options, ended = config.kubernetes_options(), asyncio.Event()
    backend = KubernetesBackend(options, config.storage_settings, lambda _: cluster, report_secret)
    await backend.start(lambda key, report: ended.set() if report.state.terminal else None, lambda: None)
    before = sum(cluster.sent.values())
    await backend.offer(Attempt(AttemptKey(f"task-counted{len(report_secret) or ''}", 1), plan))
    await ended.wait()
    counted = sum(cluster.sent.values()) - before
    await backend.stop()
    return counted


def _log(site: KubeSite) -> str:
    return site.space.kubectl("logs", "job/task-counted")


def _client(site: KubeSite) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=site.server.url, timeout=60)


async def _run(client: httpx.AsyncClient, body: Mapping[str, Any], poll: float = 0.05) -> tuple[str, float, float]:
    """The id of the task, when the POST was answered, and when the task was COMPLETE."""
    task = (await client.post(API, json=body)).json()["id"]
    answered = time.perf_counter()
    while (state := (await client.get(f"{API}/{task}")).json()["state"]) != "COMPLETE":
        if state.endswith("ERROR"):
            raise RuntimeError((await client.get(f"{API}/{task}?view=FULL")).text)
        await asyncio.sleep(poll)
    return task, answered, time.perf_counter()


async def _all_complete(client: httpx.AsyncClient, prefix: str) -> None:
    """Return once every task whose name begins with `prefix` is COMPLETE."""
    while True:
        listed = (await client.get(API, params={"name_prefix": prefix, "page_size": 1000})).json()["tasks"]
        states = {one["state"] for one in listed}
        if states == {"COMPLETE"}:
            return
        if wrong := states - {"QUEUED", "INITIALIZING", "RUNNING", "COMPLETE"}:
            raise RuntimeError(f"tasks ended {wrong}")
        await asyncio.sleep(0.5)


async def _all_are(client: httpx.AsyncClient, ids: list[str], state: str) -> None:
    for one in ids:
        while (await client.get(f"{API}/{one}")).json()["state"] != state:
            await asyncio.sleep(0.5)
