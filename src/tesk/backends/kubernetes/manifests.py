"""The objects that install TESK in one namespace, as plain data: no CustomResourceDefinition, no ClusterRole.

Their labels are not those of attempts (`app.kubernetes.io/managed-by: tesk`), so that nothing that cleans up after
tasks ever takes them for one.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from tesk.backends.kubernetes.roles import SERVER_RULES, TASKMASTER_RULES, Rule, make_role

__all__ = ["USER", "Installation", "make_manifests", "make_rights", "to_yaml"]

USER = 10001
"""The numeric user and group of TESK's image (Containerfile)."""

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_STATE = "/var/lib/tesk"
_SETTINGS = "/etc/tesk"
_PORT, _REPORT_PORT = 8000, 8001
_LONGEST = 63 - len("-taskmaster")

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Installation:
    """One TESK in one namespace: `image` is TESK's own, `name` that of its server, with which all its objects begin.

    `user` is the user id of all of TESK's own containers, and not that of executors.

    Raises ValueError, with a sentence, for names that Kubernetes would refuse (RFC 1123 labels).
    """

    image: str
    namespace: str = "tesk"
    name: str = "tesk"
    user: int = USER

    def __post_init__(self) -> None:
        for what, value, longest in (("namespace", self.namespace, 63), ("name", self.name, _LONGEST)):
            if len(value) > longest or not _LABEL.fullmatch(value):
                raise ValueError(
                    f"the {what} '{value}' is not one that Kubernetes takes: up to {longest} small letters, digits and"
                    " '-', with a letter or digit at both ends"
                )
        if self.name[0].isdigit():
            raise ValueError(f"the name '{self.name}' begins with a digit, which a Service's name must not")
        if not self.image or any(one.isspace() for one in self.image):
            raise ValueError(f"'{self.image}' is no image: give one such as registry.example.org/tesk:1.0")

    @property
    def taskmaster(self) -> str:
        """The service account of taskmasters."""
        return f"{self.name}-taskmaster"

    @property
    def executor(self) -> str:
        """The service account of executors and filers, which has no right and no token."""
        return f"{self.name}-executor"

    @property
    def labels(self) -> dict[str, str]:
        """What the server's own pod is found by."""
        return {
            "app.kubernetes.io/name": "tesk",
            "app.kubernetes.io/instance": self.name,
            "app.kubernetes.io/component": "server",
        }


def make_manifests(installation: Installation, *, make_namespace: bool = False) -> list[Object]:
    """Everything that `kubectl apply` needs, in an order in which each object finds what it names."""
    settings = to_yaml([_settings(installation)])
    found = [
        *make_rights(installation),
        _named("v1", "ConfigMap", installation, data={"tesk.yaml": settings}),
        _claim(installation),
        _deployment(installation, hashlib.sha256(settings.encode()).hexdigest()),
        _service(installation),
        _network_policy(installation),
    ]
    for one in found:
        one["metadata"]["labels"] = {**installation.labels}
    if make_namespace:
        found.insert(0, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": installation.namespace}})
    return found


def make_rights(installation: Installation) -> list[Object]:
    """The three service accounts, and a Role and its binding for the two that speak to the API."""
    accounts = [
        _named("v1", "ServiceAccount", installation, installation.name),
        _named("v1", "ServiceAccount", installation, installation.taskmaster),
        _named("v1", "ServiceAccount", installation, installation.executor, automountServiceAccountToken=False),
    ]
    bound: list[tuple[str, tuple[Rule, ...]]] = [
        (installation.name, SERVER_RULES),
        (installation.taskmaster, TASKMASTER_RULES),
    ]
    for account, rules in bound:
        accounts.append(make_role(account, installation.namespace, rules))
        accounts.append(_binding(installation, account))
    return accounts


def to_yaml(objects: Iterable[Mapping[str, Any]]) -> str:
    """The objects as one stream of YAML documents, in their own order of keys."""
    return yaml.safe_dump_all([dict(one) for one in objects], sort_keys=False, allow_unicode=True, width=120)


def _named(version: str, kind: str, installation: Installation, name: str | None = None, **more: Any) -> Object:
    metadata = {"name": name or installation.name, "namespace": installation.namespace}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **more}


