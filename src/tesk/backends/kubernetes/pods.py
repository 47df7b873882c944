"""The pods of an attempt: taskmaster, filers, executors. Pure: nothing here speaks to a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lightkube.models.core_v1 import (
    ConfigMapProjection,
    Container,
    DownwardAPIProjection,
    DownwardAPIVolumeFile,
    EmptyDirVolumeSource,
    EnvFromSource,
    EnvVar,
    EphemeralVolumeSource,
    ExecAction,
    KeyToPath,
    Lifecycle,
    LifecycleHandler,
    LocalObjectReference,
    ObjectFieldSelector,
    PersistentVolumeClaimSpec,
    PersistentVolumeClaimTemplate,
    PersistentVolumeClaimVolumeSource,
    PodSpec,
    ProjectedVolumeSource,
    ResourceRequirements,
    SecretEnvSource,
    SecretProjection,
    SecretVolumeSource,
    SecurityContext,
    Toleration,
    Volume,
    VolumeMount,
    VolumeProjection,
    VolumeResourceRequirements,
)

from tesk.backends.kubernetes import options as settings
from tesk.backends.kubernetes.escape import escaped
from tesk.backends.kubernetes.mounted import (
    ATTEMPT_DIRECTORY,
    CONTROL_DIRECTORY,
    HOST_FILES,
    LAUNCHER_PROGRAM,
    LAUNCHER_TREE,
    NETRC_FILE,
    OWNER_FILE,
    REPORT_KEY_FILE,
    SCRATCH_DIRECTORY,
    SCRATCH_TREE,
    SHARED_READY,
    TESK_PROGRAM,
)
from tesk.backends.kubernetes.names import Owner, Phase, claim_name, container_name, plan_names
from tesk.backends.kubernetes.options import KubernetesOptions
from tesk.backends.kubernetes.resources import executor_resources, own_resources, scratch_bytes, shared_resources
from tesk.backends.kubernetes.security import executor_security, own_security, shared_security
from tesk.backends.limits import longest_run
from tesk.plan.model import ExecutorPlan, Mount, Plan, SharedMount
from tesk.plan.paths import within
from tesk.plan.urls import file_of

__all__ = [
    "OWNER_ANNOTATION",
    "executor_pod",
    "filer_pod",
    "launcher_directory",
    "scratch_claim",
    "task_pod",
    "taskmaster_pod",
]

OWNER_ANNOTATION = "tesk/owner"
"""On our own pods: the uid of the attempt's owner, which they find as a file."""

_OUR_GRACE, _EXECUTOR_GRACE = 5, 10
"""Seconds between SIGTERM and SIGKILL: taskmaster and filer have nothing to save; a command may write a last line."""


def taskmaster_pod(owner: Owner, plan: Plan, options: KubernetesOptions) -> PodSpec:
    """The pod that runs the steps of an attempt; the only one with a service account's token."""
    security = own_security(options)
    files = _used(plan, options)
    container = Container(
        name="taskmaster",
        image=options.image,
        imagePullPolicy=options.image_pull_policy,
        args=["taskmaster", "--kubernetes", ATTEMPT_DIRECTORY],
        resources=own_resources(options.taskmaster_resources, options.minimums),
        securityContext=security.container,
        volumeMounts=[_attempt_mount(), *(_file_mount(name, one) for name, one in files)],
    )
    return _pod(
        options,
        containers=[container],
        volumes=[_attempt_volume(owner), *(_file_volume(name, one) for name, one in files)],
        restartPolicy="OnFailure",
        serviceAccountName=options.taskmaster_service_account or None,
        automountServiceAccountToken=True,
        securityContext=security.pod,
        terminationGracePeriodSeconds=_OUR_GRACE,
    )


