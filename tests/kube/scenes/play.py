"""The scenes: what can become of a Job."""

from __future__ import annotations

import subprocess
from typing import Any

from lightkube.models.meta_v1 import ObjectMeta
from lightkube.models.policy_v1 import Eviction as EvictionModel
from lightkube.resources.batch_v1 import Job
from lightkube.resources.core_v1 import Pod, PodEviction

from tests.kube.scenes.moments import (
    container,
    deleting,
    ended,
    event,
    job_condition,
    phase,
    pod,
    pod_condition,
    runs,
    state,
    waits,
)
from tests.kube.scenes.nodes import node_scenes
from tests.kube.scenes.stage import NAME, Moment, Scene, Stage

__all__ = ["scenes"]

Json = dict[str, Any]
UNSCHEDULABLE = {"waiting": pod_condition("PodScheduled", "False", "Unschedulable")}
REFUSED = {"refused": event("FailedCreate")}
SLEEP = ("sleep", "600")


def claim(**spec: Any) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": f"{NAME}-pvc"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}, **spec},
    }


def with_claim(name: str = f"{NAME}-pvc") -> Json:
    return pod("true", spec={"volumes": [{"name": "scratch", "persistentVolumeClaim": {"claimName": name}}]})


def quota(name: str, **hard: str) -> Json:
    spec = {"hard": {key.replace("_", "."): value for key, value in hard.items()}}
    return {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": name}, "spec": spec}


def needs(**requests: str) -> Json:
    return {"resources": {"requests": requests, "limits": requests}}


def evict(stage: Stage) -> None:
    name = stage.look().pod.metadata.name
    body = EvictionModel(metadata=ObjectMeta(name=name, namespace=stage.namespace))
    stage.client.create(PodEviction.from_dict(body.to_dict()), name, namespace=stage.namespace)


def delete_pod(stage: Stage) -> None:
    stage.client.delete(Pod, stage.look().pod.metadata.name, namespace=stage.namespace)


def delete_job(stage: Stage) -> None:
    stage.client.delete(Job, NAME, namespace=stage.namespace)


def kill(stage: Stage) -> None:
    """Kill the process from the machine, as an operator or the kernel might."""
    subprocess.run(["pkill", "-9", "-x", "-f", f"sleep {KILLED}"], check=True)


KILLED = "1234567"  # seconds, a number of its own so that no other process is hit


def scenes(host: str) -> list[Scene]:
    """Every scene; `host` is a registry that has no image."""
    return [*ends(), *images(host), *configuration(), *scheduling(), *refusals(), *losses(), *node_scenes()]


def ends() -> list[Scene]:
    """Containers that run to an end."""
    return [
        Scene(
            "succeeded",
            pod("sh", "-c", "sleep 1; echo -n all good >/dev/termination-log"),
            {"running": runs, "ended": ended, "complete": job_condition("Complete")},
        ),
        Scene("exit-code", pod("sh", "-c", "exit 3"), {"ended": ended, "failed": job_condition("Failed")}),
        Scene("killed", pod("sleep", KILLED), {"ended": ended}, until=runs, act=kill),
        Scene(
            "out-of-memory",
            pod("sh", "-c", "exec tail /dev/zero", **needs(memory="16Mi", cpu="100m")),
            {"ended": ended},
        ),
        Scene(
            "out-of-memory-child",
            pod("sh", "-c", "tail /dev/zero; exit 5", **needs(memory="16Mi", cpu="100m")),
            {"ended": ended},
        ),
        Scene(
            "job-deadline",
            pod(*SLEEP),
            {"deleting": deleting, "failed": job_condition("Failed")},
            job={"activeDeadlineSeconds": 3},
        ),
        Scene("pod-deadline", pod(*SLEEP, spec={"activeDeadlineSeconds": 2}), {"failed": phase("Failed")}),
        Scene("no-command", pod("/no/such/program"), {"ended": ended}),
        Scene(
            "retry",
            pod("sh", "-c", "exit 4"),
            {"first": ended, "second": lambda seen: len(seen.pods) > 1, "failed": job_condition("Failed")},
            job={"backoffLimit": 1},
        ),
        Scene(
            "crash-loop",
            pod("sh", "-c", "exit 4", spec={"restartPolicy": "OnFailure"}),
            {"waiting": waits("CrashLoopBackOff"), "failed": job_condition("Failed")},
            job={"backoffLimit": 2},
        ),
        Scene(
            "failure-policy",
            pod("sh", "-c", "exit 42"),
            {"failed": job_condition("Failed")},
            job={
                "backoffLimit": 3,
                "podFailurePolicy": {
                    "rules": [{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}}]
                },
            },
        ),
        Scene(
            "sidecar",
            pod(
                "sh",
                "-c",
                "sleep 1; exit 7",
                spec={
                    "initContainers": [container(*SLEEP, restartPolicy="Always") | {"name": "istio-proxy"}],
                },
            ),
            {"ended": ended, "failed": job_condition("Failed")},
        ),
        Scene(
            "injected",
            pod("sh", "-c", "sleep 1")
            | {
                "containers": [container("sh", "-c", "sleep 1"), container(*SLEEP) | {"name": "istio-proxy"}],
            },
            {"ended": ended},
        ),
        Scene("suspended", pod(*SLEEP), {"waiting": job_condition("Suspended")}, job={"suspend": True}),
    ]


