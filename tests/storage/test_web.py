"""`http`: a server that answers, and one that does not always."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from tests.servers import Answer, WebServer, answering
from tests.storage.conftest import delivered, fetched

from tesk.storage import Source, Storage, StorageError, StorageOptions

BIG = os.urandom(3 << 20)


async def test_fetch(storage: Storage, web_server: WebServer, tmp_path: Path) -> None:
    web_server.files = {"/a%20b?sig=1": b"signed", "/empty": b""}
    assert await fetched(storage, f"{web_server.url}/a%20b?sig=1", tmp_path / "t") == b"signed"
    assert await fetched(storage, f"{web_server.url}/empty", tmp_path / "t") == b""
    assert web_server.seen[0][2]["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        ("/a//b", "/a//b"),
        ("/a b/é", "/a%20b/%C3%A9"),
        ("/a%2Fb%20c?q=%41+b&c#part", "/a%2Fb%20c?q=%41+b&c"),
        ("", "/"),
        ("?q", "/?q"),
    ],
)
async def test_a_url_is_asked_for_as_it_stands(
    storage: Storage, web_server: WebServer, tmp_path: Path, url: str, asked: str
) -> None:
    web_server.files[asked] = b"x"
    assert await fetched(storage, web_server.url + url, tmp_path / "t") == b"x"


async def test_fetch_leaves_bytes_as_they_are_even_when_the_server_calls_them_encoded(
    storage: Storage, tmp_path: Path
) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\n\x1f\x8b\x00\x01")
        await writer.drain()

    async with answering(answer) as url:
        assert await fetched(storage, f"{url}/x.gz", tmp_path / "t") == b"\x1f\x8b\x00\x01"


@pytest.mark.parametrize("status", [500, 502, 503, 504, 429, 408])
async def test_what_may_pass_is_tried_again(
    storage: Storage, web_server: WebServer, tmp_path: Path, status: int
) -> None:
    web_server.files["/x"] = b"x"
    web_server.answers["/x"] = [Answer(status), Answer(status, {"retry-after": "0"})]
    assert await fetched(storage, f"{web_server.url}/x", tmp_path / "t") == b"x"
    assert web_server.methods("/x") == ["GET"] * 3


async def test_tries_end(storage: Storage, web_server: WebServer, tmp_path: Path) -> None:
    web_server.answers["/x"] = [Answer(503)] * 100
    with pytest.raises(StorageError, match=r"/x: the server answered 503 Service Unavailable$"):
        await fetched(storage, f"{web_server.url}/x", tmp_path / "t")
    assert len(web_server.seen) == 1 + storage.options.retries


@pytest.mark.parametrize(
    ("status", "words", "absent"),
    [
        (404, r"/x does not exist \(the server answered 404 Not Found\)", True),
        (410, r"/x does not exist \(the server answered 410 Gone\)", True),
        (403, r"cannot read .*/x: the server answered 403 Forbidden", False),
        (401, r"the server answered 401 Unauthorized", False),
        (400, r"the server answered 400 Bad Request", False),
        (304, r"the server answered 304 Not Modified", False),
    ],
)
async def test_what_cannot_pass_is_not_tried_again(
    storage: Storage, web_server: WebServer, tmp_path: Path, status: int, words: str, absent: bool
) -> None:
    web_server.answers["/x?X-Amz-Signature=secret"] = [Answer(status)]
    url = web_server.url.replace("//", "//user:password@") + "/x?X-Amz-Signature=secret"
    with pytest.raises(StorageError, match=words) as raised:
        await fetched(storage, url, tmp_path / "t")
    assert raised.value.not_found is absent
    assert "secret" not in str(raised.value)
    assert "password" not in str(raised.value)
    assert len(web_server.seen) == 1


async def test_user_and_password_in_the_url_are_sent(storage: Storage, web_server: WebServer, tmp_path: Path) -> None:
    web_server.files["/x"] = b"x"
    await fetched(storage, web_server.url.replace("//", "//me:pw@") + "/x", tmp_path / "t")
    assert web_server.seen[0][2]["authorization"] == "Basic bWU6cHc="


async def test_a_cut_download_goes_on_where_it_stopped(storage: Storage, web_server: WebServer, tmp_path: Path) -> None:
    web_server.files["/big"] = BIG
    web_server.answers["/big"] = [Answer(cut=1_500_000), Answer(cut=1_000_000)]
    assert await fetched(storage, f"{web_server.url}/big", tmp_path / "t") == BIG
    ranges = [headers.get("range") for _, _, headers in web_server.seen]
    assert ranges[0] is None
    first, second = (int(one.removeprefix("bytes=").removesuffix("-")) for one in ranges[1:] if one)
    assert 1_000_000 < first <= 1_500_000 < second <= 2_500_000


async def test_a_file_that_changed_between_two_tries_is_fetched_anew(
    storage: Storage, web_server: WebServer, tmp_path: Path
) -> None:
    web_server.files["/big"] = BIG
    web_server.answers["/big"] = [Answer(cut=2_000_000)]
    task = asyncio.create_task(fetched(storage, f"{web_server.url}/big", tmp_path / "t"))
    while not web_server.seen:
        await asyncio.sleep(0.001)
    web_server.files["/big"], web_server.etags["/big"] = b"short", '"two"'
    assert await task == b"short"


@pytest.mark.parametrize("validator", ["", 'W/"weak"'])
async def test_without_a_strong_validator_a_download_starts_anew(
    storage: Storage, web_server: WebServer, tmp_path: Path, validator: str
) -> None:
    web_server.files["/big"] = BIG
    web_server.etags["/big"] = validator
    web_server.answers["/big"] = [Answer(cut=2_000_000)]
    assert await fetched(storage, f"{web_server.url}/big", tmp_path / "t") == BIG
    assert [headers.get("range") for _, _, headers in web_server.seen] == [None, None]


async def test_a_server_without_ranges_sends_all_again(storage: Storage, web_server: WebServer, tmp_path: Path) -> None:
    web_server.ranges = False
    web_server.files["/big"] = BIG
    web_server.answers["/big"] = [Answer(cut=2_000_000)]
    assert await fetched(storage, f"{web_server.url}/big", tmp_path / "t") == BIG


async def test_a_stalled_download_goes_on(storage: Storage, web_server: WebServer, tmp_path: Path) -> None:
    web_server.files["/big"] = BIG
    web_server.answers["/big"] = [Answer(stall=1_200_000), Answer(stall=0)]
    assert await fetched(storage, f"{web_server.url}/big", tmp_path / "t") == BIG


async def test_a_server_that_stalls_for_ever_is_given_up(web_server: WebServer, tmp_path: Path) -> None:
    web_server.files["/x"] = b"x" * 10
    web_server.answers["/x"] = [Answer(stall=3)] * 10
    async with Storage(StorageOptions(stall_timeout=0.1, retries=1, retry_delay=0.01)) as storage:
        with pytest.raises(StorageError, match="/x: the server sent nothing for too long"):
            await fetched(storage, f"{web_server.url}/x", tmp_path / "t")


async def test_a_slow_but_steady_download_is_not_a_stall(storage: Storage, tmp_path: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n")
        for _ in range(8):
            await asyncio.sleep(0.1)
            writer.write(b"x")
            await writer.drain()

    async with answering(answer) as url:
        assert await fetched(storage, f"{url}/x", tmp_path / "t") == b"x" * 8


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://127.0.0.1:1/x", r"127.0.0.1:1/x: the server cannot be reached \("),
        ("http://no-such-host.invalid/x", r"no-such-host.invalid/x: the server cannot be reached \("),
        ("http:///x", "cannot read http:///x: "),
        ("http://[broken/x", "cannot read"),
        ("http://h:99999999/x", "cannot read"),
    ],
)
async def test_servers_that_cannot_be_reached(tmp_path: Path, url: str, words: str) -> None:
    async with Storage(StorageOptions(retries=1, retry_delay=0.01)) as storage:
        with pytest.raises(StorageError, match=words):
            await fetched(storage, url, tmp_path / "t")


async def test_redirects_are_followed_and_end(storage: Storage, web_server: WebServer, tmp_path: Path) -> None:
    web_server.files["/there"] = b"x"
    web_server.answers["/here"] = [Answer(302, {"location": "/there"})]
    web_server.answers["/round"] = [Answer(302, {"location": "/round"})] * 50
    assert await fetched(storage, f"{web_server.url}/here", tmp_path / "t") == b"x"
    with pytest.raises(StorageError, match="/round: the server redirects without end"):
        await fetched(storage, f"{web_server.url}/round", tmp_path / "t")


async def test_a_redirect_to_a_file_of_this_machine_is_refused(
    storage: Storage, web_server: WebServer, tmp_path: Path
) -> None:
    web_server.answers["/x"] = [Answer(302, {"location": "file:///etc/passwd"})] * 9
    with pytest.raises(StorageError, match="/x: "):
        await fetched(storage, f"{web_server.url}/x", tmp_path / "t")
    assert (tmp_path / "t").read_bytes() == b""


async def test_deliver_puts(storage: Storage, web_server: WebServer, tmp_path: Path) -> None:
    await delivered(storage, BIG, f"{web_server.url}/out/a%20b?sig=1", tmp_path / "s")
    await delivered(storage, b"", f"{web_server.url}/empty", tmp_path / "s")
    assert web_server.files == {"/out/a%20b?sig=1": BIG, "/empty": b""}
    assert web_server.seen[0][2]["content-length"] == str(len(BIG))
    assert "transfer-encoding" not in web_server.seen[0][2]


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_deliver_puts_again_where_a_redirect_says(
    storage: Storage, web_server: WebServer, tmp_path: Path, status: int
) -> None:
    web_server.answers["/here"] = [Answer(status, {"location": "/there"})]
    await delivered(storage, BIG, f"{web_server.url}/here", tmp_path / "s")
    assert web_server.files == {"/there": BIG}
    web_server.answers["/round"] = [Answer(status, {"location": "/round"})] * 50
    with pytest.raises(StorageError, match="redirects without end"):
        await delivered(storage, b"", f"{web_server.url}/round", tmp_path / "s")


async def test_deliver_tries_again_with_the_whole_body(storage: Storage, web_server: WebServer, tmp_path: Path) -> None:
    web_server.answers["/x"] = [Answer(503), Answer(500)]
    await delivered(storage, BIG, f"{web_server.url}/x", tmp_path / "s")
    assert web_server.files == {"/x": BIG}


@pytest.mark.parametrize("status", [400, 403, 404, 405, 303])
async def test_a_refused_delivery_is_said_once(
    storage: Storage, web_server: WebServer, tmp_path: Path, status: int
) -> None:
    web_server.answers["/x?sig=secret"] = [Answer(status)]
    with pytest.raises(StorageError, match=rf"cannot write .*/x: the server answered {status}") as raised:
        await delivered(storage, BIG, f"{web_server.url}/x?sig=secret", tmp_path / "s")
    assert "secret" not in str(raised.value)
    assert not raised.value.not_found
    assert len(web_server.seen) == 1


async def test_a_file_that_shrinks_while_it_is_delivered_is_refused(
    storage: Storage, web_server: WebServer, tmp_path: Path
) -> None:
    (tmp_path / "s").write_bytes(b"short")
    with open(tmp_path / "s", "rb") as source, pytest.raises(StorageError, match="changed its size"):
        await storage.deliver(Source(source.fileno(), 100), f"{web_server.url}/x")
    assert web_server.files == {}


async def test_directories_cannot_be_listed(storage: Storage, web_server: WebServer) -> None:
    with pytest.raises(StorageError, match="http servers do not list directories"):
        [one async for one in storage.walk(f"{web_server.url}/d/")]


async def test_a_cancelled_download_ends_at_once(storage: Storage, web_server: WebServer, tmp_path: Path) -> None:
    web_server.files["/x"] = b"x" * 10
    web_server.answers["/x"] = [Answer(stall=3)]
    task = asyncio.create_task(fetched(storage, f"{web_server.url}/x", tmp_path / "t"))
    while not web_server.seen:
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
