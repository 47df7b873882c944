"""Executors that go on while no server runs, and what the next server makes of them."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.behaviour.sites import Place, Site, sentences
from tests.behaviour.test_life import MINE, running, until
from tests.behaviour.test_limits import chances, without_groups

pytestmark = pytest.mark.slow

NewSite = Callable[..., Site]


@pytest.fixture(autouse=True)
def lasting(place: Place) -> None:
    """Skip where attempts end with the server, and where tests/kube tells of this."""
    if not (place.admits and place.outlives_server):
        pytest.skip("the cluster runs them: tests/kube")


def one_attempt(task: dict[str, Any]) -> list[dict[str, Any]]:
    """The executors' logs of a task that had a single attempt."""
    (attempt,) = task["logs"]
    found: list[dict[str, Any]] = attempt["logs"]
    return found


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_an_executor_is_taken_over_with_its_streams_and_its_end(own_site: NewSite, end: str) -> None:
    site = own_site()
    script = "echo $$ before; sleep 1.5; echo $$ while none; sleep 2; echo $$ after; echo x >/data/out; exit 3"
    outputs = [{"url": f"{site.files}/out", "path": "/data/out"}]
    task_id = site.create(site.shell(script, outputs=outputs, inputs=[{"content": "x", "path": "/data/in"}]))
    with site.client as client:
        until(lambda: b"before" in b"".join(client.logs(task_id)))
    getattr(site, end)()
    time.sleep(2)
    site.start()
    with site.client as client:
        followed = b"".join(client.logs(task_id, follow=True)).decode()
    task = site.wait(task_id)
    (log,) = one_attempt(task)
    pid = followed.split()[0]
    assert followed == log["stdout"] == f"{pid} before\n{pid} while none\n{pid} after\n"
    assert (task["state"], log["exit_code"]) == ("EXECUTOR_ERROR", 3)
    assert (site.files / "out").read_text() == "x\n"
    assert site.left() == []


def test_what_ended_while_no_server_ran_is_told_as_it_was(own_site: NewSite) -> None:
    site = own_site()
    hungry = "echo begun; sleep 0.7; exec dd if=/dev/zero of=/dev/null bs=300M count=1"
    tasks = {
        "good": site.create(site.shell("echo begun; sleep 0.7; echo done")),
        "bad": site.create(site.shell("echo begun; sleep 0.7; exit 7")),
    }
    starved = site.create(site.shell(hungry, resources={"ram_gb": 0.05, "cpu_cores": 0.1}))
    with site.client as client:
        for one in (*tasks.values(), starved):
            until(lambda one=one: b"begun" in b"".join(client.logs(one)))  # type: ignore[misc]
    site.kill()
    until(lambda: not keepers(site))
    began = time.time()
    site.start()
    found = {name: one_attempt(site.wait(one))[0] for name, one in tasks.items()}
    assert (found["good"]["exit_code"], found["good"]["stdout"]) == (0, "begun\ndone\n")
    assert found["bad"]["exit_code"] == 7
    assert found["bad"]["end_time"] < time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(began + 1))
    task = site.wait(starved)
    if not without_groups(site):
        assert one_attempt(task)[0]["exit_code"] == 137
        assert chances(site.place) > 1 or "it needed more memory" in sentences(task)
    assert site.left() == []


def keepers(site: Site) -> list[int]:
    """The processes that hold the site's executors while no server runs; each began where the server did."""
    found = []
    for one in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if one.joinpath("cwd").readlink() == site.directory and b"main()" in (one / "cmdline").read_bytes():
                found.append(int(one.name))
    return found


def cancel(site: Site, task_id: str, marker: str) -> None:
    """End the task, and see that nothing of it runs."""
    with site.client as client:
        client.cancel(task_id)
    assert site.wait(task_id)["state"] == "CANCELED"
    assert not running(f"{marker}.{MINE}")


def test_a_cancel_reaches_what_an_earlier_server_began(own_site: NewSite) -> None:
    site = own_site()
    task_id = site.create(site.shell(f"(setsid sleep 98411.{MINE} &); sleep 98411.{MINE}"))
    until(lambda: running(f"98411.{MINE}"))
    site.kill()
    site.start()
    cancel(site, task_id, "98411")
    assert site.left() == []


def test_the_longest_run_is_counted_from_the_start(own_site: NewSite) -> None:
    site = own_site()
    seconds = 8
    limit = {"backend_parameters": {"max_runtime": str(seconds)}}
    task_id = site.create(site.shell(f"sleep 98412.{MINE}", resources=limit))
    until(lambda: running(f"98412.{MINE}"))
    site.kill()
    time.sleep(seconds)
    began = time.monotonic()
    site.start()
    task = site.wait(task_id)
    assert task["state"] == "EXECUTOR_ERROR"
    assert f"it ran longer than allowed ({seconds} s)" in sentences(task)
    assert len(one_attempt(task)) == 1
    assert time.monotonic() - began < seconds


