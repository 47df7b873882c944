"""What a task declares, as Kubernetes counts it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from lightkube.models.core_v1 import ResourceRequirements
from lightkube.resources.core_v1 import LimitRange
from tests.backends.kubernetes.attempts import SAY

from tesk.backends.kubernetes.options import Allowed, KubernetesOptions, Minimums, Requirements
from tesk.backends.kubernetes.resources import (
    executor_resources,
    minimums,
    own_resources,
    raise_to_minimum,
    scratch_bytes,
)
from tesk.plan.model import Mount, Plan, Resources

GPUS = KubernetesOptions(allowed=Allowed(gpu_resource="nvidia.com/gpu"))


def limits(*items: dict[str, Any]) -> LimitRange:
    return LimitRange.from_dict({"metadata": {"name": "x"}, "spec": {"limits": list(items)}})  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("resources", "asked"),
    [
        ({"cpu_cores": 2.0}, {"cpu": "2"}),
        ({"cpu_cores": 1.5}, {"cpu": "1500m"}),
        ({"cpu_cores": 1.1}, {"cpu": "1100m"}),
        ({"cpu_cores": 0.0001}, {"cpu": "1m"}),
        ({"cpu_cores": 1 / 3}, {"cpu": "334m"}),
        ({"ram_bytes": 10**9}, {"memory": "1000000000"}),
        ({"ram_bytes": 1}, {"memory": "12582912"}),
        ({"disk_bytes": 7}, {"ephemeral-storage": "7"}),
    ],
)
def test_what_a_task_asks_for_is_request_and_limit(resources: dict[str, Any], asked: dict[str, str]) -> None:
    found = executor_resources(Plan((SAY,), resources=Resources(**resources)), KubernetesOptions())
    assert found == ResourceRequirements(requests=asked, limits=asked)


def test_a_task_that_asks_for_nothing_is_given_no_limits() -> None:
    assert executor_resources(Plan((SAY,)), GPUS) is None


def test_gpus_are_asked_for_where_the_site_has_them() -> None:
    plan = Plan((SAY,), parameters={"gpu": "2"})
    found = executor_resources(plan, GPUS)
    assert found is not None
    assert (found.requests, found.limits) == ({"nvidia.com/gpu": "2"}, {"nvidia.com/gpu": "2"})
    assert executor_resources(plan, KubernetesOptions()) is None


def test_the_disk_is_scratch_where_there_is_one() -> None:
    plan = Plan((SAY,), mounts=(Mount("/data"),), resources=Resources(disk_bytes=5))
    assert executor_resources(plan, KubernetesOptions()) is None
    assert scratch_bytes(plan, KubernetesOptions()) == 5


def test_scratch_has_the_site_s_size_where_the_task_says_none_and_never_less_than_the_namespace_takes() -> None:
    plan = Plan((SAY,), mounts=(Mount("/data"),))
    options = KubernetesOptions(scratch_bytes=10, minimums=Minimums(claim_bytes=8))
    assert scratch_bytes(plan, options) == 10
    assert scratch_bytes(msgspec.structs.replace(plan, resources=Resources(disk_bytes=3)), options) == 8


@pytest.mark.parametrize(
    ("ranges", "least"),
    [
        ([], Minimums()),
        ([limits({"type": "Container", "max": {"cpu": "2"}})], Minimums()),
        ([limits({"type": "Container", "min": {"cpu": "100m", "memory": "1Mi"}})], Minimums(100, 2**20)),
        (
            [limits({"type": "Container", "min": {"cpu": "0.5"}}), limits({"type": "Pod", "min": {"cpu": "1"}})],
            Minimums(1000),
        ),
        ([limits({"type": "Container", "min": {"ephemeral-storage": "1k"}})], Minimums(0, 0, 1000)),
        ([limits({"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}})], Minimums(claim_bytes=2**30)),
        ([LimitRange()], Minimums()),
    ],
)
def test_the_largest_minimum_of_a_namespace_counts(ranges: list[LimitRange], least: Minimums) -> None:
    assert minimums(ranges) == least


@pytest.mark.parametrize(
    ("asked", "raised"),
    [
        ({"cpu": "20m"}, {"cpu": "100m"}),
        ({"cpu": "0.1"}, {"cpu": "0.1"}),
        ({"cpu": "1"}, {"cpu": "1"}),
        ({"memory": "1000"}, {"memory": "1048576"}),
        ({"memory": "1Gi"}, {"memory": "1Gi"}),
        ({"nvidia.com/gpu": "1"}, {"nvidia.com/gpu": "1"}),
        ({}, {}),
    ],
)
def test_what_is_below_the_minimum_is_raised_to_it(asked: dict[str, str], raised: dict[str, str]) -> None:
    given = ResourceRequirements(requests=dict(asked), limits=dict(asked))
    found = raise_to_minimum(given, Minimums(100, 2**20))
    assert found == ResourceRequirements(requests=raised, limits=raised)
    assert given == ResourceRequirements(requests=asked, limits=asked)


def test_what_our_own_containers_ask_for_is_raised_too() -> None:
    found = own_resources(Requirements({"cpu": "10m"}, {"memory": "64Mi"}), Minimums(50, 128 << 20))
    assert found == ResourceRequirements(requests={"cpu": "50m"}, limits={"memory": str(128 << 20)})
    assert own_resources(Requirements(), Minimums(50)) is None
