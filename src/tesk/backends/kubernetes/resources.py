"""What containers and scratch ask for, as Kubernetes counts it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from decimal import Decimal

from lightkube.models.core_v1 import LimitRangeItem, ResourceRequirements
from lightkube.resources.core_v1 import LimitRange

from tesk.backends.kubernetes.options import KubernetesOptions, Minimums, Requirements
from tesk.backends.kubernetes.quantities import number
from tesk.plan.model import Plan

__all__ = ["executor_resources", "minimums", "own_resources", "raise_to_minimum", "scratch_bytes", "shared_resources"]

_OVERCOMMITTED = ("cpu", "memory", "ephemeral-storage")

LEAST_MEMORY = 12 << 20
"""Bytes below which a container runtime (CRI-O) starts nothing."""


def executor_resources(plan: Plan, options: KubernetesOptions) -> ResourceRequirements | None:
    """What every executor of `plan` gets, each both as request and as limit; None when the task asks for nothing.

    A fraction of a core is rounded up to the next thousandth. A disk is scratch where there is one (`scratch_bytes`),
    else the node's (`ephemeral-storage`).
    """
    resources, asked = plan.resources, {}
    if resources.cpu_cores is not None:
        asked["cpu"] = _millicores(Decimal(str(resources.cpu_cores)))
    if resources.ram_bytes is not None:
        asked["memory"] = str(max(resources.ram_bytes, LEAST_MEMORY))
    if resources.disk_bytes is not None and not plan.mounts:
        asked["ephemeral-storage"] = str(resources.disk_bytes)
    if plan.parameters.get("gpu") and options.allowed.gpu_resource:
        asked[options.allowed.gpu_resource] = plan.parameters["gpu"]
    if not asked:
        return None
    return raise_to_minimum(ResourceRequirements(requests=asked, limits=dict(asked)), options.minimums)


def shared_resources(plan: Plan, options: KubernetesOptions, index: int) -> ResourceRequirements | None:
    """What executor number `index` (from 0) of `plan` gets in a pod that it shares with the others.

    Each has the task's resources as limits. Since they run one after the other, only the first one requests them, the
    others an explicit 0 (else the API server takes their limits). What cannot be overcommitted, such as GPUs, each must
    request. A disk on the node is scratch too, so that it limits no container: the volume has its own size.
    """
    found = executor_resources(plan, options)
    disk = plan.resources.disk_bytes if plan.mounts and options.pod_scratch == "node" else None
    if found is None and disk is None:
        return None
    limits = dict((found.limits if found else None) or {})
    asked = {**limits, **({"ephemeral-storage": str(disk)} if disk is not None else {})}
    if index:
        asked = {name: "0" if name in _OVERCOMMITTED else value for name, value in asked.items()}
    return raise_to_minimum(ResourceRequirements(requests=asked, limits=limits or None), options.minimums)


def own_resources(asked: Requirements, least: Minimums) -> ResourceRequirements | None:
    """What a container of our own image gets."""
    if not asked.requests and not asked.limits:
        return None
    found = ResourceRequirements(requests=dict(asked.requests) or None, limits=dict(asked.limits) or None)
    return raise_to_minimum(found, least)


def scratch_bytes(plan: Plan, options: KubernetesOptions) -> int:
    """How large scratch is: what the task asks for, else the site's default; never less than the namespace takes."""
    return max(plan.resources.disk_bytes or options.scratch_bytes, options.minimums.claim_bytes)


def minimums(limit_ranges: Iterable[LimitRange]) -> Minimums:
    """The least that all `limit_ranges` of a namespace take together; every pod of ours has one container."""
    cpu, memory, disk, claim = Decimal(), Decimal(), Decimal(), Decimal()
    for item in (one for each in limit_ranges if each.spec for one in each.spec.limits):
        if item.type in ("Container", "Pod"):
            cpu = max(cpu, _least(item, "cpu"))
            memory = max(memory, _least(item, "memory"))
            disk = max(disk, _least(item, "ephemeral-storage"))
        elif item.type == "PersistentVolumeClaim":
            claim = max(claim, _least(item, "storage"))
    return Minimums(math.ceil(cpu * 1000), math.ceil(memory), math.ceil(disk), math.ceil(claim))


def raise_to_minimum(resources: ResourceRequirements, least: Minimums) -> ResourceRequirements:
    """`resources` with what is below the namespace's minimum raised to it.

    What is not said at all is left to the cluster, which fills in the minimum itself.
    """
    floors = {
        "cpu": _millicores(Decimal(least.cpu_millicores) / 1000),
        "memory": str(least.memory_bytes),
        "ephemeral-storage": str(least.ephemeral_storage_bytes),
    }
    return ResourceRequirements(
        requests=_raised(resources.requests, floors), limits=_raised(resources.limits, floors), claims=resources.claims
    )


def _raised(asked: Mapping[str, str] | None, floors: Mapping[str, str]) -> dict[str, str] | None:
    if asked is None:
        return None
    return {name: max(value, floors.get(name, "0"), key=number) for name, value in asked.items()}


def _least(item: LimitRangeItem, name: str) -> Decimal:
    return number((item.min or {}).get(name, "0"))


def _millicores(cores: Decimal) -> str:
    thousandths = math.ceil(cores * 1000)
    return f"{thousandths}m" if thousandths % 1000 else str(thousandths // 1000)
