"""Why no node takes a pod: the scheduler's message in a user's words.

Source: kube-scheduler's plugins, whose reasons stand in the condition `PodScheduled` as
`0/3 nodes are available: 1 Insufficient cpu, 2 node(s) had untolerated taint(s). preemption: ...`.
"""

from __future__ import annotations

import re

from tesk.backends.kubernetes.observation import Waiting
from tesk.backends.kubernetes.words import one_line

__all__ = ["no_node"]

_AFTERTHOUGHTS = re.compile(
    r"(?:[.,]?\s*(?:no new claims to deallocate|preemption: .*)|\. not found)[\s,]*$", re.DOTALL
)
_NO_CLAIM = re.compile(r'persistentvolumeclaim "(?P<name>[^"]*)" (?P<what>not found|is being deleted)')
_INSUFFICIENT = re.compile(r"\bInsufficient (\S+)")

_LACKS = (
    ("Too many pods", "no node has room for another pod"),
    ("untolerated taint", "no node takes it that is not tainted"),
    ("node(s) were unschedulable", "every node that it could use is closed for new pods"),
    ("didn't match", "no node has the labels that it asks for"),
)
_INCURABLE = (
    "didn't match Pod's node affinity/selector",
    "didn't match node selector",
    "volume node affinity conflict",
    "didn't find available persistent volumes to bind",
    "unbound immediate PersistentVolumeClaims",
    'persistentvolumeclaim "',
)


def no_node(message: str | None) -> Waiting:
    """The clause for the message of `PodScheduled: Unschedulable`.

    Curable unless every node refuses for what stays: the pod's own selector, or its volume. A taint may go, and a
    reason that is not known here may too.
    """
    core = _core(message or "")
    reasons = (core.partition("nodes are available: ")[2] or core).split(", ")
    curable = not all(any(words in reason for words in _INCURABLE) for reason in reasons)
    lead = _lead(core)
    return Waiting(f"{lead} ({one_line(core)})" if core else lead, curable)


def _lead(core: str) -> str:
    if found := _NO_CLAIM.search(core):
        return f"its volume claim {found['name']!r} {found['what'].replace('not found', 'does not exist')}"
    short = list(dict.fromkeys(name.rstrip(",.") for name in _INSUFFICIENT.findall(core)))
    if short:
        return f"no node has enough {' and '.join(short)}"
    return next((lead for words, lead in _LACKS if words in core), "no node can take it")


def _core(message: str) -> str:
    """`message` without what the scheduler adds about preemption, and without other plugins' afterthoughts."""
    while (cut := _AFTERTHOUGHTS.sub("", message).rstrip(" .,")) != message:
        message = cut
    return message
