"""What keeps a task is told soon and in one sentence; what waiting cannot cure ends it, what it can is waited for."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from tests.behaviour.sites import Site, sentences
from tests.kube.cluster import Cluster
from tests.kube.diary import Diary
from tests.kube.eventually import until
from tests.kube.history import History
from tests.kube.image import BUSYBOX
from tests.kube.scenes.stage import registry
from tests.kube.serving import serving
from tests.kube.space import Space, new_space

pytestmark = [pytest.mark.kube, pytest.mark.timeout(400)]

Json = dict[str, Any]
Known = Callable[[History, str], float | None]

START_TIMEOUT = 60
QUEUE_TIMEOUT = 30  # as many tasks as here take a while to begin
SOON = 10.0
"""Seconds after which a user must know what the cluster knows."""


def state_is(*reasons: str) -> Known:
    """When a container of the task first waited for one of `reasons`."""

    def known(history: History, task: str) -> float | None:
        for one in history.sights("Pod", task):
            for status in one.body["status"].get("containerStatuses", []):
                if status["state"].get("waiting", {}).get("reason") in reasons:
                    return one.at
        return None

    return known


def event_is(reason: str) -> Known:
    """When the first event `reason` about an object of the task came."""

    def known(history: History, task: str) -> float | None:
        events = (one for one in history.sights("Event") if one.body["involvedObject"]["name"].startswith(task))
        return next((one.at for one in events if one.body["reason"] == reason), None)

    return known


def pull_failed(history: History, task: str) -> float | None:
    """When a pull was first told to have failed: an event may come before the container's state says so."""
    told = (state_is("ErrImagePull", "ImagePullBackOff")(history, task), event_is("Failed")(history, task))
    return min((one for one in told if one is not None), default=None)


def no_node(history: History, task: str) -> float | None:
    """When the scheduler first found no node for a pod of the task."""
    for one in history.sights("Pod", task):
        if any(one["reason"] == "Unschedulable" for one in one.body["status"].get("conditions", []) if "reason" in one):
            return one.at
    return None


def first_report(history: History, task: str) -> float | None:
    """When its taskmaster first reported: what it asks for next is refused at once, and nobody else hears of that."""
    return next((one.at for one in history.sights("ConfigMap", task) if one.labels["tesk/step"] == "report"), None)


def first_plan(history: History, task: str) -> float | None:
    """When its plan was there: the pod that comes next is refused at once."""
    return next((one.at for one in history.sights("ConfigMap", task) if one.labels["tesk/step"] == "plan"), None)


@dataclass(frozen=True)
class Case:
    """A task for the server `server`, the words that tell what keeps it, and how to see that the cluster knows."""

    server: str
    words: str
    known: Known
    timeout: int = START_TIMEOUT
    task: Mapping[str, Any] | None = None

    def made(self, site: Site) -> Json:
        """The task, with a command that would end well."""
        return {**site.task("true"), **(self.task or {})}


def asking(**resources: Any) -> Json:
    return {"resources": resources}


def choosing(**parameters: str) -> Json:
    return asking(backend_parameters=parameters)


SCRATCH: Json = {"inputs": [{"path": "/data/in", "content": "x"}]}
REFUSED, UNSET = event_is("FailedCreate"), state_is("CreateContainerConfigError")

