"""Streams in segments: bounded on disk, head and tail readable, followed while they are written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tesk.backends.local.streams import SEGMENT, StreamReader, StreamWriter, excerpt


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[StreamWriter]:
    fd = os.open(tmp_path, os.O_RDONLY)
    made = StreamWriter(fd, "stdout")
    yield made
    made.close()
    os.close(fd)


def all_of(reader: StreamReader) -> bytes:
    return b"".join(iter(lambda: reader.read(100_000), b""))


def test_what_is_written_is_read(writer: StreamWriter, tmp_path: Path) -> None:
    reader = StreamReader(str(tmp_path), "stdout")
    assert all_of(reader) == b""
    writer.write(b"one")
    assert all_of(reader) == b"one"
    writer.write(b"two")
    assert all_of(reader) == b"two"
    assert reader.size() == 6


def test_the_disk_is_bounded_and_the_gap_is_told(writer: StreamWriter, tmp_path: Path) -> None:
    for number in range(10):
        writer.write(bytes([65 + number]) * SEGMENT)
    writer.write(b"end")
    assert sum(one.stat().st_size for one in tmp_path.iterdir()) <= 3 * SEGMENT
    text = all_of(StreamReader(str(tmp_path), "stdout"))
    assert text.startswith(b"A" * SEGMENT)
    assert text.endswith(b"J" * SEGMENT + b"end")
    assert f"{8 * SEGMENT} bytes left out".encode() in text


def test_a_follower_overtaken_in_the_middle_of_a_segment_goes_on_later(writer: StreamWriter, tmp_path: Path) -> None:
    reader = StreamReader(str(tmp_path), "stdout")
    writer.write(b"a" * SEGMENT + b"b" * 10)
    assert len(all_of(reader)) == SEGMENT + 10
    writer.write(b"c" * (4 * SEGMENT))
    rest = all_of(reader)
    assert b"bytes left out" in rest
    assert rest.endswith(b"c" * SEGMENT)


@pytest.mark.parametrize("size", [0, 1, 99, 100, 101, 5000, SEGMENT, SEGMENT + 7, 5 * SEGMENT])
def test_an_excerpt_has_head_and_tail_within_its_limit(writer: StreamWriter, tmp_path: Path, size: int) -> None:
    data = (b"0123456789" * (size // 10 + 1))[:size]
    writer.write(data)
    shown = excerpt(str(tmp_path), "stdout", 100)
    if size <= 100:
        assert shown.encode() == data
    else:
        assert shown == f"{data[:50].decode()}\n[... {size - 100} bytes left out ...]\n{data[-50:].decode()}"


def test_a_character_cut_in_two_does_no_harm(writer: StreamWriter, tmp_path: Path) -> None:
    writer.write("ä".encode() * 1000)
    shown = excerpt(str(tmp_path), "stdout", 101)
    assert "bytes left out" in shown
    assert shown.count("ä") >= 48


def test_nothing_written_is_nothing(tmp_path: Path) -> None:
    assert excerpt(str(tmp_path), "stdout", 10) == ""
    assert excerpt(str(tmp_path / "none"), "stdout", 10) == ""
