"""What tasks ask for, what they show on their way, and how they end: many at once on one server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pytest

from tests.behaviour.sites import Site, sentences
from tests.kube.cluster import Cluster
from tests.kube.diary import Diary
from tests.kube.eventually import until
from tests.kube.history import History
from tests.kube.serving import serving
from tests.kube.space import new_space

pytestmark = [pytest.mark.kube, pytest.mark.timeout(400)]

Json = dict[str, Any]

LABELS = {"site.example.org/owner": "lab-7"}
ANNOTATIONS = {"site.example.org/note": "any text: at all\n"}
WAY = ["QUEUED", "INITIALIZING", "RUNNING"]
CLOCK = 2.0
"""Seconds by which a time that the kubelet rounds down to a second, and ours, may differ."""


@dataclass
class Crowd:
    """The tasks of this module, by their case, all begun at once."""

    site: Site
    diary: Diary
    history: History
    ids: dict[str, str]

    def end(self, case: str) -> Json:
        """The task of `case` once it has ended."""
        return self.diary.wait(self.ids[case])

    def container(self, case: str, name: str = "executor", step: str = "executor") -> Json:
        """The container of the (last) pod that a step of `case` had, as it was asked for."""
        pod = self.history.pod(self.ids[case], step)
        return next(one for one in pod["spec"]["containers"] if one["name"] == name)


@pytest.fixture(scope="module")
def crowd(cluster: Cluster, image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crowd]:
    with ExitStack() as stack:
        space = stack.enter_context(new_space(cluster, "tasks", wait=False))
        history = stack.enter_context(History(cluster, space.name))
        important = stack.enter_context(space.cluster_object(priority_class(space.name)))
        space.kubectl("create", "serviceaccount", "special")
        site = stack.enter_context(
            serving(
                space,
                tmp_path_factory.mktemp("tasks") / "server",
                image=image,
                labels=LABELS,
                annotations=ANNOTATIONS,
                keep_finished=3600,
                allowed={
                    "node_selector_keys": ["kubernetes.io/hostname"],
                    "priority_classes": [important],
                    "service_accounts": ["special"],
                    "toleration_profiles": {"spot": [{"key": "spot", "operator": "Exists", "effect": "NoSchedule"}]},
                    "gpu_resource": "example.com/gpu",
                },
            )
        )
        diary = stack.enter_context(Diary(site))
        tasks = cases(site, important)
        looks = site.task("/opt/tesk/bin/python", "-c", LOOKS_FOR_RIGHTS, space.name, image=image)
        tasks["looks for rights"] = {**looks, "inputs": [{"path": "/data/in", "content": "x"}]}
        yield Crowd(site, diary, history, {name: site.create(task) for name, task in tasks.items()})


def priority_class(name: str) -> Json:
    """A priority class, which lies in no namespace."""
    metadata = {"name": name}
    return {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": metadata, "value": 1}


LOOKS_FOR_RIGHTS = """
import pathlib, ssl, sys, urllib.error, urllib.request
if pathlib.Path("/var/run/secrets/kubernetes.io").exists():
    sys.exit("there is a token")
for what in ("pods", "secrets", "configmaps"):
    url = f"https://kubernetes.default.svc/api/v1/namespaces/{sys.argv[1]}/{what}"
    try:
        urllib.request.urlopen(url, timeout=30, context=ssl._create_unverified_context())
    except urllib.error.HTTPError as error:
        print(what, error.code)
