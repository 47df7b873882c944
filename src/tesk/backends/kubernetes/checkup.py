"""Everything that tasks will need of the cluster, tried before the first task does.

Nothing is made there, but a pod in layout `pod`, which goes again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import PersistentVolumeClaim, Secret, ServiceAccount
from lightkube.resources.scheduling_v1 import PriorityClass
from lightkube.resources.storage_v1 import StorageClass

from tesk.backends.finding import Finding
from tesk.backends.key import AttemptKey
from tesk.backends.kubernetes.api import Call, Kind, decode, kind_of, path_of
from tesk.backends.kubernetes.cluster import Cluster
from tesk.backends.kubernetes.errors import ClusterError, Gone, Refused
from tesk.backends.kubernetes.handout import make_plan_config_maps
from tesk.backends.kubernetes.names import Owner
from tesk.backends.kubernetes.objects import make_executor_job, make_filer_job, make_pod, make_taskmaster_job
from tesk.backends.kubernetes.options import FileVolume, KubernetesOptions
from tesk.backends.kubernetes.order import check_order
from tesk.backends.kubernetes.pace import Deadline
from tesk.backends.kubernetes.rights import Right, missing_rights, rights_of
from tesk.backends.kubernetes.roles import SERVER_RULES, TASKMASTER_RULES
from tesk.plan.model import ExecutorPlan, Mount, Plan, Resources
from tesk.storage.options import StorageSettings

__all__ = ["check_cluster"]

_WITHIN = 15.0
_METADATA = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io,application/json"
_DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
_GIVE = "apply what 'tesk kubernetes manifests' prints, or bind its Role to"
_FORBIDDEN = 403


class _Version(msgspec.Struct):
    gitVersion: str  # noqa: N815


async def check_cluster(options: KubernetesOptions, storage: StorageSettings) -> AsyncIterator[Finding]:
    """Look at rights, settings and what they name, with the server's own account."""
    try:
        cluster = Cluster.of_site(options)
    except ClusterError as error:
        yield Finding("cluster", "fail", str(error))
        return
    async with cluster:
        checkup = _Checkup(cluster, options, storage)
        try:
            async for finding in checkup.run():
                yield finding
        except ClusterError as error:
            yield Finding("cluster", "fail", str(error))


class _Named(NamedTuple):
    """Something that a setting (of section kubernetes) names."""

    what: str
    setting: str
    kind: type[Kind]
    name: str


