"""Many attempts whose pods wait: what is asked of the API server for them, in a cluster in memory."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import time

from tests.backends.kubernetes.attempts import MINIMAL
from tests.backends.kubernetes.test_backend import OPTIONS, served
from tests.backends.kubernetes.world import TIME, World, settle, world

from tesk.backends.base import Attempt, AttemptKey

MANY = 100
PODS = dataclasses.replace(OPTIONS, layout="pod", max_active=MANY, qps=10_000, burst=10_000)
MESSAGE = "0/1 nodes are available: 1 Insufficient cpu. preemption: not helpful for scheduling."


def keys() -> list[AttemptKey]:
    return [AttemptKey(f"task-{number:013d}", 1) for number in range(MANY)]


def waits_for_a_node(cluster: World, name: str) -> None:
    """The scheduler says so, in the pod and by an event."""
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": MESSAGE}
    pod = cluster.objects["pods", name]
    cluster.put("pods", {**pod, "status": {"phase": "Pending", "conditions": [condition]}})
    about = {"kind": "Pod", "name": name, "namespace": "somewhere"}
    told = {"reason": "FailedScheduling", "type": "Warning", "message": MESSAGE, "lastTimestamp": TIME}
    cluster.put("events", {"metadata": {"name": f"{name}.1"}, "involvedObject": about, **told})


async def test_while_nothing_moves_nothing_is_asked_and_nothing_done() -> None:
    async with world() as cluster, served(cluster, PODS) as made:
        lists = cluster.api.lists()
        for key in keys():
            assert await made.backend.offer(Attempt(key, MINIMAL))
        await settle(lambda: len(cluster.names("pods")) == MANY, 30)
        for key in keys():
            waits_for_a_node(cluster, key.task)
        await settle(lambda: all("cpu" in (made.backend.waits(key) or "") for key in keys()), 30)
        await settle(lambda: len({key for key, report in made.told if report.system_logs}) == MANY, 30)
        asked, busy = len(cluster.api.asked), time.process_time()
        await asyncio.sleep(4.0)
        assert len(cluster.api.asked) == asked
        assert time.process_time() - busy < 0.2
        gc.collect()
        assert not [one for one in gc.get_objects() if type(one) is Attempt], "nobody needs the plan any more"
        assert cluster.api.lists() == lists, "what is watched is not listed"
        assert asked <= 20 + 2 * MANY
