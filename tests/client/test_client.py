"""Both clients against one small TES server that speaks through httpx's mock transport."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from tesk.client import AsyncClient, Client, ClientError, ServerUnreachableError, Target, WaitTimeoutError

TASK = {"executors": [{"image": "alpine", "command": ["true"]}]}


class TesServer:
    """Tasks in a dictionary; each `get` moves a task one step along `steps`."""

    def __init__(self, prefix: str = "/ga4gh/tes/v1", steps: tuple[str, ...] = ("QUEUED", "COMPLETE")) -> None:
        self.prefix = prefix
        self.steps = steps
        self.tasks: dict[str, dict[str, Any]] = {}
        self.asked: list[str] = []
        self.queries: list[list[tuple[str, str]]] = []
        self.before: Callable[[httpx.Request], httpx.Response | None] = lambda request: None

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.raw_path.decode().partition("?")[0]
        self.asked.append(f"{request.method} {path}")
        self.queries.append(request.url.params.multi_items())
        early = self.before(request)
        if early is not None:
            return early
        if not path.startswith(f"{self.prefix}/"):
            return httpx.Response(404, text="<html>nothing here</html>")
        path = path.removeprefix(self.prefix)
        if path == "/service-info":
            return httpx.Response(200, json={"id": "stub", "type": {"artifact": "tes"}})
        if path == "/tasks" and request.method == "POST":
            task_id = f"task-{len(self.tasks)}"
            self.tasks[task_id] = {**json.loads(request.content), "step": 0}
            return httpx.Response(200, json={"id": task_id})
        if path == "/tasks":
            return self.list(request)
        if path.endswith("/logs"):
            return httpx.Response(200, content=b"one\n\xfftwo")
        task_id = path.removeprefix("/tasks/").removesuffix(":cancel")
        if task_id not in self.tasks:
            return httpx.Response(404, json={"title": "Not Found", "detail": f"there is no task {task_id}"})
        if path.endswith(":cancel"):
            self.tasks[task_id]["canceled"] = True
            return httpx.Response(200, json={})
        return httpx.Response(200, json=self.show(task_id))

    def show(self, task_id: str) -> dict[str, Any]:
        task = self.tasks[task_id]
        state = self.steps[min(task["step"], len(self.steps) - 1)]
        task["step"] += 1
        return {"id": task_id, "state": "CANCELED" if task.get("canceled") else state}

    def list(self, request: httpx.Request) -> httpx.Response:
        size = int(request.url.params.get("page_size", 256))
        start = int(request.url.params.get("page_token", 0))
        ids = list(reversed(self.tasks))
        found: dict[str, Any] = {"tasks": [self.show(one) for one in ids[start : start + size]]}
        if start + size < len(ids):
            found["next_page_token"] = str(start + size)
        return httpx.Response(200, json=found)


class Both:
    """One way to call either client from an asynchronous test."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.opened: list[Client | AsyncClient] = []
        self.client: Client | AsyncClient

    def open(
        self,
        server: Callable[[httpx.Request], httpx.Response] | None,
        url: str | Target = "http://tes",
        retry: float = 0.1,
    ) -> Both:
        transport = None if server is None else httpx.MockTransport(server)
        self.client = (Client if self.kind == "sync" else AsyncClient)(url, transport=transport, retry=retry)
        self.opened.append(self.client)
        return self

    async def __call__(self, name: str, *args: Any, **kwargs: Any) -> Any:
        method = getattr(self.client, name)
        if isinstance(self.client, Client):
            found = await asyncio.to_thread(method, *args, **kwargs)
            return await asyncio.to_thread(list, found) if hasattr(found, "__next__") else found
        found = method(*args, **kwargs)
        if hasattr(found, "__anext__"):
            return [one async for one in found]
        return await found

    async def close(self) -> None:
        for one in self.opened:
            if isinstance(one, Client):
                one.close()
            else:
                await one.close()


@pytest.fixture(params=["sync", "async"])
async def call(request: pytest.FixtureRequest) -> AsyncIterator[Both]:
    both = Both(request.param)
    yield both
    await both.close()


@pytest.mark.parametrize("prefix", ["/ga4gh/tes/v1", "/v1", ""])
async def test_finds_the_prefix_once_and_remembers_it(call: Both, prefix: str) -> None:
    server = TesServer(prefix)
    call.open(server)
    await call("service_info")
    first = len(server.asked)
    await call("service_info")
    assert server.asked[first:] == [f"GET {prefix}/service-info"]


@pytest.mark.parametrize(
    "url", ["http://tes/hpc/ga4gh/tes/v1", "http://tes/hpc/ga4gh/tes/v1/", "tes/hpc", "http://tes/hpc/"]
)
async def test_takes_an_address_with_or_without_the_prefix(call: Both, url: str) -> None:
    server = TesServer("/hpc/ga4gh/tes/v1")
    call.open(server, url)
    assert await call("create", TASK) == "task-0"
    assert server.asked == ["GET /hpc/ga4gh/tes/v1/service-info", "POST /hpc/ga4gh/tes/v1/tasks"]


