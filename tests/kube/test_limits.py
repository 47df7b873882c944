"""The namespace's LimitRange: what it asks for at least is asked for, and what nobody may look up is told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from tesk.backends.kubernetes.roles import SERVER_RULES, make_role
from tests.behaviour.sites import Site, sentences
from tests.kube.cluster import Cluster
from tests.kube.diary import Diary
from tests.kube.history import History
from tests.kube.serving import serving
from tests.kube.space import Space, new_space

pytestmark = [pytest.mark.kube, pytest.mark.timeout(400)]

Json = dict[str, Any]

START_TIMEOUT = 60
LEAST = {"cpu": "50m", "memory": "64Mi"}
LIMITS = [{"type": "Container", "min": LEAST}, {"type": "PersistentVolumeClaim", "min": {"storage": "100Mi"}}]


@dataclass
class Limited:
    """Tasks of two servers, one of which may not look at limit ranges."""

    history: History
    diaries: dict[str, Diary]
    sites: dict[str, Site]
    ids: dict[str, str]

    def end(self, server: str, case: str) -> Json:
        """The task of `case` once it has ended."""
        return self.diaries[server].wait(self.ids[case])

    def complete(self, server: str, case: str) -> None:
        """Await the good end of a task."""
        task = self.end(server, case)
        assert task["state"] == "COMPLETE", sentences(task)

    def resources(self, case: str, step: str) -> Json:
        """What the pod of a step asked for."""
        return dict(self.history.pod(self.ids[case], step)["spec"]["containers"][0]["resources"])


@pytest.fixture(scope="module")
def limited(cluster: Cluster, image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Limited]:
    directory = tmp_path_factory.mktemp("limits")
    with ExitStack() as stack:
        space = stack.enter_context(new_space(cluster, "limits", wait=False))
        space.make(
            {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "least"}, "spec": {"limits": LIMITS}}
        )
        make_unseeing(space)
        history = stack.enter_context(History(cluster, space.name))
        some: dict[str, Json] = {
            "seeing": {},
            "unseeing": {"account": "unseeing", "taskmaster_resources": {"requests": LEAST, "limits": {}}},
        }
        sites = {}
        for name, one in some.items():
            settings = {"image": image, "instance": name, "start_timeout": START_TIMEOUT, "keep_finished": 3600, **one}
            sites[name] = stack.enter_context(serving(space, directory / name, **settings))
        diaries = {name: stack.enter_context(Diary(one)) for name, one in sites.items()}
        small: Json = {"resources": {"cpu_cores": 0.01, "ram_gb": 0.02, "disk_gb": 0.01}, "volumes": ["/data"]}
        tasks: dict[str, tuple[str, Json]] = {
            "little": ("seeing", small),
            "enough": ("seeing", {"resources": {"cpu_cores": 0.06}}),
            "nothing": ("unseeing", {}),
            "too little": ("unseeing", {"resources": {"cpu_cores": 0.01}}),
        }
        ids = {name: sites[site].create({**sites[site].task("true"), **more}) for name, (site, more) in tasks.items()}
        yield Limited(history, diaries, sites, ids)


def make_unseeing(space: Space) -> None:
    """A service account with all rights of the server but that to look at limit ranges."""
    about = {"name": "unseeing", "namespace": space.name}
    rules = tuple(one for one in SERVER_RULES if one.resource != "limitranges")
    space.make({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": about})
    space.make(make_role("unseeing", space.name, rules))
    space.make(
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": about,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "unseeing"},
            "subjects": [{"kind": "ServiceAccount", **about}],
        }
    )


def test_what_is_below_the_minimum_is_raised_to_it(limited: Limited) -> None:
    limited.complete("seeing", "little")
    raised = {"cpu": "50m", "memory": str(64 << 20)}
    assert limited.resources("little", "executor") == {"requests": raised, "limits": raised}
    assert limited.resources("little", "taskmaster")["requests"] == LEAST
    claim = limited.history.last("PersistentVolumeClaim", f"{limited.ids['little']}-pvc")
    assert claim["spec"]["resources"]["requests"] == {"storage": str(100 << 20)}


def test_what_is_above_the_minimum_stays(limited: Limited) -> None:
    limited.complete("seeing", "enough")
    assert limited.resources("enough", "executor")["limits"]["cpu"] == "60m"


def test_a_server_that_may_not_look_runs_what_asks_for_enough(limited: Limited) -> None:
    limited.complete("unseeing", "nothing")
    log = (limited.sites["unseeing"].directory / "server.log").read_text().lower()
    assert "error" not in log
    assert "warning" not in log


def test_a_server_that_may_not_look_tells_what_asks_for_too_little(limited: Limited) -> None:
    task = limited.end("unseeing", "too little")
    assert task["state"] == "SYSTEM_ERROR"
    assert "the cluster refuses its pod: minimum cpu usage per Container is 50m, but request is 10m" in sentences(task)
