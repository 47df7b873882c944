"""TESK as `tesk kubernetes manifests` installs it: a server in a pod, reached through its Service."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tesk.client import Client
from tests.cli.command import run_tesk
from tests.kube.cluster import Cluster
from tests.kube.eventually import until
from tests.kube.image import BUSYBOX
from tests.kube.space import Space, new_space

pytestmark = pytest.mark.kube

NAME = "lab"
SECONDS = 240


@pytest.fixture(scope="module")
def installed(cluster: Cluster, image: str) -> Iterator[Space]:
    """A namespace with a server that is ready. This cluster's volumes can be written by root only."""
    cluster.need_here()
    with new_space(cluster, "installed", wait=False) as space:
        names = ("--namespace", space.name, "--name", NAME, "--image", image)
        printed = run_tesk("kubernetes", "manifests", *names, "--run-as-user", 0)
        assert printed.code == 0, printed.err
        space.kubectl("apply", "-f", "-", given=printed.out)
        ready(space)
        yield space


def ready(space: Space) -> None:
    """Wait until the Deployment has a server that is ready, and kube-proxy leads the Service's address to it."""
    space.kubectl("rollout", "status", f"deployment/{NAME}", f"--timeout={SECONDS // 2}s")
    until(lambda: listens(address(space)), "the Service leads to the server")


def address(space: Space) -> str:
    """Of the Service; this machine reaches it."""
    return str(space.get("service", NAME)["spec"]["clusterIP"])


def listens(host: str) -> bool:
    try:
        socket.create_connection((host, 80), timeout=5).close()
    except OSError:
        return False
    return True


def client(space: Space) -> Client:
    """Speaks with the Service."""
    return Client(f"http://{address(space)}", timeout=20.0, retry=60.0)


def wait(tes: Client, task: str, *states: str) -> dict[str, Any]:
    end = time.monotonic() + SECONDS
    while (state := tes.get(task, "MINIMAL")["state"]) not in states:
        assert time.monotonic() < end, f"{task} is {state}: {tes.get(task, 'FULL')}"
        time.sleep(0.2)
    return dict(tes.get(task, "FULL"))


def task(script: str) -> dict[str, Any]:
    return {
        "executors": [{"image": BUSYBOX, "command": ["sh", "-c", script], "stdout": "/out/said"}],
        "inputs": [{"path": "/data/in", "content": "hello"}],
    }


def test_a_task_runs_through_the_service(installed: Space) -> None:
    with client(installed) as tes:
        done = wait(tes, tes.create(task("cat /data/in")), "COMPLETE", "SYSTEM_ERROR", "EXECUTOR_ERROR")
    assert done["state"] == "COMPLETE", done["logs"]
    assert done["logs"][0]["logs"][0]["exit_code"] == 0


def test_a_task_outlives_the_pod_of_the_server(installed: Space) -> None:
    selector = f"app.kubernetes.io/name=tesk,app.kubernetes.io/instance={NAME}"
    (pod,) = installed.cluster.list("pods", "--namespace", installed.name, "-l", selector)
    with client(installed) as tes:
        begun = tes.create(task("sleep 12; cat /data/in"))
        wait(tes, begun, "RUNNING")
        installed.kubectl("delete", "pod", pod["metadata"]["name"], "--wait=true")
        ready(installed)
        done = wait(tes, begun, "COMPLETE", "SYSTEM_ERROR", "EXECUTOR_ERROR")
    assert done["state"] == "COMPLETE", done["logs"]
    assert done["id"] == begun
    assert len(done["logs"]) == 1, "no second attempt was needed"


def test_the_server_runs_without_capabilities_and_finds_all_it_needs(installed: Space) -> None:
    (pod,) = installed.cluster.list("pods", "--namespace", installed.name, "-l", "app.kubernetes.io/component=server")
    status = installed.kubectl("exec", pod["metadata"]["name"], "--", "cat", "/proc/1/status")
    assert [line.split()[1] for line in status.splitlines() if line.startswith("CapEff")] == ["0000000000000000"]
    found = installed.kubectl(
        "exec", pod["metadata"]["name"], "--", "env", "TESK_SERVER_PORT=0", "tesk", "check", "-c", "/etc/tesk/tesk.yaml"
    )
    assert "ok   rights of the server: all that its Role gives" in found
    assert "ok   objects: the API server takes all" in found