async def test_finds_a_tes_1_0_server_by_its_old_service_info(call: Both) -> None:
    server = TesServer("/v1")
    server.tasks["service-info"] = {"step": 0}
    server.before = lambda request: httpx.Response(404) if request.url.path == "/v1/service-info" else None
    call.open(server)
    assert await call("create", TASK)
    assert server.asked[-1] == "POST /v1/tasks"


async def test_a_server_that_asks_for_credentials_is_found_and_its_sentence_told(call: Both) -> None:
    call.open(lambda request: httpx.Response(401, json={"detail": "send a bearer token"}))
    with pytest.raises(ClientError, match=r"^send a bearer token$") as caught:
        await call("create", TASK)
    assert caught.value.status == 401


async def test_an_address_without_tes_is_told_with_what_was_tried(call: Both) -> None:
    call.open(lambda request: httpx.Response(200, text="<html>hello</html>"))
    with pytest.raises(ClientError, match=r"no TES server .*/ga4gh/tes/v1/service-info, /v1/service-info"):
        await call("list")


@pytest.mark.parametrize("url", ["ftp://tes", "http://", "http://tes:port"])
def test_refuses_what_is_not_a_server_address(url: str) -> None:
    with pytest.raises(ClientError, match="is not the address of a server"):
        Client(url)


async def test_every_problem_of_a_refused_task_is_a_sentence(call: Both) -> None:
    problems = [{"path": "executors[0].command", "message": "is empty"}, {"path": "", "message": "too big"}]
    server = TesServer()
    server.before = lambda request: (
        httpx.Response(400, json={"title": "Bad Request", "detail": "2 problems", "errors": problems})
        if request.method == "POST"
        else None
    )
    call.open(server)
    with pytest.raises(ClientError) as caught:
        await call("create", TASK)
    assert caught.value.problems == ("executors[0].command: is empty", "too big")
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (httpx.Response(500, json={"title": "Broken"}), "Broken"),
        (httpx.Response(500, text="  went\nwrong "), "went wrong"),
        (
            httpx.Response(502, text="<html>nginx</html>"),
            "GET http://tes/ga4gh/tes/v1/tasks/x answered HTTP 502",
        ),
        (httpx.Response(200, text="[]"), "did not answer with a JSON object"),
        (httpx.Response(307, headers={"location": "https://else/"}), "redirects to https://else/"),
    ],
)
async def test_other_answers_are_told_as_they_are(call: Both, answer: httpx.Response, sentence: str) -> None:
    server = TesServer()
    server.before = lambda request: (
        httpx.Response(answer.status_code, content=answer.content, headers=answer.headers)
        if request.url.path.endswith("/x")
        else None
    )
    call.open(server)
    with pytest.raises(ClientError, match=sentence):
        await call("get", "x")


async def test_an_id_with_odd_characters_reaches_the_server_percent_encoded(call: Both) -> None:
    server = TesServer()
    call.open(server)
    with pytest.raises(ClientError):
        await call("get", "a/b ü?c")
    assert server.asked[-1] == "GET /ga4gh/tes/v1/tasks/a%2Fb%20%C3%BC%3Fc"


async def test_an_empty_id_never_lists(call: Both) -> None:
    server = TesServer()
    call.open(server)
    with pytest.raises(ClientError, match="id is empty"):
        await call("get", "")
    assert server.asked == []


async def test_list_walks_every_page_with_the_same_filters(call: Both) -> None:
    server = TesServer(steps=("QUEUED",))
    call.open(server)
    ids = [await call("create", TASK) for _ in range(5)]
    found = await call("list", name_prefix="a", state="QUEUED", tags={"k": "v", "any": ""}, view="BASIC", page_size=2)
    assert [one["id"] for one in found] == ids[::-1]
    filters = [("view", "BASIC"), ("name_prefix", "a"), ("state", "QUEUED")]
    tags = [("tag_key", "k"), ("tag_value", "v"), ("tag_key", "any"), ("tag_value", "")]
    last = [("page_size", "2"), ("page_token", "4")]
    assert sorted(server.queries[-1]) == sorted([*filters, *last, *tags])
    assert sorted(server.queries[-3]) == sorted([*filters, ("page_size", "2"), *tags])
    keys = [value for key, value in server.queries[-1] if key == "tag_key"]
    assert keys == ["k", "any"]


