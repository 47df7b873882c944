"""What an executor's user is told, whichever way its pods are laid out."""

from __future__ import annotations

__all__ = ["CONTAINER_KILLED", "CONTAINER_OUT_OF_MEMORY", "THE_NODE"]

CONTAINER_KILLED = "its container was killed"
"""What a taskmaster sees of an executor whose launcher was killed with it."""

CONTAINER_OUT_OF_MEMORY = "it needed more memory than its container may have"
"""What the kubelet may know of it: with cgroup v2 the kernel ends the container as a whole."""

THE_NODE = "its node"
"""What has no more memory to give to an executor that declares none."""
