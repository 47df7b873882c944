"""Servers that cut, stall, lie and refuse: whole files or one sentence that says what and where."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from tests.filer.conftest import tree
from tests.servers import Answer, FtpServer, S3Server, WebServer, answering

from tesk.filer import TransferError, stage_in, stage_out
from tesk.plan.model import Delivery, Plan, Transfer
from tesk.storage import S3Options, Storage, StorageOptions

BIG = os.urandom(3 << 20)


@pytest.fixture
async def hasty() -> AsyncIterator[Storage]:
    """Storage that gives up soon."""
    async with Storage(StorageOptions(stall_timeout=0.3, retry_delay=0.01, retries=2)) as made:
        yield made


def inputs(*transfers: Transfer) -> Plan:
    return Plan(executors=(), inputs=transfers)


async def failed(plan: Plan, scratch: Path, storage: Storage) -> str:
    """The one sentence of a stage-in or stage-out that fails."""
    if plan.outputs:
        ended = await stage_out(plan, scratch, storage)
        assert ended.delivered == ()
        (sentence,) = ended.failed
        return sentence
    with pytest.raises(TransferError) as raised:
        await stage_in(plan, scratch, storage)
    (sentence,) = raised.value.sentences
    return sentence


async def test_inputs_of_a_server_with_a_bad_day_come_whole(
    hasty: Storage, web_server: WebServer, scratch: Path
) -> None:
    bad_days = {
        "/cut": [Answer(cut=1_200_000), Answer(cut=1_200_000)],
        "/stalled": [Answer(stall=1_200_000)],
        "/busy": [Answer(503), Answer(503, {"retry-after": "0"})],
        "/all": [Answer(503), Answer(stall=10)],
        "/good": [],
    }
    for path, answers in bad_days.items():
        web_server.files[path] = BIG
        web_server.answers[path] = answers
    await stage_in(inputs(*[Transfer(f"/in{one}", "FILE", web_server.url + one) for one in bad_days]), scratch, hasty)
    for path in bad_days:
        assert (scratch / "in" / path[1:]).read_bytes() == BIG, path


@pytest.mark.parametrize("length", [len(BIG) + 1000, len(BIG) - 1000])
async def test_a_server_that_lies_about_length_is_told_or_found_out(hasty: Storage, scratch: Path, length: int) -> None:
    body = BIG

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
        writer.write(f"HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nrepr-digest: sha-256=:{digest}:\r\n\r\n".encode())
        writer.write(body)
        await writer.drain()

    async with answering(answer) as url:
        sentence = await failed(inputs(Transfer("/x", "FILE", f"{url}/x", name="reads")), scratch, hasty)
    expected = "the server cut the connection" if length > len(body) else "does not have the SHA-256 checksum"
    assert sentence.startswith(f"input 'reads' (/x): cannot read {url}/x: ")
    assert expected in sentence


@pytest.mark.parametrize(
    "headers",
    [
        lambda body: {"content-md5": base64.b64encode(hashlib.md5(body).digest()).decode()},
        lambda body: {"digest": f"SHA-256={base64.b64encode(hashlib.sha256(body).digest()).decode()}"},
        lambda body: {"repr-digest": f"sha-512=:{base64.b64encode(hashlib.sha512(body).digest()).decode()}:"},
        lambda body: {"x-goog-hash": f"crc32c=AAAAAA==,md5={base64.b64encode(hashlib.md5(body).digest()).decode()}"},
    ],
)
async def test_what_does_not_have_its_checksum_is_fetched_again(
    hasty: Storage, web_server: WebServer, scratch: Path, headers: Callable[[bytes], dict[str, str]]
) -> None:
    web_server.files["/x"] = BIG
    web_server.headers["/x"] = headers(BIG)
    web_server.answers["/x"] = [Answer(spoilt=True)]
    await stage_in(inputs(Transfer("/x", "FILE", f"{web_server.url}/x")), scratch, hasty)
    assert (scratch / "x").read_bytes() == BIG
    assert web_server.methods("/x") == ["GET"] * 2
    web_server.answers["/x"] = [Answer(spoilt=True)] * 9
    sentence = await failed(inputs(Transfer("/x", "FILE", f"{web_server.url}/x")), scratch, hasty)
    assert re.search(r"/x: what came does not have the [A-Z0-9-]+ checksum that the server gives", sentence)
    assert len(web_server.seen) == 2 + 3


async def test_a_checksum_is_also_right_after_a_cut(hasty: Storage, web_server: WebServer, scratch: Path) -> None:
    web_server.files["/x"] = BIG
    digest = base64.b64encode(hashlib.sha256(BIG).digest()).decode()
    web_server.headers["/x"] = {"repr-digest": f"sha-256=:{digest}:"}
    web_server.answers["/x"] = [Answer(cut=1_200_000)]
    await stage_in(inputs(Transfer("/x", "FILE", f"{web_server.url}/x")), scratch, hasty)
    assert (scratch / "x").read_bytes() == BIG
    assert len([one for _, _, one in web_server.seen if "range" in one]) == 1


@pytest.mark.parametrize("said", ["md5=x", "sha-256=:AAAA:", "crc32c=AAAAAA==", "nonsense", "sha-256=:é:"])
async def test_a_checksum_that_nobody_understands_promises_nothing(
    hasty: Storage, web_server: WebServer, scratch: Path, said: str
) -> None:
    web_server.files["/x"] = BIG
    web_server.headers["/x"] = {"repr-digest": said}
    await stage_in(inputs(Transfer("/x", "FILE", f"{web_server.url}/x")), scratch, hasty)
    assert (scratch / "x").read_bytes() == BIG


@pytest.mark.parametrize(("status", "tries"), [(403, 1), (413, 1), (507, 3)])
async def test_an_output_that_a_server_refuses_at_the_end_is_one_sentence(
    hasty: Storage, web_server: WebServer, scratch: Path, status: int, tries: int
) -> None:
    (scratch / "x").write_bytes(BIG)
    web_server.answers["/out"] = [Answer(status)] * 9
    sentence = await failed(Plan(executors=(), outputs=(Delivery("/x", f"{web_server.url}/out"),)), scratch, hasty)
    assert re.fullmatch(rf"output /x: cannot write {web_server.url}/out: the server answered {status} [\w ]+", sentence)
    assert len(web_server.seen) == tries


async def test_an_output_that_is_refused_before_it_is_read_says_why(hasty: Storage, scratch: Path) -> None:
    (scratch / "x").write_bytes(BIG * 4)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.2)

    async with answering(answer) as url:
        sentence = await failed(Plan(executors=(), outputs=(Delivery("/x", f"{url}/out"),)), scratch, hasty)
    assert "cannot write" in sentence
    assert "403 Forbidden" in sentence or "cut the connection" in sentence


async def test_an_s3_upload_that_is_refused_at_its_end_is_one_sentence(scratch: Path) -> None:
    (scratch / "x").write_bytes(BIG * 4)
    seen = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        method, target, _ = head.split(" ", 2)
        seen.append(f"{method} {target.partition('?')[2].partition('=')[0]}")
        length = re.search(r"(?i)content-length: (\d+)", head)
        await reader.readexactly(int(length[1]) if length else 0)
        status, body = "200 OK", ""
        if method == "POST" and "uploadId" not in target:
            body = "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"
        elif method == "POST":
            status, body = "403 Forbidden", "<Error><Code>QuotaExceeded</Code></Error>"
        more = f'etag: "e"\r\nconnection: close\r\ncontent-length: {len(body)}'
        writer.write(f"HTTP/1.1 {status}\r\n{more}\r\n\r\n{body}".encode())
        await writer.drain()

    async with answering(answer) as endpoint:
        options = StorageOptions(s3=S3Options(endpoint, "r", "k", "s"), retries=1, retry_delay=0.01)
        async with Storage(options) as storage:
            plan = Plan(executors=(), outputs=(Delivery("/x", "s3://b/out"),))
            sentence = await failed(plan, scratch, storage)
    assert sentence == "output /x: cannot write s3://b/out: the server answered 403 QuotaExceeded"
    assert "DELETE uploadId" in seen, seen  # the parts are taken back


async def test_an_ftp_server_that_is_full_at_the_end_is_one_sentence(
    storage: Storage, ftp_server: FtpServer, scratch: Path
) -> None:
    (scratch / "x").write_bytes(BIG)
    ftp_server.go_wrong({"command": "RNTO", "reply": "552 Quota exceeded", "times": 9})
    plan = Plan(executors=(), outputs=(Delivery("/x", f"{ftp_server.url}/out"),))
    assert (await failed(plan, scratch, storage)).endswith("/out: the server answered 552 Quota exceeded")
    assert tree(ftp_server.directory) == {}


def test_the_program_ends_well_after_uploads_in_parts(s3_server: S3Server, tmp_path: Path, scratch: Path) -> None:
    s3_server.bucket("program")
    (scratch / "x").write_bytes(BIG * 4)
    plan = Plan(executors=(), outputs=(Delivery("/x", "s3://program/out"),))
    (tmp_path / "plan.json").write_text(plan.to_json())
    command = [sys.executable, "-m", "tesk", "filer", "--out", "--scratch", str(scratch), str(tmp_path / "plan.json")]
    environment = {**os.environ, **s3_server.environment}
    for _ in range(4):
        running = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) for _ in range(3)]
        for one in running:
            printed, _ = one.communicate(timeout=60)
            assert b"delivered" in printed
        assert [one.returncode for one in running] == [0, 0, 0]