def images(host: str) -> list[Scene]:
    """Images that do not come."""

    def image(name: str, **more: Any) -> Json:
        return pod("true", image=name, **more)

    back_off = {"first": waits("ErrImagePull"), "again": waits("ImagePullBackOff")}
    return [
        Scene("image-no-registry", image("registry.invalid/tools/bwa:0.7"), back_off),
        Scene("image-refused-connection", image("localhost:9/tools/bwa:0.7"), back_off),
        Scene("image-missing", image(f"{host}/missing/bwa:0.7"), back_off),
        Scene("image-private", image(f"{host}/private/bwa:0.7"), back_off),
        Scene("image-limited", image(f"{host}/limited/bwa:0.7"), back_off),
        Scene("image-hanging", image(f"{host}/hanging/bwa:0.7"), {"waiting": event("Pulling")}),
        Scene(
            "image-never", image("localhost/absent:1", imagePullPolicy="Never"), {"waiting": waits("ErrImageNeverPull")}
        ),
        Scene("image-name", image("Not A Name"), {"waiting": waits("InvalidImageName")}),
        Scene(
            "init-image",
            pod("true", spec={"initContainers": [{"name": "launcher", "image": f"{host}/missing/tesk:1"}]}),
            {"waiting": waits("ErrImagePull", "launcher")},
        ),
    ]


def configuration() -> list[Scene]:
    """Pods that the kubelet cannot start as they are."""

    def init(*command: str) -> Json:
        return {"initContainers": [container(*command) | {"name": "launcher"}]}

    def env(kind: str) -> Json:
        return {"env": [{"name": "A", "valueFrom": {kind: {"name": "absent", "key": "a"}}}]}

    no_map = {"volumes": [{"name": "plan", "configMap": {"name": "absent"}}]}
    mount = {"volumeMounts": [{"name": "plan", "mountPath": "/tesk"}]}
    return [
        Scene("config-secret", pod("true", **env("secretKeyRef")), {"waiting": waits("CreateContainerConfigError")}),
        Scene("config-map", pod("true", **env("configMapKeyRef")), {"waiting": waits("CreateContainerConfigError")}),
        Scene(
            "config-root",
            pod("true", spec={"securityContext": {"runAsNonRoot": True}}),
            {"waiting": waits("CreateContainerConfigError")},
        ),
        Scene("mount-map", pod("true", spec=no_map, **mount), {"waiting": event("FailedMount")}),
        Scene("sandbox", pod("true", **needs(cpu="10m", memory="1Mi")), {"waiting": event("FailedCreatePodSandBox")}),
        Scene("init-runs", pod("true", spec=init(*SLEEP)), {"waiting": lambda seen: state(seen, "launcher").running}),
        Scene(
            "init-fails",
            pod("true", spec=init("sh", "-c", "echo no space >&2; exit 9")),
            {"ended": lambda seen: state(seen, "launcher").terminated, "failed": job_condition("Failed")},
        ),
    ]


