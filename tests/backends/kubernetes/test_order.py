"""What `tesk check` says of the order in which a pod's containers start; in memory, since real clusters keep it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.backends.kubernetes.fake_api import status
from tests.backends.kubernetes.world import TIME, World, world

from tesk.backends.finding import Finding
from tesk.backends.kubernetes import order
from tesk.backends.kubernetes.options import FileVolume, KubernetesOptions, SecretMount
from tesk.backends.kubernetes.order import check_order, make_probe

SITE = KubernetesOptions(
    image="tesk:1",
    layout="pod",
    storage_secret="keys",
    file_volumes=(FileVolume("files", "/files"),),
    executor_secret=SecretMount("secret"),
    node_selector={"pool": "batch"},
)
RUNS = {"running": {"startedAt": TIME}}


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order, "_LOOK_AGAIN", 0.01)


def ended(code: int, **more: str) -> dict[str, Any]:
    end = {"exitCode": code, "reason": "Completed", "startedAt": TIME, "finishedAt": TIME, **more}
    return {"terminated": end}


async def found(second: Any, *, seconds: float = 5.0) -> Finding:
    """The finding where the second container comes to this state; nothing stays of it."""
    async with world() as cluster:
        task = asyncio.create_task(checked(cluster, seconds))
        while not cluster.names("pods"):
            await asyncio.sleep(0.01)
            assert not task.done(), task.result()
        (name,) = cluster.names("pods")
        there = cluster.objects["pods", name]
        statuses = [
            {"name": one, "image": "i", "imageID": "", "ready": False, "restartCount": 0, "state": state}
            for one, state in (("taskmaster", RUNS), ("ex-00", second))
        ]
        spec = {**there["spec"], "nodeName": "node-1"}
        cluster.put("pods", {**there, "spec": spec, "status": {"phase": "Running", "containerStatuses": statuses}})
        finding = await task
        assert cluster.objects == {}
        return finding


async def checked(cluster: World, seconds: float = 5.0) -> Finding:
    async with cluster.api.cluster() as connection:
        return await check_order(connection, SITE, seconds=seconds)


async def test_a_second_container_that_finds_what_the_first_one_made_came_after_it() -> None:
    assert (await found(ended(0))).status == "ok"


async def test_one_that_finds_nothing_came_too_early() -> None:
    finding = await found(ended(128, reason="StartError", message="exec: /.tesk/launcher: no such file or directory"))
    assert finding.status == "fail"
    assert "containers do not start in their order here; set kubernetes.layout to jobs" in finding.message
    assert "no such file" in finding.message


PULL = {
    "waiting": {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "tesk:1": ErrImagePull: not found'}
}


@pytest.mark.parametrize(
    ("state", "status", "why"),
    [(PULL, "fail", "image 'tesk:1' cannot be pulled: not found"), (RUNS, "no", "nothing says why")],
)
async def test_what_does_not_come_to_its_end_says_what_it_waited_for(state: Any, status: str, why: str) -> None:
    finding = await found(state, seconds=0.3)
    assert (finding.status, finding.message) == (
        status,
        f"the pod that tries it did not come to its end within 0 s: {why}",
    )


async def test_a_pod_that_is_refused_is_no_answer() -> None:
    async with world() as cluster:
        cluster.refusals["POST", "pods"] = status(403, "Forbidden", "exceeded quota: small")
        finding = await checked(cluster)
    assert finding.status == "no"
    assert "exceeded quota: small" in finding.message


async def test_who_leaves_in_the_middle_leaves_no_pod() -> None:
    async with world() as cluster:
        task = asyncio.create_task(checked(cluster))
        while not cluster.names("pods"):
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert cluster.objects == {}


def test_the_probe_has_the_shape_of_an_attempts_pod_and_nothing_of_the_site() -> None:
    pod = make_probe(SITE, "tesk-check-1")
    assert pod.spec is not None
    assert pod.spec.nodeSelector == {"pool": "batch"}
    assert [one.name for one in pod.spec.volumes or ()] == ["control"]
    first, second = pod.spec.containers
    assert first.envFrom is None
    assert first.lifecycle is not None
    assert [one.image for one in (first, second)] == ["tesk:1", "tesk:1"]
    assert {one.mountPath: one.subPath for one in second.volumeMounts or ()}["/.tesk"] == "ex-00"
    assert pod.metadata is not None
    assert "tesk/task" not in (pod.metadata.labels or {})
