"""What a site says of its Kubernetes backend: plain data for the server and, as JSON, for its taskmasters.

Nothing here needs the API library, and nothing here is secret: secrets are named, never held.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = [
    "CONTAINER_SECURITY",
    "POD_SECURITY",
    "AccessMode",
    "Allowed",
    "FileVolume",
    "KubernetesOptions",
    "Layout",
    "Minimums",
    "PodScratch",
    "Preemptible",
    "PullPolicy",
    "ReportPlace",
    "Requirements",
    "SecretMount",
    "Toleration",
]

Layout = Literal["jobs", "pod"]
PodScratch = Literal["node", "volume"]
AccessMode = Literal["ReadWriteOnce", "ReadWriteOncePod", "ReadWriteMany"]
PullPolicy = Literal["IfNotPresent", "Always", "Never"]

POD_SECURITY = frozenset(
    {"appArmorProfile", "fsGroup", "fsGroupChangePolicy", "runAsGroup", "runAsNonRoot", "runAsUser", "seLinuxOptions"}
    | {"seLinuxChangePolicy", "seccompProfile", "supplementalGroups", "supplementalGroupsPolicy", "sysctls"}
    | {"windowsOptions"}
)
"""The keys that Kubernetes has in a pod's securityContext."""

CONTAINER_SECURITY = frozenset(
    {"allowPrivilegeEscalation", "capabilities", "privileged", "procMount", "readOnlyRootFilesystem"}
)
"""The keys that Kubernetes has in a container's securityContext only."""


@dataclass(frozen=True, slots=True)
class Toleration:
    """A taint that pods tolerate (`v1.Toleration`); empty is not said, `toleration_seconds` None is for ever."""

    key: str = ""
    operator: Literal["", "Exists", "Equal"] = ""
    value: str = ""
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = ""
    toleration_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class Preemptible:
    """Where a task with `preemptible: true` runs, on top of what all pods have: labels of nodes, and their taints."""

    node_selector: dict[str, str] = field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()


@dataclass(frozen=True, slots=True)
class SecretMount:
    """A Secret that every executor finds, read-only, in the directory `mount_path`."""

    name: str
    mount_path: str = "/secret"


@dataclass(frozen=True, slots=True)
class FileVolume:
    """A PersistentVolumeClaim that filers see at the absolute `path`, for `file://` URLs.

    `name` is that of the shared storage that it is, if it is one: then executors see what their task names of it.
    """

    pvc: str
    path: str
    read_only: bool = False
    name: str = ""


@dataclass(frozen=True, slots=True)
class Requirements:
    """What a container of ours asks for and may use: quantities by resource (`cpu`, `memory`, …)."""

    requests: dict[str, str] = field(default_factory=dict)
    limits: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Minimums:
    """The least that a container, or a claim, may ask for in the namespace (LimitRange); 0 is no such limit."""

    cpu_millicores: int = 0
    memory_bytes: int = 0
    ephemeral_storage_bytes: int = 0
    claim_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Allowed:
    """What tasks may choose with backend parameters. `gpu_resource` empty: no GPUs."""

    node_selector_keys: tuple[str, ...] = ()
    priority_classes: tuple[str, ...] = ()
    service_accounts: tuple[str, ...] = ()
    toleration_profiles: dict[str, tuple[Toleration, ...]] = field(default_factory=dict)
    gpu_resource: str = ""


@dataclass(frozen=True, slots=True)
class ReportPlace:
    """Where pods send their reports: an address and a TCP port. `secret` names the Secret with the key to sign with."""

    host: str
    port: int
    secret: str


@dataclass(frozen=True, slots=True)
class KubernetesOptions:
    """Everything that the Kubernetes backend and its taskmasters need to know of their site.

    docs/configuration.md says what each means, under the same name in section `kubernetes`. Empty text is not said.
    Timeouts, `max_runtime` and `keep_finished` are seconds. `kubeconfig` and `context` name files of the server's own
    machine and are no part of the JSON. `log_bytes` is `tasks.log_bytes`. `minimums` are what the server found in the
    namespace, since a taskmaster need not have the right to look. `reports` is where this server listens for them.
    """

    image: str = ""
    namespace: str = ""
    instance: str = "tesk"
    layout: Layout = "pod"
    pod_scratch: PodScratch = "node"
    kubeconfig: str = ""
    context: str = ""
    image_pull_policy: PullPolicy = "IfNotPresent"
    image_pull_secrets: tuple[str, ...] = ()
    storage_class: str = ""
    access_mode: AccessMode = "ReadWriteOnce"
    scratch_bytes: int = 10 * 10**9
    node_selector: dict[str, str] = field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()
    preemptible: Preemptible = field(default_factory=Preemptible)
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    taskmaster_service_account: str = "tesk-taskmaster"
    executor_service_account: str = ""
    executor_secret: SecretMount | None = None
    storage_secret: str = ""
    file_volumes: tuple[FileVolume, ...] = ()
    security_context: dict[str, Any] = field(default_factory=dict)
    run_as_user: int | None = None
    executor_security_context: dict[str, Any] = field(default_factory=dict)
    start_timeout: float = 300.0
    queue_timeout: float | None = None
    max_active: int = 50
    max_runtime: int | None = None
    keep_finished: float = 600.0
    qps: float = 50.0
    burst: int = 100
    taskmaster_resources: Requirements = Requirements({"cpu": "10m", "memory": "64Mi"}, {"memory": "256Mi"})
    filer_resources: Requirements = Requirements({"cpu": "100m", "memory": "128Mi"}, {"memory": "1Gi"})
    allowed: Allowed = Allowed()
    log_bytes: int = 65536
    minimums: Minimums = Minimums()
    report_host: str = ""
    report_port: int | None = 0
    reports: ReportPlace | None = None

    def to_json(self) -> str:
        """The options as one line of JSON."""
        data = dataclasses.asdict(self)
        for name in _OF_THE_SERVER:
            del data[name]
        return json.dumps(data, separators=(",", ":"), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> KubernetesOptions:
        """Read what `to_json` wrote.

        Raises ValueError when `text` is no options.
        """
        try:
            return cls.from_data(json.loads(text))
        except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
            raise ValueError(f"these are no options of the Kubernetes backend: {error}") from error

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> KubernetesOptions:
        """Options from plain data, by field; what is left out has its default.

        Raises TypeError for a name that is no field.
        """
        return cls(**{name: _READ.get(name, _as_it_is)(value) for name, value in data.items()})


_OF_THE_SERVER = ("kubeconfig", "context", "report_host", "report_port")


def _as_it_is(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _tolerations(value: Any) -> tuple[Toleration, ...]:
    return tuple(Toleration(**one) for one in value)


def _preemptible(value: Mapping[str, Any]) -> Preemptible:
    return Preemptible(value.get("node_selector", {}), _tolerations(value.get("tolerations", ())))


def _allowed(value: Mapping[str, Any]) -> Allowed:
    found = {name: _as_it_is(one) for name, one in value.items()}
    profiles = found.pop("toleration_profiles", {})
    return Allowed(**found, toleration_profiles={name: _tolerations(one) for name, one in profiles.items()})


_READ: dict[str, Any] = {
    "tolerations": _tolerations,
    "preemptible": _preemptible,
    "executor_secret": lambda value: SecretMount(**value) if value else None,
    "file_volumes": lambda value: tuple(FileVolume(**one) for one in value),
    "taskmaster_resources": lambda value: Requirements(**value),
    "filer_resources": lambda value: Requirements(**value),
    "allowed": _allowed,
    "minimums": lambda value: Minimums(**value),
    "reports": lambda value: ReportPlace(**value) if value else None,
}
