"""With which rights containers run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

from lightkube.models.core_v1 import PodSecurityContext, SecurityContext

from tesk.backends.kubernetes.options import CONTAINER_SECURITY, KubernetesOptions

__all__ = ["Security", "executor_security", "own_security", "shared_security"]

_OF_PODS_ALONE = frozenset(
    {"fsGroup", "fsGroupChangePolicy", "seLinuxChangePolicy", "sysctls"}
    | {"supplementalGroups", "supplementalGroupsPolicy"}
)

_OWN = {
    "runAsNonRoot": True,
    "fsGroup": 10001,
    "fsGroupChangePolicy": "OnRootMismatch",
    "seccompProfile": {"type": "RuntimeDefault"},
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}
"""What our own containers can do without: all of it.

`fsGroup` lets the image's user, who is not root, write on a new volume.
"""


class Security(NamedTuple):
    """The part that belongs to a pod, and the part that belongs to its container."""

    pod: PodSecurityContext | None
    container: SecurityContext | None


def own_security(options: KubernetesOptions) -> Security:
    """For containers of our own image: what the site says on top of what we give up by ourselves.

    A key that the site sets to null is left out. Raises ValueError for a value that Kubernetes does not know.
    """
    return _parted(_own(options))


def executor_security(options: KubernetesOptions) -> Security:
    """For executors: what the site says and nothing else, since images may need any right that the cluster gives."""
    return _parted(options.executor_security_context)


def shared_security(
    options: KubernetesOptions,
) -> tuple[PodSecurityContext | None, SecurityContext | None, SecurityContext | None]:
    """For a pod with our own container and executors: the pod's part, our container's, and an executor's.

    What only a pod can have, such as `fsGroup`, all of its containers have.
    """
    ours, theirs = _own(options), options.executor_security_context
    pod = {key: value for key, value in {**ours, **theirs}.items() if key in _OF_PODS_ALONE}
    return _parted(pod).pod, _container(ours), _container(theirs)


def _own(options: KubernetesOptions) -> dict[str, Any]:
    found = {**_OWN, **options.security_context}
    if options.run_as_user is not None:
        found |= {"runAsUser": options.run_as_user, "runAsNonRoot": options.run_as_user != 0}
    return found


def _container(said: Mapping[str, Any]) -> SecurityContext | None:
    """`said` as far as a container can have it."""
    found = {key: value for key, value in said.items() if value is not None and key not in _OF_PODS_ALONE}
    return cast("SecurityContext", SecurityContext.from_dict(found)) if found else None


def _parted(said: Mapping[str, Any]) -> Security:
    """`said` where Kubernetes has it: in the pod, if a pod has the key at all."""
    known = {key: value for key, value in said.items() if value is not None}
    container = {key: value for key, value in known.items() if key in CONTAINER_SECURITY}
    pod = {key: value for key, value in known.items() if key not in CONTAINER_SECURITY}
    return Security(
        PodSecurityContext.from_dict(pod) if pod else None,  # type: ignore[arg-type]
        SecurityContext.from_dict(container) if container else None,  # type: ignore[arg-type]
    )
