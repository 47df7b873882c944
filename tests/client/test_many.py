"""Thousands of tasks on a real server: sent many at once, waited for by one poller, requests counted."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from tests.cli.command import start

from tesk.client import AsyncClient, Client, ClientError, NotSentError

TASK = {"executors": [{"image": "any", "command": ["sleep", "300"]}], "tags": {"set": "many"}}
NUMBER = 2050  # more than one page of the list


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`tesk serve` on a free port; what it runs sleeps."""
    directory = tmp_path_factory.mktemp("many")
    (directory / "tesk.yaml").write_text("server: {access_log: false}")  # nobody reads its stderr
    with start("serve", "--port", 0, "--state-directory", directory, "--engine", "sandbox", cwd=directory) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                assert process.stderr is not None
                pytest.skip(f"no server can run here: {process.stderr.read().strip()}")
            yield line.split()[-1]
        finally:
            process.terminate()
            process.communicate(timeout=30)


class Counted(httpx.HTTPTransport):
    """Real connections, with each request noted."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(f"{request.method} {request.url.path}")
        return super().handle_request(request)


@pytest.mark.slow
def test_thousands_are_sent_and_waited_for_with_few_requests(server: str) -> None:
    counted = Counted()
    with Client(server) as client, Client(server, transport=counted) as waiter:
        ids = client.create_all([{**TASK, "name": str(number)} for number in range(NUMBER)])
        assert all(isinstance(one, str) for one in ids)
        assert len(set(ids)) == NUMBER
        assert [client.get(str(ids[number]), "BASIC")["name"] for number in (0, 7, NUMBER - 1)] == ["0", "7", "2049"]
        with ThreadPoolExecutor(8) as pool:
            canceled = [pool.submit(client.cancel, str(one)) for one in ids]
            states = waiter.wait([str(one) for one in ids], timeout=90)
            assert all(each.result() is None for each in canceled)
    assert set(states.values()) == {"CANCELED"}
    assert list(states) == ids
    assert len(counted.asked) < NUMBER / 10
    with Client(server, transport=(again := Counted())) as waiter:
        assert waiter.wait([str(one) for one in ids], tags={"set": "many"}) == states
    assert len(again.asked) == 1 + 2  # the prefix, and two pages


async def test_the_async_client_sends_many_too_and_tells_each_refusal(server: str) -> None:
    bad: dict[str, Any] = {"executors": []}
    told: list[int] = []
    async with AsyncClient(server) as client:
        results = await client.create_all([TASK, bad, TASK, bad], done=lambda number, result: told.append(number))
        assert [isinstance(one, str) for one in results] == [True, False, True, False]
        assert sorted(told) == [0, 1, 2, 3]
        assert isinstance(results[1], ClientError)
        assert results[1].status == 400
        assert await client.create_all([]) == []
        for one in (results[0], results[2]):
            await client.cancel(str(one))


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_what_fails_for_all_is_not_tried_with_all(kind: str) -> None:
    sent: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(200, json={})
        sent.append(request)
        return httpx.Response(401, json={"detail": "send a token"})

    transport = httpx.MockTransport(handler)
    if kind == "sync":
        with Client("http://tes", transport=transport) as client:
            results = client.create_all([TASK] * 500, at_once=4)
    else:
        async with AsyncClient("http://tes", transport=transport) as aclient:
            results = await aclient.create_all([TASK] * 500, at_once=4)
    assert len(sent) <= 8
    assert all(isinstance(one, ClientError) for one in results)
    assert sum(isinstance(one, NotSentError) for one in results) == 500 - len(sent)


@pytest.mark.slow
async def test_tasks_that_no_page_shows_take_turns() -> None:
    """Old tasks that never end must not hide those of their kind that do."""
    ids = [f"t{number}" for number in range(500)]
    asked: dict[str, int] = dict.fromkeys(ids, 0)

    def handler(request: httpx.Request) -> httpx.Response:
        last = request.url.path.rsplit("/", 1)[-1]
        if last == "tasks":
            return httpx.Response(200, json={"tasks": [{"id": "newer"}], "next_page_token": "x"})
        if last in asked:
            asked[last] += 1
            # the first ones run on until the last have ended
            busy = int(last[1:]) < 250 and any(asked[one] == 0 for one in ids)
            return httpx.Response(200, json={"id": last, "state": "RUNNING" if busy else "COMPLETE"})
        return httpx.Response(200, json={})

    async with AsyncClient("http://tes", transport=httpx.MockTransport(handler)) as client:
        states = await client.wait(ids, timeout=30)
    assert set(states.values()) == {"COMPLETE"}


def test_a_create_whose_answer_is_lost_makes_one_task(server: str) -> None:
    class Losing(httpx.HTTPTransport):
        lost = 0

        def handle_request(self, request: httpx.Request) -> httpx.Response:
            response = super().handle_request(request)
            if request.method == "POST" and not self.lost:
                self.lost += 1
                response.read()
                raise httpx.ReadError("connection reset")
            return response

    transport = Losing()
    with Client(server, transport=transport) as client:
        task_id = client.create({**TASK, "name": "once"})
        assert transport.lost == 1
        assert [one["id"] for one in client.list(name_prefix="once")] == [task_id]
        client.cancel(task_id)
