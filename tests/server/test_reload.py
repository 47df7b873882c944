"""The service information while the server runs: read again after SIGHUP and once its file has changed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest

from tesk.config import Config, Source
from tesk.config.models import ServiceConfig
from tesk.plan.site import Capacity
from tesk.server.reload import Reloader
from tesk.server.service_info import ServiceInfo

from .conftest import Api
from .process import serving, until

LOOK = 0.02


class Watched:
    """A reloader over `tesk.yaml`, and what it gave."""

    def __init__(self, directory: Path, environ: dict[str, str]) -> None:
        self.file = directory / "tesk.yaml"
        self.source = Source(None, {"HOME": str(directory), **environ}, {"server.port": 7})
        self.reloader = Reloader(self.source, self.source.load(), LOOK)
        self.given: list[ServiceConfig] = []

    @property
    def names(self) -> list[str]:
        return [one.name for one in self.given]


Watching = Callable[..., contextlib.AbstractAsyncContextManager[Watched]]


@pytest.fixture
def watching(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Watching:
    """Begin with this text in tesk.yaml (None: no file)."""
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.INFO, "tesk.config")

    @contextlib.asynccontextmanager
    async def watch(text: str | None, **environ: str) -> AsyncIterator[Watched]:
        if text is not None:
            (tmp_path / "tesk.yaml").write_text(text)
        watched = Watched(tmp_path, environ)
        running = asyncio.create_task(watched.reloader.run(watched.given.append))
        yield watched
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running

    return watch


async def logged(caplog: pytest.LogCaptureFixture, text: str) -> None:
    async with asyncio.timeout(5):
        while text not in caplog.text:
            await asyncio.sleep(LOOK)


async def test_a_changed_file_is_noticed_and_its_service_section_in_force(watching: Watching, caplog):
    async with watching("service: {name: one}") as watched:
        watched.file.write_text("service: {name: two, description: new}")
        await logged(caplog, "tesk.yaml is read again; new and in force: service.name, service.description")
        assert watched.names == ["two"]
        watched.file.write_text("service: {name: three}")
        async with asyncio.timeout(5):
            while watched.names != ["two", "three"]:
                await asyncio.sleep(LOOK)
    assert not [one for one in caplog.records if one.levelno > logging.INFO]


async def test_other_keys_wait_for_a_restart_and_are_named(watching: Watching, caplog):
    async with watching("service: {name: one}") as watched:
        watched.file.write_text("service: {name: two}\ntasks: {max_attempts: 9}\nserver: {access_log: false, port: 9}")
        await logged(caplog, "in force only after a restart: server.access_log, tasks.max_attempts\n")
        assert watched.names == ["two"]
        watched.file.write_text("tasks: {max_attempts: 9}")
        await logged(caplog, "in force only after a restart: tasks.max_attempts\n")
    assert "server.port" not in caplog.text  # the command line wins, as at the start


@pytest.mark.parametrize("bad", ["service: {nam: x}", "service: {name: 1}", "a: [", "service: {contact_url: me}", "\0"])
async def test_a_bad_file_keeps_what_was_there_and_says_so_once(watching: Watching, caplog, bad: str):
    async with watching("service: {name: one}") as watched:
        watched.file.write_text(bad)
        await logged(caplog, "cannot be used, so the one before stays in force: tesk.yaml")
        await asyncio.sleep(LOOK * 5)
        assert watched.given == []
        assert caplog.text.count("cannot be used") == 1
        watched.file.write_text("service: {name: two}")
        await logged(caplog, "in force: service.name")
        assert watched.names == ["two"]


async def test_a_file_that_goes_takes_nothing_with_it(watching: Watching, caplog):
    async with watching("service: {name: one}") as watched:
        watched.file.unlink()
        await logged(caplog, "tesk.yaml is gone; what was read from it stays in force")
        assert watched.given == []
        watched.file.write_text("service: {name: two}")
        await logged(caplog, "in force: service.name")


async def test_a_link_that_turns_is_a_change_as_kubernetes_makes_it(watching: Watching, tmp_path: Path, caplog):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tesk.yaml").write_text(f"service: {{name: {name}}}")
        os.utime(tmp_path / name / "tesk.yaml", (1, 1))
    (tmp_path / "data").symlink_to("one")
    (tmp_path / "tesk.yaml").symlink_to("data/tesk.yaml")
    async with watching(None) as watched:
        (tmp_path / "next").symlink_to("two")
        (tmp_path / "next").rename(tmp_path / "data")
        await logged(caplog, "in force: service.name")
    assert watched.names == ["two"]


async def test_a_file_that_is_being_written_is_left_alone(watching: Watching, caplog):
    async with watching("service: {name: one}") as watched:
        with watched.file.open("w") as file:
            for letter in "service: {name: slowly}":
                file.write(letter)
                file.flush()
                await asyncio.sleep(LOOK / 4)
        await logged(caplog, "in force: service.name")
    assert watched.names == ["slowly"]
    assert "cannot be used" not in caplog.text


async def test_a_signal_reads_again_also_where_there_was_no_file(watching: Watching, caplog):
    async with watching(None) as watched:
        watched.reloader.ask()
        await logged(caplog, "the configuration is read again; new and in force: nothing")
        watched.file.write_text("service: {name: two}")
        await asyncio.sleep(LOOK * 5)
        assert watched.given == []
        watched.reloader.ask()
        await logged(caplog, "tesk.yaml is read again; new and in force: service.name")
        watched.file.write_text("service: {name: three}")
        await logged(caplog, "in force: service.name\n")
        async with asyncio.timeout(5):
            while watched.names != ["two", "three"]:
                await asyncio.sleep(LOOK)


async def test_the_environment_still_wins(watching: Watching, caplog):
    async with watching("service: {name: one}", TESK_SERVICE_NAME="mine") as watched:
        watched.file.write_text("service: {name: two, description: new}")
        await logged(caplog, "in force: service.description\n")
    assert watched.names == ["mine"]


@pytest.mark.slow
def test_a_running_server_says_what_its_file_says_now(tmp_path: Path):
    file = tmp_path / "tesk.yaml"
    file.write_text("service: {name: one}")
    with serving(tmp_path) as server, httpx.Client(base_url=server.url) as http:
        first = http.get("/service-info")
        assert first.json()["name"] == "one"
        file.write_text("service: {name: two, created_at: '2026-05-01T09:00:00Z'}\nserver: {max_body_bytes: 2048}")
        until(lambda: http.get("/v1/tasks/service-info").json()["name"] == "two", 5)  # noticed by itself
        second = http.get("/service-info", headers={"If-None-Match": first.headers["etag"]}).json()
        assert second["createdAt"] == "2026-05-01T09:00:00Z"
        assert second["updatedAt"] > first.json()["updatedAt"]
        assert "server.max_body_bytes" in server.log.read_text()
        file.write_text("service: {name: three")
        server.process.send_signal(signal.SIGHUP)
        until(lambda: "is not YAML" in server.log.read_text(), 5)
        assert http.get("/service-info").json()["name"] == "two"
        file.write_text("service: {name: three}")
        server.process.send_signal(signal.SIGHUP)
        until(lambda: http.get("/service-info").json()["name"] == "three", 5)
        server.stop()


def test_a_closed_terminal_ends_the_server(tmp_path: Path):
    mine, terminal = os.openpty()
    with serving(tmp_path, terminal=terminal) as server:
        os.close(terminal)
        server.process.send_signal(signal.SIGHUP)
        until(lambda: "is read again" in server.log.read_text())
        os.close(mine)
        server.process.send_signal(signal.SIGHUP)
        assert server.process.wait(20) == 0


async def test_service_info_is_that_of_ga4gh_with_what_tes_adds(api: Api):
    info = (await api.http.get("/service-info")).json()
    assert info.keys() == {
        *("id", "name", "type", "description", "organization", "updatedAt", "version"),
        *("storage", "tesResources_backend_parameters"),
    }
    assert info["type"] == {"group": "org.ga4gh", "artifact": "tes", "version": "1.1.0"}
    assert (await api.http.get("/v1/tasks/service-info")).json() == {
        "name": "Lab",
        "doc": "the lab's",
        "storage": info["storage"],
    }


def test_what_is_set_is_told_and_a_change_moves_updated_at():
    site = Config(state_directory=Path("/s")).site(Capacity())
    times = iter(["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"])
    info = ServiceInfo(ServiceConfig(), site, lambda: next(times))
    before = info.body
    info.use(ServiceConfig(contact_url="mailto:ops@example.org", environment="prod"))
    assert b'"updatedAt":"2026-01-01' in before
    assert b'"updatedAt":"2026-01-02' in info.body
    assert b'"contactUrl":"mailto:ops@example.org"' in info.body
    assert b"prod" not in info.legacy_body
