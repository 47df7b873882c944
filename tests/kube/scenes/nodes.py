"""Scenes that need a node to suffer: each has a node of its own that exists on paper only, and takes no other pod."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from lightkube.resources.core_v1 import Node, NodeStatus, PodStatus
from lightkube.types import PatchType

from tests.kube.scenes.moments import deleting, job_condition, pod, pod_condition
from tests.kube.scenes.stage import Scene, Stage

__all__ = ["node_scenes"]

Json = dict[str, Any]
SLEEP = ("sleep", "600")


def paper_node(name: str) -> Json:
    """A node that nothing stands behind; its taint keeps all pods off that do not ask for it."""
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": f"observe-{name}", "labels": {"observe": name}},
        "spec": {"taints": [{"key": "observe", "value": "paper", "effect": "NoSchedule"}]},
    }


def on_paper(name: str, spec: Json | None = None, **more: Any) -> Json:
    """A pod for the paper node of that name."""
    tolerations = [
        {"key": key, "operator": "Exists"}
        for key in ("observe", "node.kubernetes.io/not-ready", "node.kubernetes.io/network-unavailable")
    ]
    unreachable = {
        "key": "node.kubernetes.io/unreachable",
        "operator": "Exists",
        "effect": "NoExecute",
        "tolerationSeconds": 2,
    }
    return pod(
        *SLEEP,
        spec={
            "nodeSelector": {"observe": name},
            "tolerations": [*tolerations, unreachable],
            "containers": [
                {
                    "name": "main",
                    "image": "localhost/busybox:1",
                    "command": [*SLEEP],
                    "resources": {"requests": {"cpu": "6"}},
                }
            ],
            **(spec or {}),
        },
        **more,
    )


def ready(stage: Stage) -> None:
    """Say that the node is ready, as its kubelet would."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    status = {
        "capacity": {"cpu": "8", "memory": "8Gi", "pods": "10"},
        "conditions": [
            {
                "type": "Ready",
                "status": "True",
                "reason": "KubeletReady",
                "message": "",
                "lastHeartbeatTime": now,
                "lastTransitionTime": now,
            }
        ],
    }
    status["allocatable"] = status["capacity"]
    stage.client.patch(NodeStatus, f"observe-{stage.scene.name}", {"status": status}, patch_type=PatchType.MERGE)


def running(stage: Stage) -> None:
    """Bind the pod and say that it runs, as scheduler and kubelet do."""
    ready(stage)
    found = stage.wait(pod_condition("PodScheduled"), 30).pod
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    status = {
        "phase": "Running",
        "startTime": now,
        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": now}],
        "containerStatuses": [
            {
                "name": "main",
                "image": "localhost/busybox:1",
                "imageID": "",
                "ready": True,
                "restartCount": 0,
                "state": {"running": {"startedAt": now}},
            }
        ],
    }
    stage.client.patch(
        PodStatus, found.metadata.name, {"status": status}, namespace=stage.namespace, patch_type=PatchType.MERGE
    )


def preempt(stage: Stage) -> None:
    running(stage)
    spec = on_paper(stage.scene.name, {"priorityClassName": "observe-high"})
    stage.make({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "important"}, "spec": spec})


def taint(stage: Stage) -> None:
    running(stage)
    taints = [
        {"key": "observe", "value": "paper", "effect": "NoSchedule"},
        {"key": "example.com/reclaimed", "effect": "NoExecute"},
    ]
    stage.client.patch(Node, f"observe-{stage.scene.name}", {"spec": {"taints": taints}}, patch_type=PatchType.MERGE)


def remove(stage: Stage) -> None:
    running(stage)
    stage.client.delete(Node, f"observe-{stage.scene.name}")


def node_scenes() -> list[Scene]:
    """Taints, preemption, nodes that fall silent or are removed."""
    high = {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": "observe-high"},
        "value": 1000,
    }
    unwanted = {"nodeSelector": {"observe": "taint"}}
    return [
        Scene(
            "taint",
            pod("true", spec=unwanted),
            {"waiting": pod_condition("PodScheduled", "False")},
            before=(paper_node("taint"),),
        ),
        Scene(
            "preempted",
            on_paper("preempted"),
            {"deleting": deleting},
            before=(paper_node("preempted"), high),
            act=preempt,
        ),
        Scene(
            "taint-evicted",
            on_paper("taint-evicted"),
            {"deleting": deleting},
            before=(paper_node("taint-evicted"),),
            act=taint,
        ),
        Scene(
            "node-silent",
            on_paper("node-silent"),
            {"unready": pod_condition("Ready", "False"), "deleting": deleting},
            before=(paper_node("node-silent"),),
            act=running,
        ),
        Scene(
            "node-removed",
            on_paper("node-removed"),
            {
                "deleting": lambda seen: not seen.pods or seen.pod.status.phase == "Failed",
                "failed": job_condition("Failed"),
            },
            before=(paper_node("node-removed"),),
            act=remove,
        ),
    ]
