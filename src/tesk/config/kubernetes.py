"""Section `kubernetes` of the configuration: what `KubernetesOptions` holds, checked."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AliasChoices, Field

from tesk.backends.kubernetes.options import (
    CONTAINER_SECURITY,
    POD_SECURITY,
    AccessMode,
    KubernetesOptions,
    Layout,
    PodScratch,
    PullPolicy,
)
from tesk.config.fields import Positive, Root, Seconds, Section
from tesk.config.shared import SharedConfig
from tesk.plan.site import Parameter

__all__ = ["AllowedConfig", "KubernetesConfig", "PreemptibleConfig", "ResourcesConfig"]

_GIGABYTE = 10**9
_WORD = r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
_NAME = r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?"
_QUANTITY = re.compile(r"\d+(\.\d+)?([mkMGTPE]|[KMGTPE]i)?")
_MOST_GPUS = 1024


def _matching(pattern: str, sentence: str) -> Callable[[str], str]:
    compiled = re.compile(pattern)

    def check(value: str) -> str:
        if not compiled.fullmatch(value):
            raise ValueError(sentence)
        return value

    return check


def _security(value: dict[str, Any]) -> dict[str, Any]:
    known = POD_SECURITY | CONTAINER_SECURITY
    for key in value:
        if key not in known:
            raise ValueError(f"'{key}' is no key of a securityContext; those are: {', '.join(sorted(known))}")
    return value


def _quantity(value: str) -> str:
    if not _QUANTITY.fullmatch(value):
        raise ValueError("give quantities in quotes, such as '500m' or '64Mi'")
    return value


def _label_key(value: str) -> str:
    prefix, slash, name = value.rpartition("/")
    if not re.fullmatch(_WORD, name) or (slash and not re.fullmatch(_NAME, prefix)):
        raise ValueError(f"'{value}' is not a key of Kubernetes' labels; give such as 'site.example.org/pool'")
    return value


def _not_ours(value: dict[str, str]) -> dict[str, str]:
    for key in value:
        if key.startswith("tesk/") or key in ("app.kubernetes.io/managed-by", "app.kubernetes.io/instance"):
            raise ValueError(f"'{key}' is set by tesk itself; take it out")
    return value


_AN_OBJECT = "give the name of a Kubernetes object: small letters, digits, '-', '.'"
_A_LABEL = "give at most 63 letters, digits, '-', '_', '.'; quote what looks like a number"

Named = Annotated[str, AfterValidator(_matching(rf"({_NAME})?", _AN_OBJECT))]
Name = Annotated[Named, Field(min_length=1)]
LabelKey = Annotated[str, AfterValidator(_label_key)]
LabelValue = Annotated[str, AfterValidator(_matching(rf"({_WORD})?", _A_LABEL))]
SecurityMap = Annotated[dict[str, Any], AfterValidator(_security)]
Quantities = dict[str, Annotated[str, AfterValidator(_quantity)]]
ResourceName = Annotated[str, AfterValidator(lambda value: _label_key(value) if value else value)]


class TolerationConfig(Section):
    """A taint that pods tolerate, in Kubernetes' own words."""

    key: str = ""
    operator: Literal["", "Exists", "Equal"] = ""
    value: str = ""
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = ""
    toleration_seconds: int | None = Field(
        None, ge=0, validation_alias=AliasChoices("tolerationSeconds", "toleration_seconds")
    )


Tolerations = Annotated[tuple[TolerationConfig, ...], Field(strict=False)]
Names = Annotated[tuple[Name, ...], Field(strict=False)]


class PreemptibleConfig(Section):
    """Where the executors of tasks with `preemptible: true` run; empty: where all others do."""

    node_selector: dict[LabelKey, LabelValue] = Field(
        {},
        description="Labels that their nodes must have, over those of kubernetes.node_selector; empty: they may run on"
        " ordinary nodes too.",
    )
    tolerations: Tolerations = Field(
        (), description="Taints that they tolerate besides: a list as in kubernetes.tolerations."
    )


class SecretMountConfig(Section):
    """A Secret and where executors find it."""

    name: Name
    mount_path: Root = "/secret"


class FileVolumeConfig(Section):
    """A PersistentVolumeClaim and where filers see it."""

    pvc: Name
    path: Root
    read_only: bool = False


class ResourcesConfig(Section):
    """What one container asks for and may use."""

    requests: Quantities = Field({}, description="What it asks for, by resource: {cpu: 10m, memory: 64Mi}.")
    limits: Quantities = Field({}, description="The most it may use, by resource.")


