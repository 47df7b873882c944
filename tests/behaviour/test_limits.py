"""What an executor may take, what becomes of one that takes more, and that its neighbours go on meanwhile."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.behaviour.sites import Place, Site, sentences
from tests.behaviour.test_life import MINE, running, until

NewSite = Callable[..., Site]

BOMB = "bomb() { bomb | bomb & }; sleep {marker} & (bomb) & wait"
KILLED_BELOW = "{ sh -c 'kill -9 $$'; }; exit $?"


def exit_code(task: dict[str, Any]) -> int:
    """Of the only executor of the only attempt."""
    (attempt,) = task["logs"]
    (executor,) = attempt["logs"]
    return int(executor["exit_code"])


def short_run(place: Place) -> int:
    """Seconds that are long enough for an executor to begin; a pod's count from when a node has it."""
    return 2 if place.admits else 15


def need_own_limits(place: Place) -> None:
    """Skip where the cluster, not this server, counts processes and looks at disks."""
    if not place.admits:
        pytest.skip("the kubelet's own settings say how many processes a pod may have, and when it looks at its disk")


def without_groups(site: Site) -> bool:
    """Whether the server said that it cannot hold executors to what they declare."""
    return "may use no control group" in (site.directory / "server.log").read_text()


def need_control_groups(site: Site) -> None:
    """Skip where the sandbox may use none; what it does then is in tests/backends."""
    if without_groups(site):
        pytest.skip("the server may use no control groups here: run the tests as root, or in a group delegated to us")


def chances(place: Place) -> int:
    """How many kills it may take until the engine tells one from others: docker misses some with version 2."""
    docker = place.settings.get("TESK_LOCAL_ENGINE") == "docker"
    return 8 if docker and os.path.exists("/sys/fs/cgroup/cgroup.controllers") else 1


def test_more_memory_than_declared_is_told_as_such(site: Site) -> None:
    need_control_groups(site)
    command = ("dd", "if=/dev/zero", "of=/dev/null", "bs=300M", "count=1")
    told = ""
    for _ in range(chances(site.place)):
        task = site.run(site.task(*command, resources={"ram_gb": 0.05}))
        assert task["state"] == "EXECUTOR_ERROR"
        assert exit_code(task) == 137
        told = sentences(task)
        if "memory" in told:
            break
    assert "it needed more memory than its 0.05 GB (resources.ram_gb)" in told


def test_a_kill_is_not_told_as_want_of_memory(site: Site) -> None:
    task = site.run(site.shell(KILLED_BELOW, resources={"ram_gb": 0.05}))
    assert (task["state"], exit_code(task)) == ("EXECUTOR_ERROR", 137)
    assert "was ended by signal 9" in sentences(task)
    assert "memory" not in sentences(task)


def test_no_more_of_the_processors_than_declared(site: Site) -> None:
    need_control_groups(site)
    script = "timeout 2 sh -c 'while :; do :; done'; times"
    task = site.run(site.shell(script, resources={"cpu_cores": 0.2}))
    user, system = task["logs"][0]["logs"][0]["stdout"].splitlines()[1].split()
    assert task["state"] == "COMPLETE", sentences(task)
    assert 0.1 < seconds(user) + seconds(system) < 1.0


def seconds(said: str) -> float:
    """Of `0m1.250s`, as a shell's `times` says it."""
    minutes, _, rest = said.rstrip("s").partition("m")
    return int(minutes) * 60 + float(rest)


def test_an_executor_ends_when_it_has_run_as_long_as_it_may(site: Site) -> None:
    allowed = short_run(site.place)
    task = site.run(
        site.shell(
            f"echo begun >/data/out; trap '' TERM; sleep 98311.{MINE}; sleep 98311.{MINE}",
            outputs=[{"url": f"{site.files}/out", "path": "/data/out"}],
            resources={"backend_parameters": {"max_runtime": str(allowed)}},
        )
    )
    assert task["state"] == "EXECUTOR_ERROR"
    assert exit_code(task) != 0
    assert f": it ran longer than allowed ({allowed} s)" in sentences(task)
    if site.place.admits:
        assert exit_code(task) == 137
    assert not running(f"98311.{MINE}")
    if site.place.settings.get("TESK_KUBERNETES_LAYOUT") != "jobs":
        assert (site.files / "out").read_text() == "begun\n"


def test_the_site_limits_every_run(own_site: NewSite, place: Place) -> None:
    name = "TESK_LOCAL_MAX_RUNTIME" if place.admits else "TESK_KUBERNETES_MAX_RUNTIME"
    site = own_site(**{name: str(short_run(place))})
    task = site.run(site.task("sleep", f"98312.{MINE}"))
    assert task["state"] == "EXECUTOR_ERROR"
    assert f"it ran longer than allowed ({short_run(place)} s)" in sentences(task)
    with site.client as client:
        assert "max_runtime" in client.service_info()["tesResources_backend_parameters"]


