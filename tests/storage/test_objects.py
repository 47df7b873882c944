"""S3, on a real server."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from tests.servers import S3Server, answering, cutting_wire
from tests.storage.conftest import delivered, fetched, s3_options

from tesk.storage import Entry, S3Options, Source, Storage, StorageError, StorageOptions

BIG = os.urandom(20 << 20)


@pytest.fixture(scope="session")
def bucket(s3_server: S3Server) -> Path:
    """The directory of the bucket `bucket`."""
    return s3_server.bucket("bucket")


@pytest.mark.parametrize(
    "key", ["k", "a/b/c", "a b", "é", "a%20b", "q?x#y", "a+b", "[x]*", "a&b=c", "back\\slash", "~", "file.tar.gz"]
)
async def test_keys_go_in_and_come_out_as_they_stand_in_the_url(
    s3_storage: Storage, bucket: Path, tmp_path: Path, key: str
) -> None:
    await delivered(s3_storage, key.encode(), f"s3://bucket/keys/{key}", tmp_path / "s")
    assert (bucket / "keys" / key).read_bytes() == key.encode()
    assert await fetched(s3_storage, f"s3://bucket/keys/{key}", tmp_path / "t") == key.encode()


@pytest.mark.parametrize("size", [0, 1, 8 << 20, (8 << 20) + 1, len(BIG)])
async def test_sizes_around_multipart(s3_storage: Storage, bucket: Path, tmp_path: Path, size: int) -> None:
    await delivered(s3_storage, BIG[:size], f"s3://bucket/size/{size}", tmp_path / "s")
    assert await fetched(s3_storage, f"s3://bucket/size/{size}", tmp_path / "t") == BIG[:size]


@pytest.mark.parametrize(
    ("url", "words", "absent"),
    [
        ("s3://bucket/none", "s3://bucket/none does not exist", True),
        ("s3://no-such/none", "the bucket 'no-such' does not exist", True),
        ("s3://bucket/tree", "s3://bucket/tree is a directory, not a file", False),
        ("s3://bucket/", "cannot be the URL of a file", False),
        ("s3://bucket", "cannot be the URL of a file", False),
        ("s3://bucket/tree/", "cannot be the URL of a file", False),
        ("s3:///key", "names no bucket", False),
        ("s3://bucket//key", "an empty part", False),
        ("s3://bucket/a/../key", "'.' or '..'", False),
        ("s3://bucket/a\nb", "this key cannot be used", False),
    ],
)
async def test_what_cannot_be_fetched_is_said(
    s3_storage: Storage, bucket: Path, tmp_path: Path, url: str, words: str, absent: bool
) -> None:
    (bucket / "tree").mkdir(exist_ok=True)
    (bucket / "tree/leaf").write_text("leaf")
    with pytest.raises(StorageError, match=words) as raised:
        await fetched(s3_storage, url, tmp_path / "t")
    assert raised.value.not_found is absent
    assert "\n" not in str(raised.value)


async def test_walk_lists_whole_trees_and_nothing_beside(s3_storage: Storage, bucket: Path, tmp_path: Path) -> None:
    for key in ("walk/a", "walk/b/c", "walk/b/empty", "walked", "walk.txt"):
        content = b"" if key.endswith("empty") else b"x"
        await delivered(s3_storage, content, f"s3://bucket/{key}", tmp_path / "s")
    expected = [Entry("a", "FILE"), Entry("b/c", "FILE"), Entry("b/empty", "FILE")]
    for url in ("s3://bucket/walk", "s3://bucket/walk/"):
        assert sorted([one async for one in s3_storage.walk(url)]) == expected


async def test_walk_lists_more_than_one_page(s3_storage: Storage, bucket: Path) -> None:
    (bucket / "pages").mkdir()
    for number in range(1100):
        (bucket / f"pages/{number:04}").write_text("x")
    assert len([one async for one in s3_storage.walk("s3://bucket/pages")]) == 1100


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("s3://bucket/nowhere", "does not exist"),
        ("s3://no-such/x", "the bucket 'no-such' does not exist"),
        ("s3://bucket/single", "is a file, not a directory"),
    ],
)
async def test_what_cannot_be_listed_is_said(
    s3_storage: Storage, bucket: Path, tmp_path: Path, url: str, words: str
) -> None:
    await delivered(s3_storage, b"x", "s3://bucket/single", tmp_path / "s")
    with pytest.raises(StorageError, match=words):
        [one async for one in s3_storage.walk(url)]


async def test_keys_that_end_with_a_slash_are_directories(
    s3_server: S3Server, s3_storage: Storage, bucket: Path, tmp_path: Path
) -> None:
    await delivered(s3_storage, b"x", "s3://bucket/marked/file", tmp_path / "s")
    for key in ("marked/", "marked/empty/", "alone/"):
        await asyncio.to_thread(put_marker, s3_server, f"/bucket/{key}")
    found = sorted([one async for one in s3_storage.walk("s3://bucket/marked")])
    assert found == [Entry("empty", "DIRECTORY"), Entry("file", "FILE")]
    assert [one async for one in s3_storage.walk("s3://bucket/alone/")] == []


def put_marker(server: S3Server, path: str) -> None:
    """PUT an empty object whose key ends with a slash, as S3 consoles do; signed by hand, since obstore
    cannot.
    """
    host, time = server.endpoint.removeprefix("http://"), datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    names, empty = "host;x-amz-content-sha256;x-amz-date", hashlib.sha256(b"").hexdigest()
    request = f"PUT\n{path}\n\nhost:{host}\nx-amz-content-sha256:{empty}\nx-amz-date:{time}\n\n{names}\n{empty}"
    scope = f"{time[:8]}/us-east-1/s3/aws4_request"
    signed = f"AWS4-HMAC-SHA256\n{time}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    key = b"AWS4" + server.secret_access_key.encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    credential = f"Credential={server.access_key_id}/{scope}, SignedHeaders={names}"
    signature = hmac.digest(key, signed.encode(), "sha256").hex()
    headers = {
        "x-amz-date": time,
        "x-amz-content-sha256": empty,
        "authorization": f"AWS4-HMAC-SHA256 {credential}, Signature={signature}",
    }
    httpx.put(server.endpoint + path, headers=headers).raise_for_status()


async def test_an_empty_bucket_is_an_empty_directory(s3_storage: Storage, s3_server: S3Server) -> None:
    s3_server.bucket("empty-bucket")
    assert [one async for one in s3_storage.walk("s3://empty-bucket")] == []


@pytest.mark.parametrize(
    ("access", "secret", "words"),
    [
        ("tester", "wrong", "403 SignatureDoesNotMatch"),
        ("nobody", "wrong", "the server answered 40[34]"),
        (None, None, r"403 AccessDenied \(there are no S3 credentials here"),
    ],
)
async def test_refused_credentials_are_said_and_never_shown(
    s3_server: S3Server, bucket: Path, tmp_path: Path, access: str | None, secret: str | None, words: str
) -> None:
    (bucket / "private").write_text("x")
    s3 = S3Options(s3_server.endpoint, "us-east-1", access, secret)
    async with Storage(StorageOptions(s3=s3, retry_delay=0.01)) as storage:
        with pytest.raises(StorageError, match=words) as raised:
            await fetched(storage, "s3://bucket/private", tmp_path / "t")
        assert not raised.value.not_found
        assert "wrong" not in str(raised.value)
        with pytest.raises(StorageError, match="cannot write s3://bucket/new: the server answered 40"):
            await delivered(storage, b"x", "s3://bucket/new", tmp_path / "s")


async def test_the_environment_does_not_creep_in(
    s3_storage: Storage, bucket: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone-else")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "someone-else")
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    await delivered(s3_storage, b"x", "s3://bucket/environment", tmp_path / "s")
    assert (bucket / "environment").read_bytes() == b"x"


async def test_options_from_the_servers_own_variables(s3_server: S3Server, bucket: Path, tmp_path: Path) -> None:
    async with Storage(StorageOptions.from_environment(s3_server.environment)) as storage:
        await delivered(storage, b"x", "s3://bucket/from-environment", tmp_path / "s")
    assert (bucket / "from-environment").read_bytes() == b"x"


async def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    options = StorageOptions(s3=S3Options("http://127.0.0.1:1", "r", "k", "s"), retries=1, retry_delay=0.01)
    async with Storage(options) as storage:
        with pytest.raises(StorageError, match=r"s3://b/k: http://127.0.0.1:1 cannot be reached"):
            await fetched(storage, "s3://b/k", tmp_path / "t")
        with pytest.raises(StorageError, match=r"cannot write s3://b/k: http://127.0.0.1:1 cannot be reached"):
            await delivered(storage, b"x", "s3://b/k", tmp_path / "s")


async def test_a_server_that_never_answers(tmp_path: Path) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with answering(silent) as endpoint:
        options = StorageOptions(s3=S3Options(endpoint, "r", "k", "s"), retries=1, retry_delay=0.01, stall_timeout=0.2)
        async with Storage(options) as storage:
            with pytest.raises(StorageError, match=r"s3://b/k: .* did not answer in time"):
                await fetched(storage, "s3://b/k", tmp_path / "t")


async def test_a_cut_download_goes_on(s3_server: S3Server, bucket: Path, tmp_path: Path) -> None:
    (bucket / "cut").write_bytes(BIG)
    with cutting_wire(s3_server.endpoint, after=5 << 20, times=2) as endpoint:
        async with Storage(s3_options(s3_server, endpoint)) as storage:
            assert await fetched(storage, "s3://bucket/cut", tmp_path / "t") == BIG


async def test_a_cut_upload_goes_on(s3_server: S3Server, bucket: Path, tmp_path: Path) -> None:
    with cutting_wire(s3_server.endpoint, after=0, times=2) as endpoint:
        async with Storage(s3_options(s3_server, endpoint)) as storage:
            await delivered(storage, BIG, "s3://bucket/cut-upload", tmp_path / "s")
    assert (bucket / "cut-upload").read_bytes() == BIG


async def test_a_cancelled_upload_is_taken_back(
    s3_server: S3Server, s3_storage: Storage, bucket: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = asyncio.Event()
    real = s3_storage.workers.run

    async def slow(work: object) -> object:
        parts = list((bucket / ".sgwtmp").rglob("1"))
        if parts:
            began.set()
            await asyncio.sleep(0.2)
        return await real(work)  # type: ignore[arg-type]

    monkeypatch.setattr(s3_storage.workers, "run", slow)
    task = asyncio.create_task(delivered(s3_storage, BIG * 3, "s3://bucket/cancelled", tmp_path / "s"))
    await asyncio.wait_for(began.wait(), 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not (bucket / "cancelled").exists()
    assert not [one for one in (bucket / ".sgwtmp").rglob("*") if one.is_file()]


async def test_a_file_that_changes_while_it_is_delivered_never_arrives(
    s3_storage: Storage, bucket: Path, tmp_path: Path
) -> None:
    (tmp_path / "s").write_bytes(BIG)
    with open(tmp_path / "s", "rb") as source:
        for size in (100, len(BIG) + 1):
            if size == 100:
                os.truncate(tmp_path / "s", 50)
            else:
                (tmp_path / "s").write_bytes(BIG)
            with pytest.raises(StorageError, match="changed its size"):
                await s3_storage.deliver(Source(source.fileno(), size), "s3://bucket/changing")
    assert not (bucket / "changing").exists()
