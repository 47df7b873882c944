"""A disk that is full at each stage of a task: the right state, one sentence, and afterwards all is well."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.behaviour.sites import BACKENDS, Site, sentences
from tests.behaviour.test_life import until
from tests.chaos.checker import leftovers

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(180)]

SMALL, MORE = "48m", 64 << 20


@contextlib.contextmanager
def small_disk(where: Path) -> Iterator[None]:
    """A file system of 48 MiB at `where`."""
    where.mkdir(parents=True)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SMALL},mode=755", "tmpfs", where], check=False).returncode:
        pytest.skip("no file system can be mounted here; run as root")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", where], check=True)


@contextlib.contextmanager
def filled(where: Path) -> Iterator[None]:
    """Not a byte is free at `where` meanwhile."""
    file = where / "filler"
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT)
    try:
        with contextlib.suppress(OSError):
            for size in (1 << 20, 4096, 1):
                with contextlib.suppress(OSError):
                    while True:
                        os.write(descriptor, b"x" * size)
        yield
    finally:
        os.close(descriptor)
        file.unlink()


@pytest.fixture(params=["sandbox", "podman"])
def site(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    """A server whose state directory lies on a small disk."""
    made = Site(BACKENDS[request.param](tmp_path), tmp_path / "site", {"TESK_LOCAL_CPU_CORES": "4"})
    with small_disk(made.state):
        with made.running():
            yield made
            assert made.run(made.task("echo", "fine"))["state"] == "COMPLETE"
        assert leftovers(made.directory, made.state) == []


def test_an_input_for_which_there_is_no_room_is_named(site: Site) -> None:
    with (site.files / "large").open("wb") as file:
        file.write(b"x" * MORE)
    inputs = [{"name": "the large one", "url": f"{site.files}/large", "path": "/data/in"}]
    task = site.run(site.shell("true", inputs=inputs))
    assert task["state"] == "SYSTEM_ERROR"
    assert "the large one" in sentences(task)
    assert "no space left on device" in sentences(task)


def test_a_command_that_fills_scratch_fails_and_the_task_beside_it_does_not(site: Site) -> None:
    out = [{"url": f"{site.files}/out", "path": "/data/out"}]
    beside = site.create(site.shell("sleep 1; echo whole >/data/out", outputs=out))
    task = site.run(site.shell(f"head -c {MORE} /dev/zero >/tmp/../data/full", volumes=["/data"]))
    assert task["state"] == "EXECUTOR_ERROR"
    assert "ended with exit code 1: its stderr could not be kept: no space left on device" in sentences(task)
    assert site.wait(beside)["state"] == "COMPLETE"
    assert (site.files / "out").read_text() == "whole\n"


def test_an_output_for_which_there_is_no_room_is_named_and_leaves_nothing(site: Site) -> None:
    with small_disk(site.files / "small"):
        outputs = [{"name": "counts", "url": f"{site.files}/small/counts", "path": "/data/counts"}]
        task = site.shell("head -c 1000000 /dev/zero >/data/counts", outputs=outputs)
        with filled(site.files / "small"):
            ended = site.run(task)
            assert [one.name for one in (site.files / "small").iterdir()] == ["filler"]
        assert ended["state"] == "SYSTEM_ERROR"
        assert "counts" in sentences(ended)
        assert "no space left on device" in sentences(ended)
        assert site.run(task)["state"] == "COMPLETE"
        assert (site.files / "small/counts").stat().st_size == 1_000_000


def stored_state(site: Site, task_id: str) -> str:
    """What the store's file says, which a moment's room may let the server write."""
    (database,) = site.state.glob("*.db")
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        (state,) = connection.execute("SELECT state FROM tasks WHERE id = ?", (task_id,)).fetchone()
    return str(state)


def test_a_store_that_cannot_write_refuses_new_tasks_and_loses_no_end(site: Site) -> None:
    outputs = [{"url": f"{site.files}/out", "path": "/data/out"}]
    running = site.create(site.shell("echo done >/data/out; echo written; sleep 2", outputs=outputs))
    with site.client as client:
        until(lambda: b"written" in b"".join(client.logs(running)))
    large = site.task("true", description="x" * 10_000)
    with filled(site.state):
        answers = [httpx.post(f"{site.url}/tasks", json=large).status_code for _ in range(20)]
        assert answers[-1] == 503
        assert "database or disk is full" in (site.directory / "server.log").read_text()
        time.sleep(3)
        assert site.get(running)["state"] == stored_state(site, running), "what is not durable is not told"
    task = site.wait(running)
    assert task["state"] == "COMPLETE", sentences(task)
    assert len(task["logs"]) == 1
    assert (site.files / "out").read_text() == "done\n"