@pytest.mark.parametrize("where", ["/data", "/tmp"])
def test_filling_scratch_ends_the_task_that_does_it(site: Site, where: str) -> None:
    need_own_limits(site.place)
    if where == "/tmp" and site.place.image != "not-used":
        pytest.skip("what a container writes outside its mounts is the engine's, which has no limit for it")
    script = f"dd if=/dev/zero of={where}/big bs=1M count=60; rm -f {where}/gone; sleep 98313.{MINE}"
    filling = site.create(site.shell(script, volumes=["/data"], resources={"disk_gb": 0.03}))
    beside = site.create(site.shell("sleep 1; echo here >/data/x", volumes=["/data"], resources={"disk_gb": 0.03}))
    task = site.wait(filling)
    assert task["state"] == "EXECUTOR_ERROR"
    assert exit_code(task) == 137
    assert "it used more disk than its limit (0.03 GB, its resources.disk_gb)" in sentences(task)
    assert site.wait(beside)["state"] == "COMPLETE"
    assert not running(f"98313.{MINE}")
    assert site.left() == []


def test_inputs_that_need_more_disk_than_declared_are_not_fetched(site: Site) -> None:
    need_own_limits(site.place)
    if site.place.shares:
        pytest.skip("inputs are mounted here, and take no scratch")
    big = site.files / "big"
    big.write_bytes(b"x" * (1 << 20))
    inputs = [{"url": str(big), "path": f"/data/{number}"} for number in range(1000)]
    task = site.run(site.task("true", inputs=inputs, resources={"disk_gb": 0.002}))
    big.unlink()
    assert task["state"] == "SYSTEM_ERROR"
    assert "the inputs do not fit: it used more disk than its limit (0.002 GB" in sentences(task)


def test_what_a_task_that_declares_nothing_may_fill_is_the_sites_to_say(own_site: NewSite, place: Place) -> None:
    need_own_limits(place)
    site = own_site(TESK_LOCAL_SCRATCH_GB="0.03")
    task = site.run(site.shell(f"dd if=/dev/zero of=/data/big bs=1M count=60; sleep 98314.{MINE}", volumes=["/data"]))
    assert task["state"] == "EXECUTOR_ERROR"
    assert "it used more disk than its limit (0.03 GB, the most where resources.disk_gb is not said)" in sentences(task)


def test_a_fork_bomb_stays_within_its_own_task(own_site: NewSite, place: Place) -> None:
    need_own_limits(place)
    site = own_site(TESK_LOCAL_PIDS="64", **place.room(4))
    need_control_groups(site)
    bomb = site.create(site.shell(BOMB.replace("{marker}", f"98315.{MINE}")))
    until(lambda: running(f"98315.{MINE}"))
    began = time.monotonic()
    beside = [site.run(site.shell("for i in 1 2 3; do sh -c 'echo here' | cat; done")) for _ in range(3)]
    assert [one["state"] for one in beside] == ["COMPLETE"] * 3
    assert time.monotonic() - began < 60  # three containers, also on a slow machine
    with site.client as client:
        client.cancel(bomb)
    assert site.wait(bomb)["state"] == "CANCELED"
    assert not running(f"98315.{MINE}")
    assert site.left() == []


@pytest.mark.parametrize("much", [300_000_000, pytest.param(10_000_000_000, marks=pytest.mark.slow)])
def test_much_output_takes_little_disk_and_is_told_as_such(site: Site, much: int) -> None:
    if much > 1e9 and site.place.image != "not-used":
        pytest.skip("an engine takes minutes to hand on so much")
    task_id = site.create(
        site.shell(f"echo first; head -c {much} /dev/zero; echo; echo last", resources={"disk_gb": 1})
    )
    kept = []
    while not (task := site.get(task_id)).get("logs") or task["state"] in ("QUEUED", "INITIALIZING", "RUNNING"):
        with contextlib.suppress(FileNotFoundError):  # segments come and go
            kept.append(sum(one.stat().st_size for one in site.state.glob("attempts/*/ex-*/streams/*")))
        time.sleep(0.05)
        if len(kept) == 10:
            assert site.run(site.task("true"))["state"] == "COMPLETE", "another task goes on beside it"
    assert task["state"] == "COMPLETE", sentences(task)
    stdout = task["logs"][0]["logs"][0]["stdout"]
    assert stdout.startswith("first\n")
    assert stdout.endswith("\nlast\n")
    assert "bytes left out" in stdout
    assert len(stdout) < 70000
    if site.place.admits:
        assert 0 < max(kept) <= 4 << 20


def test_detached_daemons_and_children_without_end_go_with_their_executor(site: Site) -> None:
    script = f"""
    trap '' TERM HUP INT
    (setsid sh -c "trap '' TERM HUP INT; sleep 98316.{MINE}; sleep 98316.{MINE}" >/dev/null 2>&1 &)
    (trap '' TERM; sleep 98316.{MINE} &)
    exit 0
    """
    task = site.run(site.shell(script))
    assert (task["state"], exit_code(task)) == ("COMPLETE", 0)
    assert not running(f"98316.{MINE}")
    assert site.left() == []


def test_a_task_that_deletes_its_own_directories_harms_itself_alone(site: Site) -> None:
    beside = site.create(site.shell("sleep 1; cat /data/in", inputs=[{"content": "mine\n", "path": "/data/in"}]))
    task = site.run(
        site.shell(
            "rm -rf /data/* /data /tmp/* /var/tmp /vol 2>/dev/null; cd /; rm -rf ./* 2>/dev/null; exit 0",
            inputs=[{"content": "x", "path": "/data/in"}],
            outputs=[{"url": f"{site.files}/out", "path": "/data/out"}],
            volumes=["/vol"],
        )
    )
    assert task["state"] == "SYSTEM_ERROR", task
    assert "/data/out" in sentences(task)
    assert (site.wait(beside)["logs"][0]["logs"][0]["stdout"]) == "mine\n"
    until(lambda: site.left() == [])
