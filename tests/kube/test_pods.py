"""An attempt as one pod, on the cluster: what it may hold, and what its executors see.

What is taken from it is in tests/kube/faults, what executors try in test_tricks.py.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tesk.backends.kubernetes.roles import SERVER_RULES, make_role
from tests.behaviour.sites import Site, sentences
from tests.kube.cluster import Cluster
from tests.kube.diary import Diary
from tests.kube.eventually import until
from tests.kube.serving import serving
from tests.kube.space import Space, new_space

pytestmark = [pytest.mark.kube, pytest.mark.timeout(400)]

Json = dict[str, Any]

LAST = 15

PEEKS = """
ls /.tesk; ls -l /.tesk | grep -c '^p'; ls -d /var/run/secrets /tesk /scratch 2>&1 | grep -vc 'No such'
env | grep -c SECRET; touch /.tesk/go 2>&1 | grep -o 'Read-only'; ls /data
"""


@dataclass
class Crowd:
    """The tasks of this module, by their case, all begun at once."""

    site: Site
    space: Space
    diary: Diary
    ids: dict[str, str]

    def end(self, case: str) -> Json:
        """The task of `case` once it has ended."""
        return self.diary.wait(self.ids[case])


@pytest.fixture(scope="module")
def crowd(cluster: Cluster, image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crowd]:
    cluster.need_here()
    with ExitStack() as stack:
        space = stack.enter_context(new_space(cluster, "pods", wait=False))
        secret = space.secret("storage", {"SECRET_WORD": "x"})
        directory = tmp_path_factory.mktemp("pods") / "server"
        more = {"layout": "pod", "start_timeout": 15, "storage_secret": secret}
        site = stack.enter_context(serving(space, directory, image=image, **more))
        diary = stack.enter_context(Diary(site))
        ids = {name: site.create(task) for name, task in cases(site).items()}
        yield Crowd(site, space, diary, ids)
        with site.client as client:
            client.cancel(ids["drained"])
        for one in ids.values():
            diary.wait(one)
        assert site.left() == []


def several(site: Site, *scripts: str, **more: Any) -> Json:
    """A task with an executor for each script."""
    found = site.shell(scripts[0], **more)
    found["executors"] += [site.shell(one)["executors"][0] for one in scripts[1:]]
    return found


def cases(site: Site) -> dict[str, Json]:
    """The tasks, those that take longest first."""
    data: Json = {"volumes": ["/data"]}
    second = several(site, "sleep 3", "true")
    second["executors"][1]["image"] = "localhost/no-such-image:1"
    return {
        "second image missing": second,
        "drained": several(site, "sleep 600", "true", **data),
        "sixteen": several(site, *(f"echo {one} >> /data/log" for one in range(LAST)), "cat /data/log", **data),
        "scratch is full": site.shell(
            "dd if=/dev/zero of=/data/big bs=1M count=20; sleep 600", resources={"disk_gb": 0.002}, **data
        ),
        "out of memory": site.shell("exec tail /dev/zero", resources={"ram_gb": 0.03}),
        "too long": site.shell("sleep 600", resources={"backend_parameters": {"max_runtime": "3"}}),
        "peeks": several(site, PEEKS, "true", **data),
        "first fails": several(site, "exit 3", "echo never"),
        "over the image's own file": {
            **site.shell("cat /etc/passwd /in.txt"),
            "inputs": [{"path": "/etc/passwd", "content": "me\n"}, {"path": "/in.txt", "content": "you\n"}],
        },
        "not found": site.task("/no/such/program"),
    }


def streams(task: Json, executor: int = 0) -> tuple[int, str]:
    """The exit code and the stdout of one executor of the last attempt."""
    assert len(task["logs"][-1].get("logs", ())) > executor, task
    log = task["logs"][-1]["logs"][executor]
    return log["exit_code"], log.get("stdout", "")


def test_sixteen_executors_take_turns(crowd: Crowd) -> None:
    task = crowd.end("sixteen")
    assert task["state"] == "COMPLETE"
    assert streams(task, LAST) == (0, "".join(f"{one}\n" for one in range(LAST)))
    logs = task["logs"][0]["logs"]
    assert all(one["end_time"] <= two["start_time"] for one, two in itertools.pairwise(logs))


def test_those_after_a_failed_one_do_not_start(crowd: Crowd) -> None:
    task = crowd.end("first fails")
    assert task["state"] == "EXECUTOR_ERROR"
    assert [one["exit_code"] for one in task["logs"][0]["logs"]] == [3]


def test_single_files_are_mounted_over_an_images_own(crowd: Crowd) -> None:
    task = crowd.end("over the image's own file")
    assert task["state"] == "COMPLETE", sentences(task)
    assert streams(task) == (0, "me\nyou\n")


def test_an_executor_sees_nothing_but_its_own(crowd: Crowd) -> None:
    """Its launcher and no FIFO, no token, nothing of the taskmaster's, no storage credentials."""
    task = crowd.end("peeks")
    assert task["state"] == "COMPLETE", sentences(task)
    assert streams(task)[1].split() == ["launcher", "0", "0", "0", "Read-only"]


