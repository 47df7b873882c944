"""Whether any node could hold a pod, were it empty."""

from __future__ import annotations

from decimal import Decimal

import pytest
from lightkube.models.core_v1 import Node, PodSpec

from tesk.backends.kubernetes.nodes import larger_than_any, pod_requests

GI = 1 << 30


def node(**allocatable: str) -> Node:
    return Node.from_dict(
        {"status": {"allocatable": {key.replace("_", "."): value for key, value in allocatable.items()}}}
    )


NODES = [node(cpu="2", memory="8Gi", pods="110"), node(cpu="16", memory="4Gi", pods="110")]


def asks(cpu: float = 0, memory: int = 0, **more: int) -> dict[str, Decimal]:
    counted = {key.replace("_", "/"): Decimal(value) for key, value in more.items()}
    return {"cpu": Decimal(str(cpu)), "memory": Decimal(memory), **counted}


@pytest.mark.parametrize(
    ("requests", "told"),
    [
        (asks(cpu=16, memory=4 * GI), None),
        (asks(cpu=0.1), None),
        (asks(), None),
        (asks(cpu=16.5), "it asks for 16.5 cpu, more than any node has (the largest has 16 cpu)"),
        (
            asks(memory=64 * GI),
            "it asks for 64 GiB of memory, more than any node has (the largest has 8 GiB of memory)",
        ),
        (asks(gpu=1), "it asks for 1 gpu, more than any node has (the largest has 0 gpu)"),
        (
            asks(cpu=16, memory=8 * GI),
            "it asks for 16 cpu and 8 GiB of memory, and no node has that much of all of them together",
        ),
    ],
)
def test_larger_than_any_node(requests: dict[str, Decimal], told: str | None) -> None:
    assert larger_than_any(requests, NODES) == told


@pytest.mark.parametrize("nodes", [None, []])
def test_nodes_that_are_not_known_refuse_nothing(nodes: list[Node] | None) -> None:
    assert larger_than_any(asks(cpu=1000), nodes) is None


def spec(*containers: dict[str, str], init: list[dict[str, object]] | None = None, **more: object) -> PodSpec:
    made = [{"name": "c", "resources": {"requests": one}} for one in containers]
    found: PodSpec = PodSpec.from_dict({"containers": made, "initContainers": init or [], **more})
    return found


def test_containers_count_together_and_init_containers_one_by_one() -> None:
    init = [{"name": "i", "resources": {"requests": {"cpu": "3", "memory": "1Mi"}}}]
    found = pod_requests(spec({"cpu": "500m"}, {"cpu": "1", "memory": "1Gi"}, init=init))
    assert found == {"cpu": Decimal(3), "memory": Decimal(GI)}


def test_a_sidecar_counts_beside_what_comes_after_it() -> None:
    init = [
        {"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "1"}}},
        {"name": "i", "resources": {"requests": {"cpu": "2"}}},
    ]
    assert pod_requests(spec({"cpu": "1500m"}, init=init)) == {"cpu": Decimal(3)}
    assert pod_requests(spec({"cpu": "2500m"}, init=init)) == {"cpu": Decimal("3.5")}


def test_limits_stand_for_missing_requests_and_overhead_counts() -> None:
    one = {"name": "c", "resources": {"limits": {"cpu": "2", "memory": "2Mi"}, "requests": {"memory": "1Mi"}}}
    found = pod_requests(PodSpec.from_dict({"containers": [one], "overhead": {"cpu": "250m"}}))
    assert found == {"cpu": Decimal("2.25"), "memory": Decimal(1 << 20)}
