"""Whatever is taken away from a running task: it ends as it must, no executor runs twice, and nothing is left."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tesk.backends.kubernetes.report_map import read_report
from tests.kube.cluster import Cluster
from tests.kube.faults.campaign import Campaign, campaign
from tests.kube.faults.late import late_image
from tests.kube.faults.machine import ended, until
from tests.kube.faults.table import ALONE, PULLING, TOGETHER, Case, Layout, sample

SAMPLE: dict[Layout, int] = {"jobs": 10, "pod": 8}

pytestmark = pytest.mark.timeout(1800)
both = pytest.mark.parametrize("layout", ["jobs", "pod"])
counts = [
    pytest.param(layout, count, marks=mark, id=f"{layout}-{name}")
    for name, mark, some in (
        ("sample", pytest.mark.kube, SAMPLE),
        ("all", pytest.mark.faults, {layout: len(cases) for layout, cases in ALONE.items()}),
    )
    for layout, count in some.items()
]


@pytest.fixture
def layout() -> Layout:
    """Of the attempts; tests name another."""
    return "jobs"


@pytest.fixture
def running(cluster: Cluster, image: str, tmp_path: Path, fault_seed: int, layout: Layout) -> Iterator[Campaign]:
    """A server, and what breaks it."""
    with campaign(cluster, image, tmp_path, fault_seed, layout) as made:
        yield made


@pytest.mark.parametrize(("layout", "count"), counts)
def test_a_fault_at_a_step_ends_as_it_must(running: Campaign, fault_seed: int, count: int) -> None:
    wrong = running.alone(sample(fault_seed, count, ALONE[running.layout]))
    assert not wrong, f"seed {fault_seed}:\n" + "\n".join(wrong)


@both
@pytest.mark.kube
@pytest.mark.faults
def test_a_server_that_is_killed_costs_nothing_wherever_its_tasks_are(running: Campaign) -> None:
    @contextlib.contextmanager
    def killed() -> Iterator[None]:
        running.site.kill()
        yield
        time.sleep(1.0)
        running.site.start()

    wrong = running.together(TOGETHER[running.layout]["server-killed"], killed(), lambda number: number % 2 == 0)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("layout", [pytest.param("jobs", marks=pytest.mark.kube), "pod"])
@pytest.mark.faults
def test_tasks_that_ended_while_no_server_ran_are_told_by_the_next(running: Campaign) -> None:
    cases = [one for one in TOGETHER[running.layout]["server-killed"] if one.step in ("stage-in", "executor-1")]
    started = ""

    @contextlib.contextmanager
    def away() -> Iterator[None]:
        nonlocal started
        running.site.kill()
        yield
        until(lambda: all(has_ended(running, one) for one in running.held), 240)
        time.sleep(2.0)
        started = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
        running.site.start()

    wrong = running.together(cases, away(), lambda _: True)
    assert not wrong, "\n".join(wrong)
    assert all(one["logs"][0]["end_time"] < started for one in running.ended.values())


def has_ended(running: Campaign, task: str) -> bool:
    """Whether the last report of the first attempt of `task` is in the cluster."""
    if running.layout == "pod":
        pod = running.machine.pod_named(task)
        return pod is not None and ended(pod, "taskmaster")
    found = running.machine.config_map(f"{task}-report")
    return found is not None and read_report(found).state.terminal


@pytest.mark.parametrize("layout", ["pod"])
@pytest.mark.faults
def test_a_fault_while_a_later_image_is_pulled_ends_as_it_must(
    running: Campaign, cluster: Cluster, tmp_path: Path
) -> None:
    with late_image(cluster, tmp_path) as late:
        wrong = running.pulling(PULLING, late)
    assert not wrong, "\n".join(wrong)


@both
@pytest.mark.faults
def test_an_api_server_that_is_away_for_half_a_minute_costs_nothing(running: Campaign, cluster: Cluster) -> None:
    @contextlib.contextmanager
    def api_away() -> Iterator[None]:
        with away(cluster, "kube-apiserver", 30.0):
            yield
        until(lambda: cluster.run("get", "--raw", "/readyz").returncode == 0)

    twice: list[Case] = [one for one in TOGETHER[running.layout]["api-away"] for _ in range(2)]
    wrong = running.together(twice, api_away(), lambda number: number % 2 == 0)
    assert not wrong, "\n".join(wrong)


@both
@pytest.mark.faults
def test_a_kubelet_that_is_away_for_a_while_costs_nothing(running: Campaign, cluster: Cluster) -> None:
    """Less than it takes a cluster to give up the node."""
    twice: list[Case] = [one for one in TOGETHER[running.layout]["kubelet-away"] for _ in range(2)]
    wrong = running.together(twice, away(cluster, "kubelet", 20.0), lambda number: number % 2 == 0)
    assert not wrong, "\n".join(wrong)


@contextlib.contextmanager
def away(cluster: Cluster, part: str, seconds: float) -> Iterator[None]:
    """A part of the cluster is stopped, and started again `seconds` later; the block is done after a third of them."""
    tool = cluster.need_here()
    subprocess.run([tool, "stop", part], check=True)
    try:
        time.sleep(seconds / 3)
        yield
        time.sleep(seconds * 2 / 3)
    finally:
        subprocess.run([tool, "start", part], check=True)