class TaskmasterResourcesConfig(ResourcesConfig):
    """What a taskmaster, of which each active attempt has one, asks for and may use."""

    requests: Quantities = Field(
        KubernetesOptions().taskmaster_resources.requests,
        description="What it asks for, by resource. It waits nearly all the time.",
    )
    limits: Quantities = Field(
        KubernetesOptions().taskmaster_resources.limits, description="The most it may use, by resource."
    )


class FilerResourcesConfig(ResourcesConfig):
    """What a filer asks for and may use."""

    requests: Quantities = Field(
        KubernetesOptions().filer_resources.requests, description="What it asks for, by resource."
    )
    limits: Quantities = Field(
        KubernetesOptions().filer_resources.limits, description="The most it may use, by resource."
    )


class AllowedConfig(Section):
    """What tasks may choose by `backend_parameters`; service-info lists what there is."""

    node_selector_keys: Annotated[tuple[LabelKey, ...], Field(strict=False)] = Field(
        (),
        description="Labels of nodes that a task may ask for: 'disk' lets it say node_selector.disk: ssd.",
    )
    priority_classes: Names = Field((), description="Names that priority_class may have.")
    service_accounts: Names = Field(
        (), description="Names that service_account may have, for executors; they never get its token."
    )
    toleration_profiles: dict[LabelValue, Tolerations] = Field(
        {}, description="Lists of tolerations by the name that toleration_profile may have."
    )
    gpu_resource: ResourceName = Field(
        "", description="The resource of which gpu asks for a number, such as nvidia.com/gpu; empty: no GPUs."
    )


