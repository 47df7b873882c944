"""What installs TESK on a cluster, before any cluster sees it."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tesk.backends.kubernetes.manifests import Installation, make_manifests, to_yaml
from tesk.backends.kubernetes.roles import SERVER_RULES, TASKMASTER_RULES

Object = dict[str, Any]
LAB = Installation("registry.example.org/tesk:1.0", "science", "lab")


def made(kind: str) -> list[Object]:
    return [one for one in make_manifests(LAB) if one["kind"] == kind]


def test_everything_is_in_one_namespace_and_named_after_the_server() -> None:
    objects = make_manifests(LAB)
    assert {one["metadata"]["namespace"] for one in objects} == {"science"}
    assert all(one["metadata"]["name"].split("-")[0] == "lab" for one in objects)


def test_no_right_reaches_beyond_the_namespace() -> None:
    kinds = {one["kind"] for one in make_manifests(LAB, make_namespace=True)}
    assert not {kind for kind in kinds if kind.startswith(("Cluster", "CustomResource"))}
    for role in made("Role"):
        assert all("*" not in {*one["verbs"], *one["resources"], *one["apiGroups"]} for one in role["rules"])


def test_only_server_and_taskmaster_are_bound_to_a_role() -> None:
    bound = {(one["subjects"][0]["name"], one["roleRef"]["name"]) for one in made("RoleBinding")}
    assert bound == {("lab", "lab"), ("lab-taskmaster", "lab-taskmaster")}
    accounts = {
        one["metadata"]["name"]: one.get("automountServiceAccountToken", True) for one in made("ServiceAccount")
    }
    assert accounts == {"lab": True, "lab-taskmaster": True, "lab-executor": False}


def test_nobody_reads_secrets_and_only_what_runs_steps_makes_claims() -> None:
    allowed = [(one.resource, verb) for one in (*SERVER_RULES, *TASKMASTER_RULES) for verb in one.verbs]
    assert [verb for resource, verb in allowed if resource == "secrets"] == ["create"]
    assert ("persistentvolumeclaims", "create") not in [
        (one.resource, verb) for one in SERVER_RULES for verb in one.verbs
    ]


def test_what_cleans_up_after_tasks_does_not_find_the_installation() -> None:
    for one in make_manifests(LAB):
        assert "app.kubernetes.io/managed-by" not in one["metadata"]["labels"]


def test_the_service_finds_the_server_and_no_pod_of_a_task() -> None:
    (service,), (deployment,) = made("Service"), made("Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    task = {"app.kubernetes.io/managed-by": "tesk", "app.kubernetes.io/instance": "lab", "tesk/task": "task-1"}
    assert not service["spec"]["selector"].items() <= task.items()


def test_pods_of_tasks_reach_the_server_to_report_and_no_more() -> None:
    (policy,), (deployment,) = made("NetworkPolicy"), made("Deployment")
    reach = {
        one["from"][0]["podSelector"]["matchExpressions"][0]["operator"]: one["ports"]
        for one in policy["spec"]["ingress"]
    }
    assert reach == {"DoesNotExist": [{"port": "http"}], "Exists": [{"port": "reports"}]}
    ports = {
        one["name"]: one["containerPort"] for one in deployment["spec"]["template"]["spec"]["containers"][0]["ports"]
    }
    (settings,) = [one["data"]["tesk.yaml"] for one in make_manifests(LAB) if one["kind"] == "ConfigMap"]
    assert yaml.safe_load(settings)["kubernetes"]["report_port"] == ports["reports"] != ports["http"]


def test_the_server_runs_alone_without_root_on_a_read_only_root() -> None:
    (deployment,) = made("Deployment")
    pod = deployment["spec"]["template"]["spec"]
    assert (deployment["spec"]["replicas"], deployment["spec"]["strategy"]) == (1, {"type": "Recreate"})
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is True
    assert pod["enableServiceLinks"] is False, "a Service named tesk would become TESK_* variables"


def test_another_user_is_that_of_server_taskmasters_and_filers() -> None:
    objects = make_manifests(Installation("x:1", user=0))
    (deployment,) = [one for one in objects if one["kind"] == "Deployment"]
    security = deployment["spec"]["template"]["spec"]["securityContext"]
    assert (security["runAsUser"], security["runAsNonRoot"]) == (0, False)
    (settings,) = [one["data"]["tesk.yaml"] for one in objects if one["kind"] == "ConfigMap"]
    assert yaml.safe_load(settings)["kubernetes"]["run_as_user"] == 0
    assert deployment["spec"]["template"]["spec"]["containers"][0]["securityContext"]["capabilities"] == {
        "drop": ["ALL"]
    }


def test_a_changed_setting_replaces_the_pod() -> None:
    def annotations(installation: Installation) -> Object:
        (deployment,) = [one for one in make_manifests(installation) if one["kind"] == "Deployment"]
        found: Object = deployment["spec"]["template"]["metadata"]["annotations"]
        return found

    assert annotations(LAB) == annotations(LAB)
    assert annotations(LAB) != annotations(Installation("registry.example.org/tesk:1.1", "science", "lab"))


def test_the_yaml_is_plain_and_reads_back_as_it_was() -> None:
    objects = make_manifests(LAB, make_namespace=True)
    text = to_yaml(objects)
    assert list(yaml.safe_load_all(text)) == objects
    assert "&id" not in text
    assert objects[0]["kind"] == "Namespace"


@pytest.mark.parametrize(
    ("namespace", "name", "image"),
    [
        ("Science", "lab", "x:1"),
        ("a" * 64, "lab", "x:1"),
        ("science", "lab_1", "x:1"),
        ("science", "1lab", "x:1"),
        ("science", "a" * 53, "x:1"),
        ("science", "lab", ""),
        ("science", "lab", "x y"),
        ("science\n", "lab", "x:1"),
    ],
)
def test_names_that_kubernetes_refuses_are_refused_first(namespace: str, name: str, image: str) -> None:
    with pytest.raises(ValueError, match=r"is not one that Kubernetes takes|begins with a digit|is no image"):
        Installation(image, namespace, name)
