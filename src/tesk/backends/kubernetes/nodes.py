"""Whether a pod could run on any node at all, were it empty: told by the nodes' sizes alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

from lightkube.models.core_v1 import Container, Node, PodSpec

from tesk.backends.kubernetes.quantities import amount

__all__ = ["larger_than_any", "pod_requests"]

GIB = Decimal(1 << 30)
_BYTES = ("memory", "ephemeral-storage")


def pod_requests(spec: PodSpec) -> dict[str, Decimal]:
    """What a pod asks of its node, as the scheduler counts: containers and sidecars together, or the largest init.

    cpu in cores, memory and ephemeral-storage in bytes, anything else counted. Source: Kubernetes, "Sidecar
    Containers", "Resource sharing within containers".
    """
    sidecars: dict[str, Decimal] = {}
    largest: dict[str, Decimal] = {}
    for init in spec.initContainers or ():
        own = _sum(sidecars, _requests(init))
        if init.restartPolicy == "Always":
            sidecars = own
        largest = {name: max(largest.get(name, Decimal(0)), own.get(name, Decimal(0))) for name in {*largest, *own}}
    together = sidecars
    for container in spec.containers:
        together = _sum(together, _requests(container))
    names = {*together, *largest}
    needed = {name: max(together.get(name, Decimal(0)), largest.get(name, Decimal(0))) for name in names}
    return _sum(needed, {name: amount(value) for name, value in (spec.overhead or {}).items()})


def larger_than_any(requests: Mapping[str, Decimal], nodes: Sequence[Node] | None) -> str | None:
    """A clause with numbers when no node could hold `requests` (as of `pod_requests`) even if empty.

    None when one could, and when nothing is known of the nodes: the right to list them may lack.
    """
    sizes = [
        {name: amount(value) for name, value in (node.status.allocatable or {}).items()}
        for node in nodes or ()
        if node.status
    ]
    asked = {name: value for name, value in requests.items() if value > 0}
    if not sizes or any(_fits(asked, size) for size in sizes):
        return None
    for name, value in sorted(asked.items()):
        most = max(size.get(name, Decimal(0)) for size in sizes)
        if value > most:
            return f"it asks for {_told(name, value)}, more than any node has (the largest has {_told(name, most)})"
    together = " and ".join(_told(name, value) for name, value in sorted(asked.items()))
    return f"it asks for {together}, and no node has that much of all of them together"


def _fits(asked: Mapping[str, Decimal], size: Mapping[str, Decimal]) -> bool:
    return all(value <= size.get(name, Decimal(0)) for name, value in asked.items())


def _requests(container: Container) -> dict[str, Decimal]:
    """A container's requests; the API server fills in limits where requests are missing."""
    resources = container.resources
    if resources is None:
        return {}
    asked = {**(resources.limits or {}), **(resources.requests or {})}
    return {name: amount(value) for name, value in asked.items()}


def _sum(one: Mapping[str, Decimal], other: Mapping[str, Decimal]) -> dict[str, Decimal]:
    return {name: one.get(name, Decimal(0)) + other.get(name, Decimal(0)) for name in {*one, *other}}


def _told(name: str, value: Decimal) -> str:
    """`1.5 cpu`, `64 GiB of memory`."""
    if name in _BYTES:
        return f"{_short(value / GIB)} GiB of {name}"
    return f"{_short(value)} {name}"


def _short(value: Decimal) -> str:
    text = f"{value:.2f}"
    return text.rstrip("0").rstrip(".") if float(text) else f"{value:.2g}"
