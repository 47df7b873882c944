"""The objects of an attempt (docs/architecture.md, "Kubernetes backend"). Pure: nothing here speaks to a cluster.

| object | step | made by |
|---|---|---|
| ConfigMaps with the plan; the first owns all others | plan | server |
| Job | taskmaster | server |
| ConfigMap with the report | report | taskmaster |
| PersistentVolumeClaim, where the plan has mounts | scratch | taskmaster |
| Job | stage-in | taskmaster |
| Job for each executor | executor | taskmaster |
| Job | stage-out | taskmaster |

In layout `pod` there are the ConfigMaps with the plan and one pod, whose step is taskmaster.
"""

from __future__ import annotations

from lightkube.models.batch_v1 import JobSpec
from lightkube.models.core_v1 import PodSpec, PodTemplateSpec
from lightkube.models.meta_v1 import ObjectMeta, OwnerReference
from lightkube.resources.batch_v1 import Job
from lightkube.resources.core_v1 import ConfigMap, PersistentVolumeClaim, Pod

from tesk.backends.kubernetes.labels import Step, key_of, labels_of
from tesk.backends.kubernetes.names import Owner, Phase, attempt_name, claim_name, executor_name, filer_name
from tesk.backends.kubernetes.options import KubernetesOptions
from tesk.backends.kubernetes.pods import (
    OWNER_ANNOTATION,
    executor_pod,
    filer_pod,
    scratch_claim,
    task_pod,
    taskmaster_pod,
)
from tesk.backends.kubernetes.resources import scratch_bytes
from tesk.plan.model import Plan

__all__ = [
    "PARTS_ANNOTATION",
    "make_executor_job",
    "make_filer_job",
    "make_metadata",
    "make_pod",
    "make_scratch_claim",
    "make_taskmaster_job",
    "needs_scratch",
    "owner_of",
]

PARTS_ANNOTATION = "tesk/parts"
"""On an attempt's first object: over how many ConfigMaps its plan is spread."""

_TASKMASTER_RETRIES, _FILER_RETRIES = 6, 3
_STAY = {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}


def needs_scratch(plan: Plan) -> bool:
    """Whether an attempt at `plan` has a scratch volume, and an inputs filer that fills it."""
    return bool(plan.mounts)


def owner_of(config_map: ConfigMap) -> Owner | None:
    """The owner that `config_map`, as the API server tells it, is; None for any other ConfigMap."""
    metadata = config_map.metadata
    key = key_of(metadata.labels) if metadata else None
    if metadata is None or key is None or not metadata.uid or metadata.name != attempt_name(key):
        return None
    parts = (metadata.annotations or {}).get(PARTS_ANNOTATION, "1")
    return Owner(key, metadata.uid, int(parts) if parts.isdecimal() else 1)


def make_taskmaster_job(owner: Owner, plan: Plan, options: KubernetesOptions) -> Job:
    """The Job that runs the attempt; its pod is started again after a crash and goes on from what is there."""
    pod = taskmaster_pod(owner, plan, options)
    return _job(owner, owner.name, "taskmaster", options, pod, retries=_TASKMASTER_RETRIES)


def make_pod(owner: Owner, plan: Plan, options: KubernetesOptions) -> Pod:
    """The pod that is the whole attempt in layout `pod`. A drain takes it, since it has a controller."""
    metadata = make_metadata(owner, owner.name, "taskmaster", options)
    metadata.annotations = {**options.annotations, **_STAY, OWNER_ANNOTATION: owner.uid}
    for one in metadata.ownerReferences or ():
        one.controller = True
    return Pod(metadata=metadata, spec=task_pod(owner, plan, options))


def make_scratch_claim(owner: Owner, plan: Plan, options: KubernetesOptions) -> PersistentVolumeClaim:
    """The claim to the volume that all steps of the attempt share."""
    return PersistentVolumeClaim(
        metadata=make_metadata(owner, claim_name(owner.key), "scratch", options),
        spec=scratch_claim(scratch_bytes(plan, options), options),
    )


def make_filer_job(owner: Owner, plan: Plan, options: KubernetesOptions, phase: Phase) -> Job:
    """The Job that stages in or out. Its program ends with 0 once it has told its result; else it has crashed and is
    tried again.
    """
    step: Step = "stage-in" if phase == "in" else "stage-out"
    pod = filer_pod(owner, plan, options, phase)
    return _job(owner, filer_name(owner.key, phase), step, options, pod, retries=_FILER_RETRIES)


def make_executor_job(owner: Owner, plan: Plan, options: KubernetesOptions, index: int) -> Job:
    """The Job of executor number `index` (from 0), which is started at most once."""
    pod = executor_pod(owner, plan, options, index)
    return _job(owner, executor_name(owner.key, index), "executor", options, pod, retries=0, executor=index)


def make_metadata(owner: Owner, name: str, step: Step, options: KubernetesOptions) -> ObjectMeta:
    """Name, labels and owner of one object of the attempt."""
    return ObjectMeta(
        name=name,
        labels=_labels(owner, step, options),
        annotations=dict(options.annotations) or None,
        ownerReferences=[
            OwnerReference(apiVersion="v1", kind="ConfigMap", name=owner.name, uid=owner.uid, blockOwnerDeletion=False)
        ],
    )


def _labels(owner: Owner, step: Step, options: KubernetesOptions, executor: int | None = None) -> dict[str, str]:
    return {**options.labels, **labels_of(options.instance, owner.key, step, executor)}


def _job(
    owner: Owner,
    name: str,
    step: Step,
    options: KubernetesOptions,
    pod: PodSpec,
    *,
    retries: int,
    executor: int | None = None,
) -> Job:
    metadata = make_metadata(owner, name, step, options)
    metadata.labels = _labels(owner, step, options, executor)
    annotations = {**options.annotations, **_STAY}
    if step != "executor":
        annotations[OWNER_ANNOTATION] = owner.uid
    return Job(
        metadata=metadata,
        spec=JobSpec(
            backoffLimit=retries,
            # A new pod waits until the old one has surely ended: two taskmasters or filers would write over each other.
            podReplacementPolicy="Failed",
            template=PodTemplateSpec(
                metadata=ObjectMeta(labels=dict(metadata.labels), annotations=annotations),
                spec=pod,
            ),
        ),
    )
