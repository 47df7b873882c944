"""Many followers of one source: it runs once, is told of to all, and ends with the last of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable

import pytest

from tesk.backends.base import LogStream
from tesk.backends.kubernetes import spool as spool_module
from tesk.backends.kubernetes.spool import SpooledLog
from tesk.backends.sharing import Followers


class Written:
    """What an executor writes: `write` gives pieces of stdout and stderr, `end` is its end."""

    def __init__(self) -> None:
        self.pieces: asyncio.Queue[tuple[bytes, bytes] | Exception | None] = asyncio.Queue()
        self.reads = 0
        self.open = 0
        self.taken = 0

    def write(self, out: bytes = b"", err: bytes = b"") -> None:
        self.pieces.put_nowait((out, err))

    def end(self, error: Exception | None = None) -> None:
        self.pieces.put_nowait(error)

    async def read(self) -> AsyncGenerator[tuple[bytes, bytes]]:
        """As the log of a pod is read: one connection for each call."""
        self.reads += 1
        self.open += 1
        try:
            while (piece := await self.pieces.get()) is not None:
                if isinstance(piece, Exception):
                    raise piece
                self.taken += sum(map(len, piece))
                yield piece
        finally:
            self.open -= 1

    def spooled(self, size: int = 1000) -> Callable[[], SpooledLog]:
        return lambda: SpooledLog(self.read(), size)


@pytest.fixture
def written() -> Written:
    return Written()


@pytest.fixture
def followers() -> Followers[str]:
    return Followers()


async def whole(stream: AsyncGenerator[bytes]) -> bytes:
    async with asyncio.timeout(10):
        return b"".join([piece async for piece in stream])


async def test_a_thousand_followers_are_one_reading(written: Written, followers: Followers[str]) -> None:
    streams: list[LogStream] = ["stdout" if number % 2 else "stderr" for number in range(1000)]
    reading = [asyncio.create_task(whole(followers.follow("a", one, written.spooled()))) for one in streams]
    for number in range(5):
        written.write(b"out %d\n" % number, b"error %d\n" % number)
        await asyncio.sleep(0.01)
    written.end()
    heard = await asyncio.gather(*reading)
    assert set(heard[1::2]) == {b"out 0\nout 1\nout 2\nout 3\nout 4\n"}
    assert set(heard[0::2]) == {b"error 0\nerror 1\nerror 2\nerror 3\nerror 4\n"}
    assert (written.reads, written.open) == (1, 0)


async def test_one_who_comes_late_hears_all_and_nothing_twice(written: Written, followers: Followers[str]) -> None:
    first = followers.follow("a", "stdout", written.spooled())
    written.write(b"one\n")
    assert await anext(first) == b"one\n"
    late = followers.follow("a", "stdout", written.spooled())
    assert await anext(late) == b"one\n"
    written.write(b"two\n")
    written.end()
    assert await whole(late) == b"two\n"
    assert await whole(first) == b"two\n"
    assert written.reads == 1


async def test_the_last_who_leaves_ends_the_reading_and_the_next_begins_it(
    written: Written, followers: Followers[str]
) -> None:
    both = [followers.follow("a", "stdout", written.spooled()) for _ in range(2)]
    written.write(b"one\n")
    assert [await anext(one) for one in both] == [b"one\n"] * 2
    await both[0].aclose()
    assert written.open == 1
    await both[1].aclose()
    assert written.open == 0
    written.write(b"one\n")
    written.end()
    assert await whole(followers.follow("a", "stdout", written.spooled())) == b"one\n"
    assert written.reads == 2


async def test_other_keys_are_other_readings(written: Written, followers: Followers[str]) -> None:
    other = Written()
    for one in (written, other):
        one.end()
    written_whole, other_whole = await asyncio.gather(
        whole(followers.follow("a", "stdout", written.spooled())),
        whole(followers.follow("b", "stdout", other.spooled())),
    )
    assert (written_whole, other_whole, written.reads, other.reads) == (b"", b"", 1, 1)


async def test_what_breaks_the_reading_breaks_each_stream(written: Written, followers: Followers[str]) -> None:
    reading = [asyncio.create_task(whole(followers.follow("a", "stdout", written.spooled()))) for _ in range(3)]
    written.write(b"one\n")
    written.end(OSError("the disk is full"))
    ends = await asyncio.gather(*reading, return_exceptions=True)
    assert [str(one) for one in ends] == ["the disk is full"] * 3


async def test_one_who_does_not_keep_up_is_told_what_it_missed_and_holds_up_nobody(
    written: Written, followers: Followers[str]
) -> None:
    slow = followers.follow("a", "stdout", written.spooled(1000))
    written.write(b"begun\n")
    assert await anext(slow) == b"begun\n"
    quick = asyncio.create_task(whole(followers.follow("a", "stdout", written.spooled(1000))))
    for number in range(100):
        written.write(b"%09d\n" % number * 10)
        await asyncio.sleep(0.002)
    written.end()
    lines = [b"%09d\n" % number * 10 for number in range(100)]
    assert await quick == b"begun\n" + b"".join(lines)
    assert await whole(slow) == b"\n[... 9500 bytes left out ...]\n" + b"".join(lines)[-500:]


async def test_what_nobody_takes_is_not_read(
    written: Written, followers: Followers[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "_AHEAD", 100)
    rests = followers.follow("a", "stdout", written.spooled(1000))
    written.write(b"begun\n")
    assert await anext(rests) == b"begun\n"
    for _ in range(50):
        written.write(b"x" * 60)
    written.end()
    await asyncio.sleep(0.05)
    assert written.taken <= 6 + 100 + 60
    assert await whole(rests) == b"x" * 3000, "one who rests alone misses nothing"


@pytest.mark.parametrize("size", [1, 7, 999, 1000, 1001, 2500])
async def test_a_spool_is_as_large_as_it_may_be(written: Written, followers: Followers[str], size: int) -> None:
    data = (b"0123456789" * 300)[:size]
    written.write(data)
    written.end()
    heard = await whole(followers.follow("a", "stdout", written.spooled(1000)))
    if size <= 1000:
        assert heard == data
    else:
        assert heard == b"\n[... %d bytes left out ...]\n" % (size - 500) + data[-500:]
