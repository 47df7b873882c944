"""What the API server refuses to make, and whether it may yet: quotas, limit ranges, pod security, rights.

The words are those of Kubernetes' admission plugins. A Job's controller hears them too, and repeats them in an event
`FailedCreate`.
"""

from __future__ import annotations

import re

from lightkube.models.meta_v1 import Status

from tesk.backends.kubernetes.observation import Waiting
from tesk.backends.kubernetes.quantities import amount
from tesk.backends.kubernetes.words import one_line

__all__ = ["refusal", "refused"]

_QUOTA = re.compile(
    r"exceeded quota: (?P<name>[^,]+), requested: (?P<asked>.*), used: (?P<used>.*), limited: (?P<limit>.*)"
)
_QUOTA_MUST = re.compile(r"failed quota: (?P<name>[^:]+): must specify (?P<what>.*)")
_WHAT = re.compile(r'^(?:Error creating: )?\S+ "[^"]*" is forbidden: ')
_REFUSALS = (400, 403, 404, 413, 422)


def refused(status: Status, what: str) -> Waiting | None:
    """Why the API server did not make `what` (`its volume claim`), from an ApiError's `status`.

    None when trying again may simply work: a conflict (409), too many requests (429) and errors of the server itself
    (5xx) are no refusals.
    """
    if status.code not in _REFUSALS:
        return None
    return refusal(status.message or status.reason or f"the API server answered {status.code}", what)


def refusal(message: str, what: str = "its pod") -> Waiting:
    """The sentence for an admission plugin's `message`, curable when a quota is in use and could come free."""
    if found := _QUOTA.search(message):
        return _quota(found, what)
    if found := _QUOTA_MUST.search(message):
        return Waiting(
            f"quota {found['name']!r} of the namespace takes {what} only with {one_line(found['what'])}",
            curable=False,
        )
    return Waiting(f"the cluster refuses {what}: {one_line(_WHAT.sub('', message))}", curable=False)


def _quota(found: re.Match[str], what: str) -> Waiting:
    asked, used, limits = (_amounts(found[part]) for part in ("asked", "used", "limit"))
    too_large = [name for name, value in asked.items() if name in limits and amount(value) > amount(limits[name])]
    parts = [f"{name}: {asked[name]} more, {used.get(name, '?')} of {limits.get(name, '?')} in use" for name in asked]
    told = one_line("; ".join(parts))
    if too_large:
        return Waiting(f"{what} is larger than quota {found['name']!r} of the namespace allows ({told})", curable=False)
    return Waiting(f"quota {found['name']!r} of the namespace is used up ({told})", curable=True)


def _amounts(text: str) -> dict[str, str]:
    """`requests.cpu=2,pods=1` as a mapping."""
    pairs = (part.partition("=") for part in text.split(",") if "=" in part)
    return {name.strip(): value.strip() for name, _, value in pairs}
