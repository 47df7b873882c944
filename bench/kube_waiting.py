"""Thousands of tasks that wait for room: what the server keeps of them, and what it does meanwhile."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from typing import Any

import httpx

from bench.figures import Figure
from bench.kube_site import KubeSite
from tesk.backends.kubernetes.backend import KubernetesBackend
from tesk.backends.kubernetes.cluster import Cluster
from tesk.config import load

__all__ = ["SETTINGS", "waiting"]

WAITING = 2000
SETTINGS = {
    "TESK_KUBERNETES_INSTANCE": "waiting",
    "TESK_KUBERNETES_MAX_ACTIVE": str(WAITING + 100),
    "TESK_KUBERNETES_ALLOWED_GPU_RESOURCE": "example.org/gpu",
}
"""No node has such GPUs, and to no pod that ends is this a reason to look for a node again."""

_API = "/ga4gh/tes/v1/tasks"
_WARM = 50
_QUIET_SECONDS = 60.0
_FLAT_SECONDS = 300.0


async def waiting(site: KubeSite) -> list[Figure]:
    """Memory before, with them and five minutes later; processor time and requests while nothing moves."""
    body = {
        "executors": [{"image": site.image, "command": ["true"]}],
        "resources": {"backend_parameters": {"gpu": "1"}},
    }
    async with httpx.AsyncClient(base_url=site.server.url, timeout=60) as client:
        # some before, so that connections and caches are there
        warm = await _make(client, body, _WARM)
        await _all_wait(client, warm)
        before = site.server.rss()
        begun = time.perf_counter()
        made = await _make(client, body, WAITING)
        await _all_wait(client, made)
        taken = time.perf_counter() - begun
        await asyncio.sleep(10.0)
        grown = site.server.rss() - before
        busy = site.server.cpu_seconds()
        requests = await _requests(site, _QUIET_SECONDS)
        share = (site.server.cpu_seconds() - busy) / _QUIET_SECONDS
        await asyncio.sleep(_FLAT_SECONDS - _QUIET_SECONDS)
        later = site.server.rss() - before  # what is left goes with the namespace
    return [
        Figure(f"server memory with {WAITING:,} tasks that wait", grown, "MiB", 25.0, beside=f"{before:.1f} before"),
        Figure("  : after five minutes more", later - grown, "MiB", 1.0),
        Figure("  : processor time meanwhile, of one core", share * 100, "%", 1.0),
        Figure(
            "  : requests to the API server a minute", requests * 60 / _QUIET_SECONDS, "", 5.0, beside="all watches"
        ),
        Figure("  : from the first POST until all wait", taken, "s"),
    ]


async def _make(client: httpx.AsyncClient, body: dict[str, Any], count: int) -> list[str]:
    places = asyncio.Semaphore(16)

    async def one() -> str:
        async with places:
            return str((await client.post(_API, json=body)).json()["id"])

    return await asyncio.gather(*(one() for _ in range(count)))


async def _all_wait(client: httpx.AsyncClient, tasks: list[str]) -> None:
    """Return once the server can say of each that no node has what it needs."""
    for task in tasks:
        while "node" not in (why := (await client.get(f"{_API}/{task}/why")).json()["why"] or "it has ended: no node"):
            await asyncio.sleep(0.5)
        if "ended" in why:
            raise RuntimeError(f"task {task} does not wait")
    print(f"{len(tasks)} tasks wait", file=sys.stderr, flush=True)


async def _requests(site: KubeSite, seconds: float) -> int:
    """How many requests a server makes that takes all of them over and then sees nothing move."""
    config = load(None, {**site.settings, "TESK_STATE_DIRECTORY": tempfile.gettempdir()})
    cluster = Cluster.connect(config.kubernetes.kubeconfig, namespace=site.space.name, qps=1000, burst=1000)
    backend = KubernetesBackend(config.kubernetes_options(), config.storage_settings, lambda _: cluster)
    await backend.start(lambda *_: None, lambda: None)
    await asyncio.sleep(10.0)
    before = cluster.sent.total()
    await asyncio.sleep(seconds - 10.0)
    sent = cluster.sent.total() - before
    await backend.stop()
    return sent
