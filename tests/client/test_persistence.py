"""What is sent again, after which failure and pause, and what never is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tesk.client import AsyncClient, Client, ClientError, ServerUnreachableError
from tesk.client.operations import Answer, Pause, create, get
from tesk.client.persistence import persistent

TASK = {"executors": [{"image": "alpine", "command": ["true"]}]}
OK = Answer(200, b'{"id": "t"}', "")
LOST = ServerUnreachableError("lost", sent=True)
REFUSED = ServerUnreachableError("refused", sent=False)


def answered(status: int, retry_after: float | None = None) -> Answer:
    return Answer(status, b"", "", retry_after=retry_after)


class Played:
    """An operation against a script of answers, on a clock that only pauses move."""

    def __init__(self, *script: Answer | ClientError, reached: bool = True, keyed: bool = False, seconds: float = 20):
        self.script = list(script)
        self.pauses: list[float] = []
        self.keys: list[str] = []
        self.now = 0.0
        self.reached, self.keyed, self.seconds = reached, keyed, seconds

    def __call__(self, operation: Any) -> Any:
        driven = persistent(
            operation,
            seconds=self.seconds,
            reached=lambda: self.reached,
            keyed=lambda: self.keyed,
            clock=lambda: self.now,
            chance=lambda: 1.0,
        )
        step = next(driven)
        try:
            while True:
                if isinstance(step, Pause):
                    self.pauses.append(step.seconds)
                    self.now += step.seconds
                    step = driven.send(None)
                    continue
                self.keys.append(step.headers.get("Idempotency-Key", ""))
                found = self.script.pop(0)
                step = driven.throw(found) if isinstance(found, ClientError) else driven.send(found)
        except StopIteration as end:
            return end.value


@pytest.mark.parametrize("failure", [LOST, REFUSED, *map(answered, (429, 502, 503, 504))])
def test_a_read_is_repeated_with_growing_pauses(failure: Answer | ClientError) -> None:
    played = Played(failure, failure, failure, OK)
    assert played(get("t", "FULL")) == {"id": "t"}
    assert played.pauses == [0.1, 0.2, 0.4]


@pytest.mark.parametrize("status", [400, 401, 404, 409, 500, 501])
def test_an_answer_that_will_stay_the_same_is_not_asked_for_again(status: int) -> None:
    played = Played(answered(status))
    with pytest.raises(ClientError) as caught:
        played(get("t", "FULL"))
    assert caught.value.status == status
    assert played.pauses == []


def test_retry_after_is_honoured() -> None:
    played = Played(answered(429, 7.0), answered(503, 0.0), OK)
    assert played(get("t", "FULL"))
    assert played.pauses == [7.0, 0.2]


def test_repeating_has_an_end_and_tells_the_last_reason() -> None:
    played = Played(*[answered(503)] * 50, seconds=3)
    with pytest.raises(ClientError) as caught:
        played(get("t", "FULL"))
    assert caught.value.status == 503
    assert 1.4 < played.now <= 3


def test_a_longer_wait_than_there_is_time_for_is_told_at_once() -> None:
    played = Played(answered(429, 3600.0))
    with pytest.raises(ClientError) as caught:
        played(get("t", "FULL"))
    assert caught.value.retry_after == 3600
    assert played.pauses == []


def test_a_server_that_never_answered_is_not_hoped_for() -> None:
    played = Played(REFUSED, reached=False)
    with pytest.raises(ServerUnreachableError):
        played(get("t", "FULL"))


@pytest.mark.parametrize("failure", [REFUSED, answered(429)])
def test_a_create_that_was_surely_not_taken_is_repeated_with_the_same_key(failure: Answer | ClientError) -> None:
    played = Played(failure, failure, OK)
    assert played(create(TASK)) == "t"
    assert len(played.keys) == 3
    assert len(set(played.keys)) == 1
    assert 1 <= len(played.keys[0]) <= 255


@pytest.mark.parametrize("failure", [LOST, *map(answered, (502, 503, 504))])
def test_a_create_of_unknown_fate_is_repeated_only_where_the_key_is_honoured(failure: Answer | ClientError) -> None:
    played = Played(failure, OK, keyed=True)
    assert played(create(TASK)) == "t"
    played = Played(failure)
    with pytest.raises(ClientError):
        played(create(TASK))
    assert played.pauses == []


def test_a_create_of_unknown_fate_says_what_to_do() -> None:
    with pytest.raises(ServerUnreachableError, match="may have been created all the same: list the tasks"):
        Played(LOST)(create(TASK))


class Server:
    """Loses the first answer to a create, and remembers keys if it honours them."""

    def __init__(self, *, honours: bool) -> None:
        self.honours = honours
        self.tasks: dict[str, str] = {}
        self.keys: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        headers = {"Idempotency-Key": "honoured"} if self.honours else {}
        if request.method == "GET":
            return httpx.Response(200, json={}, headers=headers)
        key = request.headers["idempotency-key"]
        self.keys.append(key)
        found = self.tasks.get(key) if self.honours else None
        task_id = found or f"task-{len(self.tasks)}"
        self.tasks[key if self.honours else f"{key} {len(self.tasks)}"] = task_id
        if len(self.keys) == 1:
            raise httpx.ReadError("connection reset")
        return httpx.Response(200, json={"id": task_id})


async def _both(server: Callable[[httpx.Request], httpx.Response], kind: str) -> str:
    transport = httpx.MockTransport(server)
    if kind == "sync":
        with Client("http://tes", transport=transport) as client:
            return client.create(TASK)
    async with AsyncClient("http://tes", transport=transport) as client:
        return await client.create(TASK)


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_lost_answer_makes_one_task_where_the_key_is_honoured(kind: str) -> None:
    server = Server(honours=True)
    assert await _both(server, kind) == "task-0"
    assert len(server.keys) == 2
    assert len(server.tasks) == 1


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_lost_answer_is_an_error_elsewhere(kind: str) -> None:
    server = Server(honours=False)
    with pytest.raises(ServerUnreachableError):
        await _both(server, kind)
    assert len(server.tasks) == 1


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("3", 3.0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0), ("soon", None), ("-1", None), ("Wed, 99", None)],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(header: str, seconds: float | None) -> None:
    def server(request: httpx.Request) -> httpx.Response:
        return httpx.Response(429, headers={"Retry-After": header})

    client = Client("http://tes", transport=httpx.MockTransport(server), retry=0)
    with client, pytest.raises(ClientError) as caught:
        client.get("x")
    assert caught.value.retry_after == seconds


def test_two_creates_never_share_a_key_but_for_the_callers_own() -> None:
    server = Server(honours=True)
    server.keys.append("the first answer is not lost")
    with Client("http://tes", transport=httpx.MockTransport(server)) as client:
        first, second = client.create(TASK), client.create(TASK)
        assert first != second
        assert client.create(TASK, key="mine") == client.create(TASK, key="mine")
