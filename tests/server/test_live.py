"""The application on a real socket: streams, keep-alive, big bodies, orderly stop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tesk.config.models import ServerConfig
from tesk.server.listen import CannotServe, Listeners, bind, check_exposure, url_of
from tesk.server.serving import serve_app

from .conftest import TASK, Api


class Live:
    """A running server."""

    def __init__(self, url: str, stop: asyncio.Event, serving: asyncio.Task[None]) -> None:
        self.url = url
        self.stop = stop
        self.serving = serving


@pytest.fixture
async def live(api: Api) -> AsyncIterator[Live]:
    """`api` on a socket."""
    stop, started = api.stopping, asyncio.Event()
    bound = bind("127.0.0.1", 0)
    serving = asyncio.create_task(serve_app(api.app, Listeners((bound,)), stop, started.set))
    await asyncio.wait_for(started.wait(), 10)
    yield Live(url_of(bound), stop, serving)
    stop.set()
    await asyncio.wait_for(serving, 20)


async def test_a_log_comes_piece_by_piece_while_it_is_written(api: Api, live: Live):
    task_id = await api.create()
    async with httpx.AsyncClient(base_url=live.url) as http:
        api.controller.chunks.put_nowait(b"one\n")
        path = f"/v1/tasks/{task_id}/logs?executor=0&stream=stderr&follow=true"
        async with http.stream("GET", path) as answer:
            assert answer.headers["content-type"] == "text/plain; charset=utf-8"
            chunks = answer.aiter_bytes()
            assert await anext(chunks) == b"one\n"
            api.controller.chunks.put_nowait(b"\xff\0two")
            assert await anext(chunks) == b"\xff\0two"
            api.controller.chunks.put_nowait(None)
            assert [one async for one in chunks] == []
    assert api.controller.asked == [(task_id, 0, "stderr", True)]


async def test_a_reader_that_goes_ends_the_reading(api: Api, live: Live):
    task_id = await api.create()
    async with httpx.AsyncClient(base_url=live.url) as http:
        api.controller.chunks.put_nowait(b"one\n")
        async with http.stream("GET", f"/tasks/{task_id}/logs?follow=true") as answer:
            await anext(answer.aiter_bytes())
            assert not api.controller.closed.is_set()
    await asyncio.wait_for(api.controller.closed.wait(), 5)


async def test_a_stop_ends_streams_in_order_and_at_once(api: Api, live: Live):
    task_id = await api.create()
    async with httpx.AsyncClient(base_url=live.url) as http:
        api.controller.chunks.put_nowait(b"one\n")
        async with http.stream("GET", f"/tasks/{task_id}/logs?follow=true") as answer:
            chunks = answer.aiter_bytes()
            await anext(chunks)
            live.stop.set()
            assert [one async for one in chunks] == []
    await asyncio.wait_for(live.serving, 5)


async def test_a_log_that_is_not_followed_is_finished_in_a_stop(api: Api, live: Live):
    task_id = await api.create()
    async with httpx.AsyncClient(base_url=live.url) as http:
        api.controller.chunks.put_nowait(b"one\n")
        api.controller.chunks.put_nowait(b"two\n")
        async with http.stream("GET", f"/tasks/{task_id}/logs") as answer:
            live.stop.set()
            assert b"".join([one async for one in answer.aiter_bytes()]) == b"one\ntwo\n"
    await asyncio.wait_for(live.serving, 5)


async def test_a_log_asked_for_in_a_stop_is_not_taken_for_an_empty_one(api: Api):
    task_id = await api.create()
    api.stopping.set()
    answer = await api.http.get(f"/tasks/{task_id}/logs")
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0


async def test_a_log_that_breaks_is_not_taken_for_a_whole_one(api: Api, live: Live, monkeypatch, caplog):
    async def breaks(*_: object, follow: bool) -> AsyncIterator[bytes]:
        yield b"one\n"
        raise OSError("the disk is gone")

    monkeypatch.setattr(api.controller, "logs", breaks)
    task_id = await api.create()
    async with httpx.AsyncClient(base_url=live.url) as http:
        with pytest.raises(httpx.RemoteProtocolError):
            await http.get(f"/tasks/{task_id}/logs")
    assert "the disk is gone" in caplog.text


@pytest.mark.parametrize(
    ("query", "status"),
    [("executor=1", 404), ("executor=-1", 400), ("stream=stdin", 400), ("follow=yes", 400), ("executor=0", 200)],
)
async def test_logs_of_what_is_not_there_are_refused(api: Api, query: str, status: int):
    task_id = await api.create()
    assert (await api.http.get(f"/v1/tasks/{task_id}/logs?{query}")).status_code == status
    assert (await api.http.get(f"/v1/tasks/none/logs?{query}")).status_code == (404 if status == 200 else status)


async def test_a_connection_serves_on_after_every_kind_of_answer(api: Api, live: Live):
    task_id = await api.create()
    async with httpx.AsyncClient(base_url=live.url, limits=httpx.Limits(max_connections=1)) as http:
        stream = await http.get("/healthz")
        local = stream.extensions["network_stream"].get_extra_info("socket").getsockname()
        for method, path, content in (
            ("POST", "/tasks", b"x" * 2**20),
            ("POST", "/tasks", json.dumps(TASK).encode()),
            ("POST", f"/tasks/{task_id}:cancel", b"x" * 2**20),
            ("POST", f"/tasks/{task_id}%3Acancel", None),
            ("DELETE", f"/tasks/{task_id}:cancel", None),
            ("HEAD", f"/tasks/{task_id}", None),
            ("PUT", "/tasks", b"{}"),
            ("GET", f"/tasks/{task_id}/logs", None),
        ):
            answer = await http.request(method, path, content=content)
            assert answer.status_code < 500
            used = answer.extensions["network_stream"].get_extra_info("socket").getsockname()
            assert used == local, (method, path)


async def test_what_is_too_large_is_refused_also_without_a_length(api: Api, live: Live):
    async def body() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield b"x" * 2**20

    async with httpx.AsyncClient(base_url=live.url) as http:
        answer = await http.post("/tasks", content=body())
    assert answer.status_code == 413
    assert await api.stored() == 0


async def test_a_client_that_goes_in_the_middle_of_its_body_stores_nothing(api: Api, live: Live):
    host, port = live.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST /tasks HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    await asyncio.sleep(0.1)
    assert (await api.http.get("/healthz")).status_code == 200
    assert await api.stored() == 0


async def test_half_of_http_is_no_reason_to_fall(live: Live):
    host, port = live.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"\x16\x03\x01 hello\r\n\r\n")
    assert b"400" in await asyncio.wait_for(reader.readline(), 5)
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


def test_an_address_in_use_is_named_with_what_to_change():
    with bind("127.0.0.1", 0) as taken:
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(CannotServe, match=rf"127\.0\.0\.1:{port} .*server\.port"):
            bind("127.0.0.1", port)


def test_an_address_of_another_machine_is_refused():
    with pytest.raises(CannotServe, match="192"):
        bind("192.0.2.1", 0)
    with pytest.raises(CannotServe, match="not an address"):
        bind("no.such.host.invalid", 0)


@pytest.mark.parametrize(
    ("host", "url"), [("127.0.0.1", "http://127.0.0.1:"), ("0.0.0.0", "http://127.0.0.1:"), ("::1", "http://[::1]:")]
)
def test_the_url_is_one_that_can_be_opened_here(host: str, url: str):
    if ":" in host and not _has_ipv6():
        pytest.skip("this machine has no IPv6 loopback address")
    with bind(host, 0) as bound:
        assert url_of(bound) == f"{url}{bound.getsockname()[1]}"


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as one:
            one.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_an_open_address_without_authentication_needs_a_setting_and_is_said_loudly(host: str):
    with pytest.raises(CannotServe, match=r"run commands on this machine.*server\.allow_unauthenticated"):
        check_exposure(ServerConfig(host=host))
    warning = check_exposure(ServerConfig(host=host, allow_unauthenticated=True))
    assert warning is not None
    assert warning.startswith("WARNING")
    assert host in warning


def test_every_web_page_is_as_open_as_an_open_address():
    with pytest.raises(CannotServe, match=r"server\.cors_origins is '\*'.*server\.allow_unauthenticated"):
        check_exposure(ServerConfig(cors_origins=("*",)))
    warning = check_exposure(ServerConfig(cors_origins=("*",), allow_unauthenticated=True))
    assert warning is not None
    assert "web page" in warning
    assert check_exposure(ServerConfig(cors_origins=("https://portal.example.org",))) is None


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_a_loopback_address_needs_no_setting(host: str):
    assert check_exposure(ServerConfig(host=host)) is None


RUN = """
import sys
from pathlib import Path
from tesk.config import load
from tesk.server.service import CannotServe, run_server
try:
    run_server(load(None, {"HOME": "/", "TESK_STATE_DIRECTORY": sys.argv[1], "TESK_SERVER_PORT": "0",
                           "TESK_LOCAL_ENGINE": "sandbox", "TESK_LOCAL_LASTING": "false"}))
