"""The launcher as an executor's process 1 in a pod: what the API tells of the command."""

from __future__ import annotations

import json
import subprocess
import time
from typing import Any

import pytest

from tesk.backends.kubernetes.steps import LATE_LOG_SECONDS
from tesk.backends.kubernetes.streams import LauncherEnd, read_end, read_record, record_lines, record_size, unframe
from tests.kube.eventually import until
from tests.kube.image import BUSYBOX
from tests.kube.space import Space

pytestmark = pytest.mark.kube

HARDENED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "runAsUser": 1234,
    "runAsGroup": 99,
}
LOG_BYTES = 65536


def pod_spec(image: str, *command: str, **more: Any) -> dict[str, Any]:
    """A pod whose one container runs `command` by the launcher, which an init container of `image` brings."""
    place = {"name": "tesk", "mountPath": "/.tesk"}
    bring = {"name": "launcher", "image": image, "command": ["/usr/local/bin/launcher", "--install", "/.tesk"]}
    argv = ["/.tesk/launcher", "--log-bytes", str(LOG_BYTES), "--", *command]
    main = {"name": "main", "image": BUSYBOX, "command": argv, **more}
    return {
        "automountServiceAccountToken": False,
        "initContainers": [{**bring, "volumeMounts": [place]}],
        "containers": [{**main, "volumeMounts": [{**place, "readOnly": True}]}],
        "volumes": [{"name": "tesk", "emptyDir": {}}],
    }


def ended(pod: dict[str, Any]) -> tuple[dict[str, Any], LauncherEnd | None]:
    """The main container's termination, and what the launcher told in it."""
    state: dict[str, Any] = pod["status"]["containerStatuses"][0]["state"]["terminated"]
    return state, read_end(state.get("message", ""))


def log_of(space: Space, name: str, *options: str) -> bytes:
    """The pod's log, byte by byte."""
    tool = space.cluster.tool
    program = ["kubectl"] if tool is None else [str(tool), "kubectl"]
    argv = [*program, "--kubeconfig", str(space.cluster.kubeconfig), "-n", space.name, "logs", name, "-c", "main"]
    return subprocess.run([*argv, *options], check=True, capture_output=True, timeout=60).stdout


def whole_log(space: Space, name: str, *options: str) -> bytes:
    """The pod's log once it has its record: on a busy node that comes after the container's end."""
    return until(
        lambda: log if read_record(log := log_of(space, name, *options), LOG_BYTES) else b"",
        "the log ends with the record",
        seconds=LATE_LOG_SECONDS,
    )


def test_end_and_streams_come_through_the_api(space: Space, image: str) -> None:
    script = "echo out; echo err >&2; printf '\\377 $(HOME)'; id -u; exit 7"
    pod = space.run_pod("streams", pod_spec(image, "sh", "-c", script, securityContext=HARDENED))
    state, end = ended(pod)
    assert state["exitCode"] == 7
    assert end is not None
    assert (end.exit_code, end.problem, end.fault, end.oom) == (7, None, None, False)
    assert end.usage is not None
    assert end.start[:10] == state["startedAt"][:10]
    log = whole_log(space, "streams")
    assert unframe(log, "stdout") == b"out\n\xff $(HOME)1234\n"
    assert unframe(log, "stderr") == b"err\n"
    assert read_record(log, LOG_BYTES) == ("out\n\ufffd $(HOME)1234\n", "err\n")


def test_the_record_is_read_from_the_end_of_a_long_log(space: Space, image: str) -> None:
    script = "echo first; yes 0123456789 | head -c 3000000; echo last; yes | head -c 100000 >&2"
    pod = space.run_pod("long", pod_spec(image, "sh", "-c", script))
    assert ended(pod)[0]["exitCode"] == 0
    tail = whole_log(space, "long", f"--tail={record_lines(LOG_BYTES)}")
    assert len(tail) < 2 * record_size(LOG_BYTES)
    kept = read_record(tail, LOG_BYTES)
    assert kept is not None
    assert kept[0].startswith("first\n0123456789\n")
    assert kept[0].endswith("0123456789\n012last\n")
    assert kept[1].startswith("y\ny\n")


@pytest.mark.parametrize("script", ["head -c 200m /dev/zero | tail", "exec tail /dev/zero"], ids=["child", "itself"])
def test_memory_that_runs_out_is_told(space: Space, image: str, script: str) -> None:
    name = f"memory-{len(script)}"
    limits = {"limits": {"memory": "48Mi"}}
    pod = space.run_pod(name, pod_spec(image, "sh", "-c", script, resources=limits))
    state, end = ended(pod)
    assert state["exitCode"] == 137
    # With cgroup v2 the kernel may end the whole container, the launcher too; then Kubernetes tells.
    assert state["reason"] == "OOMKilled" if end is None else end.oom


def test_a_missing_command_is_told_in_a_sentence(space: Space, image: str) -> None:
    state, end = ended(space.run_pod("missing", pod_spec(image, "no-such-command")))
    assert state["exitCode"] == 127
    assert end is not None
    assert end.problem == "the command 'no-such-command' was not found on the PATH"


def test_a_deleted_pod_tells_its_command(space: Space, image: str) -> None:
    script = "trap 'echo stopped; exit 3' TERM; echo ready; while :; do sleep 0.1; done"
    one = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "deleted", "namespace": space.name}}
    space.cluster.apply({**one, "spec": {"restartPolicy": "Never", **pod_spec(image, "sh", "-c", script)}})
    space.kubectl("wait", "pod/deleted", "--for=condition=Ready", "--timeout=60s")
    while log_of(space, "deleted") != b"O ready\n":
        time.sleep(0.1)
    # A finalizer keeps the pod in sight after its end.
    finalizer = json.dumps({"metadata": {"finalizers": ["tesk-test/hold"]}})
    space.kubectl("patch", "pod", "deleted", "--type=merge", "-p", finalizer)
    started = time.monotonic()
    space.kubectl("delete", "pod", "deleted", "--wait=false", "--grace-period=60")
    try:
        while (pod := space.get("pod", "deleted"))["status"]["phase"] == "Running":
            assert time.monotonic() - started < 40, "the command did not hear that it should end"
            time.sleep(0.1)
        state, end = ended(pod)
        assert state["exitCode"] == 3
        assert end is not None
        assert end.exit_code == 3
    finally:
        space.kubectl("patch", "pod", "deleted", "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
