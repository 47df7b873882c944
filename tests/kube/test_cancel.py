"""Cancel, at every moment of a task's life: CANCELED comes soon, and then nothing of the task is left."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.behaviour.sites import Site
from tests.kube.cluster import HOST, Cluster
from tests.kube.diary import Diary
from tests.kube.eventually import until
from tests.kube.history import History
from tests.kube.scenes.stage import registry
from tests.kube.serving import serving
from tests.kube.space import Space, new_space
from tests.kube.stalling import stalling

pytestmark = [pytest.mark.kube, pytest.mark.timeout(400)]

Json = dict[str, Any]
Moment = Callable[[History, Diary, str], object]

SOON = 60.0
"""Seconds that a cancel may take on a busy machine; an executor alone has ten to end."""

KINDS = "jobs,pods,persistentvolumeclaims,configmaps"
RANDOM = random.Random(5)
SOMETIMES = sorted(RANDOM.uniform(0.0, 8.0) for _ in range(6))
POD_TIMES = sorted(RANDOM.uniform(0.5, 4.0) for _ in range(6))
"""The same for pods, which run sooner."""


def waits(step: str, reason: str) -> Moment:
    """The pod of `step` waits, and the kubelet says that it is `reason` about it."""

    def come(history: History, diary: Diary, task: str) -> bool:
        pods = {one.name for one in history.sights("Pod", task) if one.labels["tesk/step"] == step}
        events = (one.body for one in history.sights("Event"))
        return any(one["reason"] == reason and one["involvedObject"]["name"] in pods for one in events)

    return come


def runs(step: str) -> Moment:
    """The main container of `step` runs."""

    def come(history: History, diary: Diary, task: str) -> bool:
        pods = [one.body for one in history.sights("Pod", task) if one.labels["tesk/step"] == step]
        statuses = pods[-1]["status"].get("containerStatuses", []) if pods else []
        return any("running" in one["state"] for one in statuses)

    return come


def queued(history: History, diary: Diary, task: str) -> bool:
    """The server has the task, and has nothing made for it."""
    return diary.states(task) == ["QUEUED"]


def executes(history: History, diary: Diary, task: str) -> bool:
    """The first executor runs."""
    return "RUNNING" in diary.states(task)


def executed(history: History, diary: Diary, task: str) -> bool:
    """The only executor has ended, and the task has not."""
    return diary.executed(task) == 1


@dataclass
class Canceled:
    """A task that is canceled at `moment`, or `after` so many seconds."""

    server: str
    task: Json
    moment: Moment | None = None
    after: float = 0.0
    id: str = ""
    asked: float = 0.0
    answered: Json = field(default_factory=dict)


@dataclass
class Stand:
    """What the tasks of this module run on."""

    space: Space
    history: History
    diaries: dict[str, Diary]
    cases: dict[str, Canceled]


@pytest.fixture(scope="module")
def stand(cluster: Cluster, image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    cluster.need_here()
    directory = tmp_path_factory.mktemp("cancel")
    with ExitStack() as stack:
        host = stack.enter_context(registry())
        web = stack.enter_context(stalling(HOST))
        space = stack.enter_context(new_space(cluster, "cancel", wait=False))
        history = stack.enter_context(History(cluster, space.name))
        settings: dict[str, Json] = {
            "wide": {},
            "narrow": {"max_active": 1},
            "stuck": {"image": f"{host}/hanging/tesk:1"},
            "pod": {"layout": "pod"},
            "stuck pod": {"layout": "pod", "image": f"{host}/hanging/tesk:1"},
        }
        sites = {
            name: stack.enter_context(
                serving(
                    space,
                    directory / name,
                    **{"image": image, "instance": name.replace(" ", "-"), "start_timeout": 3600, **one},
                )
            )
            for name, one in settings.items()
        }
        diaries = {name: stack.enter_context(Diary(one)) for name, one in sites.items()}
        stand = Stand(space, history, diaries, cases(sites["wide"], host, web))
        holder = sites["narrow"].create(sites["narrow"].task("sleep", "600"))
        diaries["narrow"].wait(holder, "INITIALIZING", "RUNNING")
        cancel_all(stand, sites)
        yield stand
        with sites["narrow"].client as client:
            client.cancel(holder)
        diaries["narrow"].wait(holder)


PODS = ["pulls the image of tesk", "pulls its image", "stages in", "runs and ignores SIGTERM", "stages out"]
NAMES = [
    "waits for a place",
    "pulls the image of tesk",
    "pulls its image",
    "pulls its image with scratch",
    "stages in",
    "runs and ignores SIGTERM",
    "stages out",
    *(f"is {after:.2f} s old" for after in SOMETIMES),
    *(f"is a pod and {what}" for what in (*PODS, *(f"{after:.2f} s old" for after in POD_TIMES))),
]


def cases(site: Site, host: str, web: str) -> dict[str, Canceled]:
    """The tasks by what they do when they are canceled."""
    sleep, scratch = site.task("sleep", "600"), {"volumes": ["/data"]}
    stubborn = site.shell("trap '' TERM; while :; do sleep 1; done")
    slow = {**sleep, "inputs": [{"url": f"{web}/big", "path": "/data/big"}]}
    back = {**site.shell("echo x >/data/out"), "outputs": [{"url": f"{web}/out", "path": "/data/out"}]}
    found = [
        Canceled("narrow", sleep, queued),
        Canceled("stuck", sleep, waits("taskmaster", "Pulling")),
        Canceled("wide", site.task("true", image=f"{host}/hanging/a:1"), waits("executor", "Pulling")),
        Canceled("wide", {**site.task("true", image=f"{host}/hanging/a:1"), **scratch}, waits("executor", "Pulling")),
        Canceled("wide", slow, runs("stage-in")),
        Canceled("wide", {**stubborn, **scratch}, runs("executor")),
        Canceled("wide", back, runs("stage-out")),
        *(Canceled("wide", {**sleep, **scratch}, after=after) for after in SOMETIMES),
        Canceled("stuck pod", sleep, waits("taskmaster", "Pulling")),
        Canceled("pod", {**site.task("true", image=f"{host}/hanging/a:1"), **scratch}, waits("taskmaster", "Pulling")),
        Canceled("pod", slow, runs("taskmaster")),
        Canceled("pod", {**stubborn, **scratch}, executes),
        Canceled("pod", back, executed),
        *(Canceled("pod", {**sleep, **scratch}, after=after) for after in POD_TIMES),
    ]
    return dict(zip(NAMES, found, strict=True))


def cancel_all(stand: Stand, sites: dict[str, Site]) -> None:
    """Begin every task, and cancel each when its moment has come."""
    for case in stand.cases.values():
        case.id = sites[case.server].create(case.task)
    begun = time.time()
    left = list(stand.cases.values())

    def cancel_some() -> bool:
        for case in list(left):
            come = case.moment and case.moment(stand.history, stand.diaries[case.server], case.id)
            if come or (case.moment is None and time.time() - begun >= case.after):
                left.remove(case)
                with sites[case.server].client as client:
                    case.asked = time.time()
                    client.cancel(case.id)
                    case.answered = dict(client.get(case.id))
        return not left

    until(cancel_some, "every task has come to its moment", seconds=240, every=0.05)


@pytest.mark.parametrize("name", NAMES)
def test_a_task_is_canceled_soon_and_nothing_is_left(stand: Stand, name: str, record_property: Any) -> None:
    case = stand.cases[name]
    diary = stand.diaries[case.server]
    task = diary.wait(case.id)
    # what the API server holds at this very moment
    left = stand.space.cluster.list(KINDS, "--namespace", stand.space.name, "-l", f"tesk/task={case.id}")
    assert [one["metadata"]["name"] for one in left] == []
    assert task["state"] == "CANCELED"
    assert case.answered["state"] in ("CANCELING", "CANCELED")
    canceled = diary.since(case.id, "CANCELED")
    assert canceled is not None
    record_property("figure", f"cancel of a task that {name}: {canceled - case.asked:.1f} s")
    assert canceled - case.asked < SOON


def test_nothing_is_made_after_a_cancel_and_no_state_goes_back(stand: Stand) -> None:
    for case in stand.cases.values():
        stand.diaries[case.server].wait(case.id)
    time.sleep(3)
    wrong = {}
    for name, case in stand.cases.items():
        diary = stand.diaries[case.server]
        canceled = diary.since(case.id, "CANCELED")
        assert canceled is not None
        late = [one.name for one in stand.history.of_task(case.id) if not one.gone]
        states = [one for one in diary.states(case.id) if one != "CANCELING"]
        way = ["QUEUED", "INITIALIZING", "RUNNING", "CANCELED"]
        if late or states != [one for one in way if one in states]:
            wrong[name] = (late, states)
    assert wrong == {}


def test_a_task_that_waits_for_a_place_is_canceled_before_anything_is_made(stand: Stand) -> None:
    case = stand.cases["waits for a place"]
    task = stand.diaries["narrow"].wait(case.id)
    assert stand.history.of_task(case.id) == []
    assert "start_time" not in (task.get("logs") or [{}])[0]


def test_the_volumes_of_canceled_tasks_go_too(stand: Stand) -> None:
    for case in stand.cases.values():
        stand.diaries[case.server].wait(case.id)

    def volumes() -> list[Json]:
        found = stand.space.cluster.list("persistentvolumes")
        return [one for one in found if one["spec"].get("claimRef", {}).get("namespace") == stand.space.name]

    until(lambda: not volumes(), "no volume is left")
