"""What the server and the taskmasters may do in their namespace: the one list that Roles and checks are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["SERVER_RULES", "TASKMASTER_RULES", "Rule", "make_role"]


@dataclass(frozen=True, slots=True)
class Rule:
    """The `verbs` that are allowed on `resource` (such as `pods/log`) of the API group `group` ("" is the core)."""

    group: str
    resource: str
    verbs: tuple[str, ...]


SERVER_RULES = (
    Rule("", "configmaps", ("create", "delete", "get", "list", "watch")),
    Rule("batch", "jobs", ("create", "delete", "get", "list", "watch")),
    Rule("", "pods", ("create", "delete", "get", "list", "watch")),
    Rule("", "pods/log", ("get",)),
    Rule("", "persistentvolumeclaims", ("delete", "list")),
    Rule("", "events", ("list", "watch")),
    Rule("", "limitranges", ("list",)),
    Rule("", "secrets", ("create",)),
)
"""The server makes plans, taskmasters and pods for whole attempts, sees and removes what was made, and reads logs.

The Secret holds what pods sign their reports with; no other is ever read."""

TASKMASTER_RULES = (
    Rule("", "configmaps", ("create", "get", "update")),
    Rule("batch", "jobs", ("create", "delete", "get", "list", "watch")),
    Rule("", "pods", ("get", "list", "watch")),
    Rule("", "pods/log", ("get",)),
    Rule("", "persistentvolumeclaims", ("create", "delete", "get", "list", "watch")),
    Rule("", "events", ("list", "watch")),
)
"""A taskmaster makes and watches the steps and the scratch of its attempt, and writes its report."""


def make_role(name: str, namespace: str, rules: tuple[Rule, ...]) -> dict[str, Any]:
    """A Role (rbac.authorization.k8s.io/v1) that allows exactly `rules`."""
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": name, "namespace": namespace},
        "rules": [{"apiGroups": [one.group], "resources": [one.resource], "verbs": list(one.verbs)} for one in rules],
    }