def _binding(installation: Installation, account: str) -> Object:
    return _named(
        "rbac.authorization.k8s.io/v1",
        "RoleBinding",
        installation,
        account,
        roleRef={"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": account},
        subjects=[{"kind": "ServiceAccount", "name": account, "namespace": installation.namespace}],
    )


def _settings(installation: Installation) -> Object:
    """tesk.yaml. Nobody proves who they are yet: the NetworkPolicy says who reaches the server."""
    return {
        "backend": "kubernetes",
        "state_directory": _STATE,
        "server": {"host": "0.0.0.0", "port": _PORT, "allow_unauthenticated": True},
        "kubernetes": {
            "image": installation.image,
            "instance": installation.name,
            "taskmaster_service_account": installation.taskmaster,
            "executor_service_account": installation.executor,
            "report_port": _REPORT_PORT,
            **({} if installation.user == USER else {"run_as_user": installation.user}),
        },
    }


def _claim(installation: Installation) -> Object:
    """Where the server keeps its tasks: SQLite, which one server at a time may use."""
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    return _named("v1", "PersistentVolumeClaim", installation, spec=spec)


def _deployment(installation: Installation, settings_digest: str) -> Object:
    pod = {
        "serviceAccountName": installation.name,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": installation.user != 0,
            "runAsUser": installation.user,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_server(installation)],
        "volumes": [
            {"name": "state", "persistentVolumeClaim": {"claimName": installation.name}},
            {"name": "settings", "configMap": {"name": installation.name}},
            {"name": "tmp", "emptyDir": {}},
        ],
    }
    # the digest replaces the pod when the settings change, as `kubectl apply` alone would not
    template = {
        "metadata": {"labels": installation.labels, "annotations": {"tesk/settings": settings_digest[:16]}},
        "spec": pod,
    }
    return _named(
        "apps/v1",
        "Deployment",
        installation,
        spec={
            "replicas": 1,
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": installation.labels},
            "template": template,
        },
    )


def _server(installation: Installation) -> Object:
    def probe(path: str, **more: int) -> Object:
        return {"httpGet": {"path": path, "port": "http"}, "timeoutSeconds": 5, **more}

    return {
        "name": "server",
        "image": installation.image,
        "args": ["serve", "--config", f"{_SETTINGS}/tesk.yaml"],
        "ports": [{"name": "http", "containerPort": _PORT}, {"name": "reports", "containerPort": _REPORT_PORT}],
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "1Gi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "startupProbe": probe("/healthz", periodSeconds=1, failureThreshold=60),
        "livenessProbe": probe("/healthz", periodSeconds=10, failureThreshold=6),
        "readinessProbe": probe("/readyz", periodSeconds=5),
        "volumeMounts": [
            {"name": "state", "mountPath": _STATE},
            {"name": "settings", "mountPath": _SETTINGS, "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }


def _service(installation: Installation) -> Object:
    spec = {"selector": installation.labels, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]}
    return _named("v1", "Service", installation, spec=spec)


def _network_policy(installation: Installation) -> Object:
    """Pods of this namespace reach the server; those of tasks, which run whatever somebody sent, only to report."""

    def pods(operator: str) -> Object:
        return {"podSelector": {"matchExpressions": [{"key": "tesk/task", "operator": operator}]}}

    return _named(
        "networking.k8s.io/v1",
        "NetworkPolicy",
        installation,
        spec={
            "podSelector": {"matchLabels": installation.labels},
            "policyTypes": ["Ingress"],
            "ingress": [
                {"from": [pods("DoesNotExist")], "ports": [{"port": "http"}]},
                {"from": [pods("Exists")], "ports": [{"port": "reports"}]},
            ],
        },
    )
