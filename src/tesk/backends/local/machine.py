"""What this machine has, and what of it is taken: admission by declared resources."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from tesk.plan.model import Resources
from tesk.plan.site import Capacity

__all__ = ["Admission", "measure"]

DEFAULT_CORES = 1.0
"""What a task that declares no cores counts as; one that declares no memory or disk counts as none."""

_GIGABYTE = 1e9
_ROUNDING = 1e-9

CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def measure(state: Path) -> Capacity:
    """The cores this process may use, the machine's memory (or its control group's), the free disk at `state`."""
    return Capacity(
        cpu_cores=float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1),
        ram_bytes=min([_memory(), *_memory_limits()]),
        disk_bytes=shutil.disk_usage(state).free,
    )


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _memory_limits() -> list[int]:
    found = []
    for path in CGROUP_LIMITS:
        try:
            found.append(int(Path(path).read_text()))
        except (OSError, ValueError):
            continue  # no such hierarchy, or "max": no limit
    return found


@dataclass
class Admission:
    """Counts what running attempts declared against `capacity`."""

    capacity: Capacity
    cpu_cores: float = 0.0
    ram_bytes: int = 0
    disk_bytes: int = 0

    def take(self, wanted: Resources) -> bool:
        """Set aside what `wanted` declares, if all of it is free."""
        if self._lacking(wanted):
            return False
        self._add(wanted, 1)
        return True

    def take_anyway(self, wanted: Resources) -> None:
        """Count what runs already."""
        self._add(wanted, 1)

    def lacks(self, wanted: Resources) -> str | None:
        """What keeps `wanted` from being taken, in one sentence; None when nothing does."""
        lacking = self._lacking(wanted)
        return f"it needs {'; '.join(lacking)}" if lacking else None

    def _lacking(self, wanted: Resources) -> list[str]:
        """Of each resource of which too little is free: what is asked, what is free and what there is."""
        asked = (
            ("cpu cores", self._cores(wanted), self.cpu_cores, self.capacity.cpu_cores, 1.0),
            ("GB of memory", wanted.ram_bytes or 0, self.ram_bytes, self.capacity.ram_bytes, _GIGABYTE),
            ("GB of disk", wanted.disk_bytes or 0, self.disk_bytes, self.capacity.disk_bytes, _GIGABYTE),
        )
        return [
            f"{more / unit:.10g} {what}, and {max(0.0, there - taken) / unit:.3g} of {there / unit:.3g} are free"
            for what, more, taken, there, unit in asked
            if there is not None and taken + more > there + _ROUNDING
        ]

    def give_back(self, taken: Resources) -> None:
        """The reverse of `take`."""
        self._add(taken, -1)

    def _add(self, resources: Resources, sign: int) -> None:
        self.cpu_cores += sign * self._cores(resources)
        self.ram_bytes += sign * (resources.ram_bytes or 0)
        self.disk_bytes += sign * (resources.disk_bytes or 0)

    def _cores(self, resources: Resources) -> float:
        if resources.cpu_cores is not None:
            return resources.cpu_cores
        # On a machine with less than one core to give, a task that says nothing still gets its turn.
        return min(DEFAULT_CORES, self.capacity.cpu_cores or DEFAULT_CORES)
