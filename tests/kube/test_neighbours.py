"""What else is in the namespace stays as it is; and how much of ours is there, for how long, under which names."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
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
from tests.kube.serving import serving
from tests.kube.space import Space, new_space

pytestmark = [pytest.mark.kube, pytest.mark.timeout(400)]

Json = dict[str, Any]

KEEP = 10.0
NOWHERE = {"kubernetes.io/hostname": "nowhere"}
SCRATCH: Json = {"volumes": ["/data"]}


@dataclass
class House:
    """A namespace with two servers: one attempt at a time, nothing kept; and two at a time, kept for `KEEP` seconds."""

    space: Space
    history: History
    single: Site
    double: Site
    diaries: dict[str, Diary]


@pytest.fixture(scope="module")
def house(cluster: Cluster, image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    directory = tmp_path_factory.mktemp("neighbours")
    with ExitStack() as stack:
        space = stack.enter_context(new_space(cluster, "neighbours", wait=False))
        history = stack.enter_context(History(cluster, space.name))
        settings: dict[str, Json] = {"single": {"max_active": 1}, "double": {"max_active": 2, "keep_finished": KEEP}}
        sites = {
            name: stack.enter_context(serving(space, directory / name, image=image, instance=name, **one))
            for name, one in settings.items()
        }
        diaries = {name: stack.enter_context(Diary(one)) for name, one in sites.items()}
        yield House(space, history, sites["single"], sites["double"], diaries)


def strangers(task: str) -> list[Json]:
    """Objects of others whose names or labels are like those of the attempt at `task`."""
    ours = {"tesk/task": task, "tesk/attempt": "1", "tesk/step": "executor", "app.kubernetes.io/instance": "single"}
    others = {
        "other": {**ours, "app.kubernetes.io/managed-by": "other"},
        "elsewhere": {**ours, "app.kubernetes.io/managed-by": "tesk", "app.kubernetes.io/instance": "elsewhere"},
        "ex-00-x": {},
        "pvc2": {"app.kubernetes.io/managed-by": "tesk"},
    }
    return [
        make(f"{task}-{name}", labels) for name, labels in others.items() for make in (a_pod, a_job, a_map, a_claim)
    ]


def named(api: str, kind: str, name: str, labels: Json, **more: Any) -> Json:
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name, "labels": labels}, **more}


def a_pod(name: str, labels: Json) -> Json:
    """A pod that no node takes."""
    return named("v1", "Pod", name, labels, spec=spec())


def a_job(name: str, labels: Json) -> Json:
    """A Job that waits."""
    template = {"metadata": {"labels": labels}, "spec": spec()}
    return named("batch/v1", "Job", name, labels, spec={"suspend": True, "template": template})


def a_map(name: str, labels: Json) -> Json:
    """A ConfigMap."""
    return named("v1", "ConfigMap", name, labels, data={"key": "value"})


def a_claim(name: str, labels: Json) -> Json:
    """A claim to a volume of a class that nobody serves."""
    size = {"storageClassName": "", "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}
    return named("v1", "PersistentVolumeClaim", name, labels, spec=size)


def spec() -> Json:
    container = {"name": "main", "image": BUSYBOX, "command": ["sleep", "1"]}
    return {"restartPolicy": "Never", "nodeSelector": NOWHERE, "containers": [container]}


def identities(space: Space, objects: list[Json]) -> dict[str, Any]:
    """What must not change of `objects`: who they are, whose, and whether they are being deleted."""
    found = {}
    for one in objects:
        kind, name = one["kind"], one["metadata"]["name"]
        metadata = space.get(kind, name)["metadata"]
        kept = ("uid", "labels", "annotations", "ownerReferences", "deletionTimestamp")
        found[f"{kind}/{name}"] = {key: metadata.get(key) for key in kept}
    return found


def test_what_is_not_ours_is_never_touched(house: House) -> None:
    site, diary, space = house.single, house.diaries["single"], house.space
    holder = site.create({**site.task("sleep", "600"), **SCRATCH})
    whole = site.create({**site.task("true"), **SCRATCH})
    names = {
        "ex-00": a_job,
        "pvc": a_claim,
        "inputs-filer": a_job,
        "": a_map,
    }
    taken = {name: site.create({**site.task("true"), **SCRATCH}) for name in names}
    namesakes = [make(f"{taken[name]}-{name}".rstrip("-"), {}) for name, make in names.items()]
    taskmaster = site.create(site.task("true"))
    namesakes.append(a_job(taskmaster, {}))
    objects = [*strangers(holder), *strangers(whole), *namesakes]
    diary.wait(taskmaster, "QUEUED")
    assert house.history.of_task(whole) == []
    for one in objects:
        one["metadata"]["namespace"] = space.name
    space.cluster.apply(*objects)
    before = identities(space, objects)

    diary.wait(holder, "RUNNING")
    with site.client as client:
        client.cancel(holder)
    assert diary.wait(holder)["state"] == "CANCELED"
    assert diary.wait(whole)["state"] == "COMPLETE"
    for name, task_id in [*taken.items(), ("", taskmaster)]:
        task = diary.wait(task_id)
        assert task["state"] == "SYSTEM_ERROR", task
        full = f"{task_id}-{name}".rstrip("-")
        assert f"{full} exists already and belongs to something else; it was left as it is" in sentences(task)
    until(lambda: not ours_left(house), "nothing of ours is left")
    assert identities(space, objects) == before


def ours_left(house: House) -> list[str]:
    """What is there of the server with one place."""
    ours = "app.kubernetes.io/managed-by=tesk,app.kubernetes.io/instance=single"
    found = house.space.cluster.list(
        "jobs,pods,persistentvolumeclaims,configmaps", "--namespace", house.space.name, "-l", ours
    )
    return [one["metadata"]["name"] for one in found]


def test_no_more_attempts_than_allowed_and_what_has_ended_stays_for_a_while(house: House) -> None:
    site, diary = house.double, house.diaries["double"]
    ids = [site.create(site.task("sleep", "2")) for _ in range(5)]
    for task_id in ids:
        assert diary.wait(task_id)["state"] == "COMPLETE"
    assert diary.most_active == 2
    last = ids[-1]
    ended = diary.since(last, "COMPLETE")
    assert ended is not None
    kinds = [one.partition("/")[0] for one in house.history.left(last)]
    assert [kinds.count(one) for one in ("Job", "Pod", "ConfigMap")] == [2, 2, 2]
    until(lambda: not house.history.left(last), "it goes once it has been kept long enough")
    assert time.time() - ended > KEEP - 1
    for task_id in ids:
        until(lambda task_id=task_id: not house.history.left(task_id), "nothing of it is left")  # type: ignore[misc]


def test_a_new_attempt_has_names_of_its_own(house: House) -> None:
    site, diary, history = house.double, house.diaries["double"], house.history
    task_id = site.create({**site.task("sleep", "4"), **SCRATCH})
    diary.wait(task_id, "RUNNING")
    house.space.kubectl(
        "delete", "pods", "-l", f"tesk/task={task_id},tesk/step=executor", "--grace-period=0", "--wait=false"
    )
    task = diary.wait(task_id)
    assert task["state"] == "COMPLETE", json.dumps(task, indent=1)
    assert len(task["logs"]) == 2
    for number, prefix in ((1, task_id), (2, f"{task_id}-a2")):
        seen = [one for one in history.of_task(task_id) if one.labels["tesk/attempt"] == str(number)]
        names = {
            kind: {one.name for one in seen if one.kind == kind}
            for kind in ("ConfigMap", "Job", "PersistentVolumeClaim")
        }
        assert names["ConfigMap"] == {prefix, f"{prefix}-report"}
        assert names["Job"] == {prefix, f"{prefix}-inputs-filer", f"{prefix}-ex-00"}
        assert names["PersistentVolumeClaim"] == {f"{prefix}-pvc"}
        assert all(one.name.startswith(prefix) for one in seen)
