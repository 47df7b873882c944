"""The image as a cluster runs it: no root, nothing writable, small, and nothing missing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tesk import __version__
from tesk.backends.kubernetes.manifests import USER
from tesk.plan.model import ExecutorPlan, Mount, Plan, Transfer
from tests.kube.cluster import Cluster
from tests.kube.eventually import until
from tests.kube.image import BUSYBOX, unpacked_size
from tests.kube.space import Space
from tests.servers import S3Server

pytestmark = pytest.mark.kube

LARGEST = 250 * 2**20
HARDENED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
}
EVERY_MODULE = """
import importlib, pkgutil, tesk
names = [one.name for one in pkgutil.walk_packages(tesk.__path__, "tesk.")]
names = [one for one in names if not one.endswith("__main__") and ".migrations" not in one]
for one in names:
    importlib.import_module(one)
print(len(names), all(importlib.import_module(one).__cached__ for one in names))
"""
INSIDE = """
import os, pathlib, shutil
print(os.getuid(), os.getgid())
print([one for one in ("pip", "gcc", "cc", "make", "strip") if shutil.which(one)])
sources = [one for one in pathlib.Path("/opt/tesk/lib").rglob("*.py")]
print([str(one) for one in sources if "/tesk/" in str(one).partition("site-packages")[2]
       and not list(one.parent.glob(f"__pycache__/{one.stem}.*.pyc"))])
print([one for one in ("/build", "/made", "/root/.cache") if os.path.exists(one)])
"""


def container(image: str, *args: str, **more: Any) -> dict[str, Any]:
    """A container of TESK's image as strict as a cluster can be."""
    return {"name": "main", "image": image, "args": list(args), "securityContext": HARDENED, **more}


def said(space: Space, name: str, spec: dict[str, Any]) -> str:
    """What the pod's container printed; the pod must succeed. It may come after the container's end."""
    pod = space.run_pod(name, spec)
    assert pod["status"]["phase"] == "Succeeded", space.kubectl("logs", name)
    return until(lambda: space.kubectl("logs", name), f"{name} says something")


def test_tesk_runs_without_root_on_a_read_only_root(space: Space, image: str) -> None:
    assert said(space, "version", {"containers": [container(image, "--version")]}) == f"{__version__}\n"


def test_the_image_holds_what_runs_and_nothing_that_built_it(space: Space, image: str) -> None:
    spec = {"containers": [container(image, command=["python", "-c", INSIDE])]}
    assert said(space, "inside", spec).splitlines() == [f"{USER} 0", "[]", "[]", "[]"]


def test_every_module_of_tesk_finds_what_it_imports(space: Space, image: str) -> None:
    count, compiled = said(
        space, "modules", {"containers": [container(image, command=["python", "-c", EVERY_MODULE])]}
    ).split()
    assert int(count) > 100
    assert compiled == "True"


def test_the_launcher_is_in_its_place(space: Space, image: str) -> None:
    spec = {"containers": [container(image, command=["/usr/local/bin/launcher", "--version"])]}
    assert said(space, "launcher", spec).split()[-1] == __version__


def test_the_image_is_small(cluster: Cluster, image: str, record_property: Callable[[str, object], None]) -> None:
    cluster.need_here()
    *own, base = unpacked_size(image)
    text = f"image: {sum(own) / 2**20:.1f} MiB of its own on {base / 2**20:.1f} MiB of its base, unpacked"
    record_property("figure", text)
    assert sum(own) + base < LARGEST


def test_a_filer_in_a_pod_fetches_from_s3(space: Space, image: str, s3: S3Server) -> None:
    (s3.bucket("reads") / "in.txt").write_text("from the bucket")
    plan = Plan(
        executors=(ExecutorPlan("x", ("true",)),),
        inputs=(Transfer("/data/in.txt", "FILE", url="s3://reads/in.txt"),),
        mounts=(Mount("/data"),),
    )
    space.kubectl("create", "configmap", "plan", f"--from-literal=plan.json={plan.to_json()}")
    storage = space.secret("storage", s3.environment)
    mounts = [{"name": "scratch", "mountPath": "/scratch"}, {"name": "plan", "mountPath": "/plan"}]
    filer = container(image, "filer", "/plan/plan.json", "--scratch", "/scratch", "--in", volumeMounts=mounts)
    spec = {
        "automountServiceAccountToken": False,
        "initContainers": [{**filer, "name": "filer", "envFrom": [{"secretRef": {"name": storage}}]}],
        "containers": [
            {"name": "main", "image": BUSYBOX, "command": ["cat", "/scratch/data/in.txt"], "volumeMounts": mounts[:1]}
        ],
        "securityContext": {"fsGroup": USER},
        "volumes": [{"name": "scratch", "emptyDir": {}}, {"name": "plan", "configMap": {"name": "plan"}}],
    }
    assert said(space, "filer", spec) == "from the bucket"