def filer_pod(owner: Owner, plan: Plan, options: KubernetesOptions, phase: Phase) -> PodSpec:
    """The pod that stages in or out: it sees all of scratch, the site's file volumes and the storage credentials."""
    security = own_security(options)
    files = _named(plan, options)
    container = Container(
        name="filer",
        image=options.image,
        imagePullPolicy=options.image_pull_policy,
        args=["filer", "--kubernetes", ATTEMPT_DIRECTORY, f"--{phase}"],
        env=_netrc_path(options.storage_secret),
        envFrom=_env_from(options.storage_secret),
        resources=own_resources(options.filer_resources, options.minimums),
        securityContext=security.container,
        volumeMounts=[
            _attempt_mount(),
            *([VolumeMount(name="scratch", mountPath=SCRATCH_DIRECTORY)] if plan.mounts else []),
            *(_file_mount(name, one) for name, one in files),
        ],
    )
    # A volume that one node at a time mounts may never leave the nodes that its first pod could run on.
    follows = options.access_mode != "ReadWriteMany"
    return _pod(
        options,
        plan,
        _spot(plan, options) if follows else None,
        containers=[container],
        volumes=[
            _attempt_volume(owner, options.storage_secret),
            *([_claim_volume("scratch", claim_name(owner.key))] if plan.mounts else []),
            *(_file_volume(name, one) for name, one in files),
        ],
        restartPolicy="Never",
        serviceAccountName=options.executor_service_account or None,
        automountServiceAccountToken=False,
        securityContext=security.pod,
        terminationGracePeriodSeconds=_OUR_GRACE,
    )


def executor_pod(owner: Owner, plan: Plan, options: KubernetesOptions, index: int) -> PodSpec:
    """The pod of executor number `index`: the user's image and argv, started by the launcher, with no rights at all."""
    security = executor_security(options)
    place = launcher_directory(plan)
    from_scratch = bool(plan.mounts)
    launcher = VolumeMount(
        name="scratch" if from_scratch else "launcher",
        mountPath=place,
        subPath=LAUNCHER_TREE if from_scratch else None,
        readOnly=True,
    )
    volumes = [_claim_volume("scratch", claim_name(owner.key)) if from_scratch else _empty_volume("launcher")]
    volumes += [_file_volume(name, one) for name, one in _used(plan, options)]
    if options.executor_secret is not None:
        volumes.append(_secret_volume(options.executor_secret))
    container = _executor(
        plan,
        options,
        index,
        name="executor",
        launcher=[f"{place}/launcher"],
        resources=executor_resources(plan, options),
        security=security.container,
        more=[launcher],
    )
    return _pod(
        options,
        plan,
        _spot(plan, options),
        containers=[container],
        initContainers=None if from_scratch else [_launcher_container(options, place)],
        volumes=volumes,
        restartPolicy="Never",
        # A Job's own deadline would count the time in the queue, and would take the pod away with its log.
        activeDeadlineSeconds=longest_run(plan, options.max_runtime),
        serviceAccountName=_account(plan, options),
        automountServiceAccountToken=False,
        securityContext=security.pod,
        terminationGracePeriodSeconds=_EXECUTOR_GRACE,
    )