# {host} is a registry that has no image and does not answer for some of them
INCURABLE = {
    "image that is not there": Case(
        "plain",
        "image '{host}/missing/bwa:0.7' cannot be pulled: not found",
        pull_failed,
        task={"image": "{host}/missing/bwa:0.7"},
    ),
    "registry that is not there": Case(
        "plain",
        "image 'registry.invalid/bwa:0.7' cannot be pulled",
        pull_failed,
        task={"image": "registry.invalid/bwa:0.7"},
    ),
    "registry that asks who we are": Case(
        "plain",
        "image '{host}/private/bwa:0.7' cannot be pulled: 401 Unauthorized",
        pull_failed,
        task={"image": "{host}/private/bwa:0.7"},
    ),
    "registry that never answers": Case(
        "plain",
        "image '{host}/hanging/bwa:0.7' is being pulled",
        event_is("Pulling"),
        task={"image": "{host}/hanging/bwa:0.7"},
    ),
    "image name": Case(
        "plain",
        "image 'localhost/BWA:0.7' is no valid name",
        state_is("InvalidImageName"),
        task={"image": "localhost/BWA:0.7"},
    ),
    "labels that no node has": Case(
        "plain",
        "no node has the labels that it asks for",
        no_node,
        task=choosing(**{"node_selector.kubernetes.io/hostname": "elsewhere"}),
    ),
    "service account of the executor": Case(
        "plain",
        "the cluster refuses its pod: error looking up service account",
        REFUSED,
        task=choosing(service_account="absent"),
    ),
    "storage class": Case("odd", "storage class 'absent' does not exist", event_is("ProvisioningFailed"), task=SCRATCH),
    "Secret of executors": Case("odd", 'secret "absent" not found', event_is("FailedMount")),
    "Secret of filers": Case(
        "secret", 'its container cannot be set up: secret "absent" not found', UNSET, task=SCRATCH
    ),
    "image of tesk itself": Case(
        "image",
        "image '{host}/missing/tesk:1' cannot be pulled: not found",
        pull_failed,
    ),
    "service account of taskmasters": Case(
        "account", "the cluster refuses its pod: error looking up service account", REFUSED
    ),
    "pod larger than the quota": Case(
        "quota", "its pod is larger than quota 'small' of the namespace allows", REFUSED, task=asking(cpu_cores=3)
    ),
    "pod without what the quota counts": Case(
        "quota", "quota 'small' of the namespace takes its pod only with requests.cpu", REFUSED
    ),
    "scratch larger than the quota": Case(
        "quota",
        "its volume claim is larger than quota 'small' of the namespace allows",
        first_report,
        task={**SCRATCH, **asking(disk_gb=20)},
    ),
    "pod: image that is not there": Case(
        "pod",
        "image '{host}/missing/bwa:0.7' cannot be pulled: not found",
        pull_failed,
        task={"image": "{host}/missing/bwa:0.7"},
    ),
    "pod: labels that no node has": Case(
        "pod",
        "no node has the labels that it asks for",
        no_node,
        task=choosing(**{"node_selector.kubernetes.io/hostname": "elsewhere"}),
    ),
    "pod: service account": Case(
        "pod",
        "the cluster refuses its pod: error looking up service account",
        first_plan,
        task=choosing(service_account="absent"),
    ),
    "pod: storage class": Case(
        "odd-pod", "storage class 'absent' does not exist", event_is("ProvisioningFailed"), task=SCRATCH
    ),
    "pod: Secret of executors": Case("odd-pod", 'secret "absent" not found', event_is("FailedMount")),
    "pod: Secret for storage": Case(
        "secret-pod", 'its container cannot be set up: secret "absent" not found', UNSET, task=SCRATCH
    ),
    "pod: larger than the quota": Case(
        "quota-pod",
        "its pod is larger than quota 'small' of the namespace allows",
        first_plan,
        task=asking(cpu_cores=3),
    ),
}
CURABLE = {
    "pod: more cores than any node has": Case(
        "odd-pod", "no node has enough cpu", no_node, timeout=QUEUE_TIMEOUT, task=asking(cpu_cores=1000)
    ),
    "pod: quota in use": Case(
        "quota-pod", "quota 'small' of the namespace is used up (requests.cpu", first_plan, task=asking(cpu_cores=0.4)
    ),
    "more cores than any node has": Case(
        "odd", "no node has enough cpu", no_node, timeout=QUEUE_TIMEOUT, task=asking(cpu_cores=1000)
    ),
    "busy node": Case("plain", "no node has enough {resource}", no_node, task=choosing(gpu="1")),
    "quota on pods in use": Case(
        "quota", "quota 'small' of the namespace is used up (requests.cpu", REFUSED, task=asking(cpu_cores=0.4)
    ),
    "quota on volumes in use": Case(
        "quota",
        "quota 'small' of the namespace is used up (persistentvolumeclaims",
        first_report,
        task={**SCRATCH, **asking(cpu_cores=0.01, disk_gb=0.01)},
    ),
}
ENDING = {**INCURABLE, **{name: one for name, one in CURABLE.items() if one.timeout == QUEUE_TIMEOUT}}
CURED = {name: one for name, one in CURABLE.items() if name not in ENDING}


