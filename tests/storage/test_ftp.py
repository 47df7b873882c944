"""`ftp`, on a real server that can be made to misbehave."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.servers import FtpServer, answering, serving_ftp
from tests.storage.conftest import delivered, fetched

from tesk.storage import Entry, FtpOptions, Source, Storage, StorageError, StorageOptions

BIG = os.urandom(6 << 20)


@pytest.fixture
async def storage() -> AsyncIterator[Storage]:
    """Storage that is quick to give up."""
    async with ftp_storage() as made:
        yield made


def ftp_storage(**options: Any) -> Storage:
    return Storage(StorageOptions(**{"stall_timeout": 1.0, "retry_delay": 0.01, **options}))


async def walked(storage: Storage, url: str) -> list[Entry]:
    return [one async for one in storage.walk(url)]


def leftovers(server: FtpServer) -> list[Path]:
    return [one for one in server.directory.rglob("*") if ".part" in one.name]


@pytest.mark.parametrize("name", ["k", "a b", "é", "100%", "q?x#y", "a+b", "-a", "[x]*", " x "])
async def test_names_go_in_and_come_out(storage: Storage, ftp_server: FtpServer, tmp_path: Path, name: str) -> None:
    from tesk.storage.urls import join

    url = join(f"{ftp_server.url}/d", name)
    await delivered(storage, name.encode(), url, tmp_path / "s")
    assert (ftp_server.directory / "d" / name).read_bytes() == name.encode()
    assert await fetched(storage, url, tmp_path / "t") == name.encode()
    for lacks in ((), ("MLSD",)):
        with serving_ftp(tmp_path / f"other{len(lacks)}", "--lacks", *lacks) as other:
            (other.directory / name).write_bytes(b"x")
            assert await walked(storage, other.url) == [Entry(name, "FILE")]


@pytest.mark.parametrize("size", [0, 1, 1 << 20, len(BIG)])
async def test_sizes(storage: Storage, ftp_server: FtpServer, tmp_path: Path, size: int) -> None:
    await delivered(storage, BIG[:size], f"{ftp_server.url}/x", tmp_path / "s")
    assert (ftp_server.directory / "x").read_bytes() == BIG[:size]
    assert await fetched(storage, f"{ftp_server.url}/x", tmp_path / "t") == BIG[:size]
    assert leftovers(ftp_server) == []


async def test_a_server_without_extensions_will_do(storage: Storage, tmp_path: Path) -> None:
    with serving_ftp(tmp_path / "old", "--lacks", "MLSD", "SIZE", "MDTM", "REST") as server:
        await delivered(storage, BIG, f"{server.url}/a/b/x", tmp_path / "s")
        assert await fetched(storage, f"{server.url}/a/b/x", tmp_path / "t") == BIG
        assert await walked(storage, f"{server.url}/a") == [Entry("b", "DIRECTORY"), Entry("b/x", "FILE")]


@pytest.mark.parametrize("lacks", [(), ("MLSD",)])
async def test_walk_lists_whole_trees_and_follows_symlinks(
    storage: Storage, tmp_path: Path, lacks: tuple[str, ...]
) -> None:
    with serving_ftp(tmp_path / "tree", "--lacks", *lacks) as server:
        for path in ("d/a", "d/sub dir/b", "d/sub dir/.hidden", "beside"):
            (server.directory / path).parent.mkdir(parents=True, exist_ok=True)
            (server.directory / path).write_text(path)
        (server.directory / "d/empty").mkdir()
        (server.directory / "d/to-file").symlink_to("a")
        (server.directory / "d/to-directory").symlink_to("sub dir")
        for url in (f"{server.url}/d", f"{server.url}/d/"):
            found = await walked(storage, url)
            assert sorted(found) == [
                Entry("a", "FILE"),
                Entry("empty", "DIRECTORY"),
                Entry("sub dir", "DIRECTORY"),
                Entry("sub dir/.hidden", "FILE"),
                Entry("sub dir/b", "FILE"),
                Entry("to-directory", "DIRECTORY"),
                Entry("to-directory/.hidden", "FILE"),
                Entry("to-directory/b", "FILE"),
                Entry("to-file", "FILE"),
            ]
            assert all(
                found.index(Entry(one, "DIRECTORY")) < found.index(Entry(f"{one}/b", "FILE"))
                for one in ("sub dir", "to-directory")
            )


@pytest.mark.parametrize("lacks", [(), ("MLSD",)])
async def test_a_symlink_to_a_directory_above_it_ends_the_walk(
    storage: Storage, tmp_path: Path, lacks: tuple[str, ...]
) -> None:
    with serving_ftp(tmp_path / "loop", "--lacks", *lacks) as server:
        (server.directory / "d").mkdir()
        (server.directory / "d/loop").symlink_to("../d")
        with pytest.raises(
            StorageError, match=r"cannot list .*/d: loop.* seems to be a symlink to a directory above it"
        ):
            await walked(storage, f"{server.url}/d")


@pytest.mark.parametrize(
    ("path", "words", "absent"),
    [
        ("none", r"/none does not exist \(the server answered 550 No such file", True),
        ("d", "cannot read .*/d: the server answered 550", False),
        ("d/../x", "has '.' or '..' between slashes", False),
        ("%2e%2e/x", "has '.' or '..' between slashes", False),
        ("a%0d%0aDELE%20x", "holds a line break or NUL", False),
    ],
)
async def test_what_cannot_be_fetched_is_said_once(
    storage: Storage, ftp_server: FtpServer, tmp_path: Path, path: str, words: str, absent: bool
) -> None:
    (ftp_server.directory / "d").mkdir()
    with pytest.raises(StorageError, match=words) as raised:
        await fetched(storage, f"{ftp_server.url}/{path}", tmp_path / "t")
    assert raised.value.not_found is absent
    assert len(ftp_server.commands("USER")) <= 1


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://127.0.0.1:1/x", "ftp://127.0.0.1:1/x: the server cannot be reached"),
        ("ftp://no-such-host.invalid/x", "the server cannot be reached"),
        ("ftp:///x", "names no host"),
        ("ftp://h:port/x", "names no host"),
    ],
)
async def test_servers_that_cannot_be_reached(tmp_path: Path, url: str, words: str) -> None:
    async with ftp_storage(retries=1) as storage:
        with pytest.raises(StorageError, match=words):
            await fetched(storage, url, tmp_path / "t")


async def test_logins(ftp_server: FtpServer, tmp_path: Path) -> None:
    (ftp_server.directory / "x").write_text("x")
    netrc, broken = tmp_path / "netrc", tmp_path / "broken"
    netrc.write_text("machine 127.0.0.1 login me password p@ss/word\n")
    broken.write_text("machine 127.0.0.1 login me\nnonsense s3cret\n")
    given = ftp_server.url.replace("//", "//me:p%40ss%2Fword@")
    wrong = ftp_server.url.replace("//", "//me:s3cret@")
    mine, other = FtpOptions(username="me", password="p@ss/word"), FtpOptions(username="you", password="s3cret")
    for ftp, url, users in (
        (FtpOptions(), ftp_server.url, ["anonymous"]),
        (FtpOptions(), given, ["me"]),
        (FtpOptions(netrc=str(netrc)), ftp_server.url, ["me"]),
        (FtpOptions(netrc=str(tmp_path / "none")), ftp_server.url, ["anonymous"]),
        (FtpOptions(netrc=str(netrc), username="you"), ftp_server.url, ["me"]),
        (mine, ftp_server.url, ["me"]),
        (other, ftp_server.url, ["you", "anonymous"]),
        (other, given, ["me"]),
        (FtpOptions(), wrong, None),
        (FtpOptions(netrc=str(broken)), ftp_server.url, None),
    ):
        before = len(ftp_server.commands("USER"))
        async with ftp_storage(ftp=ftp) as storage:
            if users is None:
                with pytest.raises(StorageError, match=r"the server answered 530|line 2") as raised:
                    await fetched(storage, f"{url}/x", tmp_path / "t")
                assert "s3cret" not in str(raised.value)
                assert len(ftp_server.commands("USER")) <= before + 1
            else:
                assert await fetched(storage, f"{url}/x", tmp_path / "t") == b"x"
                assert ftp_server.commands("USER")[before:] == users


def test_logins_from_the_environment(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path), "TESK_FTP_USERNAME": "me", "TESK_FTP_PASSWORD": "s3cret"}
    found = StorageOptions.from_environment(environ)
    assert found.ftp == FtpOptions(f"{tmp_path}/.netrc", "me", "s3cret")
    assert "s3cret" not in repr(found)
    assert StorageOptions.from_environment({"NETRC": "/n"}).ftp == FtpOptions("/n")


async def test_a_password_that_a_server_quotes_is_not_shown(tmp_path: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 hello\r\n")
        await reader.readline()
        writer.write(b"331 and the password?\r\n")
        writer.write(b"530 no such password: " + (await reader.readline()).split()[1] + b"\r\n")
        await writer.drain()

    async with answering(answer) as url, ftp_storage() as storage:
        with pytest.raises(StorageError, match="530 no such password") as raised:
            await fetched(storage, url.replace("http://", "ftp://me:s3cret@") + "/x", tmp_path / "t")
    assert "s3cret" not in str(raised.value)


async def test_a_cut_download_goes_on_where_it_stopped(storage: Storage, ftp_server: FtpServer, tmp_path: Path) -> None:
    (ftp_server.directory / "big").write_bytes(BIG)
    ftp_server.go_wrong({"after": 3 << 20}, {"after": 2 << 20})
    assert await fetched(storage, f"{ftp_server.url}/big", tmp_path / "t") == BIG
    first, second = (int(one) for one in ftp_server.commands("REST"))
    assert 0 < first < second < len(BIG)


async def test_a_file_that_changed_between_two_tries_is_fetched_anew(
    storage: Storage, ftp_server: FtpServer, tmp_path: Path
) -> None:
    (ftp_server.directory / "big").write_bytes(BIG)
    os.utime(ftp_server.directory / "big", (1, 1))
    ftp_server.go_wrong({"after": 3 << 20})
    task = asyncio.create_task(fetched(storage, f"{ftp_server.url}/big", tmp_path / "t"))
    while not ftp_server.commands("RETR"):
        await asyncio.sleep(0.001)
    (ftp_server.directory / "new").write_bytes(BIG[::-1])
    (ftp_server.directory / "new").rename(ftp_server.directory / "big")
    assert await task == BIG[::-1]
    assert ftp_server.commands("REST") == []


async def test_a_stalled_download_goes_on(ftp_server: FtpServer, tmp_path: Path) -> None:
    (ftp_server.directory / "big").write_bytes(BIG)
    ftp_server.go_wrong({"after": 3 << 20, "stall": True})
    async with ftp_storage(stall_timeout=0.3) as storage:
        assert await fetched(storage, f"{ftp_server.url}/big", tmp_path / "t") == BIG
    assert len(ftp_server.commands("REST")) == 1


async def test_a_cut_upload_goes_on_where_it_stopped(storage: Storage, ftp_server: FtpServer, tmp_path: Path) -> None:
    ftp_server.go_wrong({"after": 3 << 20})
    await delivered(storage, BIG, f"{ftp_server.url}/d/x", tmp_path / "s")
    assert (ftp_server.directory / "d/x").read_bytes() == BIG
    assert int(ftp_server.commands("REST")[0]) >= 3 << 20
    assert leftovers(ftp_server) == []


@pytest.mark.parametrize("reply", ["421 Too many connections", "450 Busy", "451 Local error"])
async def test_what_may_pass_is_tried_again(
    storage: Storage, ftp_server: FtpServer, tmp_path: Path, reply: str
) -> None:
    (ftp_server.directory / "x").write_text("x")
    ftp_server.go_wrong({"command": "RETR", "reply": reply, "times": 2}, {"command": "STOR", "reply": reply})
    assert await fetched(storage, f"{ftp_server.url}/x", tmp_path / "t") == b"x"
    await delivered(storage, b"y", f"{ftp_server.url}/y", tmp_path / "s")
    assert (ftp_server.directory / "y").read_text() == "y"
    ftp_server.go_wrong({"command": "RETR", "reply": reply, "times": 99})
    with pytest.raises(StorageError, match=rf"cannot read .*/x: the server answered {reply}"):
        await fetched(storage, f"{ftp_server.url}/x", tmp_path / "t")
    assert len(ftp_server.commands("RETR")) == 3 + 1 + storage.options.retries


@pytest.mark.parametrize("command", ["STOR", "RNFR", "RNTO"])
@pytest.mark.parametrize("reply", ["552 Quota exceeded", "553 Not this name"])
async def test_a_refused_delivery_is_said_once_and_leaves_nothing(
    storage: Storage, ftp_server: FtpServer, tmp_path: Path, command: str, reply: str
) -> None:
    ftp_server.go_wrong({"command": command, "reply": reply, "times": 99})
    with pytest.raises(StorageError, match=rf"/d/x: the server answered {reply}"):
        await delivered(storage, BIG, f"{ftp_server.url}/d/x", tmp_path / "s")
    assert len(ftp_server.commands("RNTO")) == (command == "RNTO")
    assert not (ftp_server.directory / "d/x").exists()
    assert leftovers(ftp_server) == []


async def test_a_server_that_renames_over_no_file_gets_the_new_one_all_the_same(
    storage: Storage, tmp_path: Path
) -> None:
    with serving_ftp(tmp_path / "ftp", "--no-renaming-over") as server:
        (server.directory / "x").write_text("old")
        await delivered(storage, b"new", f"{server.url}/x", tmp_path / "s")
        assert [(one.name, one.read_text()) for one in server.directory.iterdir()] == [("x", "new")]


async def test_a_server_that_refuses_to_rename_keeps_the_older_file(storage: Storage, tmp_path: Path) -> None:
    with serving_ftp(tmp_path / "ftp", "--no-renaming") as server:
        (server.directory / "x").write_text("old")
        with pytest.raises(
            StorageError, match=r"cannot rename the file that was sent for .*/x: the server answered 550"
        ):
            await delivered(storage, b"new", f"{server.url}/x", tmp_path / "s")
        assert [(one.name, one.read_text()) for one in server.directory.iterdir()] == [("x", "old")]


async def test_a_file_replaces_no_directory(storage: Storage, ftp_server: FtpServer, tmp_path: Path) -> None:
    (ftp_server.directory / "d").mkdir()
    with pytest.raises(StorageError, match="/d is a directory, so no file can be written there"):
        await delivered(storage, b"x", f"{ftp_server.url}/d", tmp_path / "s")
    with pytest.raises(StorageError, match="ends with a slash"):
        await delivered(storage, b"x", f"{ftp_server.url}/d/", tmp_path / "s")
    assert leftovers(ftp_server) == []


async def test_nothing_partial_ever_stands_under_the_final_name(
    storage: Storage, ftp_server: FtpServer, tmp_path: Path
) -> None:
    (ftp_server.directory / "x").write_text("old")
    ftp_server.go_wrong({"after": 1 << 20, "times": 99})
    with pytest.raises(StorageError, match="/x: "):
        await delivered(storage, BIG, f"{ftp_server.url}/x", tmp_path / "s")
    assert (ftp_server.directory / "x").read_text() == "old"
    assert leftovers(ftp_server) == []


async def test_a_file_that_shrinks_while_it_is_delivered_is_refused(
    storage: Storage, ftp_server: FtpServer, tmp_path: Path
) -> None:
    (tmp_path / "s").write_bytes(b"short")
    with open(tmp_path / "s", "rb") as source, pytest.raises(StorageError, match="changed its size"):
        await storage.deliver(Source(source.fileno(), 100), f"{ftp_server.url}/x")
    assert list(ftp_server.directory.iterdir()) == []


async def test_directories_are_made_also_twice(storage: Storage, ftp_server: FtpServer) -> None:
    await asyncio.gather(*[storage.make_directory(f"{ftp_server.url}/a/b/{one}") for one in "ccdd"])
    assert sorted(one.name for one in (ftp_server.directory / "a/b").iterdir()) == ["c", "d"]
    (ftp_server.directory / "file").write_text("x")
    with pytest.raises(StorageError, match=r"cannot make .*/file: the server answered 550"):
        await storage.make_directory(f"{ftp_server.url}/file")


async def test_many_files_share_a_few_sessions(storage: Storage, ftp_server: FtpServer, tmp_path: Path) -> None:
    (ftp_server.directory / "x").write_text("x")
    await asyncio.gather(*[fetched(storage, f"{ftp_server.url}/x", tmp_path / f"t{one}") for one in range(40)])
    assert len(ftp_server.commands("USER")) <= 4


async def test_a_cancelled_transfer_ends_at_once_and_leaves_nothing(ftp_server: FtpServer, tmp_path: Path) -> None:
    (ftp_server.directory / "big").write_bytes(BIG)
    async with ftp_storage(stall_timeout=30) as storage:
        for command, transfer in (
            ("RETR", fetched(storage, f"{ftp_server.url}/big", tmp_path / "t")),
            ("STOR", delivered(storage, BIG, f"{ftp_server.url}/new", tmp_path / "s")),
        ):
            ftp_server.go_wrong({"after": 1 << 20, "stall": True})
            task = asyncio.create_task(transfer)
            while not ftp_server.commands(command):
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.2)
            began = time.monotonic()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert time.monotonic() - began < 5
    assert not (ftp_server.directory / "new").exists()
    assert leftovers(ftp_server) == []


async def test_a_full_disk_here_is_the_callers_to_tell(storage: Storage, ftp_server: FtpServer) -> None:
    (ftp_server.directory / "big").write_bytes(BIG)
    target = os.open("/dev/full", os.O_WRONLY)
    try:
        with pytest.raises(OSError, match=r"No space left|Invalid argument"):
            await storage.fetch(f"{ftp_server.url}/big", target)
    finally:
        os.close(target)
