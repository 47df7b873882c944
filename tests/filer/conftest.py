"""What the filer tests share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.servers import S3Server, ftp_server, s3_server, web_server

from tesk.storage import S3Options, Storage, StorageOptions

__all__ = ["ftp_server", "s3_server", "web_server"]


@pytest.fixture
def roots(tmp_path: Path) -> Path:
    """The one directory that `file://` may reach in these tests."""
    made = tmp_path / "roots"
    made.mkdir()
    return made


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """The scratch of one attempt."""
    made = tmp_path / "scratch"
    made.mkdir()
    return made


@pytest.fixture
async def storage(roots: Path) -> AsyncIterator[Storage]:
    """Storage of the files below `roots` and of the web."""
    async with Storage(StorageOptions(file_roots=(str(roots),), retry_delay=0.01)) as made:
        yield made


@pytest.fixture
async def s3_storage(s3_server: S3Server) -> AsyncIterator[Storage]:
    """Storage of the S3 server."""
    s3 = S3Options(s3_server.endpoint, "us-east-1", s3_server.access_key_id, s3_server.secret_access_key)
    async with Storage(StorageOptions(s3=s3, retry_delay=0.01)) as made:
        yield made


def tree(root: Path) -> dict[str, str | None]:
    """Every path below `root`, with the text of files and None for directories."""
    return {str(one.relative_to(root)): None if one.is_dir() else one.read_text() for one in sorted(root.rglob("*"))}