@dataclass
class Waiting:
    """All cases at once: `ids` are their tasks."""

    spaces: dict[str, Space]
    histories: dict[str, History]
    diaries: dict[str, Diary]
    ids: dict[str, str]
    names: dict[str, str]

    def words(self, case: Case) -> str:
        """What the user must be told."""
        return case.words.format(**self.names)

    def history(self, case: Case) -> History:
        """What was seen of its namespace."""
        return self.histories["quota" if case.server.startswith("quota") else "waits"]


@pytest.fixture(scope="module")
def waiting(cluster: Cluster, image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Waiting]:
    cluster.need_here()
    directory = tmp_path_factory.mktemp("waits")
    with ExitStack() as stack:
        host = stack.enter_context(registry())
        spaces = {name: stack.enter_context(new_space(cluster, name, wait=False)) for name in ("waits", "quota")}
        resource = stack.enter_context(scarce_resource(spaces["waits"]))
        names = {"host": host, "resource": resource}
        occupy(spaces["waits"], {resource: "1"})
        set_quota(spaces["quota"], "500m")
        occupy(spaces["quota"], {"cpu": "300m"}, node="none")
        spaces["quota"].claim("other")
        histories = {name: stack.enter_context(History(cluster, one.name)) for name, one in spaces.items()}
        sites = {}
        for name, settings in servers(names).items():
            space = spaces["quota" if name.startswith("quota") else "waits"]
            sites[name] = stack.enter_context(serving(space, directory / name, **{"image": image, **settings}))
        diaries = {name: stack.enter_context(Diary(one)) for name, one in sites.items()}
        found = Waiting(spaces, histories, diaries, {}, names)
        for name, case in {**INCURABLE, **CURABLE}.items():
            site = sites[case.server]
            task = json.loads(json.dumps(case.made(site)).replace("{host}", host))
            if "image" in task:
                task["executors"][0]["image"] = task.pop("image")
            found.ids[name] = site.create(task)
        yield found


def servers(names: Mapping[str, str]) -> dict[str, Json]:
    """Settings of the servers by name: each has something that does not exist."""
    allowed = {
        "service_accounts": ["absent"],
        "gpu_resource": names["resource"],
        "node_selector_keys": ["kubernetes.io/hostname"],
    }
    some = {
        "plain": {"allowed": allowed},
        "odd": {
            "storage_class": "absent",
            "executor_secret": {"name": "absent"},
            "queue_timeout": QUEUE_TIMEOUT,
        },
        "secret": {"storage_secret": "absent"},
        "image": {"image": f"{names['host']}/missing/tesk:1"},
        "account": {"taskmaster_service_account": "absent"},
        "quota": {},
    }
    pod = {"layout": "pod", "pod_scratch": "volume"}
    some |= {f"{name}-pod": {**some[name], **pod} for name in ("odd", "secret", "quota")}
    some["pod"] = {**some["plain"], "layout": "pod"}
    return {name: {"instance": name, "start_timeout": START_TIMEOUT, **one} for name, one in some.items()}


@contextlib.contextmanager
def scarce_resource(space: Space) -> Iterator[str]:
    """Let the node have one piece of something while the block runs; its name."""
    name = f"example.com/{space.name}"
    node = space.cluster.list("nodes")[0]["metadata"]["name"]

    def patch(op: str, *where: str, **more: str) -> None:
        steps = [{"op": op, "path": f"/status/{one}/{name.replace('/', '~1')}", **more} for one in where]
        space.cluster.kubectl("patch", "node", node, "--subresource=status", "--type=json", "-p", json.dumps(steps))

    patch("add", "capacity", "allocatable", value="1")
    try:
        yield name
    finally:
        patch("remove", "capacity", "allocatable")