def task_pod(owner: Owner, plan: Plan, options: KubernetesOptions) -> PodSpec:
    """The pod of a whole attempt: its taskmaster first, which makes what the executors' containers need to start.

    The kubelet starts containers in their order, each once the hook `postStart` of the one before has ended.
    """
    pod_security, own, others = shared_security(options)
    ready = SHARED_READY if plan.shared else "ready"
    files = _named(plan, options)
    taskmaster = Container(
        name="taskmaster",
        image=options.image,
        imagePullPolicy=options.image_pull_policy,
        command=[escaped(one) for one in _held(plan)],
        env=_netrc_path(options.storage_secret),
        envFrom=_env_from(options.storage_secret),
        resources=own_resources(options.filer_resources, options.minimums),
        securityContext=own,
        lifecycle=Lifecycle(
            postStart=LifecycleHandler(exec=ExecAction([LAUNCHER_PROGRAM, "--await", f"{CONTROL_DIRECTORY}/{ready}"]))
        ),
        volumeMounts=[
            _attempt_mount(),
            VolumeMount(name="control", mountPath=CONTROL_DIRECTORY),
            *([VolumeMount(name="scratch", mountPath=SCRATCH_DIRECTORY)] if plan.mounts else []),
            *(_file_mount(name, one) for name, one in files),
        ],
    )
    volumes = [_attempt_volume(owner, options.storage_secret, options.reports), _empty_volume("control")]
    if plan.mounts:
        volumes.append(_scratch_volume(plan, options))
    volumes += [_file_volume(name, one) for name, one in files]
    if options.executor_secret is not None:
        volumes.append(_secret_volume(options.executor_secret))
    return _pod(
        options,
        plan,
        _spot(plan, options),
        containers=[taskmaster, *(_turn(plan, options, index, others) for index in range(len(plan.executors)))],
        volumes=volumes,
        restartPolicy="Never",
        serviceAccountName=_account(plan, options),
        automountServiceAccountToken=False,
        securityContext=pod_security,
        terminationGracePeriodSeconds=_EXECUTOR_GRACE,
    )


def _held(plan: Plan) -> list[str]:
    """What the taskmaster's container runs: first what makes scratch and the control directories."""
    made = [
        word
        for one in plan.mounts
        for word in ("--dir" if one.type == "DIRECTORY" else "--file", f"{SCRATCH_DIRECTORY}/{SCRATCH_TREE}{one.path}")
    ]
    program = [TESK_PROGRAM, "taskmaster", "--kubernetes", ATTEMPT_DIRECTORY, "--pod"]
    return [LAUNCHER_PROGRAM, "--hold", CONTROL_DIRECTORY, str(len(plan.executors)), *made, "--", *program]


def _turn(plan: Plan, options: KubernetesOptions, index: int, security: SecurityContext | None) -> Container:
    """The container of an executor that waits for its turn."""
    place, name = launcher_directory(plan), container_name(index)
    taken = plan.seen
    own = [
        VolumeMount(name="control", mountPath=f"/etc/{one}", subPath=f"{name}.{one}")
        for one in HOST_FILES
        if f"/etc/{one}" not in taken
    ]
    return _executor(
        plan,
        options,
        index,
        name=name,
        launcher=[f"{place}/launcher", "--turn", place],
        resources=shared_resources(plan, options, index),
        security=security,
        more=[*own, VolumeMount(name="control", mountPath=place, subPath=name, readOnly=True)],
    )


def _executor(
    plan: Plan,
    options: KubernetesOptions,
    index: int,
    *,
    name: str,
    launcher: Sequence[str],
    resources: ResourceRequirements | None,
    security: SecurityContext | None,
    more: Sequence[VolumeMount],
) -> Container:
    executor, secret = plan.executors[index], options.executor_secret
    mounts = [_scratch_mount(one) for one in plan.mounts]
    names = {one.name: name for name, one in _used(plan, options)}
    mounts += [_shared_mount(names[one.place.storage], one) for one in plan.shared]
    if secret is not None:
        mounts.append(VolumeMount(name="secret", mountPath=secret.mount_path, readOnly=True))
    return Container(
        name=name,
        image=executor.image,
        imagePullPolicy=options.image_pull_policy,
        command=[escaped(one) for one in _launched(launcher, executor, options.log_bytes)],
        env=[EnvVar(name=name, value=escaped(value)) for name, value in executor.env.items()] or None,
        resources=resources,
        securityContext=security,
        volumeMounts=[*mounts, *more],
    )


def launcher_directory(plan: Plan) -> str:
    """Where executors find the launcher: `/.tesk`, unless the task itself has something there."""
    taken = {one.split("/")[1] for one in plan.seen}
    names = (".tesk" + "-" * number for number in range(len(taken) + 1))
    return "/" + next(one for one in names if one not in taken)


