"""`file://` and bare paths."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
import time
from pathlib import Path

import pytest
from tests.storage.conftest import delivered, fetched

from tesk.storage import Entry, Source, Storage, StorageError, StorageOptions, local
from tesk.storage.local import Workers, copy_bytes


@pytest.mark.parametrize("form", ["{}", "file://{}", "file://localhost{}", "FILE://{}"])
async def test_fetch_reads_every_spelling(storage: Storage, roots: Path, tmp_path: Path, form: str) -> None:
    (roots / "x").write_bytes(b"bytes\0")
    assert await fetched(storage, form.format(roots / "x"), tmp_path / "target") == b"bytes\0"


async def test_fetch_decodes_percents_in_urls_only(storage: Storage, roots: Path, tmp_path: Path) -> None:
    (roots / "a b").write_text("space")
    (roots / "a%20b").write_text("percent")
    assert await fetched(storage, f"file://{roots}/a%20b", tmp_path / "t") == b"space"
    assert await fetched(storage, f"{roots}/a%20b", tmp_path / "t") == b"percent"


async def test_fetch_tells_whether_the_source_is_a_program(storage: Storage, roots: Path, tmp_path: Path) -> None:
    (roots / "run.sh").write_text("true")
    target = os.open(tmp_path / "t", os.O_RDWR | os.O_CREAT)
    try:
        assert not (await storage.fetch(f"{roots}/run.sh", target)).executable
        (roots / "run.sh").chmod(0o755)
        assert (await storage.fetch(f"{roots}/run.sh", target)).executable
    finally:
        os.close(target)


@pytest.mark.parametrize(
    ("path", "words", "absent"),
    [
        ("{roots}/none", "{roots}/none does not exist", True),
        ("{roots}/file/below", "{roots}/file/below does not exist", True),
        ("{roots}/directory", "{roots}/directory is a directory, not a file", False),
        ("{roots}/fifo", "neither a file nor a directory", False),
        ("{roots}/link", "a symlink on its way leads to /etc/passwd", False),
        ("{roots}/loop", "too many levels of symbolic links", False),
        ("{roots}base", "this site allows file paths below {roots} only", False),
        ("{roots}/../secret", "this site allows file paths below {roots} only", False),
        ("file://{roots}/%2e%2e/secret", "this site allows file paths below {roots} only", False),
        ("/etc/passwd", "this site allows file paths below {roots} only", False),
        ("file://elsewhere{roots}/file", "the host 'elsewhere'", False),
        ("{roots}/" + "n" * 300, "file name too long", False),
    ],
)
async def test_what_cannot_be_fetched_is_said_in_a_sentence(
    storage: Storage, roots: Path, tmp_path: Path, path: str, words: str, absent: bool
) -> None:
    (roots / "file").write_text("")
    (roots / "directory").mkdir()
    os.mkfifo(roots / "fifo")
    (roots / "link").symlink_to("/etc/passwd")
    (roots / "loop").symlink_to("loop")
    (tmp_path / "secret").write_text("secret")
    with pytest.raises(StorageError) as raised:
        await fetched(storage, path.format(roots=roots), tmp_path / "t")
    assert words.format(roots=roots) in str(raised.value)
    assert raised.value.not_found is absent
    assert (tmp_path / "t").read_bytes() == b""


async def test_walk_lists_what_is_below(storage: Storage, roots: Path) -> None:
    (roots / "d/e").mkdir(parents=True)
    (roots / "d/f").write_text("")
    (roots / "d/l").symlink_to("f")
    found = [one async for one in storage.walk(f"file://{roots}/d/")]
    assert found == [Entry("e", "DIRECTORY"), Entry("f", "FILE"), Entry("l", "FILE")]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("none", "does not exist"),
        ("file", "is a file, not a directory"),
        ("leaving", "out of the directories that this site allows"),
        ("dangling", "is a symlink to something that is not there"),
    ],
)
async def test_what_cannot_be_listed_is_said(storage: Storage, roots: Path, name: str, words: str) -> None:
    (roots / "file").write_text("")
    for directory, target in (("leaving", "/etc/passwd"), ("dangling", "nowhere")):
        (roots / directory).mkdir()
        (roots / directory / "l").symlink_to(target)
    with pytest.raises(StorageError, match=words):
        [one async for one in storage.walk(f"{roots}/{name}")]


async def test_deliver_makes_parents_and_replaces(storage: Storage, roots: Path, tmp_path: Path) -> None:
    for content in (b"first", b"2"):
        await delivered(storage, content, f"file://{roots}/new/deep/o%20ut", tmp_path / "s")
        assert (roots / "new/deep/o ut").read_bytes() == content
    assert [one.name for one in (roots / "new/deep").iterdir()] == ["o ut"]


@pytest.mark.parametrize(("umask", "plain", "program"), [(0o022, 0o644, 0o755), (0o077, 0o600, 0o700)])
async def test_deliver_keeps_the_execute_bit_and_respects_the_umask(
    storage: Storage, roots: Path, tmp_path: Path, umask: int, plain: int, program: int
) -> None:
    before = os.umask(umask)
    try:
        await delivered(storage, b"", f"{roots}/d/plain", tmp_path / "s")
        await delivered(storage, b"", f"{roots}/d/program", tmp_path / "s", executable=True)
    finally:
        os.umask(before)
    assert (roots / "d/plain").stat().st_mode & 0o777 == plain
    assert (roots / "d/program").stat().st_mode & 0o777 == program
    assert (roots / "d").stat().st_mode & 0o777 == program


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("{roots}/directory", "is a directory"),
        ("{roots}/file/below", "not a directory"),
        ("{roots}/directory/", "ends with a slash"),
        ("{roots}", "a directory"),
        ("{roots}/link/x", "out of the directories that this site allows"),
        ("/etc/tesk-must-never-write-this", "this site allows file paths below"),
    ],
)
async def test_what_cannot_be_delivered_is_said(
    storage: Storage, roots: Path, tmp_path: Path, path: str, words: str
) -> None:
    (roots / "file").write_text("")
    (roots / "directory").mkdir()
    (roots / "link").symlink_to(tmp_path)
    with pytest.raises(StorageError, match=words):
        await delivered(storage, b"x", path.format(roots=roots), tmp_path / "s")
    assert sorted(one.name for one in roots.rglob("*")) == ["directory", "file", "link"]


async def test_delivering_over_a_symlink_replaces_it(storage: Storage, roots: Path, tmp_path: Path) -> None:
    (roots / "file").write_text("old")
    (roots / "link").symlink_to("file")
    await delivered(storage, b"new", f"{roots}/link", tmp_path / "s")
    assert (roots / "file").read_text() == "old"
    assert not (roots / "link").is_symlink()


@pytest.mark.parametrize("unnamed", [True, False])
async def test_a_cancelled_delivery_leaves_nothing(
    storage: Storage, roots: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unnamed: bool
) -> None:
    if not unnamed:
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    begun = threading.Event()

    def slow(source: int, target: int, stop: threading.Event) -> int:
        os.write(target, b"part")
        begun.set()
        assert stop.wait(10)
        return 4

    monkeypatch.setattr("tesk.storage.files.copy_bytes", slow)
    task = asyncio.create_task(delivered(storage, b"x" * 100, f"{roots}/out", tmp_path / "s"))
    await asyncio.to_thread(begun.wait, 10)
    seen = [one.name for one in roots.iterdir()]
    assert "out" not in seen
    assert unnamed is (seen == [])
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert list(roots.iterdir()) == []


async def test_a_file_that_grows_while_it_is_delivered_is_refused(
    storage: Storage, roots: Path, tmp_path: Path
) -> None:
    (tmp_path / "s").write_bytes(b"longer than it said")
    with open(tmp_path / "s", "rb") as source, pytest.raises(StorageError, match="changed its size"):
        await storage.deliver(Source(source.fileno(), 3), f"{roots}/out")
    assert list(roots.iterdir()) == []


async def test_make_directory_makes_all_of_the_way(storage: Storage, roots: Path) -> None:
    await storage.make_directory(f"file://{roots}/a/b%20c/")
    await storage.make_directory(f"file://{roots}/a/b%20c")
    assert (roots / "a/b c").is_dir()


@pytest.mark.parametrize("fails", [None, errno.EXDEV, errno.ENOSYS, errno.EINVAL])
@pytest.mark.parametrize("size", [0, 1, 3 << 20])
def test_copy_bytes_with_and_without_help_of_the_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: int | None, size: int
) -> None:
    if fails is not None:

        def refuse(*_: object) -> int:
            raise OSError(fails, "no")

        monkeypatch.setattr(os, "copy_file_range", refuse, raising=False)
    content = os.urandom(size)
    (tmp_path / "s").write_bytes(content)
    with open(tmp_path / "s", "rb") as source, open(tmp_path / "t", "wb") as target:
        assert copy_bytes(source.fileno(), target.fileno(), threading.Event()) == size
    assert (tmp_path / "t").read_bytes() == content


@pytest.mark.skipif(not os.path.exists("/proc/version"), reason="needs /proc, whose files have no size")
def test_copy_bytes_of_a_file_whose_size_is_not_known(tmp_path: Path) -> None:
    with open("/proc/version", "rb") as source, open(tmp_path / "t", "wb") as target:
        copy_bytes(source.fileno(), target.fileno(), threading.Event())
    assert (tmp_path / "t").read_bytes() == Path("/proc/version").read_bytes() != b""


def test_copy_bytes_stops_between_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_CHUNK", 1000)
    (tmp_path / "s").write_bytes(b"x" * 5000)
    stop, copied = threading.Event(), []
    real = os.copy_file_range

    def counting(*arguments: int) -> int:
        copied.append(real(*arguments))
        if len(copied) == 2:
            stop.set()
        return copied[-1]

    monkeypatch.setattr(os, "copy_file_range", counting)
    with open(tmp_path / "s", "rb") as source, open(tmp_path / "t", "wb") as target:
        assert copy_bytes(source.fileno(), target.fileno(), stop) == 2000


async def test_a_cancelled_worker_is_awaited_before_its_descriptors_may_be_closed() -> None:
    workers = Workers(1)
    ended = []

    def work(stop: threading.Event) -> None:
        assert stop.wait(10)
        time.sleep(0.05)
        ended.append(1)

    running = asyncio.create_task(workers.run(work))
    waiting = asyncio.create_task(workers.run(lambda _: ended.append(2)))
    await asyncio.sleep(0.05)
    waiting.cancel()
    running.cancel()
    for one in (waiting, running):
        with pytest.raises(asyncio.CancelledError):
            await one
    assert ended == [1]
    workers.close()


async def test_schemes_that_storage_does_not_speak_are_named(storage: Storage, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"gopher://h/x has a scheme that storage does not speak.*http"):
        await fetched(storage, "gopher://me:secret@h/x", tmp_path / "t")


async def test_nothing_is_allowed_by_default(tmp_path: Path) -> None:
    async with Storage(StorageOptions()) as storage:
        with pytest.raises(StorageError, match="file_roots is empty"):
            await fetched(storage, str(tmp_path / "x"), tmp_path / "t")
