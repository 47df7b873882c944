"""What one server of the behaviour suite gets on a cluster: a namespace, rights, and its directory of files."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

from tests.behaviour.sites import Ground
from tests.kube.cluster import Cluster
from tests.kube.space import new_space
from tests.servers import S3Server

__all__ = ["prepare"]

_SETTLE = 30.0
"""Seconds that the garbage collector and the kubelet may take to remove what an attempt had."""


@contextlib.contextmanager
def prepare(
    cluster: Cluster, directory: Path, files: Path, s3: S3Server | None = None, *, shares: bool = False
) -> Iterator[Ground]:
    """A namespace in which the server has only the rights of its Role, and pods see `files` under its own path.

    The server's kubeconfig comes to lie in `directory`. Filers reach `s3`. `shares`: executors see `files`, too.
    """
    with new_space(cluster, "behaviour", wait=False) as space:
        settings = {
            "TESK_KUBERNETES_KUBECONFIG": str(space.kubeconfig("tesk", directory)),
            "TESK_KUBERNETES_NAMESPACE": space.name,
            "TESK_KUBERNETES_EXECUTOR_SERVICE_ACCOUNT": "tesk-executor",
        }
        pvc = space.show(files)
        if shares:
            shared = {"name": "files", "pvc": pvc, "client_path": str(files)}
            settings["TESK_STORAGE_SHARED"] = json.dumps([shared])
        else:
            settings["TESK_KUBERNETES_FILE_VOLUMES"] = json.dumps([{"pvc": pvc, "path": str(files)}])
        if s3 is not None:
            settings["TESK_KUBERNETES_STORAGE_SECRET"] = space.secret("s3", s3.environment)
        yield Ground(settings, lambda: space.left(seconds=_SETTLE))