def _launched(launcher: Sequence[str], executor: ExecutorPlan, log_bytes: int) -> Sequence[str]:
    said = {
        "--stdin": executor.stdin,
        "--stdout": executor.stdout,
        "--stderr": executor.stderr,
        "--workdir": executor.workdir,
        "--log-bytes": str(log_bytes),
    }
    options = [text for name, value in said.items() if value for text in (name, value)]
    return [*launcher, *options, "--", *executor.command]


def _launcher_container(options: KubernetesOptions, place: str) -> Container:
    """Brings the launcher into a pod that has no scratch to find it in."""
    return Container(
        name="launcher",
        image=options.image,
        imagePullPolicy=options.image_pull_policy,
        command=[LAUNCHER_PROGRAM, "--install", place],
        resources=own_resources(options.taskmaster_resources, options.minimums),
        securityContext=own_security(options).container,
        volumeMounts=[VolumeMount(name="launcher", mountPath=place)],
    )


def _account(plan: Plan, options: KubernetesOptions) -> str | None:
    """The service account of executors: the task's own choice, else the site's."""
    return plan.parameters.get("service_account") or options.executor_service_account or None


def _spot(plan: Plan, options: KubernetesOptions) -> settings.Preemptible:
    """Where executors of `plan` run besides: the site's profile, when the task is preemptible."""
    return options.preemptible if plan.resources.preemptible else settings.Preemptible()


def _pod(
    options: KubernetesOptions, plan: Plan | None = None, spot: settings.Preemptible | None = None, **fields: Any
) -> PodSpec:
    """A pod with what all pods share; `plan` is given where the task's own choice of nodes counts.

    Filers follow that choice too: a volume may be bound to the nodes that its first pod could run on.
    """
    parameters = {} if plan is None else plan.parameters
    prefix = "node_selector."
    chosen = {name.removeprefix(prefix): value for name, value in parameters.items() if name.startswith(prefix)}
    profile = options.allowed.toleration_profiles.get(parameters.get("toleration_profile", ""), ())
    labels, taints = (spot.node_selector, spot.tolerations) if spot is not None else ({}, ())
    return PodSpec(
        **fields,
        enableServiceLinks=False,
        imagePullSecrets=[LocalObjectReference(name=one) for one in options.image_pull_secrets] or None,
        nodeSelector={**chosen, **options.node_selector, **labels} or None,
        priorityClassName=parameters.get("priority_class"),
        tolerations=[_toleration(one) for one in (*options.tolerations, *taints, *profile)] or None,
    )


def _toleration(one: settings.Toleration) -> Toleration:
    return Toleration(
        key=one.key or None,
        operator=one.operator or None,
        value=one.value or None,
        effect=one.effect or None,
        tolerationSeconds=one.toleration_seconds,
    )


def _scratch_mount(mount: Mount) -> VolumeMount:
    return VolumeMount(
        name="scratch",
        mountPath=mount.path,
        subPath=SCRATCH_TREE + mount.path,
        readOnly=True if mount.read_only else None,
    )


def _shared_mount(name: str, mount: SharedMount) -> VolumeMount:
    """The kubelet follows no symlink out of the volume, and makes what is not there; so that is there before."""
    return VolumeMount(
        name=name, mountPath=mount.path, subPath=mount.place.path or None, readOnly=True if mount.read_only else None
    )


def _files(options: KubernetesOptions) -> list[tuple[str, settings.FileVolume]]:
    """The site's volumes of files, each with its name in a pod."""
    return [(f"files-{number}", one) for number, one in enumerate(options.file_volumes)]


def _used(plan: Plan, options: KubernetesOptions) -> list[tuple[str, settings.FileVolume]]:
    """Those of them that executors of `plan` see something of."""
    storages = {one.place.storage for one in plan.shared}
    return [(name, one) for name, one in _files(options) if one.name in storages]


