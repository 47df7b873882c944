"""`tesk check` on a real cluster: what a server will lack is said before any task does."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tesk.backends.kubernetes.manifests import Installation
from tesk.backends.kubernetes.roles import SERVER_RULES, Rule, make_role
from tests.cli.command import environment
from tests.kube.cluster import Cluster
from tests.kube.space import Space, new_space

pytestmark = pytest.mark.kube

Found = dict[str, tuple[str, str]]


def check(space: Space, kubeconfig: Path, state: Path, **settings: str) -> tuple[int, Found]:
    """The exit code, and each finding's status and message."""

    environ = {
        "TESK_STATE_DIRECTORY": str(state),
        "TESK_SERVER_PORT": "0",
        "TESK_BACKEND": "kubernetes",
        "TESK_KUBERNETES_IMAGE": "localhost/tesk:1",
        "TESK_KUBERNETES_LAYOUT": "jobs",
        "TESK_KUBERNETES_KUBECONFIG": str(kubeconfig),
        "TESK_KUBERNETES_NAMESPACE": space.name,
        "TESK_KUBERNETES_EXECUTOR_SERVICE_ACCOUNT": "tesk-executor",
        **{f"TESK_KUBERNETES_{name.upper()}": value for name, value in settings.items()},
    }
    done = subprocess.run(
        [sys.executable, "-m", "tesk", "check", "--json"],
        env=environment(**environ),
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return done.returncode, {one["what"]: (one["status"], one["message"]) for one in lines}


def test_with_the_servers_role_all_is_well_and_nothing_is_made(cluster: Cluster, tmp_path: Path) -> None:
    cluster.need_here()
    with new_space(cluster, wait=False) as space:
        files = json.dumps([{"pvc": space.show(tmp_path), "path": "/data"}])
        code, found = check(space, space.kubeconfig("tesk", tmp_path), tmp_path / "state", file_volumes=files)
        assert code == 0, found
        assert found["files at /data"][1].startswith("PersistentVolumeClaim files is ")
        assert found["rights of the server"][0] == "ok"
        assert found["objects"][0] == "ok"
        unseen = found["not looked at"][1]
        assert "rights of taskmasters" in unseen
        assert "ServiceAccount tesk-taskmaster" in unseen
        assert not (tmp_path / "state").exists()
        assert space.left() == []


def test_who_may_look_at_everything_is_told_everything(cluster: Cluster, tmp_path: Path) -> None:
    with new_space(cluster, wait=False) as space:
        space.secret("keys", {"AWS_ACCESS_KEY_ID": "someone"})
        code, found = check(space, cluster.kubeconfig, tmp_path, storage_secret="keys")
        assert code == 0, found
        assert {status for status, _ in found.values()} == {"ok"}
        assert found["secret for storage"][1] == "keys"
        assert found["rights of taskmasters"][0] == "ok"


def test_layout_pod_is_tried_with_a_pod_that_goes_again(cluster: Cluster, image: str, tmp_path: Path) -> None:
    with new_space(cluster, wait=False) as space:
        account = space.kubeconfig("tesk", tmp_path)
        code, found = check(space, account, tmp_path / "state", layout="pod", image=image, run_as_user="10001")
        assert found["order of containers"] == (
            "ok",
            "the second container of a pod started when the first one's hook had ended",
        )
        assert (code, space.left()) == (0, [])


def test_a_probe_that_cannot_start_says_why_and_goes(cluster: Cluster, tmp_path: Path) -> None:
    with new_space(cluster, wait=False) as space:
        code, found = check(space, cluster.kubeconfig, tmp_path / "state", layout="pod", image="localhost/no-tesk:1")
        status, message = found["order of containers"]
        assert (code, status) == (1, "fail")
        assert re.search(r"within 1\d s: image 'localhost/no-tesk:1' cannot be pulled", message)
        assert space.left() == []


def test_what_settings_name_and_is_not_there_fails_by_name(space: Space, cluster: Cluster, tmp_path: Path) -> None:
    settings = {
        "storage_class": "no-class",
        "storage_secret": "no-keys",
        "executor_secret": '{"name": "no-secret"}',
        "file_volumes": '[{"pvc": "no-files", "path": "/data"}]',
        "image_pull_secrets": '["no-registry"]',
        "taskmaster_service_account": "no-account",
        "executor_service_account": "no-executor",
    }
    code, found = check(space, cluster.kubeconfig, tmp_path, **settings)
    assert code == 1
    failed = " ".join(message for status, message in found.values() if status == "fail")
    for name in ("no-class", "no-keys", "no-secret", "no-files", "no-registry", "no-account", "no-executor"):
        assert f" {name};" in failed, name
    assert "change kubernetes.storage_secret" in failed
    assert "the service account no-account lacks configmaps (create, " in found["rights of taskmasters"][1]


def test_each_right_that_is_missing_is_named(cluster: Cluster, tmp_path: Path) -> None:
    with new_space(cluster, wait=False) as space:
        less = [Rule(one.group, one.resource, one.verbs[:-1]) for one in SERVER_RULES if one.verbs[1:]]
        cluster.apply(make_role(Installation("unused").name, space.name, tuple(less)))
        code, found = check(space, space.kubeconfig("tesk", tmp_path), tmp_path)
        status, message = found["rights of the server"]
        assert (code, status) == (1, "fail")
        for rule in SERVER_RULES:
            group = f".{rule.group}" if rule.group else ""
            assert f"{rule.resource}{group} ({rule.verbs[-1]})" in message


@pytest.mark.parametrize(
    ("setting", "value", "told"),
    [
        ("security_context", '{"seccompProfile": {"type": "Nonsense"}}', "seccompProfile"),
        ("preemptible_tolerations", '[{"key": "spot", "operator": "Exists", "value": "x"}]', "tolerations[0]"),
    ],
)
def test_what_the_api_server_refuses_is_told_in_its_words(
    space: Space, cluster: Cluster, tmp_path: Path, setting: str, value: str, told: str
) -> None:
    code, found = check(space, cluster.kubeconfig, tmp_path, **{setting: value})
    assert code == 1
    assert found["objects"][0] == "fail"
    assert told in found["objects"][1]


def test_a_namespace_that_is_not_there_is_told(space: Space, cluster: Cluster, tmp_path: Path) -> None:
    code, found = check(space, cluster.kubeconfig, tmp_path, namespace=f"{space.name}-not")
    assert code == 1
    assert found["namespace"] == (
        "fail",
        f"there is no namespace {space.name}-not; make it, or set kubernetes.namespace to another",
    )
