"""What an executor's user is told, whichever way its pods are laid out."""

from __future__ import annotations

from tesk.plan.model import Plan

__all__ = ["CONTAINER_KILLED", "CONTAINER_OUT_OF_MEMORY", "needed_more_memory", "ran_too_long"]

CONTAINER_KILLED = "its container was killed"
"""What a taskmaster sees of an executor whose launcher was killed with it."""

CONTAINER_OUT_OF_MEMORY = "it needed more memory than its container may have"
"""What the kubelet may know of it: with cgroup v2 the kernel ends the container as a whole."""


def needed_more_memory(plan: Plan) -> str:
    """That the kernel killed it for want of memory."""
    limit = plan.resources.ram_bytes
    allowed = f" than its {limit / 1e9:g} GB (resources.ram_gb)" if limit else " than its node has to give"
    return f"it needed more memory{allowed}"


def ran_too_long(seconds: int | None) -> str:
    """That it was ended after `seconds`, if they are known."""
    return f"it ran longer than allowed{f' ({seconds} s)' if seconds else ''}"