def test_a_stage_in_that_was_interrupted_begins_again(own_site: NewSite) -> None:
    site = own_site()
    if site.place.shares:
        pytest.skip("inputs are mounted here, which takes no time")
    big = site.files / "big"
    with big.open("wb") as file:
        file.truncate(1 << 30)
    inputs = [{"url": str(big), "path": f"/data/{one}"} for one in ("a", "b")]
    task_id = site.create(site.shell("stat -c %s /data/a /data/b", inputs=inputs))
    site.wait(task_id, "INITIALIZING")
    until(lambda: any(site.state.glob("attempts/*/scratch/data/*")))
    site.kill()
    site.start()
    task = site.wait(task_id)
    big.unlink()
    assert task["state"] == "COMPLETE", sentences(task)
    assert one_attempt(task)[0]["stdout"] == f"{1 << 30}\n" * 2


@pytest.mark.parametrize("seed", range(2))
def test_no_executor_runs_twice_however_often_servers_are_killed(own_site: NewSite, seed: int) -> None:
    site = own_site()
    moments = random.Random(seed)
    count = 8
    script = "echo begin {0} >>/vol/said; sleep 0.25; echo end {0} >>/vol/said; cat /vol/said >/data/out"
    task = site.shell("", volumes=["/vol"], outputs=[{"url": f"{site.files}/out", "path": "/data/out"}])
    executor = task["executors"][0]
    task["executors"] = [{**executor, "command": ["sh", "-c", script.format(one)]} for one in range(count)]
    task_id = site.create(task)
    site.wait(task_id, "INITIALIZING", "RUNNING")
    for _ in range(5):
        time.sleep(moments.uniform(0, 0.6))
        getattr(site, moments.choice(["kill", "kill", "stop"]))()
        site.start()
    ended = site.wait(task_id)
    assert ended["state"] == "COMPLETE", sentences(ended)
    assert [log["exit_code"] for log in one_attempt(ended)] == [0] * count
    said = (site.files / "out").read_text().splitlines()
    assert said == [f"{what} {one}" for one in range(count) for what in ("begin", "end")]
    assert site.left() == []


def test_where_the_site_says_so_everything_ends_with_the_server(own_site: NewSite) -> None:
    site = own_site(TESK_LOCAL_LASTING="false")
    task_id = site.create(site.shell(f"sleep 98413.{MINE}"))
    until(lambda: running(f"98413.{MINE}"))
    site.kill()
    until(lambda: not running(f"98413.{MINE}"), 10)
    site.start()
    until(lambda: running(f"98413.{MINE}"))
    assert len(site.get(task_id)["logs"]) == 2
    site.stop()
    until(lambda: not running(f"98413.{MINE}"), 10)


def test_what_a_site_no_longer_lets_last_is_ended(own_site: NewSite) -> None:
    site = own_site()
    task_id = site.create(site.shell(f"sleep 98414.{MINE}"))
    until(lambda: running(f"98414.{MINE}"))
    site.kill()
    site.settings["TESK_LOCAL_LASTING"] = "false"
    site.start()
    until(lambda: len(site.get(task_id)["logs"]) == 2 and running(f"98414.{MINE}"))
    assert "attempt 1 was lost" in "\n".join(site.get(task_id)["logs"][0]["system_logs"])


def test_where_the_keeper_is_killed_too_a_new_attempt_begins(own_site: NewSite) -> None:
    site = own_site()
    task_id = site.create(site.shell(f"sleep 98415.{MINE}"))
    until(lambda: running(f"98415.{MINE}"))
    site.kill()
    for one in keepers(site):
        os.kill(one, signal.SIGKILL)
    until(lambda: not keepers(site))
    site.start()
    until(lambda: len(site.get(task_id)["logs"]) == 2 and running(f"98415.{MINE}"), 20)
    assert "attempt 1 was lost" in "\n".join(site.get(task_id)["logs"][0]["system_logs"])
    cancel(site, task_id, "98415")


def test_another_keeper_follows_one_that_is_killed(own_site: NewSite) -> None:
    site = own_site()
    task_id = site.create(site.shell(f"sleep 98416.{MINE}"))
    until(lambda: running(f"98416.{MINE}"))
    (keeper,) = keepers(site)
    os.kill(keeper, signal.SIGKILL)
    until(lambda: len(site.get(task_id)["logs"]) == 2 and running(f"98416.{MINE}"), 20)
    site.kill()
    site.start()
    assert len(site.get(task_id)["logs"]) == 2, "the second goes on"
    cancel(site, task_id, "98416")


def test_a_workdir_that_the_image_lacks_is_there_also_when_it_is_taken_over(own_site: NewSite) -> None:
    site = own_site()
    workdir = "/made/for/it"
    task = site.shell("pwd; echo x >file; sleep 2; pwd; cat file", workdir=workdir, volumes=["/vol"])
    task_id = site.create(task)
    with site.client as client:
        until(lambda: workdir.encode() in b"".join(client.logs(task_id)))
    site.kill()
    site.start()
    (log,) = one_attempt(site.wait(task_id))
    assert (log["exit_code"], log["stdout"]) == (0, f"{workdir}\n{workdir}\nx\n")
