"""Cancel, live logs, admission, and what a restart of the server means."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tesk.backends.local.keeping.keepers import end_keepers
from tests.behaviour.sites import Place, Site, sentences

pytestmark = pytest.mark.slow

NewSite = Callable[..., Site]

MINE = os.getpid()
"""Part of each sleep: processes beside this one run the same tests, on other backends."""


def need_admission(place: Place) -> None:
    """Skip where something else than the backend decides which task starts next."""
    if not place.admits:
        pytest.skip("the cluster's scheduler, not the backend, decides which task has room")


def running(marker: str) -> bool:
    """Whether a process of this machine has `marker` in its command line."""
    return subprocess.run(["pgrep", "-f", f"sleep {marker}"], capture_output=True, check=False).returncode == 0


def until(what: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait until `what()` holds."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.02)


def test_cancel_while_running_leaves_nothing(site: Site) -> None:
    task_id = site.create(site.shell(f"trap '' TERM; (sleep 98211.{MINE} &); echo started; sleep 98211.{MINE}"))
    until(lambda: running(f"98211.{MINE}"))
    with site.client as client:
        client.cancel(task_id)
        client.cancel(task_id)
    task = site.wait(task_id)
    assert task["state"] == "CANCELED"
    assert not running(f"98211.{MINE}")
    assert site.left() == []
    with site.client as client:
        client.cancel(task_id)
    assert site.get(task_id)["state"] == "CANCELED"


def test_cancel_while_queued_never_starts(own_site: NewSite, place: Place) -> None:
    site = own_site(**place.room(1))
    first = site.create(site.task("sleep", f"98212.{MINE}"))
    marker = site.files / "ran"
    second = site.create(site.shell("touch /data/ran", outputs=[{"url": str(marker), "path": "/data/ran"}]))
    until(lambda: running(f"98212.{MINE}"))
    with site.client as client:
        client.cancel(second)
        assert site.wait(second)["state"] == "CANCELED"
        client.cancel(first)
        assert site.wait(first)["state"] == "CANCELED"
    assert not marker.exists()
    assert "start_time" not in (site.get(second).get("logs") or [{}])[0]


def test_cancel_while_staging_in(site: Site) -> None:
    big = site.files / "big"
    with big.open("wb") as file:
        file.truncate(4 << 30)
    task_id = site.create(site.shell("exit 5", inputs=[{"url": str(big), "path": "/data/big"}]))
    site.wait(task_id, "INITIALIZING", "RUNNING", "EXECUTOR_ERROR")
    with site.client as client:
        client.cancel(task_id)
    task = site.wait(task_id)
    big.unlink()
    if task["state"] == "EXECUTOR_ERROR":
        pytest.skip("this machine staged 4 GiB before the cancel came")
    assert task["state"] == "CANCELED"
    assert site.left() == []


def test_cancel_after_the_end_changes_nothing(site: Site) -> None:
    task = site.run(site.task("true"))
    with site.client as client:
        client.cancel(task["id"])
    assert site.get(task["id"]) == task


def test_logs_can_be_read_and_followed_while_the_executor_runs(site: Site) -> None:
    task_id = site.create(site.shell("echo first; echo warning >&2; while [ ! -e /tmp/x ]; do sleep 0.05; done"))
    with site.client as client:
        until(lambda: b"".join(client.logs(task_id)) == b"first\n")
        assert site.get(task_id)["logs"][0]["logs"] == [], "a running executor has no entry yet"
        assert b"".join(client.logs(task_id, stream="stderr")) == b"warning\n"
        follower = iter(client.logs(task_id, follow=True))
        assert next(follower) == b"first\n"
        client.cancel(task_id)
        assert list(follower) == []
    assert site.wait(task_id)["state"] == "CANCELED"
    until(lambda: site.left() == [])


def test_a_follower_sees_everything_to_the_last_line(site: Site) -> None:
    script = "for i in 1 2 3 4 5; do echo line $i; sleep 0.07; done; seq 20000"
    wanted = "".join(f"line {i}\n" for i in range(1, 6)) + "".join(f"{i}\n" for i in range(1, 20001))
    task_id = site.create(site.shell(script))
    with site.client as client:
        assert b"".join(client.logs(task_id, follow=True)).decode() == wanted
    assert site.wait(task_id)["state"] == "COMPLETE"
    until(lambda: site.left() == [])


def test_a_task_that_waits_can_be_followed_already(own_site: NewSite, place: Place) -> None:
    site = own_site(**place.room(1))
    site.create(site.shell("sleep 1"))
    task_id = site.create(
        {"executors": [{"image": site.place.image, "command": ["echo", one]} for one in ("one", "two")]}
    )
    assert site.get(task_id)["state"] == "QUEUED"
    with site.client as client:
        assert b"".join(client.logs(task_id, 1, follow=True)) == b"two\n"


def test_tasks_wait_for_the_resources_they_declare_in_order(own_site: NewSite, place: Place) -> None:
    need_admission(place)
    site = own_site(**place.room(2))
    script = "echo start >>/data/x; sleep 0.2"
    tasks = [site.create(site.shell(script, resources={"cpu_cores": cores})) for cores in (2, 2, 1, 1)]
    ended = [site.wait(one) for one in tasks]
    times = [(one["logs"][0]["logs"][0]["start_time"], one["logs"][0]["logs"][0]["end_time"]) for one in ended]
    assert times[0][1] <= times[1][0]
    assert times[1][1] <= min(times[2][0], times[3][0])
    assert max(times[2][0], times[3][0]) <= min(times[2][1], times[3][1])


def test_an_orderly_restart_starts_a_new_attempt_of_what_ran_and_could_not_go_on(own_site: NewSite) -> None:
    site = own_site()
    task_id = site.create(
        site.shell("sleep 1.5; date >/data/out", outputs=[{"url": f"{site.files}/out", "path": "/data/out"}])
    )
    queued = site.create(site.task("true", resources={"cpu_cores": 1}))
    site.wait(task_id, "RUNNING")
    assert site.stop() == 0
    site.start()
    task = site.wait(task_id)
    assert task["state"] == "COMPLETE", task
    if site.place.outlives_server:
        assert len(task["logs"]) == 1
    else:
        assert len(task["logs"]) == 2
        assert "attempt 1 was lost" in "\n".join(task["logs"][0]["system_logs"])
    assert task["logs"][0]["end_time"]
    assert (site.files / "out").exists()
    assert site.wait(queued)["state"] == "COMPLETE"


def test_attempts_have_an_end(own_site: NewSite, place: Place) -> None:
    if place.outlives_server and not place.admits:
        pytest.skip("attempts go on without the server here; the faults that end them are told in tests/kube")
    site = own_site(TESK_TASKS_MAX_ATTEMPTS="2")
    task_id = site.create(site.task("sleep", f"98213.{MINE}"))
    for attempt in (1, 2):
        until(lambda number=attempt: in_attempt(site, task_id, number))  # type: ignore[misc]
        site.kill()
        asyncio.run(end_keepers(site.state))
        site.start()
    task = site.wait(task_id)
    assert task["state"] == "SYSTEM_ERROR"
    assert len(task["logs"]) == 2
    assert "it was the last of 2 attempts" in sentences(task)
    assert not running(f"98213.{MINE}")


def lasts(site: Site) -> bool:
    """Whether executors on this machine go on while no server runs."""
    return site.place.admits and site.place.outlives_server


def in_attempt(site: Site, task_id: str, number: int) -> bool:
    """Whether the task runs its attempt `number`."""
    task = site.get(task_id)
    return task["state"] == "RUNNING" and len(task.get("logs", [])) == number


def test_a_cancel_that_the_server_did_not_survive_is_carried_out(own_site: NewSite) -> None:
    site = own_site()
    task_id = site.create(site.task("sleep", f"98214.{MINE}"))
    site.wait(task_id, "RUNNING")
    with site.client as client:
        client.cancel(task_id)
    site.kill()
    site.start()
    task = site.wait(task_id)
    assert task["state"] == "CANCELED"
    assert len(task["logs"]) == 1
    assert not running(f"98214.{MINE}")


@pytest.mark.parametrize("count", [10, pytest.param(50, marks=pytest.mark.crowd)])
def test_running_tasks_survive_kill_9(own_site: NewSite, place: Place, count: int) -> None:
    site = own_site(**place.room(50))
    tasks = {}
    for number in range(count):
        code = 3 if number % 5 == 4 else 0
        script = f"sleep 2.98215{MINE}; cat /data/in >/data/out; exit {code}"
        tasks[number] = site.create(
            site.shell(
                script,
                inputs=[{"content": f"task {number}\n", "path": "/data/in"}],
                outputs=[{"url": f"{site.files}/{number}", "path": "/data/out"}],
            )
        )
    for one in tasks.values():  # where they start one after the other, the first may have ended by then
        site.wait(one, "RUNNING", "COMPLETE", "EXECUTOR_ERROR")
    site.kill()
    site.start()
    for number, one in tasks.items():
        task = site.wait(one)
        assert task["state"] == ("EXECUTOR_ERROR" if number % 5 == 4 else "COMPLETE"), task
        assert 1 <= len(task["logs"]) <= (1 if lasts(site) else 2)
        assert (site.files / str(number)).read_text() == f"task {number}\n"
    assert sorted(int(one.name) for one in site.files.iterdir()) == list(range(count))
    assert site.left() == []
    assert not running(f"2.98215{MINE}")


def test_two_servers_never_share_a_state_directory(own_site: NewSite) -> None:
    site = own_site()
    second = Site(site.place, Path(site.directory), {})
    with pytest.raises(AssertionError, match="another tesk"):
        second.start()
    assert second.process is not None
    assert second.process.wait(20) != 0
    assert second.process.stdout is not None
    second.process.stdout.close()
    assert site.run(site.task("true"))["state"] == "COMPLETE"