"""


def cases(site: Site, important: str) -> dict[str, Json]:
    """The tasks, those that take longest first."""

    def asking(command: str = "true", **resources: Any) -> Json:
        return site.shell(command, resources=resources)

    awful = "Ärger/\n\t☃ " + "x" * 300
    two = site.task("sh", "-c", "cat /data/in; sleep 1")
    two["executors"].append(site.task("sh", "-c", "echo two >&2; exit 0")["executors"][0])
    return {
        "evicted": asking("dd if=/dev/zero of=/big bs=1M count=20; sleep 600", disk_gb=0.002),
        "too long": asking("sleep 600", backend_parameters={"max_runtime": "15"}),
        "two executors": {**two, "inputs": [{"path": "/data/in", "content": "one\n"}]},
        "fractions": asking(cpu_cores=0.0204, ram_gb=0.064),
        "out of memory": asking("exec tail /dev/zero", ram_gb=0.03),
        "out of memory below a shell": asking("tail /dev/zero; exit 5", ram_gb=0.03),
        "scratch": {
            **site.shell("sleep 1", resources={"disk_gb": 0.25}),
            "inputs": [{"path": "/data/in", "content": "one\n"}],
        },
        "default scratch": {**site.task("true"), "volumes": ["/data"]},
        "no scratch": asking(disk_gb=0.05),
        "chosen": asking(
            backend_parameters={
                "Node_Selector.Kubernetes.io/hostname": "node-1",
                "toleration_profile": "spot",
                "priority_class": important,
                "service_account": "special",
                "max_runtime": "300",
            }
        ),
        "not found": site.task("/no/such/program"),
        "failed": asking("sleep 1; exit 3"),
        "killed": asking("kill -9 $$"),
        "awful names": {
            **site.task("true", env={"LABEL": awful}),
            "name": awful,
            "description": awful,
            "tags": {awful: awful, "": "", "tesk/task": "another", "app.kubernetes.io/instance": "-"},
        },
    }


def test_fractions_of_a_core_and_memory_are_requests_and_limits(crowd: Crowd) -> None:
    assert crowd.end("fractions")["state"] == "COMPLETE"
    asked = {"cpu": "21m", "memory": "64M"}
    assert crowd.container("fractions")["resources"] == {"requests": asked, "limits": asked}


def test_a_disk_is_the_size_of_scratch(crowd: Crowd) -> None:
    assert crowd.end("scratch")["state"] == "COMPLETE"
    claim = crowd.history.last("PersistentVolumeClaim", f"{crowd.ids['scratch']}-pvc")
    assert claim["spec"]["resources"] == {"requests": {"storage": "250M"}}
    assert "ephemeral-storage" not in str(crowd.container("scratch")["resources"])


def test_scratch_has_the_sites_size_where_the_task_says_none(crowd: Crowd) -> None:
    assert crowd.end("default scratch")["state"] == "COMPLETE"
    claim = crowd.history.last("PersistentVolumeClaim", f"{crowd.ids['default scratch']}-pvc")
    assert claim["spec"]["resources"] == {"requests": {"storage": "10G"}}


def test_a_disk_without_scratch_is_the_nodes(crowd: Crowd) -> None:
    assert crowd.end("no scratch")["state"] == "COMPLETE"
    asked = {"ephemeral-storage": "50M"}
    assert crowd.container("no scratch")["resources"] == {"requests": asked, "limits": asked}
    assert list(crowd.history.sights("PersistentVolumeClaim", crowd.ids["no scratch"])) == []


def test_a_task_may_choose_what_the_site_allows(crowd: Crowd) -> None:
    task = crowd.end("chosen")
    assert task["state"] == "COMPLETE"
    pod = crowd.history.pod(task["id"], "executor")["spec"]
    assert pod["nodeSelector"] == {"kubernetes.io/hostname": "node-1"}
    assert {"key": "spot", "operator": "Exists", "effect": "NoSchedule"} in pod["tolerations"]
    assert pod["priorityClassName"] == task["resources"]["backend_parameters"]["priority_class"]
    assert (pod["priority"], pod["serviceAccountName"], pod["activeDeadlineSeconds"]) == (1, "special", 300)
    assert "serviceaccount" not in str(pod["volumes"])


def test_service_info_lists_what_a_task_may_choose(crowd: Crowd) -> None:
    with crowd.site.client as client:
        listed = client.service_info()["tesResources_backend_parameters"]
    assert set(listed) == {
        *("executor_retries", "gpu", "max_runtime", "missing_outputs", "node_selector.kubernetes.io/hostname"),
        *("priority_class", "service_account", "toleration_profile"),
    }


def test_running_out_of_memory_is_told_in_a_sentence(crowd: Crowd) -> None:
    task = crowd.end("out of memory")
    assert task["state"] == "EXECUTOR_ERROR"
    assert task["logs"][0]["logs"][0]["exit_code"] == 137
    assert sentences(task) == (
        "executor 0 was ended by signal 9: it needed more memory than its 0.03 GB (resources.ram_gb)"
    )


def test_running_out_of_memory_is_told_also_where_a_shell_hides_it(crowd: Crowd) -> None:
    task = crowd.end("out of memory below a shell")
    assert task["state"] == "EXECUTOR_ERROR"
    assert task["logs"][0]["logs"][0]["exit_code"] in (5, 137)  # 137 where the kernel kills the container whole
    assert "it needed more memory than its 0.03 GB" in sentences(task)


def test_using_more_disk_than_asked_for_is_told_in_a_sentence(crowd: Crowd) -> None:
    task = crowd.end("evicted")
    assert task["state"] == "EXECUTOR_ERROR", task
    assert len(task["logs"]) == 1
    assert "it used more disk than its limit" in sentences(task)
    assert task["logs"][0]["logs"][0]["exit_code"] in (137, 143)  # whether SIGTERM was enough


def test_running_longer_than_allowed_is_told_in_a_sentence(crowd: Crowd) -> None:
    task = crowd.end("too long")
    assert task["state"] == "EXECUTOR_ERROR", task
    assert "it ran longer than allowed (15 s)" in sentences(task)
    assert task["logs"][0]["logs"][0]["exit_code"] != 0


@pytest.mark.parametrize(
    ("case", "code", "told"),
    [("not found", 127, "/no/such/program"), ("failed", 3, "exit code 3"), ("killed", 137, "signal 9")],
)
def test_every_failure_has_its_exit_code(crowd: Crowd, case: str, code: int, told: str) -> None:
    task = crowd.end(case)
    assert task["state"] == "EXECUTOR_ERROR"
    assert task["logs"][0]["logs"][0]["exit_code"] == code
    assert told in sentences(task)


def test_names_that_are_no_labels_do_no_harm(crowd: Crowd) -> None:
    task = crowd.end("awful names")
    assert task["state"] == "COMPLETE"
    assert len(task["tags"]) == 4
    assert task["name"] == task["description"]
    assert {one.labels["tesk/task"] for one in crowd.history.of_task(task["id"])} == {task["id"]}


def test_an_executor_has_no_token_and_no_right(crowd: Crowd) -> None:
    task = crowd.end("looks for rights")
    assert task["state"] == "COMPLETE", task
    assert task["logs"][0]["logs"][0]["stdout"].split("\n") == ["pods 403", "secrets 403", "configmaps 403", ""]


def test_only_a_taskmaster_has_a_token(crowd: Crowd) -> None:
    task = crowd.end("looks for rights")
    tokens = {}
    for step in ("taskmaster", "stage-in", "executor"):
        tokens[step] = "serviceAccountToken" in str(crowd.history.pod(task["id"], step)["spec"]["volumes"])
    assert tokens == {"taskmaster": True, "stage-in": False, "executor": False}


def test_states_come_in_their_order_and_never_go_back(crowd: Crowd) -> None:
    wrong = {}
    for case in crowd.ids:
        task = crowd.end(case)
        seen = crowd.diary.states(task["id"])
        if seen[:-1] != [one for one in WAY if one in seen]:
            wrong[case] = seen
    assert wrong == {}
    # it may have a node before anybody has looked
    assert crowd.diary.states(crowd.ids["two executors"])[-3:] == [*WAY[1:], "COMPLETE"]


def test_a_task_is_queued_until_its_first_pod_has_a_node_and_runs_with_its_first_executor(crowd: Crowd) -> None:
    task = crowd.end("two executors")
    scheduled = condition(crowd.history.pod(task["id"], "taskmaster"), "PodScheduled")
    initializing, running = (crowd.diary.since(task["id"], one) for one in ("INITIALIZING", "RUNNING"))
    assert initializing is not None
    assert initializing >= scheduled
    first = next(
        one
        for one in crowd.history.sights("Pod", task["id"])
        if one.labels.get("tesk/executor") == "0" and ran(one.body)
    )
    assert running is not None
    assert running >= moment(ran(first.body)["startedAt"])


def test_times_are_those_of_the_containers_also_of_those_that_failed(crowd: Crowd) -> None:
    wrong = {}
    for case, task_id in crowd.ids.items():
        attempt = crowd.end(case)["logs"][0]
        pods = {
            one.labels["tesk/executor"]: one.body
            for one in crowd.history.sights("Pod", task_id)
            if "tesk/executor" in one.labels
        }
        for number, log in enumerate(attempt["logs"]):
            told = ended(pods[str(number)])
            start, end = moment(log["start_time"]), moment(log["end_time"])
            if told is None:
                wrong[case] = f"{log['start_time']} to {log['end_time']}; its container's end was never told"
            elif told["reason"] == "ContainerStatusUnknown":
                continue  # the kubelet killed it, and did not look when
            elif not (
                # the node says whole seconds, and a start when it has begun
                -CLOCK < start - moment(told["startedAt"]) < 2 * CLOCK and abs(end - moment(told["finishedAt"])) < CLOCK
            ):
                wrong[case] = f"{log['start_time']} to {log['end_time']}, {told}"
            if not moment(attempt["start_time"]) <= start <= end <= moment(attempt["end_time"]):
                wrong[case] = f"{case}: {attempt}"
        if not attempt["logs"]:
            wrong[case] = "there is no entry of an executor"
    assert wrong == {}


def test_the_start_of_a_task_is_that_of_its_first_container_and_never_changes(crowd: Crowd) -> None:
    wrong = {}
    for case, task_id in crowd.ids.items():
        start = moment(crowd.end(case)["logs"][0]["start_time"])
        pod = crowd.history.pod(task_id, "taskmaster")
        container = ran(pod, "taskmaster")
        starts = crowd.diary.starts(task_id)
        # the kubelet notes the start of a container when that has begun
        if not moment(pod["status"]["startTime"]) <= start < moment(container["startedAt"]) + CLOCK or len(starts) != 1:
            wrong[case] = (pod["status"]["startTime"], container, starts)
    assert wrong == {}


@pytest.mark.parametrize("case", ["scratch", "default scratch", "two executors"])
def test_scratch_is_freed_once_every_step_has_ended_well(crowd: Crowd, case: str) -> None:
    task_id = crowd.end(case)["id"]

    def kinds() -> set[str]:
        return {one.partition("/")[0] for one in crowd.history.left(task_id)}

    until(lambda: "PersistentVolumeClaim" not in kinds(), "its claim is gone", seconds=60)
    assert kinds() == {"ConfigMap", "Job", "Pod"}  # the taskmaster's, for as long as the site keeps what has ended


def test_every_object_has_the_labels_and_annotations_of_the_site(crowd: Crowd) -> None:
    wrong = []
    for case in crowd.ids:
        task = crowd.end(case)
        objects = crowd.history.of_task(task["id"])
        assert {one.kind for one in objects} >= {"ConfigMap", "Job", "Pod"}
        for one in objects:
            metadata = one.body["metadata"]
            has = (
                metadata["labels"].items() >= LABELS.items() and metadata["annotations"].items() >= ANNOTATIONS.items()
            )
            owned = (one.name == task["id"] and one.kind == "ConfigMap") or metadata["ownerReferences"]
            known = {"app.kubernetes.io/managed-by": "tesk", "tesk/attempt": "1"}
            if not (
                has
                and owned
                and known.items() <= metadata["labels"].items()
                and "tesk/step" in metadata["labels"]
                and re.fullmatch("tesk-[0-9a-f]{8}", metadata["labels"]["app.kubernetes.io/instance"])
            ):
                wrong.append(one)
    assert wrong == []


def test_finished_objects_stay_to_be_looked_at_where_they_hold_no_scratch(crowd: Crowd) -> None:
    task = crowd.end("no scratch")
    kinds = [one.partition("/")[0] for one in crowd.history.left(task["id"])]
    assert sorted(kinds) == ["ConfigMap", "ConfigMap", "Job", "Job", "Pod", "Pod"], "those of taskmaster and executor"


def ran(pod: Json, container: str = "executor") -> Json:
    """What the status of a container says of it, if it runs or has run."""
    for status in pod["status"].get("containerStatuses", []):
        if status["name"] == container:
            state = status["state"]
            return dict(state.get("running") or state.get("terminated") or {})
    return {}


def ended(pod: Json) -> Json | None:
    """The end of a pod's main container, if that was told."""
    found = ran(pod)
    return found if "finishedAt" in found else None


def condition(pod: Json, kind: str) -> float:
    """Since when a condition of a pod holds."""
    return next(moment(one["lastTransitionTime"]) for one in pod["status"]["conditions"] if one["type"] == kind)


def moment(time_: str) -> float:
    """RFC 3339 as seconds since 1970."""
    return datetime.fromisoformat(time_).timestamp()