def occupy(space: Space, resources: Mapping[str, str], *, node: str = "") -> None:
    """A pod of somebody else's, `other`, that holds `resources`; on a `node` that is not there it only counts."""
    container = {
        "name": "main",
        "image": BUSYBOX,
        "command": ["sleep", "3600"],
        "resources": {"requests": dict(resources), "limits": dict(resources)},
    }
    spec = {"terminationGracePeriodSeconds": 0, "containers": [container]}
    if node:
        spec["nodeSelector"] = {"kubernetes.io/hostname": node}
    space.make({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "other"}, "spec": spec})
    if not node:
        space.kubectl("wait", "pod/other", "--for=condition=Ready", "--timeout=120s")


def set_quota(space: Space, cpu: str, claims: int = 1) -> None:
    """The namespace's quota `small`, once it is in force."""
    hard = {"requests.cpu": cpu, "requests.storage": "10Gi", "persistentvolumeclaims": str(claims)}
    body = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "small"}, "spec": {"hard": hard}}
    space.make(body)
    until(lambda: space.get("resourcequota", "small").get("status", {}).get("hard") == hard, "the quota is in force")


@pytest.mark.parametrize("name", [*INCURABLE, *CURABLE])
def test_what_keeps_a_task_is_told_in_time(waiting: Waiting, name: str, record_property: Any) -> None:
    case = {**INCURABLE, **CURABLE}[name]
    task, diary = waiting.ids[name], waiting.diaries[case.server]
    told = diary.wait_said(task, waiting.words(case))
    known = case.known(waiting.history(case), task)
    assert known is not None
    record_property("figure", f"{name}: told {told - known:.1f} s after the cluster knew")
    assert told - known < SOON


@pytest.mark.parametrize("name", CURED)
def test_why_a_task_does_not_run_is_answered_as_long_as_it_does_not(waiting: Waiting, name: str) -> None:
    case = CURED[name]
    task, diary = waiting.ids[name], waiting.diaries[case.server]
    diary.wait_said(task, waiting.words(case))
    until(lambda: waiting.words(case) in (diary.why(task) or ""), f"it says why: {diary.why(task)}")


@pytest.mark.parametrize("name", ENDING)
def test_what_is_not_cured_ends_the_task_and_leaves_nothing(waiting: Waiting, name: str) -> None:
    case = ENDING[name]
    task_id, diary = waiting.ids[name], waiting.diaries[case.server]
    task = diary.wait(task_id)
    known = case.known(waiting.history(case), task_id)
    ended = diary.since(task_id, "SYSTEM_ERROR")
    assert task["state"] == "SYSTEM_ERROR"
    last = sentences(task).splitlines()[-1]
    assert f"could not start within {case.timeout} s: " in last
    assert waiting.words(case) in last
    assert len(task["logs"]) == 1
    assert known is not None
    assert ended is not None
    assert ended - known < case.timeout + SOON
    until(lambda: waiting.history(case).left(task_id) == [], "nothing of it is left")


@pytest.fixture(scope="module")
def cured(waiting: Waiting) -> Waiting:
    """What can be cured has waited longer than for what cannot; now it is cured."""
    told = max(
        waiting.diaries[one.server].wait_said(waiting.ids[name], waiting.words(one)) for name, one in CURED.items()
    )
    until(lambda: time.time() - told > START_TIMEOUT + 5, "longer than start_timeout")
    for name, case in CURED.items():
        assert waiting.diaries[case.server].states(waiting.ids[name])[-1] in ("QUEUED", "INITIALIZING")
    waiting.spaces["waits"].kubectl("delete", "pod", "other", "--wait=false")
    waiting.spaces["quota"].kubectl("delete", "pvc", "other")
    set_quota(waiting.spaces["quota"], "3")
    return waiting


@pytest.mark.parametrize("name", CURED)
def test_what_is_cured_after_a_long_time_runs(cured: Waiting, name: str) -> None:
    case, task_id = CURED[name], cured.ids[name]
    task = cured.diaries[case.server].wait(task_id)
    assert task["state"] == "COMPLETE", task
    assert cured.words(case) in sentences(task)
