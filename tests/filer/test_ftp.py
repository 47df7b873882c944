"""Whole plans over FTP: directories merge, the last one wins, what comes out is what was there."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.filer.conftest import tree
from tests.servers import FtpServer

from tesk.filer import TransferError, stage_in, stage_out
from tesk.plan.model import Delivery, Plan, Transfer
from tesk.storage import Storage


async def test_directories_merge_and_the_last_one_wins(storage: Storage, ftp_server: FtpServer, scratch: Path) -> None:
    for path in ("one/README", "one/a", "one/sub/x", "two/README", "two/sub/y", "file"):
        (ftp_server.directory / path).parent.mkdir(parents=True, exist_ok=True)
        (ftp_server.directory / path).write_text(path)
    planned = Plan(
        executors=(),
        inputs=(
            Transfer("/in", "DIRECTORY", f"{ftp_server.url}/one"),
            Transfer("/in", "DIRECTORY", f"{ftp_server.url}/two/"),
            Transfer("/in/a", "FILE", f"{ftp_server.url}/file"),
        ),
    )
    await stage_in(planned, scratch, storage)
    assert tree(scratch / "in") == {
        "README": "two/README",
        "a": "file",
        "sub": None,
        "sub/x": "one/sub/x",
        "sub/y": "two/sub/y",
    }


async def test_outputs_with_directories_and_patterns(storage: Storage, ftp_server: FtpServer, scratch: Path) -> None:
    (scratch / "out/sub/empty").mkdir(parents=True)
    (scratch / "out/sub/x y").write_text("x")
    (scratch / "a.txt").write_text("a")
    (scratch / "b.txt").write_text("b")
    (ftp_server.directory / "there").mkdir()
    (ftp_server.directory / "there/older").write_text("older")
    planned = Plan(
        executors=(),
        outputs=(
            Delivery("/out", f"{ftp_server.url}/there", "DIRECTORY"),
            Delivery("/*.txt", f"{ftp_server.url}/texts", "FILE", path_prefix="/"),
        ),
    )
    ended = await stage_out(planned, scratch, storage)
    assert ended.failed == ended.missing == ()
    assert {(one.url.removeprefix(ftp_server.url), one.size_bytes) for one in ended.delivered} == {
        ("/there/sub/x%20y", 1),
        ("/texts/a.txt", 1),
        ("/texts/b.txt", 1),
    }
    assert tree(ftp_server.directory) == {
        "there": None,
        "there/older": "older",
        "there/sub": None,
        "there/sub/empty": None,
        "there/sub/x y": "x",
        "texts": None,
        "texts/a.txt": "a",
        "texts/b.txt": "b",
    }


async def test_a_missing_input_is_one_sentence(storage: Storage, ftp_server: FtpServer, scratch: Path) -> None:
    planned = Plan(executors=(), inputs=(Transfer("/in", "FILE", f"{ftp_server.url}/none"),))
    with pytest.raises(TransferError) as raised:
        await stage_in(planned, scratch, storage)
    assert raised.value.sentences == (
        f"input /in: {ftp_server.url}/none does not exist (the server answered 550 No such file or directory.)",
    )