@dataclass
class _Checkup:
    cluster: Cluster
    options: KubernetesOptions
    storage: StorageSettings
    unseen: list[str] = field(default_factory=list)
    """What this account may not look at."""

    async def run(self) -> AsyncIterator[Finding]:
        api = self.cluster.api
        version = decode(await api.send(Call("ask for the version", "GET", "/version"), Deadline(_WITHIN)), _Version)
        place = f"Kubernetes {version.gitVersion} at {api.server}, namespace {self.cluster.namespace}"
        yield Finding("cluster", "ok", place)
        lacking = await missing_rights(self.cluster, rights_of(SERVER_RULES), within=_WITHIN)
        yield _rights_finding("rights of the server", lacking, "this account")
        taken = False
        if not lacking:
            finding = await self._objects()
            yield finding
            if finding.what == "namespace":
                return
            taken = finding.status == "ok"
        jobs, volumes = self.options.layout == "jobs", self.options.pod_scratch == "volume"
        for finding in await self._taskmaster_rights() if jobs else []:
            yield finding
        yield self._image()
        if not jobs and taken and self.options.image:
            yield await check_order(self.cluster, self.options)
        for finding in await self._storage_class() if jobs or volumes else []:
            yield finding
        for one in self._named():
            for finding in await self._named_object(one):
                yield finding
        for volume in self.options.file_volumes:
            for finding in await self._file_volume(volume):
                yield finding
        if self.unseen:
            told = "may not be looked at with this account, so that only tasks will show whether they are there"
            yield Finding("not looked at", "no", f"{', '.join(self.unseen)}: {told}")

    async def _objects(self) -> Finding:
        """Whether the API server takes what an attempt is made of: the namespace, its policies, our settings."""
        key = AttemptKey("tesk-check", 1)
        executor, preemptible = ExecutorPlan("image", ("true",)), Resources(preemptible=True)
        plan = Plan(executors=(executor,), mounts=(Mount("/data"),), resources=preemptible)
        owner = Owner(key, "00000000-0000-0000-0000-000000000000")
        options = self.options
        try:
            made: list[Kind] = [*make_plan_config_maps(key, plan, options, self.storage)]
            if options.layout == "pod":
                made.append(make_pod(owner, plan, options))
            else:
                made += [
                    make_taskmaster_job(owner, plan, options),
                    make_filer_job(owner, plan, options, "in"),
                    make_executor_job(owner, plan, options, 0),
                ]
            for one in made:
                path = path_of(type(one), self.cluster.namespace)
                call = Call(f"make a {kind_of(type(one))}", "POST", path, {"dryRun": "All"}, body=one)
                await self.cluster.api.send(call, Deadline(_WITHIN))
        except Gone:
            name = self.cluster.namespace
            return Finding(
                "namespace", "fail", f"there is no namespace {name}; make it, or set kubernetes.namespace to another"
            )
        except (Refused, ValueError) as error:
            return Finding("objects", "fail", f"{error}; change what section kubernetes says of it")
        return Finding("objects", "ok", f"the API server takes all {len(made)} that were tried (nothing was made)")

    async def _taskmaster_rights(self) -> list[Finding]:
        """Those of the taskmasters' account, which only some may ask about."""
        what, account = "rights of taskmasters", self.options.taskmaster_service_account or "default"
        wanted = rights_of(TASKMASTER_RULES)
        try:
            lacking = await missing_rights(self.cluster, wanted, account=account, within=_WITHIN)
        except Refused as error:
            return self._not_seen(error, what)
        return [_rights_finding(what, lacking, f"the service account {account}")]

    def _image(self) -> Finding:
        options = self.options
        if not options.image:
            return Finding("image", "fail", "set kubernetes.image to tesk's own image, as nodes pull it")
        policy = {"Never": "must be on every node", "Always": "is pulled for each pod"}
        how = policy.get(options.image_pull_policy, "is pulled where it is missing")
        untried = "; whether it can be pulled is not tried" if options.layout == "jobs" else ""
        return Finding("image", "ok", f"{options.image} {how}{untried}")

    async def _storage_class(self) -> list[Finding]:
        """The class of scratch volumes, named or the default."""
        what, name = "storage class", self.options.storage_class
        if name:
            return await self._named_object(_Named(what, "storage_class", StorageClass, name))
        try:
            classes = await self.cluster.list(StorageClass, {}, within=_WITHIN)
        except Refused as error:
            return self._not_seen(error, "the default storage class")
        chosen = [one.metadata.name for one in classes if one.metadata and _is_default(one.metadata)]
        if not chosen:
            known = ", ".join(sorted(one.metadata.name or "" for one in classes if one.metadata)) or "none is there"
            return [Finding(what, "fail", f"none is the default; set kubernetes.storage_class to one of: {known}")]
        return [Finding(what, "ok", f"{chosen[0]}, the default")]

    def _named(self) -> Iterator[_Named]:
        options, allowed = self.options, self.options.allowed
        masters, executors = options.taskmaster_service_account, options.executor_service_account
        yield _Named("service account of taskmasters", "taskmaster_service_account", ServiceAccount, masters)
        yield _Named("service account of executors", "executor_service_account", ServiceAccount, executors or "default")
        for name in allowed.service_accounts:
            yield _Named("service account to choose", "allowed.service_accounts", ServiceAccount, name)
        for name in allowed.priority_classes:
            yield _Named("priority class to choose", "allowed.priority_classes", PriorityClass, name)
        for name in options.image_pull_secrets:
            yield _Named("secret for images", "image_pull_secrets", Secret, name)
        if options.storage_secret:
            yield _Named("secret for storage", "storage_secret", Secret, options.storage_secret)
        if options.executor_secret is not None:
            yield _Named("secret of executors", "executor_secret", Secret, options.executor_secret.name)

    async def _named_object(self, one: _Named) -> list[Finding]:
        kind, name = kind_of(one.kind), one.name or "default"
        # its metadata alone: nobody needs what is in a Secret
        path = path_of(one.kind, self.cluster.namespace, name)
        call = Call(f"look at {kind} {name}", "GET", path, accept=_METADATA)
        try:
            await self.cluster.api.send(call, Deadline(_WITHIN))
        except Gone:
            hint = f"make it, or change kubernetes.{one.setting}"
            return [Finding(one.what, "fail", f"there is no {kind} {name}; {hint}")]
        except Refused as error:
            return self._not_seen(error, f"{kind} {name}")
        return [Finding(one.what, "ok", name)]

    async def _file_volume(self, volume: FileVolume) -> list[Finding]:
        what, name = f"files at {volume.path}", f"PersistentVolumeClaim {volume.pvc}"
        try:
            named = {"metadata.name": volume.pvc}  # the server's Role lets it list claims, and get none
            found = await self.cluster.list(PersistentVolumeClaim, {}, fields=named, within=_WITHIN)
        except Refused as error:
            return self._not_seen(error, name)
        if not found:
            setting = "storage.shared" if volume.name else "kubernetes.file_volumes"
            return [Finding(what, "fail", f"there is no {name}; make it, or change {setting}")]
        phase = (found[0].status.phase if found[0].status else None) or "Pending"
        if phase == "Lost":
            return [Finding(what, "fail", f"{name} has lost its volume; make it anew")]
        return [Finding(what, "ok", f"{name} is {phase}")]

    def _not_seen(self, error: Refused, what: str) -> list[Finding]:
        if error.code != _FORBIDDEN:
            raise error
        self.unseen.append(what)
        return []


def _rights_finding(what: str, lacking: Iterable[Right], whose: str) -> Finding:
    verbs: dict[str, list[str]] = {}
    for right in lacking:
        verbs.setdefault(str(right).removeprefix(f"{right.verb} "), []).append(right.verb)
    if not verbs:
        return Finding(what, "ok", "all that its Role gives")
    names = ", ".join(f"{resource} ({', '.join(some)})" for resource, some in verbs.items())
    return Finding(what, "fail", f"{whose} lacks {names}; {_GIVE} {whose}")


def _is_default(metadata: ObjectMeta) -> bool:
    return (metadata.annotations or {}).get(_DEFAULT_CLASS) == "true"
