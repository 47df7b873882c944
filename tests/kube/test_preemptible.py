"""Tasks with `preemptible: true`, in both layouts: where they run, and what becomes of those whose place is taken."""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from tests.behaviour.sites import Site, sentences
from tests.kube.cluster import Cluster
from tests.kube.eventually import until
from tests.kube.faults.machine import NODE, Machine
from tests.kube.history import History
from tests.kube.image import BUSYBOX
from tests.kube.serving import serving
from tests.kube.space import Space, new_space

pytestmark = [pytest.mark.kube, pytest.mark.timeout(400)]

Json = dict[str, Any]

SCRATCH: Json = {"volumes": ["/data"]}


@dataclass
class House:
    """A server whose preemptible tasks need nodes with the label `label`, of which there are none at first.

    `slot` is a resource of which the node has one: who has it can be preempted, and nobody else.
    """

    layout: str
    label: str
    slot: str
    site: Site
    space: Space
    history: History
    machine: Machine

    @contextlib.contextmanager
    def spot_node(self) -> Iterator[None]:
        """While the block runs, the node is one for preemptible tasks."""
        self.machine.label_node(self.label, "yes")
        try:
            yield
        finally:
            self.machine.label_node(self.label, None)

    def create(self, script: str, *, preemptible: bool, **more: Any) -> str:
        """A task of the shell `script`; `more` are its backend parameters."""
        resources = {"preemptible": preemptible, "backend_parameters": more}
        return self.site.create({**self.site.shell(script, resources=resources), **SCRATCH})

    @property
    def step(self) -> str:
        """Whose pod an executor runs in."""
        return "taskmaster" if self.layout == "pod" else "executor"

    def running(self, task: str, attempt: int) -> Any:
        """The pod of the executor, once it runs in this attempt."""

        def there() -> Any:
            found = self.machine.pod(task, self.step)
            if found is None or found.metadata.labels["tesk/attempt"] != str(attempt):
                return None
            now = self.site.get(task)
            return found if now["state"] == "RUNNING" and len(now["logs"]) == attempt else None

        return until(there, f"{task} runs in attempt {attempt}: {json.dumps(self.site.get(task), indent=1)}")


@pytest.fixture(scope="module", params=["jobs", "pod"])
def house(
    request: pytest.FixtureRequest, cluster: Cluster, image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    cluster.need_here()
    name = secrets.token_hex(4)
    label, slot = f"tesk-test.example.org/spot-{name}", f"tesk-test.example.org/slot-{name}"
    with ExitStack() as stack:
        space = stack.enter_context(new_space(cluster, "preemptible", wait=False))
        stack.enter_context(one_of(cluster, slot))
        machine = stack.enter_context(contextlib.closing(Machine(space)))
        history = stack.enter_context(History(cluster, space.name))
        site = stack.enter_context(
            serving(
                space,
                tmp_path_factory.mktemp("preemptible") / "server",
                image=image,
                tasks={"max_attempts": 2},
                layout=request.param,
                preemptible={"node_selector": {label: "yes"}, "tolerations": [{"key": label, "operator": "Exists"}]},
                allowed={"gpu_resource": slot},
            )
        )
        yield House(request.param, label, slot, site, space, history, machine)
        assert site.left() == []


@contextlib.contextmanager
def one_of(cluster: Cluster, resource: str) -> Iterator[None]:
    """While the block runs, the node has one of `resource`, as a device plugin would tell it."""

    def patch(count: str | None) -> None:
        status = {"capacity": {resource: count}, "allocatable": {resource: count}}
        text = json.dumps({"status": status})
        cluster.kubectl("patch", "node", NODE, "--subresource=status", "--type=merge", "-p", text)

    patch("1")
    try:
        yield
    finally:
        patch(None)


def test_preemptible_tasks_wait_for_such_nodes_and_no_others_do(house: House) -> None:
    cheap = house.create("true", preemptible=True)
    plain = house.create("true", preemptible=False)
    assert house.site.wait(plain)["state"] == "COMPLETE"
    with house.site.client as client:
        until(lambda: "no node has the labels" in (client.why(cheap) or ""), "it says what it waits for")
    with house.spot_node():
        assert house.site.wait(cheap)["state"] == "COMPLETE"

    def chosen(task: str, step: str) -> tuple[Any, bool]:
        """The nodes that the pod of a step asked for, and whether it tolerates the taint of preemptible ones."""
        spec = house.history.pod(task, step)["spec"]
        return spec.get("nodeSelector"), house.label in [one.get("key") for one in spec.get("tolerations", ())]

    assert chosen(cheap, house.step) == ({house.label: "yes"}, True)
    assert chosen(plain, house.step) == (None, False)
    if house.layout == "jobs":
        assert chosen(cheap, "stage-in") == ({house.label: "yes"}, True), "the volume is seen from one node at a time"
        assert chosen(cheap, "taskmaster") == (None, False)


def test_what_a_more_important_pod_drives_away_is_tried_again(house: House) -> None:
    important = {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": f"{house.space.name}-important"},
        "value": 1000,
    }
    with house.spot_node(), house.space.cluster_object(important) as priority:
        task_id = house.create("sleep 8", preemptible=True, gpu="1")
        house.running(task_id, 1)
        container = {"name": "main", "image": BUSYBOX, "command": ["sleep", "1"]}
        container["resources"] = {"limits": {house.slot: "1"}}
        spec = {"priorityClassName": priority, "containers": [container]}
        assert house.space.run_pod("important", spec)["status"]["phase"] == "Succeeded"
        house.space.kubectl("delete", "pod", "important")
        task = house.site.wait(task_id)
    assert task["state"] == "COMPLETE", sentences(task)
    lost, kept = task["logs"]
    said = f"its pod was preempted on node '{NODE}' by a more important one; a new attempt was started"
    assert said in lost["system_logs"][-1]
    assert lost["logs"] == []
    assert kept["start_time"] >= lost["end_time"], "never while the old pod may still write"
    assert [one["exit_code"] for one in kept["logs"]] == [0]


def test_a_task_that_loses_its_last_place_ends_preempted_if_it_agreed_to_that(house: House) -> None:
    with house.spot_node():
        ends = {
            house.create("sleep 600", preemptible=True): "PREEMPTED",
            house.create("sleep 600", preemptible=False): "SYSTEM_ERROR",
        }
        for attempt in (1, 2):
            for task_id in ends:
                house.machine.evict(house.running(task_id, attempt))
        for task_id, end in ends.items():
            task = house.site.wait(task_id)
            assert task["state"] == end, sentences(task)
            assert [f"its pod was evicted from node '{NODE}'" in one["system_logs"][-1] for one in task["logs"]] == [
                True
            ] * 2
            assert "it was the last of 2 attempts" in sentences(task)
