"""What the launcher wrote: its frames in a pod's log, the record that ends them, and how the command ended.

The launcher's side is in launcher/stream.c and launcher/end.c; docs/decisions/0009-launcher.md has the form. Pure
functions: a log that is cut anywhere, or in which others wrote too, gives what can be known and no error.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Any, Literal

from tesk.backends.excerpt import joined
from tesk.taskmaster.steps import Usage

__all__ = ["LauncherEnd", "StreamName", "Unframer", "read_end", "read_record", "record_lines", "record_size", "unframe"]

StreamName = Literal["stdout", "stderr"]

TAGS = {"stdout": (b"O ", b"o "), "stderr": (b"E ", b"e ")}
"""Of a line that ends as the stream's own line does, and of a piece whose newline is the frame's alone."""
RECORD = b"R {"
RUNTIME_LINE = 8192
"""Runtimes cut longer lines, and the kubelet counts each piece: containerd at 16 KiB, CRI-O at 8 KiB."""


@dataclass(frozen=True, slots=True)
class LauncherEnd:
    """How an executor's command ended, as its launcher tells it. Times are RFC 3339 in UTC with milliseconds.

    `problem` is a sentence about the command where the exit code alone does not tell (it was not found); `fault` one
    about the machine (a full disk), with which no exit code makes a success. `oom` says that the command failed and
    that the kernel killed a process of it for want of memory. `streams` are stdout and stderr, where both are short.
    `asked`: the container was told to end, from outside.
    """

    exit_code: int
    start: str
    end: str
    problem: str | None = None
    fault: str | None = None
    oom: bool = False
    usage: Usage | None = None
    streams: tuple[str, str] | None = None
    asked: bool = False


class Unframer:
    """Takes one stream out of a log that is read piece by piece; holds back one byte at most.

    `over`: the launcher's record has come, after which there is nothing.
    """

    def __init__(self, stream: StreamName) -> None:
        self._ours = TAGS[stream]
        self._held = b""
        self.over = False
        self._in: bytes | None = None
        """The tag of the line that we are in, or None between lines."""

    def feed(self, data: bytes) -> bytes:
        """The stream's bytes that `data`, the next of the log, brings."""
        data = self._held + data
        self._held = b""
        found = bytearray()
        at = 0
        while at < len(data):
            if self._in is None:
                if at + 1 == len(data) and data[at:] != b"\n":
                    self._held = data[at:]
                    break
                self._in = data[at : at + 2]
                self.over = self.over or self._in == RECORD[:2]
                at += 2 if self._in in self._ours else 0
            newline = data.find(b"\n", at)
            end = len(data) if newline < 0 else newline
            if self._in in self._ours:
                found += data[at:end]
            if newline >= 0:
                found += b"\n" if self._in == self._ours[0] else b""
                self._in = None
            at = end + 1
        return bytes(found)


def unframe(data: bytes, stream: StreamName) -> bytes:
    """The bytes of one stream in a log, or a piece of a log that begins with a line."""
    return Unframer(stream).feed(data)


def record_size(log_bytes: int) -> int:
    """How many bytes a record of a launcher with `--log-bytes log_bytes` takes at most."""
    return 2 * 4 * (log_bytes + 6) // 3 + 200


def record_lines(log_bytes: int) -> int:
    """How many lines at the end of a log, as the kubelet counts them (`tailLines`), surely hold such a record."""
    return record_size(log_bytes) // RUNTIME_LINE + 2


def read_record(tail_of_log: bytes, limit: int) -> tuple[str, str] | None:
    """What the launcher kept of stdout and stderr, each at most `limit` bytes in the form of `tesk.backends.excerpt`.

    `tail_of_log` ends where the log ends and begins with a line of it, at least `record_size` bytes before, which are
    `record_lines` by the kubelet's count. None when no whole record is there: the launcher was killed, or the log cut.
    """
    if not tail_of_log.endswith(b"\n"):
        return None
    last = tail_of_log[tail_of_log.rfind(b"\n", 0, -1) + 1 :]
    if not last.startswith(RECORD):
        return None
    try:
        raw = json.loads(last.removeprefix(b"R "))
        return _text(raw["stdout"], limit), _text(raw["stderr"], limit)
    except (KeyError, TypeError, ValueError, binascii.Error):
        return None


def _text(kept: dict[str, Any], limit: int) -> str:
    size = int(kept["size"])
    head = base64.b64decode(kept["head"], validate=True)
    tail = base64.b64decode(kept["tail"], validate=True)
    if size <= limit:
        return joined(head, tail, size)
    last = min(limit - limit // 2, len(tail or head))
    end = tail or head  # without a tail the head is the whole stream
    return joined(head[: limit // 2], end[len(end) - last :], size)


def read_end(message: str) -> LauncherEnd | None:
    """How the command ended, from the container's termination message; None when the launcher did not write it."""
    try:
        raw = json.loads(message)
        usage, streams = raw.get("usage"), raw.get("streams")
        return LauncherEnd(
            exit_code=_number(raw["exit_code"]),
            start=_sentence(raw["start"]),
            end=_sentence(raw["end"]),
            problem=_sentence(raw["problem"]) if "problem" in raw else None,
            fault=_sentence(raw["fault"]) if "fault" in raw else None,
            oom=raw.get("oom") is True,
            usage=Usage(**{key: _number(usage[key]) for key in Usage.__slots__}) if usage else None,
            streams=(_whole(streams["stdout"]), _whole(streams["stderr"])) if streams else None,
            asked="asked" in raw,
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def _whole(kept: dict[str, Any]) -> str:
    return _text(kept, int(kept["size"]))


def _number(value: Any) -> int:
    if type(value) is not int:
        raise TypeError(value)
    return value


def _sentence(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value
