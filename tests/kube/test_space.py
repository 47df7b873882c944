"""The harness itself: what it shows to pods, what it counts, and that it leaves nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.kube.cluster import Cluster
from tests.kube.image import BUSYBOX
from tests.kube.place import prepare
from tests.kube.space import Space, new_space

pytestmark = pytest.mark.kube


def test_a_pod_sees_a_directory_of_this_machine_and_writes_into_it(space: Space, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("from here\n")
    mounted = {"name": "files", "mountPath": str(tmp_path)}
    claim = {"name": "files", "persistentVolumeClaim": {"claimName": space.show(tmp_path)}}
    command = ["cp", f"{tmp_path}/in", f"{tmp_path}/out"]
    container = {"name": "main", "image": BUSYBOX, "command": command, "volumeMounts": [mounted]}
    pod = space.run_pod("files", {"containers": [container], "volumes": [claim]})
    assert pod["status"]["phase"] == "Succeeded"
    assert (tmp_path / "out").read_text() == "from here\n"


def test_everything_that_tasks_leave_is_counted_and_nothing_else(cluster: Cluster, tmp_path: Path) -> None:
    cluster.need_here()
    with new_space(cluster) as space:
        space.show(tmp_path)
        space.secret("storage", {"KEY": "value"})
        assert space.left() == []
        space.kubectl("create", "configmap", "plan")
        space.kubectl("create", "secret", "generic", "token")
        space.kubectl(
            "create", "job", "step", f"--image={BUSYBOX}", "--", "sh", "-c", "trap 'exit 0' TERM; sleep 60 & wait"
        )
        space.kubectl("apply", "-f", "-", given=json.dumps(claim("scratch")))
        space.kubectl("wait", "pvc/scratch", "--for=jsonpath={.status.phase}=Bound", "--timeout=20s")
        space.kubectl("wait", "job/step", "--for=jsonpath={.status.active}=1", "--timeout=20s")
        left = space.left()
        assert {one.partition("/")[0] for one in left} == {
            *("ConfigMap", "Job", "PersistentVolume", "PersistentVolumeClaim", "Pod", "Secret")
        }
        assert len(left) == 6, left
    assert cluster.list("persistentvolumes", "-l", f"tesk-test/namespace={space.name}") == []
    assert space.name not in [one["metadata"]["name"] for one in cluster.list("namespaces")]


def test_a_server_of_the_behaviour_suite_gets_no_more_than_its_role(cluster: Cluster, tmp_path: Path) -> None:
    cluster.need_here()
    with prepare(cluster, tmp_path, tmp_path) as ground:
        limited = Cluster(Path(ground.settings["TESK_KUBERNETES_KUBECONFIG"]), cluster.tool)
        assert "No resources found" in limited.run("get", "jobs").stderr
        assert "forbidden" in limited.run("get", "secrets").stderr
        assert ground.left() == []


def claim(name: str) -> dict[str, object]:
    """A claim of the cluster's own storage class."""
    size = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": size}
