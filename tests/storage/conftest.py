"""What the storage tests share."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from tests.servers import S3Server, ftp_server, s3_server, web_server

from tesk.storage import S3Options, Source, Storage, StorageOptions

__all__ = ["ftp_server", "s3_server", "web_server"]

Fetch = Callable[[str], Awaitable[bytes]]
Deliver = Callable[[bytes, str], Awaitable[None]]


@pytest.fixture
def roots(tmp_path: Path) -> Path:
    """The one directory that `file://` may reach in these tests."""
    made = tmp_path / "roots"
    made.mkdir()
    return made


@pytest.fixture
async def storage(roots: Path) -> AsyncIterator[Storage]:
    """Storage of the files below `roots` and of the web, quick to give up."""
    async with Storage(StorageOptions(file_roots=(str(roots),), stall_timeout=0.3, retry_delay=0.01)) as made:
        yield made


@pytest.fixture
async def s3_storage(s3_server: S3Server) -> AsyncIterator[Storage]:
    """Storage of the S3 server."""
    async with Storage(s3_options(s3_server)) as made:
        yield made


def s3_options(server: S3Server, endpoint: str | None = None) -> StorageOptions:
    """Options that reach `server`, at `endpoint` if that is another way to it."""
    return StorageOptions(
        s3=S3Options(
            endpoint=endpoint or server.endpoint,
            access_key_id=server.access_key_id,
            secret_access_key=server.secret_access_key,
        ),
        stall_timeout=2,
        retry_delay=0.01,
    )


async def fetched(storage: Storage, url: str, path: Path) -> bytes:
    """The bytes that `storage` fetches from `url`; `path` is where they land on the way."""
    target = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    try:
        answer = await storage.fetch(url, target)
    finally:
        os.close(target)
    found = path.read_bytes()
    assert answer.size == len(found)
    return found


async def delivered(storage: Storage, content: bytes, url: str, path: Path, *, executable: bool = False) -> None:
    """Deliver `content` to `url`; `path` is where it comes from."""
    path.write_bytes(content)
    source = os.open(path, os.O_RDONLY)
    try:
        await storage.deliver(Source(source, len(content), executable), url)
    finally:
        os.close(source)