except CannotServe as error:
    sys.exit(f"cannot serve: {error}")
"""


def start(state: Path) -> tuple[subprocess.Popen[str], str]:
    """A whole server in a process of its own, and its URL."""
    server = subprocess.Popen(
        [sys.executable, "-c", RUN, str(state)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert server.stdout is not None
    line = server.stdout.readline()
    if not line:
        _, errors = server.communicate(timeout=10)
        if "sandbox" in errors and "cannot serve" in errors:
            pytest.skip(f"no sandbox here; allow user namespaces: {errors}")
        pytest.fail(errors)
    assert line.startswith("TESK is ready at http://127.0.0.1:")
    return server, line.split()[-1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_whole_server_runs_a_task_and_stops_in_order(tmp_path: Path, number: signal.Signals):
    server, url = start(tmp_path)
    try:
        with httpx.Client(base_url=url) as http:
            task_id = http.post("/v1/tasks", json={"executors": [{"image": "a", "command": ["echo", "hi"]}]}).json()[
                "id"
            ]
            assert http.get(f"/v1/tasks/{task_id}/logs?follow=true", timeout=20).text in ("hi\n", "")
            for _ in range(200):
                shown = http.get(f"/v1/tasks/{task_id}?view=FULL").json()
                if shown["state"] == "COMPLETE":
                    break
                signal.sigtimedwait([], 0.05)
            assert shown["logs"][0]["logs"][0]["stdout"] == "hi\n"
            assert http.get(f"/v1/tasks/{task_id}/logs").text == "hi\n"
            assert http.get("/readyz").status_code == 200
            server.send_signal(number)
            _, errors = server.communicate(timeout=20)
    finally:
        server.kill()
        server.communicate()
    assert server.returncode == 0
    assert all(json.loads(line) for line in errors.splitlines())


@pytest.mark.slow
def test_a_second_server_on_one_state_directory_is_refused_with_a_sentence(tmp_path: Path):
    first, _ = start(tmp_path)
    try:
        second = subprocess.run(
            [sys.executable, "-c", RUN, str(tmp_path)],
            capture_output=True,
            text=True,
            timeout=30,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
    finally:
        first.terminate()
        first.communicate(timeout=20)
    assert second.returncode == 1
    assert second.stderr.splitlines()[-1].startswith("cannot serve: ")
    assert str(tmp_path) in second.stderr
    assert "Traceback" not in second.stderr
