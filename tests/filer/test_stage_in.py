"""What a plan's inputs name is in scratch afterwards, or a sentence says why not."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.filer.conftest import tree
from tests.servers import Answer, S3Server, WebServer

from tesk.filer import TransferError, stage_in
from tesk.plan.model import Plan, Transfer
from tesk.storage import Storage


def plan(*inputs: Transfer, directories: tuple[str, ...] = ()) -> Plan:
    return Plan(executors=(), inputs=inputs, directories=directories)


async def faults(planned: Plan, scratch: Path, storage: Storage) -> tuple[str, ...]:
    with pytest.raises(TransferError) as raised:
        await stage_in(planned, scratch, storage)
    assert all("\n" not in one for one in raised.value.sentences)
    return tuple(sorted(raised.value.sentences))


async def test_files_directories_and_content(storage: Storage, roots: Path, scratch: Path) -> None:
    (roots / "d/sub/empty").mkdir(parents=True)
    (roots / "d/a b").write_text("ab")
    (roots / "d/sub/x").write_text("x")
    (roots / "f").write_text("f")
    planned = plan(
        Transfer("/in/file", "FILE", f"file://{roots}/f"),
        Transfer("/in/dir", "DIRECTORY", f"{roots}/d/"),
        Transfer("/in/text", "FILE", content="héllo\n"),
        Transfer("/in/none", "FILE", content=""),
        directories=("/vol", "/out/deep"),
    )
    await stage_in(planned, scratch, storage)
    assert tree(scratch) == {
        "in": None,
        "in/dir": None,
        "in/dir/a b": "ab",
        "in/dir/sub": None,
        "in/dir/sub/empty": None,
        "in/dir/sub/x": "x",
        "in/file": "f",
        "in/none": "",
        "in/text": "héllo\n",
        "out": None,
        "out/deep": None,
        "vol": None,
    }


async def test_content_wins_over_a_url(storage: Storage, scratch: Path) -> None:
    await stage_in(plan(Transfer("/x", "FILE", "s3://nowhere/at-all", "content")), scratch, storage)
    assert tree(scratch) == {"x": "content"}


@pytest.mark.parametrize("directory_last", [True, False])
async def test_the_last_of_two_inputs_for_one_path_wins(
    storage: Storage, roots: Path, scratch: Path, directory_last: bool
) -> None:
    (roots / "d").mkdir()
    (roots / "d/a").write_text("from the directory")
    (roots / "d/b").write_text("b")
    inputs = [Transfer("/in/a", "FILE", content="from the file"), Transfer("/in", "DIRECTORY", f"{roots}/d")]
    await stage_in(plan(*(inputs if directory_last else reversed(inputs))), scratch, storage)
    assert (scratch / "in/a").read_text() == ("from the directory" if directory_last else "from the file")
    assert (scratch / "in/b").read_text() == "b"


async def test_directories_merge(storage: Storage, roots: Path, scratch: Path) -> None:
    for name in ("one", "two"):
        (roots / name / "sub").mkdir(parents=True)
        (roots / name / "sub" / name).write_text(name)
        (roots / name / "both").write_text(name)
    planned = plan(*(Transfer("/in", "DIRECTORY", f"file://{roots}/{name}") for name in ("one", "two")))
    await stage_in(planned, scratch, storage)
    assert tree(scratch / "in") == {"both": "two", "sub": None, "sub/one": "one", "sub/two": "two"}


async def test_modes_are_for_every_reader_whatever_the_umask(storage: Storage, roots: Path, scratch: Path) -> None:
    (roots / "script").write_text("#!/bin/sh")
    (roots / "script").chmod(0o700)
    (roots / "secretive").write_text("x")
    (roots / "secretive").chmod(0o600)
    before = os.umask(0o077)
    try:
        planned = plan(
            Transfer("/script", "FILE", f"{roots}/script"),
            Transfer("/secretive", "FILE", f"{roots}/secretive"),
            Transfer("/text", "FILE", content="x"),
        )
        await stage_in(planned, scratch, storage)
    finally:
        os.umask(before)
    modes = {one.name: one.stat().st_mode & 0o777 for one in scratch.iterdir()}
    assert modes == {"script": 0o755, "secretive": 0o644, "text": 0o644}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
async def test_everything_made_belongs_to_the_owner(storage: Storage, roots: Path, scratch: Path) -> None:
    (roots / "d/e").mkdir(parents=True)
    (roots / "d/e/f").write_text("x")
    planned = plan(
        Transfer("/in/new/text", "FILE", content="x"),
        Transfer("/dir", "DIRECTORY", f"{roots}/d"),
        directories=("/vol/deep",),
    )
    await stage_in(planned, scratch, storage, owner=(4321, 4322))
    owners = {(one.stat().st_uid, one.stat().st_gid) for one in scratch.rglob("*")}
    assert owners == {(4321, 4322)}
    assert all(one.stat().st_mode & 0o200 for one in scratch.rglob("*"))
    assert scratch.stat().st_uid == 0


async def test_every_fault_of_every_input_is_told(
    storage: Storage, roots: Path, scratch: Path, web_server: WebServer
) -> None:
    (roots / "d").mkdir()
    (roots / "f").write_text("f")
    planned = plan(
        Transfer("/data/r.fq", "FILE", f"file://{roots}/none", name="reads"),
        Transfer("/data/d", "FILE", f"{roots}/d"),
        Transfer("/data/f", "DIRECTORY", f"{roots}/f", name="tree"),
        Transfer("/data/nodir", "DIRECTORY", f"{roots}/nodir"),
        Transfer("/data/w", "FILE", f"{web_server.url}/w?token=secret"),
        Transfer("/data/wd", "DIRECTORY", f"{web_server.url}/w"),
        Transfer("/data/out", "FILE", "/etc/passwd"),
        Transfer("/data/good", "FILE", f"{roots}/f"),
    )
    assert await faults(planned, scratch, storage) == (
        f"input 'reads' (/data/r.fq): file://{roots}/none does not exist",
        f"input 'tree' (/data/f): {roots}/f is a file, not a directory",
        f"input /data/d: {roots}/d is a directory, not a file",
        f"input /data/nodir: {roots}/nodir does not exist",
        f"input /data/out: /etc/passwd is refused: this site allows file paths below {roots} only",
        f"input /data/w: {web_server.url}/w does not exist (the server answered 404 Not Found)",
        f"input /data/wd: {web_server.url}/w cannot be an input of type DIRECTORY: "
        "http servers do not list directories",
    )
    assert (scratch / "data/good").read_text() == "f"


async def test_a_file_where_another_input_needs_a_directory(storage: Storage, scratch: Path) -> None:
    planned = plan(Transfer("/x", "FILE", content="file"), Transfer("/x/y", "FILE", content="below"))
    assert await faults(planned, scratch, storage) == (
        "input /x/y: it needs a directory at /x, where another input is a file",
    )


async def test_a_file_over_a_directory_of_the_plan(storage: Storage, scratch: Path) -> None:
    planned = plan(Transfer("/vol", "FILE", content="x"), directories=("/vol",))
    assert await faults(planned, scratch, storage) == ("input /vol: cannot write /vol: is a directory",)


async def test_sentences_about_a_thousand_files_are_few(storage: Storage, roots: Path, scratch: Path) -> None:
    inputs = (Transfer(f"/in/{number}", "FILE", f"{roots}/{number}") for number in range(1000))
    sentences = await faults(plan(*inputs), scratch, storage)
    assert len(sentences) == 21
    assert "and 980 more of this kind" in sentences


async def test_from_the_web(storage: Storage, scratch: Path, web_server: WebServer) -> None:
    web_server.files["/x"] = b"web"
    web_server.answers["/x"] = [Answer(503)]
    await stage_in(plan(Transfer("/x", "FILE", f"{web_server.url}/x")), scratch, storage)
    assert tree(scratch) == {"x": "web"}


async def test_from_s3(s3_storage: Storage, s3_server: S3Server, scratch: Path) -> None:
    bucket = s3_server.bucket("stage-in")
    (bucket / "tree/sub").mkdir(parents=True)
    (bucket / "tree/a").write_text("a")
    (bucket / "tree/sub/b").write_text("b")
    planned = plan(
        Transfer("/one", "FILE", "s3://stage-in/tree/a"),
        Transfer("/all", "DIRECTORY", "s3://stage-in/tree"),
    )
    await stage_in(planned, scratch, s3_storage)
    assert tree(scratch) == {"all": None, "all/a": "a", "all/sub": None, "all/sub/b": "b", "one": "a"}
    assert await faults(
        plan(
            Transfer("/r", "FILE", "s3://stage-in/k", name="reads"),
            Transfer("/d", "FILE", "s3://stage-in/tree"),
            Transfer("/f", "DIRECTORY", "s3://stage-in/tree/a"),
        ),
        scratch,
        s3_storage,
    ) == (
        "input 'reads' (/r): s3://stage-in/k does not exist",
        "input /d: s3://stage-in/tree is a directory, not a file",
        "input /f: s3://stage-in/tree/a is a file, not a directory",
    )


async def test_many_small_files_at_once(storage: Storage, roots: Path, scratch: Path) -> None:
    (roots / "d").mkdir()
    for number in range(500):
        (roots / f"d/{number}").write_text(str(number))
    await stage_in(plan(Transfer("/in", "DIRECTORY", f"{roots}/d")), scratch, storage)
    assert len(tree(scratch / "in")) == 500


async def test_a_cancelled_stage_in_ends_and_leaves_no_descriptor(
    storage: Storage, scratch: Path, web_server: WebServer
) -> None:
    web_server.files["/x"] = b"x" * 10
    web_server.answers["/x"] = [Answer(stall=5)] * 3
    await stage_in(plan(Transfer("/w", "FILE", content="warm up")), scratch, storage)
    before = set(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else set()
    inputs = (Transfer(f"/{number}", "FILE", f"{web_server.url}/x") for number in range(3))
    task = asyncio.create_task(stage_in(plan(*inputs), scratch, storage))
    while len(web_server.seen) < 3:
        await asyncio.sleep(0.005)
    opened = [scratch / str(number) for number in range(3)]
    assert all(one.exists() for one in opened)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    left = set(os.listdir("/proc/self/fd")) - before if before else set()
    assert not [one for one in left if str(scratch) in _target(one)]


def _target(descriptor: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return ""


def test_importing_the_filer_loads_no_http_and_no_s3() -> None:
    late = ("ftplib", "httpx", "obstore", "pydantic", "ssl")
    code = f"import sys, tesk.filer; print([one for one in {late} if one in sys.modules])"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() in ("[]", "['ssl']")
