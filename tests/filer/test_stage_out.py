"""What a plan's outputs name is at its URLs afterwards, or a sentence says why not."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from tests.filer.conftest import tree
from tests.servers import S3Server, WebServer

from tesk.filer import Delivered, StageOut, stage_out
from tesk.plan.model import Delivery, Plan
from tesk.storage import Storage, StorageOptions


def plan(*outputs: Delivery) -> Plan:
    return Plan(executors=(), outputs=outputs)


@pytest.fixture
def work(scratch: Path) -> Path:
    """What a task left in scratch."""
    for path, text in (("a.txt", "a"), ("b.txt", "bb"), ("sub/c.txt", "ccc"), (".hid.txt", "h"), ("n.log", "n")):
        (scratch / "work" / path).parent.mkdir(parents=True, exist_ok=True)
        (scratch / "work" / path).write_text(text)
    return scratch / "work"


async def test_a_file_keeps_the_style_of_its_url(storage: Storage, roots: Path, scratch: Path, work: Path) -> None:
    work.joinpath("a.txt").chmod(0o755)
    ended = await stage_out(
        plan(
            Delivery("/work/a.txt", f"{roots}/o/bare", "FILE"),
            Delivery("/work/a.txt", f"file://{roots}/o/u%20rl", "FILE"),
            Delivery("/work/b.txt", f"{roots}/o/b"),
        ),
        scratch,
        storage,
    )
    assert ended == StageOut(
        delivered=(
            Delivered(f"{roots}/o/bare", "/work/a.txt", 1),
            Delivered(f"file://{roots}/o/u%20rl", "/work/a.txt", 1),
            Delivered(f"{roots}/o/b", "/work/b.txt", 2),
        ),
        copied=4,
    )
    assert tree(roots / "o") == {"b": "bb", "bare": "a", "u rl": "a"}
    assert os.access(roots / "o/bare", os.X_OK)


@pytest.mark.parametrize("kind", ["DIRECTORY", None])
@pytest.mark.parametrize("url", ["{}/o", "{}/o/", "file://{}/o/"])
async def test_a_directory_is_delivered_file_by_file(
    storage: Storage, roots: Path, scratch: Path, work: Path, kind: str | None, url: str
) -> None:
    (work / "empty/inner").mkdir(parents=True)
    (roots / "o").mkdir()
    (roots / "o/stays").write_text("stays")
    (roots / "o/a.txt").write_text("replaced")
    spelled = url.format(roots)
    ended = await stage_out(plan(Delivery("/work", spelled, kind)), scratch, storage)  # type: ignore[arg-type]
    assert tree(roots / "o") == {**tree(work), "stays": "stays"}
    base = spelled.rstrip("/")
    assert ended == StageOut(
        delivered=(
            Delivered(f"{base}/.hid.txt", "/work/.hid.txt", 1),
            Delivered(f"{base}/a.txt", "/work/a.txt", 1),
            Delivered(f"{base}/b.txt", "/work/b.txt", 2),
            Delivered(f"{base}/n.log", "/work/n.log", 1),
            Delivered(f"{base}/sub/c.txt", "/work/sub/c.txt", 3),
        ),
        directories=() if kind else ("/work",),
        copied=8,
    )


@pytest.mark.parametrize(
    ("pattern", "prefix", "found"),
    [
        ("/work/*.txt", "/work", {"a.txt": "a", "b.txt": "bb"}),
        ("/work/*.txt", "/work/", {"a.txt": "a", "b.txt": "bb"}),
        ("/work/*/*.txt", "/work", {"sub": None, "sub/c.txt": "ccc"}),
        ("/work/*/*.txt", "/work/sub", {"c.txt": "ccc"}),
        ("/work/[ab].txt", "/", {"work": None, "work/a.txt": "a", "work/b.txt": "bb"}),
        ("/work/.*", "/work", {".hid.txt": "h"}),
        ("/work/s*", "/work", {"sub": None, "sub/c.txt": "ccc"}),
        ("/work/?.txt", None, {"a.txt": "a", "b.txt": "bb"}),
        ("/wor*/n.log", "/work/n.log", {"n.log": "n"}),
    ],
)
async def test_wildcards_lose_their_prefix(
    storage: Storage,
    roots: Path,
    scratch: Path,
    work: Path,
    pattern: str,
    prefix: str | None,
    found: dict[str, str | None],
) -> None:
    output = Delivery(pattern, f"file://{roots}/o/", "FILE", prefix)
    ended = await stage_out(plan(output), scratch, storage)
    assert tree(roots / "o") == found
    assert (ended.missing, ended.failed) == ((), ())
    assert {one.url: one.size_bytes for one in ended.delivered} == {
        f"file://{roots}/o/{path}": len(text) for path, text in found.items() if text is not None
    }


@pytest.mark.parametrize(
    ("output", "missing"),
    [
        (Delivery("/work/none", "{}/o", name="counts"), "output 'counts' (/work/none): it does not exist"),
        (Delivery("/work/a.txt/x", "{}/o"), "output /work/a.txt/x: it does not exist"),
        (Delivery("/none", "{}/o", "DIRECTORY"), "output /none: it does not exist"),
        (Delivery("/work/*.bam", "{}/o", None, "/work"), "output /work/*.bam: nothing matches"),
        (
            Delivery("/work/link", "{}/o"),
            "output /work/link: it is a symlink to something that is not in the task's files",
        ),
    ],
)
async def test_missing_outputs_are_told(
    storage: Storage, roots: Path, scratch: Path, work: Path, output: Delivery, missing: str
) -> None:
    (work / "link").symlink_to("/etc/passwd")
    planned = plan(
        Delivery(output.path, output.url.format(roots), output.type, output.path_prefix, output.name),
        Delivery("/work/a.txt", f"{roots}/good"),
    )
    ended = await stage_out(planned, scratch, storage)
    assert (ended.missing, ended.failed) == ((missing,), ())
    assert tree(roots) == {"good": "a"}


@pytest.mark.parametrize(
    ("output", "failed"),
    [
        (Delivery("/work/sub", "{}/o", "FILE"), "/work/sub is a directory, and the output's type is FILE"),
        (Delivery("/work/a.txt", "{}/o", "DIRECTORY"), "/work/a.txt is a file, and the output's type is DIRECTORY"),
        (Delivery("/work/a.txt", "/etc/tesk-never", "FILE"), "this site allows file paths below"),
        (Delivery("/work/a.txt", "{}/file/below"), "is not a directory"),
        (Delivery("/work/a.txt", "{}/o/"), "ends with a slash"),
        (Delivery("/work/fifo", "{}/o"), "/work/fifo is neither a file nor a directory"),
        (Delivery("/work/loop", "{}/o"), "too many levels of symbolic links"),
        (Delivery("/work/*.txt", "{}/o", None, "/other"), "does not begin with the path_prefix /other"),
        (Delivery("/work/a.txt", "gopher://h/x"), "has a scheme that storage does not speak"),
    ],
)
async def test_refused_deliveries_are_told(
    storage: Storage, roots: Path, scratch: Path, work: Path, output: Delivery, failed: str
) -> None:
    (roots / "file").write_text("file")
    (work / "loop").symlink_to("loop")
    os.mkfifo(work / "fifo")
    planned = plan(
        Delivery(output.path, output.url.format(roots), output.type, output.path_prefix, "counts"),
        Delivery("/work/b.txt", f"{roots}/good"),
    )
    ended = await stage_out(planned, scratch, storage)
    assert ended.missing == ()
    assert ended.failed
    assert all(failed in one and one.startswith("output 'counts' (/work/") for one in ended.failed)
    assert tree(roots) == {"file": "file", "good": "bb"}


async def test_links_in_a_directory_never_bring_out_the_hosts_files(
    storage: Storage, roots: Path, scratch: Path, work: Path
) -> None:
    (scratch / "inputs").mkdir()
    (scratch / "inputs/i").write_text("input")
    (work / "sub/inside").symlink_to("/inputs/i")
    (work / "sub/relative").symlink_to("../a.txt")
    (work / "sub/host").symlink_to("/etc/passwd")
    (work / "sub/up").symlink_to("../../../../../../etc/passwd")
    ended = await stage_out(plan(Delivery("/work/sub", f"{roots}/o", "DIRECTORY")), scratch, storage)
    assert tree(roots / "o") == {"c.txt": "ccc", "inside": "input", "relative": "a"}
    assert ended.failed == tuple(
        f"output /work/sub: /work/sub/{name} is a symlink to something that is not there" for name in ("host", "up")
    )


async def test_a_scratch_that_is_itself_only_links_delivers_nothing_of_the_host(
    storage: Storage, roots: Path, scratch: Path
) -> None:
    (scratch / "work").symlink_to("/etc")
    ended = await stage_out(
        plan(
            Delivery("/work", f"{roots}/o", "DIRECTORY"),
            Delivery("/work/passwd", f"{roots}/p"),
            Delivery("/work/pass*", f"{roots}/w", None, "/work"),
        ),
        scratch,
        storage,
    )
    assert tree(roots) == {}
    assert len(ended.missing) == 3


async def test_sockets_and_fifos_in_a_directory_are_left_out_with_a_note(
    storage: Storage, roots: Path, scratch: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(work / "sub/fifo")
    monkeypatch.chdir(work)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("sub/sock")
    ended = await stage_out(plan(Delivery("/work/sub", f"{roots}/o")), scratch, storage)
    assert tree(roots / "o") == {"c.txt": "ccc"}
    assert ended.failed == ()
    assert ended.notes == tuple(
        f"output /work/sub: /work/sub/{name} is neither a file nor a directory and was left out"
        for name in ("fifo", "sock")
    )


async def test_names_that_no_json_can_hold_are_refused(
    storage: Storage, roots: Path, scratch: Path, work: Path
) -> None:
    with open(os.fsencode(work) + b"/sub/\xff", "w"):
        pass
    ended = await stage_out(plan(Delivery("/work/sub", f"{roots}/o")), scratch, storage)
    assert [one.path for one in ended.delivered] == ["/work/sub/c.txt"]
    (failed,) = ended.failed
    assert "/work/sub/\\xff is not UTF-8" in failed
    failed.encode()


async def test_of_two_outputs_for_one_url_the_later_wins(
    storage: Storage, roots: Path, scratch: Path, work: Path
) -> None:
    planned = plan(Delivery("/work/b.txt", f"{roots}/o"), Delivery("/work/a.txt", f"{roots}/o"))
    ended = await stage_out(planned, scratch, storage)
    assert tree(roots) == {"o": "a"}
    assert ended.delivered == (Delivered(f"{roots}/o", "/work/a.txt", 1),)


async def test_to_the_web(storage: Storage, scratch: Path, work: Path, web_server: WebServer) -> None:
    ended = await stage_out(
        plan(
            Delivery("/work/a.txt", f"{web_server.url}/a?sig=secret"),
            Delivery("/work/sub", f"{web_server.url}/d/?sig=secret", "DIRECTORY"),
        ),
        scratch,
        storage,
    )
    assert web_server.files == {"/a?sig=secret": b"a", "/d/c.txt?sig=secret": b"ccc"}
    assert len(ended.delivered) == 2


async def test_to_s3(s3_storage: Storage, s3_server: S3Server, scratch: Path, work: Path) -> None:
    bucket = s3_server.bucket("stage-out")
    ended = await stage_out(
        plan(
            Delivery("/work/a.txt", "s3://stage-out/one", "FILE"),
            Delivery("/work", "s3://stage-out/all/", "DIRECTORY"),
            Delivery("/work/*.txt", "s3://stage-out/some", None, "/work"),
            Delivery("/work/a.txt", "s3://no-such-bucket/x", "FILE"),
        ),
        scratch,
        s3_storage,
    )
    assert (bucket / "one").read_text() == "a"
    assert (bucket / "all/sub/c.txt").read_text() == "ccc"
    assert sorted(one.name for one in (bucket / "some").iterdir()) == ["a.txt", "b.txt"]
    assert ended.failed == (
        "output /work/a.txt: cannot write s3://no-such-bucket/x: the bucket 'no-such-bucket' does not exist",
    )
    assert len(ended.delivered) == 1 + 5 + 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
async def test_an_output_that_cannot_be_read_is_a_failure_and_not_missing(
    storage: Storage, roots: Path, scratch: Path, work: Path
) -> None:
    (work / "a.txt").chmod(0)
    ended = await stage_out(plan(Delivery("/work/a.txt", f"{roots}/o")), scratch, storage)
    assert ended.failed == ("output /work/a.txt: /work/a.txt cannot be read: permission denied",)


async def test_without_roots_nothing_is_written(tmp_path: Path, scratch: Path, work: Path) -> None:
    async with Storage(StorageOptions()) as storage:
        ended = await stage_out(plan(Delivery("/work/a.txt", f"{tmp_path}/o")), scratch, storage)
    assert ended.failed == (
        f"output /work/a.txt: {tmp_path}/o is refused: this site allows no file paths (file_roots is empty)",
    )
    assert not (tmp_path / "o").exists()
