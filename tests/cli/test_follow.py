"""What `tesk run` shows and exits with, against servers that are slow, old or forgetful."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tesk.cli.follow import exit_code, run_to_end, tell_failure
from tesk.client import AsyncClient, Task

TASK = {"executors": [{"image": "x", "command": ["true"]}]}


class TesServer:
    """One task that runs while it is asked for `states`, and a log of which only `followed` can be followed."""

    def __init__(self, *states: str, stdout: str = "", followed: httpx.Response | None = None) -> None:
        self.states: Iterator[str] = iter(states)
        self.state = ""
        self.stdout = stdout
        self.followed = followed or httpx.Response(404, json={"detail": "no such path"})

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/ga4gh/tes/v1")
        if path == "/service-info":
            return httpx.Response(200, json={})
        if request.method == "POST":
            return httpx.Response(200, json={"id": "t"})
        if path == "/tasks/t/logs":
            if request.url.params["stream"] == "stderr":
                return httpx.Response(200)
            return httpx.Response(self.followed.status_code, content=self.followed.content)
        self.state = next(self.states, self.state)
        log = {"logs": [{"exit_code": 0, "stdout": self.stdout, "stderr": ""}]}
        return httpx.Response(200, json={"id": "t", "state": self.state, **TASK, "logs": [log]})


async def shown(server: TesServer, capsysbinary: pytest.CaptureFixture[bytes]) -> bytes:
    async with AsyncClient("http://tes", transport=httpx.MockTransport(server)) as client:
        await run_to_end(client, TASK)
    return capsysbinary.readouterr().out


@pytest.mark.parametrize(
    "server",
    [
        TesServer("QUEUED", "COMPLETE", stdout="a\nb\n"),
        TesServer("RUNNING", "RUNNING", "COMPLETE", stdout="a\nb\n"),
        TesServer("RUNNING", "COMPLETE", stdout="a\nb\n", followed=httpx.Response(200, content=b"a\nb\n")),
        TesServer("RUNNING", "COMPLETE", stdout="a\nb\n", followed=httpx.Response(200, content=b"a\n")),
        TesServer("RUNNING", "COMPLETE", stdout="a\n...\n", followed=httpx.Response(200, content=b"a\nb\n")),
    ],
    ids=["ended before", "no logs to follow", "followed", "the end was lost", "more than the log keeps"],
)
async def test_each_line_is_shown_once(server: TesServer, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    assert await shown(server, capsysbinary) == b"a\nb\n"


async def test_bytes_that_are_no_text_are_shown_as_they_are(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    server = TesServer("RUNNING", "COMPLETE", stdout="\ufffd", followed=httpx.Response(200, content=b"\xff"))
    assert await shown(server, capsysbinary) == b"\xff"


def ended(state: str, *codes: int, said: tuple[str, ...] = ()) -> Task:
    log: Any = {"logs": [{"exit_code": code} for code in codes], "system_logs": list(said)}
    return {"id": "t", "state": state, "logs": [{"logs": [{"exit_code": 99}]}, log]}


@pytest.mark.parametrize(
    ("task", "code"),
    [
        (ended("COMPLETE", 0), 0),
        (ended("COMPLETE", 5, 0), 0),
        (ended("EXECUTOR_ERROR", 0, 3), 3),
        (ended("EXECUTOR_ERROR", 137), 137),
        (ended("EXECUTOR_ERROR", 0), 1),
        (ended("EXECUTOR_ERROR"), 1),
        (ended("SYSTEM_ERROR", 3), 1),
        (ended("PREEMPTED"), 1),
        (ended("CANCELED"), 130),
        ({"id": "t", "state": "SYSTEM_ERROR"}, 1),
    ],
)
def test_the_exit_code_is_the_commands(task: Task, code: int) -> None:
    assert exit_code(task) == code


def test_a_failure_is_told_without_what_need_not_be_said(capsys: pytest.CaptureFixture[str]) -> None:
    tell_failure(ended("SYSTEM_ERROR", said=("a note", "it broke")), ["a note"])
    assert capsys.readouterr().err == "tesk: it broke\n"
    tell_failure(ended("PREEMPTED"))
    assert capsys.readouterr().err == "tesk: the task ended PREEMPTED and the server gives no reason\n"
    tell_failure(ended("COMPLETE", said=("a note",)))
    assert capsys.readouterr().err == ""