def scheduling() -> list[Scene]:
    """Pods that no node takes."""
    late = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": "observe-late"},
        "provisioner": "observe.example/none",
        "volumeBindingMode": "WaitForFirstConsumer",
    }
    return [
        Scene("cpu", pod("true", **needs(cpu="1000")), UNSCHEDULABLE),
        Scene("memory", pod("true", **needs(memory="100Ti", cpu="1000")), UNSCHEDULABLE),
        Scene("gpu", pod("true", **needs(**{"nvidia.com/gpu": "1"})), UNSCHEDULABLE),
        Scene("selector", pod("true", spec={"nodeSelector": {"absent": "label"}}), UNSCHEDULABLE),
        Scene(
            "gate",
            pod("true", spec={"schedulingGates": [{"name": "kueue.x-k8s.io/admission"}]}),
            {"waiting": pod_condition("PodScheduled", "False")},
        ),
        Scene("claim-absent", with_claim("absent"), UNSCHEDULABLE),
        Scene(
            "claim-class",
            with_claim(),
            {"waiting": event("ProvisioningFailed")},
            before=(claim(storageClassName="absent"),),
        ),
        Scene(
            "claim-no-class", with_claim(), {"waiting": event("FailedBinding")}, before=(claim(storageClassName=""),)
        ),
        Scene(
            "claim-late",
            with_claim(),
            {"waiting": event("ExternalProvisioning")},
            before=(late, claim(storageClassName="observe-late")),
        ),
    ]


def refusals() -> list[Scene]:
    """Pods that the API server refuses to make."""
    limits = {
        "apiVersion": "v1",
        "kind": "LimitRange",
        "metadata": {"name": "limits"},
        "spec": {"limits": [{"type": "Container", "max": {"cpu": "100m"}, "min": {"cpu": "10m"}}]},
    }
    secure = {"pod-security.kubernetes.io/enforce": "restricted"}
    return [
        Scene(
            "quota-used",
            pod("true"),
            REFUSED,
            before=(
                {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "other"}, "spec": pod(*SLEEP)},
                quota("small", pods="1"),
            ),
        ),
        Scene(
            "quota-small",
            pod("true", **needs(cpu="2", memory="1Gi")),
            REFUSED,
            before=(quota("small", requests_cpu="1", requests_memory="512Mi"),),
        ),
        Scene("quota-must", pod("true"), REFUSED, before=(quota("small", limits_cpu="1"),)),
        Scene("limit-range", pod("true", **needs(cpu="200m")), REFUSED, before=(limits,)),
        Scene("security", pod("true"), REFUSED, labels=secure),
        Scene("account", pod("true", spec={"serviceAccountName": "absent"}), REFUSED),
    ]


def losses() -> list[Scene]:
    """Pods that are taken away."""
    disk = {"resources": {"limits": {"ephemeral-storage": "2Mi"}, "requests": {"ephemeral-storage": "1Mi"}}}
    gone: Moment = lambda seen: not seen.pods  # noqa: E731
    return [
        Scene(
            "evicted",
            pod(*SLEEP),
            {"deleting": deleting, "ended": ended, "failed": job_condition("Failed")},
            until=runs,
            act=evict,
        ),
        Scene("deleted", pod(*SLEEP), {"deleting": deleting, "ended": ended, "gone": gone}, until=runs, act=delete_pod),
        Scene("job-deleted", pod(*SLEEP), {"gone": lambda seen: seen.job is None}, until=runs, act=delete_job),
        Scene(
            "disk",
            pod("sh", "-c", "dd if=/dev/zero of=/x bs=1M count=20; sleep 600", **disk),
            {"failed": phase("Failed")},
        ),
        Scene("node-cpu", pod(*SLEEP, spec={"nodeName": "node-1"}, **needs(cpu="500")), {"failed": phase("Failed")}),
        Scene(
            "node-affinity",
            pod(*SLEEP, spec={"nodeName": "node-1", "nodeSelector": {"absent": "label"}}),
            {"failed": phase("Failed")},
        ),
    ]