def _named(plan: Plan, options: KubernetesOptions) -> list[tuple[str, settings.FileVolume]]:
    """Those of them that whoever moves files of `plan` needs: of shared storage, what the task names."""
    used = [name for name, _ in _used(plan, options)]
    urls = [*(one.url or "" for one in plan.inputs), *(one.url for one in plan.outputs)]
    paths = [path for url in urls if (path := file_of(url))]
    return [
        (name, one)
        for name, one in _files(options)
        if not one.name or name in used or any(within(path, one.path) for path in paths)
    ]


def _file_volume(name: str, volume: settings.FileVolume) -> Volume:
    return _claim_volume(name, volume.pvc, read_only=volume.read_only)


def _file_mount(name: str, volume: settings.FileVolume) -> VolumeMount:
    return VolumeMount(name=name, mountPath=volume.path, readOnly=True if volume.read_only else None)


def _secret_volume(secret: settings.SecretMount) -> Volume:
    return Volume(name="secret", secret=SecretVolumeSource(secretName=secret.name))


def _scratch_volume(plan: Plan, options: KubernetesOptions) -> Volume:
    """Scratch that goes with its pod."""
    size = scratch_bytes(plan, options)
    if options.pod_scratch == "node":
        return Volume(name="scratch", emptyDir=EmptyDirVolumeSource(sizeLimit=str(size)))
    template = PersistentVolumeClaimTemplate(spec=scratch_claim(size, options))
    return Volume(name="scratch", ephemeral=EphemeralVolumeSource(volumeClaimTemplate=template))


def scratch_claim(size: int, options: KubernetesOptions) -> PersistentVolumeClaimSpec:
    """The claim to a scratch volume of `size` bytes."""
    return PersistentVolumeClaimSpec(
        accessModes=[options.access_mode],
        resources=VolumeResourceRequirements(requests={"storage": str(size)}),
        storageClassName=options.storage_class or None,
    )


def _attempt_mount() -> VolumeMount:
    return VolumeMount(name="attempt", mountPath=ATTEMPT_DIRECTORY, readOnly=True)


def _attempt_volume(owner: Owner, storage_secret: str = "", reports: settings.ReportPlace | None = None) -> Volume:
    """The plan's ConfigMaps and the owner's uid as one directory.

    With them what there is of a netrc file, and of what reports are signed with.
    """
    uid = DownwardAPIVolumeFile(
        path=OWNER_FILE, fieldRef=ObjectFieldSelector(fieldPath=f"metadata.annotations['{OWNER_ANNOTATION}']")
    )
    return Volume(
        name="attempt",
        projected=ProjectedVolumeSource(
            sources=[
                *(
                    VolumeProjection(configMap=ConfigMapProjection(name=name))
                    for name in plan_names(owner.key, owner.parts)
                ),
                VolumeProjection(downwardAPI=DownwardAPIProjection(items=[uid])),
                *([VolumeProjection(secret=_key(storage_secret, NETRC_FILE))] if storage_secret else []),
                *([VolumeProjection(secret=_key(reports.secret, REPORT_KEY_FILE))] if reports is not None else []),
            ]
        ),
    )


def _key(secret: str, name: str) -> SecretProjection:
    """A key of a Secret as a file, if both are there: without that of reports, these are read in the log."""
    return SecretProjection(name=secret, items=[KeyToPath(name, name)], optional=True)


def _claim_volume(name: str, claim: str, *, read_only: bool = False) -> Volume:
    source = PersistentVolumeClaimVolumeSource(claimName=claim, readOnly=True if read_only else None)
    return Volume(name=name, persistentVolumeClaim=source)


def _empty_volume(name: str) -> Volume:
    return Volume(name=name, emptyDir=EmptyDirVolumeSource())


def _netrc_path(secret: str) -> list[EnvVar] | None:
    """Where a filer looks for logins by host."""
    return [EnvVar(name="NETRC", value=f"{ATTEMPT_DIRECTORY}/{NETRC_FILE}")] if secret else None


def _env_from(secret: str) -> list[EnvFromSource] | None:
    return [EnvFromSource(secretRef=SecretEnvSource(name=secret))] if secret else None