class KubernetesConfig(Section):
    """The Kubernetes backend: Jobs in one namespace of a cluster. Texts that are empty are not said."""

    image: str = Field("", description="The image of tesk itself, for taskmasters and filers; must be given.")
    namespace: Named = Field("", description="Where everything is made; empty: the pod's own, else the context's.")
    kubeconfig: str = Field(
        "",
        description="The file that says how to reach the cluster; empty: in a pod its service account, else kubectl's.",
    )
    context: str = Field("", description="Which context of that file; empty: its current one.")
    instance: LabelValue = Field(
        "",
        description="The name of this installation, a label of all its objects. Two in one namespace need two, or would"
        " remove each other's; empty: `tesk-` and eight letters of the store's own.",
    )
    layout: Layout = Field(
        "pod",
        description="How an attempt is laid out. pod: one pod, whose containers are its taskmaster and its executors."
        " jobs: a taskmaster, and a Job for each step on a volume they share.",
    )
    pod_scratch: PodScratch = Field(
        "node",
        description="Where scratch lies in layout pod: on the node's own disk (an emptyDir), or on a volume of"
        " storage_class that goes with the pod.",
    )
    report_port: Annotated[int, Field(ge=0, le=65535)] | None = Field(
        0,
        description="In layout pod: the TCP port on which the server takes the reports of pods, which it else reads in"
        " their logs; 0: any that is free. null: none.",
    )
    report_host: str = Field(
        "",
        description="The name or address by which pods reach that port; empty: that of this machine's way to the"
        " cluster.",
    )
    image_pull_policy: PullPolicy = Field("IfNotPresent", description="When nodes pull images, also those of tasks.")
    image_pull_secrets: Names = Field((), description="Secrets with the credentials of image registries.")
    storage_class: Named = Field("", description="The class of scratch volumes; empty: the cluster's default.")
    access_mode: AccessMode = Field("ReadWriteOnce", description="How scratch volumes are mounted.")
    scratch_gb: Positive = Field(
        10.0,
        description="How large scratch is, in 10^9 bytes, for a task that does not say disk_gb; few storage classes"
        " make volumes much smaller, and inputs of unknown size should find room.",
    )
    node_selector: dict[LabelKey, LabelValue] = Field({}, description="Labels that nodes of all pods must have.")
    tolerations: Tolerations = Field(
        (), description="Taints that all pods tolerate: a list of {key, operator, value, effect, tolerationSeconds}."
    )
    labels: Annotated[dict[LabelKey, LabelValue], AfterValidator(_not_ours)] = Field(
        {}, description="Further labels of every object and pod."
    )
    annotations: Annotated[dict[LabelKey, str], AfterValidator(_not_ours)] = Field(
        {}, description="Further annotations of every object and pod."
    )
    taskmaster_service_account: Named = Field(
        "tesk-taskmaster", description="With whose rights taskmasters make Jobs and volumes."
    )
    executor_service_account: Named = Field(
        "", description="The service account of filers and executors, without its token; empty: the namespace's own."
    )
    executor_secret: SecretMountConfig | None = Field(
        None, description="A Secret that every executor finds as files: {name, mount_path}."
    )
    storage_secret: Named = Field(
        "",
        description="A Secret whose keys are environment variables of filers: AWS_ACCESS_KEY_ID,"
        " AWS_SECRET_ACCESS_KEY, TESK_FTP_USERNAME, TESK_FTP_PASSWORD, … (storage.md); the key netrc holds their netrc"
        " file.",
    )
    file_volumes: Annotated[tuple[FileVolumeConfig, ...], Field(strict=False)] = Field(
        (),
        description="Volumes with the files of storage.file_roots, for filers: a list of {pvc, path, read_only}.",
    )
    security_context: SecurityMap = Field(
        {},
        description="securityContext of tesk's own pods and containers, in Kubernetes' words, on top of the default:"
        " not root, group 10001 for volumes, no capabilities, no writing to the image. null takes a key out (OpenShift:"
        " fsGroup: null).",
    )
    run_as_user: Annotated[int, Field(ge=0)] | None = Field(
        None,
        description="The user id of tesk's own containers; null: the image's. 0 where only root can write volumes.",
    )
    executor_security_context: SecurityMap = Field(
        {}, description="securityContext of executors, in Kubernetes' words; nothing by default, since images differ."
    )
    start_timeout: Positive = Field(
        300.0,
        description="Seconds after which an attempt ends that waits for what waiting does not cure: no such image, …",
    )
    queue_timeout: Positive | None = Field(
        None, description="Seconds after which an attempt ends that waits for room in the cluster; null: never."
    )
    max_active: int = Field(
        50,
        ge=1,
        description="Attempts at the same time. Each has up to two pods, its taskmaster and one step: 50 fit on one"
        " node with the usual limit of 110 pods. Under a quota, let no more in than leave room for their executors.",
    )
    max_runtime: Seconds | None = Field(
        None, description="Seconds that one executor may take, from when it has a node; null: no limit."
    )
    keep_finished: Annotated[float, Field(ge=0)] = Field(
        600.0, description="Seconds that the objects of an ended attempt stay, for whoever looks with kubectl."
    )
    qps: Positive = Field(50.0, description="Requests to the API server in a second, of each process.")
    burst: int = Field(100, ge=1, description="Requests to the API server that may come at once.")
    taskmaster_resources: TaskmasterResourcesConfig = TaskmasterResourcesConfig()
    filer_resources: FilerResourcesConfig = FilerResourcesConfig()
    preemptible: PreemptibleConfig = PreemptibleConfig()
    allowed: AllowedConfig = AllowedConfig()

    def options(self, log_bytes: int, shared: Sequence[SharedConfig]) -> KubernetesOptions:
        """The section as the backend takes it, with `tasks.log_bytes` and what clients and tasks share."""
        data = self.model_dump()
        data["file_volumes"] = [
            *data["file_volumes"],
            *(
                {"pvc": one.pvc, "path": one.client_path, "read_only": one.read_only, "name": one.name}
                for one in shared
            ),
        ]
        data["scratch_bytes"] = round(data.pop("scratch_gb") * _GIGABYTE)
        return KubernetesOptions.from_data({**data, "log_bytes": log_bytes})

    def parameters(self) -> dict[str, Parameter]:
        """The backend parameters that tasks may use, by name in small letters."""
        allowed = self.allowed
        found = {
            f"node_selector.{key}".lower(): Parameter(name=f"node_selector.{key}") for key in allowed.node_selector_keys
        }
        for name, values in (
            ("priority_class", allowed.priority_classes),
            ("service_account", allowed.service_accounts),
            ("toleration_profile", tuple(allowed.toleration_profiles)),
        ):
            if values:
                found[name] = Parameter(values=values)
        if allowed.gpu_resource:
            found["gpu"] = Parameter("number", most=_MOST_GPUS)
        return found

    def faults(self, file_roots: tuple[str, ...], shared: Sequence[SharedConfig]) -> dict[str, str]:
        """What lacks or contradicts when this is the backend to use: sentences, by the key to change."""
        volumes = [*(one.path for one in self.file_volumes), *(one.client_path for one in shared)]
        found = {}
        if not self.image:
            found["kubernetes.image"] = "is empty; name tesk's own image, which taskmasters and filers run in"
        for root in file_roots:
            if not any(one == "/" or f"{root}/".startswith(f"{one}/") for one in volumes):
                found["storage.file_roots"] = (
                    f"names {root}, which lies in no volume of kubernetes.file_volumes; filers could not see it"
                )
        return found
