"""A namespace of a test's own, with TESK's rights in it, and what is left there."""

from __future__ import annotations

import base64
import contextlib
import json
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tesk.backends.kubernetes.manifests import Installation, make_rights
from tests.kube.cluster import Cluster

__all__ = ["Space", "new_space"]

_OURS = {"tesk-test/part-of": "harness"}
_SETTLE = 90.0


@dataclass(frozen=True)
class Space:
    """A namespace in which the service accounts `tesk`, `tesk-taskmaster` and `tesk-executor` have their rights."""

    cluster: Cluster
    name: str

    def kubectl(self, *args: str | Path, given: str | None = None) -> str:
        """What kubectl prints for `args` in this namespace. Raises KubectlError."""
        return self.cluster.kubectl("--namespace", self.name, *args, given=given)

    def get(self, kind: str, name: str) -> dict[str, Any]:
        """One object. Raises KubectlError."""
        found: dict[str, Any] = json.loads(self.kubectl("get", kind, name, "-o", "json"))
        return found

    def run_pod(self, name: str, spec: Mapping[str, Any], *, seconds: float = 120.0) -> dict[str, Any]:
        """A pod that runs once, to its end; the pod, which stays."""
        one = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": self.name}}
        self.cluster.apply(
            {
                **one,
                "spec": {
                    "restartPolicy": "Never",
                    "terminationGracePeriodSeconds": 1,
                    "enableServiceLinks": False,
                    **spec,
                },
            }
        )
        end = time.monotonic() + seconds
        while (pod := self.get("pod", name))["status"]["phase"] not in ("Succeeded", "Failed"):
            assert time.monotonic() < end, f"the pod {name} does not end: {json.dumps(pod['status'], indent=1)}"
            time.sleep(0.1)
        return pod

    def make(self, body: Mapping[str, Any]) -> None:
        """Apply an object in this namespace."""
        self.cluster.apply({**body, "metadata": {**body["metadata"], "namespace": self.name}})

    def claim(self, name: str, **labels: str) -> None:
        """Make a claim of somebody else's to a small volume of the cluster's own storage class."""
        size = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}
        metadata = {"name": name, "labels": labels}
        self.make({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": size})

    def secret(self, name: str, values: Mapping[str, str]) -> str:
        """Make a Secret, which `left` does not count; its name."""
        data = {key: base64.b64encode(one.encode()).decode() for key, one in values.items()}
        self.cluster.apply({"apiVersion": "v1", "kind": "Secret", "metadata": self._metadata(name), "data": data})
        return name

    @contextlib.contextmanager
    def cluster_object(self, body: Mapping[str, Any]) -> Iterator[str]:
        """Make an object that lies in no namespace, while the block runs; its name."""
        name = body["metadata"]["name"]
        self.cluster.apply(body)
        try:
            yield name
        finally:
            self.cluster.kubectl("delete", body["kind"], name, "--wait=false")

    def show(self, directory: Path, name: str = "files") -> str:
        """Make `directory` of this machine a claim that pods can mount, which `left` does not count; its name."""
        self.cluster.need_here()
        volume = f"{self.name}-{name}"
        size: dict[str, Any] = {"storageClassName": "", "accessModes": ["ReadWriteMany"]}
        self.cluster.apply(
            {
                "apiVersion": "v1",
                "kind": "PersistentVolume",
                "metadata": {"name": volume, "labels": {**_OURS, "tesk-test/namespace": self.name}},
                "spec": {
                    **size,
                    "capacity": {"storage": "1Gi"},
                    "hostPath": {"path": str(directory), "type": "Directory"},
                    "persistentVolumeReclaimPolicy": "Retain",
                    "claimRef": {"namespace": self.name, "name": name},
                },
            },
            {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": self._metadata(name),
                "spec": {**size, "volumeName": volume, "resources": {"requests": {"storage": "1Gi"}}},
            },
        )
        return name

    def kubeconfig(self, account: str, directory: Path) -> Path:
        """A file with which one is the service account `account`, for an hour."""
        token = self.kubectl("create", "token", account, "--duration=1h").strip()
        config = yaml.safe_load(self.cluster.kubeconfig.read_text())
        config["users"] = [{"name": account, "user": {"token": token}}]
        config["contexts"] = [
            {
                "name": account,
                "context": {"cluster": config["clusters"][0]["name"], "user": account, "namespace": self.name},
            }
        ]
        config["current-context"] = account
        path = directory / f"{self.name}-{account}.kubeconfig"
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(config))
        return path

    def left(self, *, seconds: float = 0.0) -> list[str]:
        """`kind/name` of what tasks left: Jobs, pods, claims, volumes, ConfigMaps, Secrets. Waits for none so long."""
        end = time.monotonic() + seconds
        while (found := self._count()) and time.monotonic() < end:
            time.sleep(0.2)
        return found

    def _count(self) -> list[str]:
        kinds = "jobs,pods,persistentvolumeclaims,configmaps,secrets"
        objects = self.cluster.list(kinds, "--namespace", self.name)
        objects += [
            one
            for one in self.cluster.list("persistentvolumes")
            if one["spec"].get("claimRef", {}).get("namespace") == self.name
        ]
        return sorted(
            f"{one['kind']}/{one['metadata']['name']}"
            for one in objects
            if not _OURS.items() <= one["metadata"].get("labels", {}).items()
            and (one["kind"], one["metadata"]["name"]) != ("ConfigMap", "kube-root-ca.crt")
            and not (
                one["kind"] == "Secret" and one["metadata"]["name"].startswith("tesk-reports-")
            )  # the server's own
        )

    def _metadata(self, name: str) -> dict[str, Any]:
        return {"name": name, "namespace": self.name, "labels": _OURS}


@contextlib.contextmanager
def new_space(cluster: Cluster, prefix: str = "tesk-test", *, wait: bool = True) -> Iterator[Space]:
    """A namespace with a fresh name; afterwards it and all that was in it is gone, or, without `wait`, going."""
    space = Space(cluster, f"{prefix}-{secrets.token_hex(4)}")
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space.name, "labels": _OURS}})
    try:
        cluster.apply(*make_rights(Installation("unused", space.name)))
        # no pod can be made before the cluster has given the namespace its default account
        space.kubectl("wait", "--for=create", "serviceaccount/default", f"--timeout={int(_SETTLE)}s")
        yield space
    finally:
        # a namespace that goes looks again only after half the grace period of its pods
        space.kubectl("delete", "jobs,pods", "--all", "--grace-period=1", "--wait=false")
        how = f"--timeout={int(_SETTLE)}s" if wait else "--wait=false"
        cluster.kubectl("delete", "namespace", space.name, how)
        cluster.kubectl("delete", "persistentvolumes", "-l", f"tesk-test/namespace={space.name}", how)
