"""What this process may do in its namespace, as the API server itself sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import NamedTuple

from lightkube.models.authorization_v1 import ResourceAttributes, SelfSubjectAccessReviewSpec
from lightkube.resources.authorization_v1 import SelfSubjectAccessReview

from tesk.backends.kubernetes.api import Call, decode, path_of
from tesk.backends.kubernetes.cluster import Cluster
from tesk.backends.kubernetes.pace import Deadline

__all__ = ["Right", "missing_rights"]


class Right(NamedTuple):
    """One verb on one kind of thing, in the words of a Role: group is "" for core, resource is plural."""

    verb: str
    group: str
    resource: str
    subresource: str = ""

    def __str__(self) -> str:
        resource = f"{self.resource}/{self.subresource}" if self.subresource else self.resource
        return f"{self.verb} {resource}{'.' + self.group if self.group else ''}"


async def missing_rights(cluster: Cluster, rights: Iterable[Right], *, within: float = 15.0) -> tuple[Right, ...]:
    """Those of `rights` that a Role still has to give, in their order.

    Needs no right itself: every account may ask about itself (SelfSubjectAccessReview). Raises ClusterError.
    """
    wanted = tuple(rights)
    deadline = Deadline(within)
    allowed = await asyncio.gather(*(_allowed(cluster, right, deadline) for right in wanted))
    return tuple(right for right, yes in zip(wanted, allowed, strict=True) if not yes)


async def _allowed(cluster: Cluster, right: Right, deadline: Deadline) -> bool:
    asked = ResourceAttributes(
        namespace=cluster.namespace,
        verb=right.verb,
        group=right.group,
        resource=right.resource,
        subresource=right.subresource or None,
    )
    review = SelfSubjectAccessReview(spec=SelfSubjectAccessReviewSpec(resourceAttributes=asked))
    path = path_of(SelfSubjectAccessReview, cluster.namespace)
    call = Call(f"ask for the right to {right}", "POST", path, body=review)
    answer = decode(await cluster.api.send(call, deadline), SelfSubjectAccessReview)
    return bool(answer.status and answer.status.allowed)