async def test_wait_returns_each_last_state_in_the_order_given(call: Both) -> None:
    server = TesServer(steps=("QUEUED", "RUNNING", "RUNNING", "COMPLETE"))
    call.open(server)
    ids = [await call("create", TASK) for _ in range(3)]
    await call("cancel", ids[1])
    seen: list[tuple[str, str]] = []
    found = await call("wait", ids[::-1], changed=lambda one, state: seen.append((one, state)))
    assert list(found.items()) == [(ids[2], "COMPLETE"), (ids[1], "CANCELED"), (ids[0], "COMPLETE")]
    assert [state for one, state in seen if one == ids[0]] == ["QUEUED", "RUNNING", "COMPLETE"]


async def test_wait_for_nothing_asks_nothing(call: Both) -> None:
    server = TesServer()
    call.open(server)
    assert await call("wait", []) == {}
    assert server.asked == []


async def test_wait_for_thousands_reads_pages_and_not_each_task(call: Both) -> None:
    server = TesServer(steps=("QUEUED", "COMPLETE"))
    server.tasks = {f"t{number}": {"step": 0} for number in range(4500)}
    call.open(server)
    found = await call("wait", list(server.tasks))
    assert set(found.values()) == {"COMPLETE"}
    assert len(found) == 4500
    assert len(server.asked) < 20


async def test_wait_finds_old_tasks_behind_many_newer_ones(call: Both) -> None:
    server = TesServer(steps=("COMPLETE",))
    server.tasks = {f"t{number}": {"step": 0} for number in range(20_000)}
    call.open(server)
    old = [f"t{number}" for number in range(40)]
    assert await call("wait", old) == dict.fromkeys(old, "COMPLETE")
    assert len(server.asked) < 60


async def test_wait_gives_up_after_its_time_and_names_what_is_left(call: Both) -> None:
    server = TesServer(steps=("RUNNING",))
    call.open(server)
    ids = [await call("create", TASK)]
    began = time.monotonic()
    with pytest.raises(WaitTimeoutError, match=r"1 of 1 tasks have not ended after 0\.2 s") as caught:
        await call("wait", ids, timeout=0.2)
    assert caught.value.pending == ("task-0",)
    assert 0.2 <= time.monotonic() - began < 2


async def test_wait_lives_through_a_server_that_restarts(call: Both) -> None:
    server = TesServer()
    call.open(server)
    ids = [await call("create", TASK)]
    asked = len(server.asked)

    def away(request: httpx.Request) -> httpx.Response | None:
        if len(server.asked) < asked + 3:
            raise httpx.ConnectError("refused")
        return httpx.Response(503) if len(server.asked) < asked + 5 else None

    server.before = away
    assert await call("wait", ids) == {"task-0": "COMPLETE"}


async def test_wait_ends_when_the_server_stays_away(call: Both) -> None:
    server = TesServer()
    call.open(server)
    ids = [await call("create", TASK)]

    def away(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    server.before = away
    with pytest.raises(ServerUnreachableError, match="no TES server answers at http://tes: refused"):
        await call("wait", ids, patience=0.1)


async def test_wait_does_not_hope_for_a_server_that_never_answered(call: Both) -> None:
    def away(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    call.open(away)
    began = time.monotonic()
    with pytest.raises(ServerUnreachableError):
        await call("wait", ["x"], patience=30)
    assert time.monotonic() - began < 5


async def test_wait_refuses_an_unknown_id_at_once(call: Both) -> None:
    call.open(TesServer())
    with pytest.raises(ClientError, match="there is no task nope"):
        await call("wait", ["nope"])


async def test_nothing_listening_is_unreachable(call: Both) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        call.open(None, f"http://user:secret@127.0.0.1:{port}")
        with pytest.raises(ServerUnreachableError) as caught:
            await call("list")
    assert f"http://127.0.0.1:{port}" in str(caught.value)
    assert "secret" not in str(caught.value)


async def test_name_and_password_of_the_address_are_sent_as_basic_auth(call: Both) -> None:
    sent: list[str] = []
    server = TesServer()
    server.before = lambda request: sent.append(request.headers["authorization"])  # type: ignore[func-returns-value]
    call.open(server, "http://user:secret@tes")
    await call("create", TASK)
    assert set(sent) == {"Basic dXNlcjpzZWNyZXQ="}


async def test_logs_are_the_bytes_that_were_written(call: Both) -> None:
    server = TesServer()
    call.open(server)
    assert b"".join(await call("logs", "task-0", 2, "stderr", follow=True)) == b"one\n\xfftwo"
    assert server.asked[-1] == "GET /ga4gh/tes/v1/tasks/task-0/logs"
    assert server.queries[-1] == [("executor", "2"), ("stream", "stderr"), ("follow", "true")]


async def test_logs_of_an_unknown_task_tell_the_servers_sentence(call: Both) -> None:
    server = TesServer()
    server.before = lambda request: (
        httpx.Response(404, json={"detail": "there is no task x"}) if request.url.path.endswith("/logs") else None
    )
    call.open(server)
    with pytest.raises(ClientError, match=r"^there is no task x$"):
        await call("logs", "x")