def test_an_image_that_cannot_be_pulled_is_why_a_task_waits_and_how_it_ends(crowd: Crowd) -> None:
    asked = crowd.site.create(crowd.site.task("true", image="localhost/no-such-image:1"))
    words = "image 'localhost/no-such-image:1' cannot be pulled"
    until(lambda: words in (crowd.diary.why(asked) or ""), "it says why it waits", seconds=60)
    task = crowd.diary.wait(asked)
    assert task["state"] == "SYSTEM_ERROR"
    assert "cannot be pulled" in sentences(task)


def test_the_image_of_a_later_executor_is_waited_for_when_its_turn_has_come(crowd: Crowd) -> None:
    task = crowd.end("second image missing")
    assert task["state"] == "SYSTEM_ERROR"
    assert [one["exit_code"] for one in task["logs"][0]["logs"]] == [0]
    assert "executor 1 could not start within 15 s: image 'localhost/no-such-image:1' cannot be pulled" in sentences(
        task
    )


def test_what_ended_a_command_is_told(crowd: Crowd) -> None:
    expected = {
        "out of memory": (137, "it needed more memory than its 0.03 GB"),
        "too long": (143, "it ran longer than allowed (3 s)"),
        "scratch is full": (137, "it used more disk than its limit"),
        "not found": (127, "'/no/such/program' was not found"),
    }
    for case, (code, words) in expected.items():
        task = crowd.end(case)
        assert (task["state"], streams(task)[0]) == ("EXECUTOR_ERROR", code), (case, sentences(task))
        assert words in sentences(task)


def test_a_drain_takes_such_a_pod_without_force(crowd: Crowd) -> None:
    task = crowd.ids["drained"]
    crowd.diary.wait(task, "RUNNING")
    selector = f"--pod-selector=tesk/task={task}"
    said = crowd.space.cluster.kubectl(
        "drain", "node-1", "--dry-run=client", "--ignore-daemonsets", "--delete-emptydir-data", selector
    )
    assert f"{crowd.space.name}/{task}" in said


def test_scratch_may_be_a_volume_that_goes_with_its_pod(cluster: Cluster, image: str, tmp_path: Path) -> None:
    """At once, also where finished pods are kept: they would keep it."""
    more = {"layout": "pod", "pod_scratch": "volume", "keep_finished": 3600}
    with new_space(cluster, "volume") as space, serving(space, tmp_path / "server", image=image, **more) as site:
        task = site.create(
            {**site.shell("cat /data/in; sleep 3"), "inputs": [{"path": "/data/in", "content": "here\n"}]}
        )
        site.wait(task, "RUNNING")
        assert cluster.list("persistentvolumeclaims", "--namespace", space.name)
        assert streams(site.wait(task)) == (0, "here\n")
        assert site.left() == []


@pytest.mark.parametrize("sent", [True, False])
def test_reports_are_sent_or_else_read_in_logs(cluster: Cluster, image: str, tmp_path: Path, sent: bool) -> None:
    """Each way alone is enough: without the right to read logs, and without a port to send reports to."""
    cluster.need_here()
    with new_space(cluster, "reports", wait=False) as space:
        if sent:
            space.make(make_role("tesk", space.name, tuple(one for one in SERVER_RULES if one.resource != "pods/log")))
        port = {} if sent else {"report_port": None}
        with serving(space, tmp_path / "server", image=image, layout="pod", **port) as site, Diary(site) as diary:
            task = diary.wait(site.create(several(site, "echo one", "exit 3")))
            assert task["state"] == "EXECUTOR_ERROR"
            assert [one["exit_code"] for one in task["logs"][0]["logs"]] == [0, 3]
            assert streams(task) == (0, "one\n")
            assert site.left() == []


@pytest.mark.parametrize("layout", ["jobs", "pod"])
def test_shared_storage_that_is_not_there_is_told_at_the_start_and_by_the_task(
    cluster: Cluster, image: str, tmp_path: Path, layout: str
) -> None:
    shared = [{"name": "work", "pvc": "no-such-claim", "client_path": "/data"}]
    with new_space(cluster, "absent", wait=False) as space:
        settings = {"image": image, "layout": layout, "start_timeout": 10, "shared": shared}
        with serving(space, tmp_path / "server", **settings) as site:
            log = (site.directory / "server.log").read_text()
            assert "there is no PersistentVolumeClaim no-such-claim, which has the files at /data" in log
            task = site.run(site.task("true", inputs=[{"url": "/data/x", "path": "/in/x"}]))
            assert task["state"] == "SYSTEM_ERROR"
            assert "no-such-claim" in sentences(task)
            assert site.run(site.task("true"))["state"] == "COMPLETE", "nobody else is kept by it"
