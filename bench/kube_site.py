"""A TESK server beside a cluster to be measured, with an S3 server that pods reach."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.kube.cluster import HOST, find_cluster
from tests.kube.image import BUSYBOX, load_image
from tests.kube.space import Space, new_space
from tests.servers import S3Server, serving_s3

from bench.server import Server

__all__ = ["MAX_ACTIVE", "KubeSite", "kube_site"]

MAX_ACTIVE = 25
"""Of the site: on a node with two cores, 50 tasks take a quarter less time so than all at once."""


@dataclass(frozen=True)
class KubeSite:
    """`settings` are those of the server, which has the rights of its Role and no others. `files` is shared with tasks
    where that was asked for.
    """

    server: Server
    space: Space
    settings: dict[str, str]
    s3: S3Server
    bucket: Path
    files: Path
    image: str = BUSYBOX

    @property
    def kubeconfig(self) -> str:
        """Of an administrator."""
        return str(self.space.cluster.kubeconfig)


@contextlib.contextmanager
def kube_site(*, shares: bool = False, **more: str) -> Iterator[KubeSite]:
    """A namespace of its own, which goes afterwards. Raises pytest's Skipped where there is no such cluster."""
    cluster = find_cluster()
    cluster.need_here()
    with contextlib.ExitStack() as opened:
        directory = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="tesk-bench-")))
        s3 = opened.enter_context(serving_s3(directory, HOST))
        space = opened.enter_context(new_space(cluster, "bench", wait=False))
        settings = {
            "TESK_BACKEND": "kubernetes",
            "TESK_SERVER_ACCESS_LOG": "false",
            "TESK_KUBERNETES_IMAGE": load_image(cluster),
            "TESK_KUBERNETES_KUBECONFIG": str(space.kubeconfig("tesk", directory)),
            "TESK_KUBERNETES_NAMESPACE": space.name,
            "TESK_KUBERNETES_RUN_AS_USER": "0",
            "TESK_KUBERNETES_SCRATCH_GB": "1",
            "TESK_KUBERNETES_STORAGE_SECRET": space.secret("s3", s3.environment),
            "TESK_KUBERNETES_EXECUTOR_SERVICE_ACCOUNT": "tesk-executor",
            "TESK_KUBERNETES_MAX_ACTIVE": str(MAX_ACTIVE),
            **more,
        }
        files = directory / "files"
        files.mkdir()
        if shares:
            shared = {"name": "files", "pvc": space.show(files), "client_path": str(files)}
            settings["TESK_STORAGE_SHARED"] = json.dumps([shared])
        server = opened.enter_context(Server(directory, **settings))
        yield KubeSite(server, space, settings, s3, s3.bucket("bench"), files)
