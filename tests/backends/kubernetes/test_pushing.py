"""A taskmaster's reports on their way to the server, over real connections of this machine."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import uvloop
from tests.backends.kubernetes.attempts import KEY
from tests.backends.kubernetes.test_report_lines import REPORTS, lines
from tests.backends.kubernetes.world import settle

from tesk.backends.base import AttemptKey
from tesk.backends.kubernetes import pushing
from tesk.backends.kubernetes.pushing import Pusher, ReportListener, greeting
from tesk.taskmaster.report import Report

SECRET = b"k" * 32


@dataclass
class Heard:
    """Who hears it."""

    ours: bool = True
    reports: list[tuple[AttemptKey, Report, int]] = field(default_factory=list)
    calls: list[bool] = field(default_factory=list)

    def called(self, key: AttemptKey, *, calls: bool) -> bool:
        self.calls.append(calls)
        return self.ours

    def take(self, key: AttemptKey, report: Report, number: int) -> None:
        self.reports.append((key, report, number))


@asynccontextmanager
async def listening(heard: Heard, port: int = 0, secret: bytes = SECRET) -> AsyncIterator[int]:
    listener = ReportListener(secret, heard)
    found = await listener.open("127.0.0.1", port)
    try:
        yield found
    finally:
        listener.close()
        await asyncio.sleep(0.05)  # what was accepted just now is hung up on, too


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken connection is made again at once."""
    monkeypatch.setattr(pushing, "_SOONEST", 0.05)


def pusher(port: int, secret: bytes = SECRET) -> Pusher:
    return Pusher("127.0.0.1", port, greeting(KEY, secret))


async def hung_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The other side closes the connection, in order or not, without a word."""
    async with asyncio.timeout(5):
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
    writer.close()


async def test_every_report_arrives_and_the_end_waits_for_the_last() -> None:
    heard = Heard()
    async with listening(heard) as port:
        calling = pusher(port)
        for number, line in enumerate(lines(), 1):
            calling.tell(line)
            await settle(lambda number=number: len(heard.reports) == number)
        await calling.close()
        assert heard.reports == [(KEY, report, number) for number, report in enumerate(REPORTS, 1)]
        await settle(lambda: heard.calls == [True, False])


def test_it_is_the_same_on_the_servers_own_event_loop() -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(test_every_report_arrives_and_the_end_waits_for_the_last())


async def test_what_is_told_before_and_between_connections_comes_with_the_next() -> None:
    first, second, third, fourth = lines()
    heard, later = Heard(), Heard()
    async with listening(heard) as port:
        calling = pusher(port)
        calling.tell(first)
        await settle(lambda: len(heard.reports) == 1)
    calling.tell(second)
    calling.tell(third)
    await asyncio.sleep(0.1)
    async with listening(later, port):
        await settle(lambda: [report for _, report, _ in later.reports][-1:] == [REPORTS[2]])
        calling.tell(fourth)
        await calling.close()
    assert later.reports[-1] == (KEY, REPORTS[3], 4)


async def test_the_end_waits_for_no_server_that_is_not_there() -> None:
    async with listening(Heard()) as port:
        pass
    calling = pusher(port)
    calling.tell(lines()[0])
    async with asyncio.timeout(1.0):
        await calling.close()


async def test_the_end_waits_only_so_long_for_a_server_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pushing, "_LAST_SECONDS", 0.2)
    silent = socket.create_server(("127.0.0.1", 0))
    calling = pusher(silent.getsockname()[1])
    await asyncio.sleep(0.1)
    calling.tell(lines()[0])
    async with asyncio.timeout(1.0):
        await calling.close()
    silent.close()


@pytest.mark.parametrize(
    "said",
    [
        greeting(KEY, b"another key"),
        greeting(AttemptKey("other", 1), SECRET).replace(b"other", KEY.task.encode()),
        greeting(KEY, SECRET).replace(b" 1 ", b" 2 "),
        b"GET /tasks HTTP/1.1\r\n\r\n",
        b"\n",
        b"x" * 1000,
        b"tesk-attempt \xff 1 0\n",
    ],
)
async def test_strangers_are_hung_up_on_and_say_nothing(said: bytes) -> None:
    heard = Heard()
    async with listening(heard) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(said + lines()[0])
        await hung_up(reader, writer)
    assert not heard.reports


async def test_an_attempt_that_is_not_here_is_hung_up_on() -> None:
    heard = Heard(ours=False)
    async with listening(heard) as port:
        calling = pusher(port)
        calling.tell(lines()[0])
        await settle(lambda: len(heard.calls) >= 2)  # it tries again
        await calling.close()
    assert not heard.reports


async def test_who_does_not_say_who_he_is_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pushing, "_GREETING_SECONDS", 0.1)
    async with listening(Heard()) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await hung_up(reader, writer)


async def test_strangers_keep_nobody_out_for_long_and_cost_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pushing, "_MOST_STRANGERS", 3)
    monkeypatch.setattr(pushing, "_GREETING_SECONDS", 0.3)
    heard = Heard()
    async with listening(heard) as port:
        strangers = [await asyncio.open_connection("127.0.0.1", port) for _ in range(10)]
        calling = pusher(port)
        calling.tell(lines()[0])
        await settle(lambda: len(heard.reports) == 1)
        await calling.close()
        for _, writer in strangers:
            writer.close()


async def test_a_line_without_end_is_no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pushing, "_LONGEST_LINE", 10_000)
    heard = Heard()
    async with listening(heard) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(greeting(KEY, SECRET) + b"x" * 20_000)
        await hung_up(reader, writer)
    assert not heard.reports
