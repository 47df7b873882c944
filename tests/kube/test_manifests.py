"""`tesk kubernetes manifests` against a real API server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tesk.backends.kubernetes.manifests import Installation, make_manifests, to_yaml
from tesk.backends.kubernetes.roles import SERVER_RULES, TASKMASTER_RULES, Rule
from tests.kube.cluster import Cluster
from tests.kube.space import Space

pytestmark = pytest.mark.kube


def test_the_api_server_accepts_every_object(space: Space) -> None:
    objects = make_manifests(Installation("localhost/tesk:1", space.name, "lab"))
    text = space.cluster.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", given=to_yaml(objects))
    assert len(text.splitlines()) == len(objects)
    assert all(line.endswith("created (server dry run)") for line in text.splitlines())


@pytest.mark.parametrize(("account", "rules"), [("tesk", SERVER_RULES), ("tesk-taskmaster", TASKMASTER_RULES)])
def test_an_account_may_do_what_its_rules_say_and_no_more(
    space: Space, tmp_path: Path, account: str, rules: tuple[Rule, ...]
) -> None:
    wanted = {(one.group, one.resource, verb) for one in rules for verb in one.verbs}
    assert allowed(space, account, tmp_path) == wanted


def test_an_executors_account_has_no_token_and_no_right(space: Space, tmp_path: Path) -> None:
    mounted = "ls /var/run/secrets/kubernetes.io/serviceaccount/token"
    container = {"name": "main", "image": "localhost/busybox:1", "command": ["sh", "-c", mounted]}
    pod = space.run_pod("no-token", {"serviceAccountName": "tesk-executor", "containers": [container]})
    assert pod["status"]["phase"] == "Failed"
    assert "volumeMounts" not in json.dumps(pod["spec"])
    assert allowed(space, "tesk-executor", tmp_path) == set()


def allowed(space: Space, account: str, directory: Path) -> set[tuple[str, str, str]]:
    """(group, resource, verb) of all that the service account may do here, beyond looking at itself."""
    limited = Cluster(space.kubeconfig(account, directory), space.cluster.tool)
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": space.name},
    }
    rules = json.loads(
        limited.kubectl("create", "--validate=false", "-o", "json", "-f", "-", given=json.dumps(review))
    )["status"]
    return {
        (group, resource, verb)
        for rule in rules["resourceRules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        if not resource.startswith("selfsubject")
    }
