"""What limits an executor, the same on every backend, and what its user is told when it took more."""

from __future__ import annotations

from tesk.plan.model import Plan
from tesk.plan.site import MAX_RUNTIME

__all__ = ["THE_MACHINE", "filled_the_disk", "longest_run", "needed_more_memory", "ran_too_long", "used_more_disk"]

THE_MACHINE = "this machine"


def longest_run(plan: Plan, allowed: int | None) -> int | None:
    """Seconds that an executor may take; the shorter of what the site allows and what the task asks for."""
    asked = plan.parameters.get(MAX_RUNTIME)
    return min((one for one in (allowed, int(asked) if asked else None) if one is not None), default=None)


def ran_too_long(seconds: int | None) -> str:
    """That it was ended after `seconds`, if they are known."""
    return f"it ran longer than allowed{f' ({seconds} s)' if seconds else ''}"


def needed_more_memory(plan: Plan, there: str) -> str:
    """That the kernel killed it for want of memory; `there` is what has no more to give where it declared none."""
    limit = plan.resources.ram_bytes
    allowed = f"than its {limit / 1e9:g} GB (resources.ram_gb)" if limit else f"than {there} has to give"
    return f"it needed more memory {allowed}"


def used_more_disk(allowed: int, *, declared: bool) -> str:
    """That its attempt took more scratch than it may: what it declared, or what the site gives to who does not."""
    whose = "its resources.disk_gb" if declared else "the most where resources.disk_gb is not said"
    return f"it used more disk than its limit ({allowed / 1e9:g} GB, {whose})"


def filled_the_disk(taken: int) -> str:
    """That the machine's disk is all but full, and no other attempt took so much more than it had declared."""
    return f"it used {taken / 1e9:.3g} GB of disk, more than its resources.disk_gb, and the disk is nearly full"
