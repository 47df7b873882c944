"""The launcher's log read back: whole, in pieces, cut, and among foreign lines."""

from __future__ import annotations

import base64
import json
import random
from typing import Any

import pytest

from tesk.backends.kubernetes.streams import (
    LauncherEnd,
    StreamName,
    Unframer,
    read_end,
    read_record,
    record_size,
    unframe,
)
from tesk.taskmaster.steps import Usage

LOG = b"O one\no prom\no pt\nE error\nO \nO  indented\ne \xff\x00\ne \nO last\n"
STDOUT, STDERR = b"one\nprompt\n indented\nlast\n", b"error\n\xff\x00"


def record(stdout: bytes, stderr: bytes = b"", limit: int = 100) -> bytes:
    """As the launcher writes it."""

    def kept(data: bytes) -> dict[str, Any]:
        head, tail = (data, b"") if len(data) <= limit else (data[: limit // 2], data[-(limit - limit // 2) :])
        return {
            "size": len(data),
            "head": base64.b64encode(head).decode(),
            "tail": base64.b64encode(tail).decode(),
        }

    return b"R " + json.dumps({"stdout": kept(stdout), "stderr": kept(stderr)}).encode() + b"\n"


@pytest.mark.parametrize(("stream", "data"), [("stdout", STDOUT), ("stderr", STDERR)])
def test_each_stream_is_taken_out_as_it_was(stream: StreamName, data: bytes) -> None:
    assert unframe(LOG + record(b"x"), stream) == data


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_however_the_log_is_cut_into_pieces_the_stream_is_the_same(stream: StreamName) -> None:
    choose = random.Random(5)
    log = LOG + b"\n\nforeign\nx\n" + LOG + record(b"y")
    for _ in range(200):
        reader, at, found = Unframer(stream), 0, b""
        while at < len(log):
            size = choose.randint(1, 7)
            found += reader.feed(log[at : at + size])
            at += size
        assert found == unframe(log, stream) == (STDOUT if stream == "stdout" else STDERR) * 2


def test_a_prompt_is_seen_before_its_line_ends() -> None:
    reader = Unframer("stdout")
    assert reader.feed(b"o Contin") == b"Contin"
    assert reader.feed(b"ue?\nO yes") == b"ue?yes"
    assert reader.feed(b"\n") == b"\n"


@pytest.mark.parametrize(
    "foreign",
    [
        b"unable to retrieve container logs for containerd://x\n",
        b"O\n",
        b"X O one\n",
        b"\n",
        b"OO one\n",
        b"x\n\n\n",
        b"R {not json}\n",
    ],
)
def test_lines_that_are_not_the_launchers_are_left_out(foreign: bytes) -> None:
    assert unframe(b"O a\n" + foreign + b"O b\n", "stdout") == b"a\nb\n"


def test_a_record_is_found_at_the_end_of_a_log() -> None:
    assert read_record(LOG + record(b"out\n", b"err\n"), 1000) == ("out\n", "err\n")
    assert read_record(record(b""), 1000) == ("", "")


@pytest.mark.parametrize("size", [0, 1, 59, 60, 61, 99, 100, 101, 5000])
@pytest.mark.parametrize("limit", [60, 100, 101, 200])
def test_a_record_has_head_and_tail_within_the_limit(size: int, limit: int) -> None:
    data = (b"0123456789" * (size // 10 + 1))[:size]
    found = read_record(record(data, limit=100), limit)
    assert found is not None
    if size <= min(limit, 100):
        assert found[0].encode() == data
        return
    kept = min(limit, 100)
    head, tail = data[: kept // 2].decode(), data[-(kept - kept // 2) :].decode()
    assert found[0] == f"{head}\n[... {size - kept} bytes left out ...]\n{tail}"


def test_a_stream_that_is_not_text_is_shown_as_far_as_it_is() -> None:
    assert read_record(record(b"a\xff\x00b", "ä".encode()), 100) == ("a\ufffd\x00b", "ä")


def test_a_record_is_never_longer_than_told() -> None:
    for size in (0, 1, 1000, 65536):
        assert len(record(b"x" * 2 * size, b"x" * 2 * size, limit=size)) <= record_size(size)


@pytest.mark.parametrize(
    "log",
    [
        b"",
        LOG,
        record(b"x")[:-1],
        record(b"x")[10:],
        b"O " + record(b"forged"),
        record(b"x") + b"O after it\n",
        b"R []\n",
        b"R {}\n",
        b'R {"stdout": 5, "stderr": 5}\n',
        b'R {"stdout": {"size": "x", "head": "", "tail": ""}}\n',
        b'R {"stdout": {"size": 1, "head": "?", "tail": ""}, "stderr": {"size": 0, "head": "", "tail": ""}}\n',
        b"\xff\xff\n",
    ],
)
def test_what_is_no_whole_record_is_none(log: bytes) -> None:
    assert read_record(log, 100) is None


def test_the_end_is_read() -> None:
    times = '"start":"2026-01-01T00:00:00.000Z","end":"2026-01-01T00:00:01.500Z"'
    usage = '"usage":{"peak_memory_bytes":4096,"user_cpu_ms":12,"system_cpu_ms":3}'
    when = ("2026-01-01T00:00:00.000Z", "2026-01-01T00:00:01.500Z")
    assert read_end(f'{{"exit_code":0,{times},{usage}}}\n') == LauncherEnd(0, *when, usage=Usage(4096, 12, 3))
    message = f'{{"exit_code":137,{times},"problem":"p","fault":"f","oom":true}}'
    assert read_end(message) == LauncherEnd(137, *when, problem="p", fault="f", oom=True)


@pytest.mark.parametrize(
    "message",
    [
        "",
        "failed to create containerd task: exec: not found",
        "[]",
        "5",
        "{}",
        '{"exit_code":"0","start":"","end":""}',
        '{"exit_code":true,"start":"","end":""}',
        '{"exit_code":0,"start":5,"end":""}',
        '{"exit_code":0,"start":"","end":"","problem":[]}',
        '{"exit_code":0,"start":"","end":"","usage":{"peak_memory_bytes":1}}',
        '{"exit_code":0,"start":"","en',
    ],
)
def test_what_the_launcher_did_not_write_is_no_end(message: str) -> None:
    assert read_end(message) is None
