"""What this process may do in its namespace, as the API server itself sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import NamedTuple

from lightkube.models.authorization_v1 import ResourceAttributes, SelfSubjectAccessReviewSpec, SubjectAccessReviewSpec
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.authorization_v1 import LocalSubjectAccessReview, SelfSubjectAccessReview

from tesk.backends.kubernetes.api import Call, decode, path_of
from tesk.backends.kubernetes.cluster import Cluster
from tesk.backends.kubernetes.pace import Deadline
from tesk.backends.kubernetes.roles import Rule

__all__ = ["Right", "missing_rights", "rights_of"]


class Right(NamedTuple):
    """One verb on one kind of thing, in the words of a Role: group is "" for core, resource is plural."""

    verb: str
    group: str
    resource: str
    subresource: str = ""

    def __str__(self) -> str:
        resource = f"{self.resource}/{self.subresource}" if self.subresource else self.resource
        return f"{self.verb} {resource}{'.' + self.group if self.group else ''}"


def rights_of(rules: Iterable[Rule]) -> list[Right]:
    """Every single right that `rules` give."""
    found = []
    for rule in rules:
        resource, _, subresource = rule.resource.partition("/")
        found += [Right(verb, rule.group, resource, subresource) for verb in rule.verbs]
    return found


async def missing_rights(
    cluster: Cluster, rights: Iterable[Right], *, account: str | None = None, within: float = 15.0
) -> tuple[Right, ...]:
    """Those of `rights` that a Role still has to give, in their order.

    Needs no right itself: everybody may ask about themselves (SelfSubjectAccessReview). With `account`, a service
    account of the namespace, it is that one's rights, about which few may ask: Refused (403). Raises ClusterError.
    """
    wanted = tuple(rights)
    deadline = Deadline(within)
    allowed = await asyncio.gather(*(_allowed(cluster, right, account, deadline) for right in wanted))
    return tuple(right for right, yes in zip(wanted, allowed, strict=True) if not yes)


async def _allowed(cluster: Cluster, right: Right, account: str | None, deadline: Deadline) -> bool:
    namespace = cluster.namespace
    asked = ResourceAttributes(
        namespace=namespace,
        verb=right.verb,
        group=right.group,
        resource=right.resource,
        subresource=right.subresource or None,
    )
    review: SelfSubjectAccessReview | LocalSubjectAccessReview
    if account is None:
        review = SelfSubjectAccessReview(spec=SelfSubjectAccessReviewSpec(resourceAttributes=asked))
    else:
        user = f"system:serviceaccount:{namespace}:{account}"
        review = LocalSubjectAccessReview(
            metadata=ObjectMeta(namespace=namespace), spec=SubjectAccessReviewSpec(user=user, resourceAttributes=asked)
        )
    call = Call(f"ask for the right to {right}", "POST", path_of(type(review), namespace), body=review)
    answer = decode(await cluster.api.send(call, deadline), type(review))
    return bool(answer.status and answer.status.allowed)
