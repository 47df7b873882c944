"""What limits an executor, the same on every backend, and what its user is told when it took more."""

from __future__ import annotations

from tesk.plan.model import Plan

__all__ = ["longest_run", "needed_more_memory", "ran_too_long"]


def longest_run(plan: Plan, allowed: int | None) -> int | None:
    """Seconds that an executor may take; the shorter of what the site allows and what the task asks for."""
    asked = plan.parameters.get("max_runtime")
    return min((one for one in (allowed, int(asked) if asked else None) if one is not None), default=None)


def ran_too_long(seconds: int | None) -> str:
    """That it was ended after `seconds`, if they are known."""
    return f"it ran longer than allowed{f' ({seconds} s)' if seconds else ''}"


def needed_more_memory(plan: Plan, there: str) -> str:
    """That the kernel killed it for want of memory; `there` is what has no more to give where it declared none."""
    limit = plan.resources.ram_bytes
    allowed = f"than its {limit / 1e9:g} GB (resources.ram_gb)" if limit else f"than {there} has to give"
    return f"it needed more memory {allowed}"
