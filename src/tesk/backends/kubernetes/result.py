"""What a filer's pod tells its taskmaster: the last line of its log, which is also its termination message if short."""

from __future__ import annotations

import base64
import binascii
import gzip
import zlib
from dataclasses import dataclass

import msgspec

from tesk.filer import StageOut

__all__ = ["FilerResult", "read_result", "result_line"]

_MARK = b"tesk-result "


@dataclass(frozen=True, slots=True)
class FilerResult:
    """`problems` has a sentence for each input that could not be brought; `copied` are the bytes of those that were.

    `out` is what became of the outputs.
    """

    problems: tuple[str, ...] = ()
    copied: int = 0
    out: StageOut | None = None


def result_line(result: FilerResult) -> str:
    """`result` as one line, small enough for a log that is not rotated: a name of a file takes some ten bytes."""
    packed = gzip.compress(msgspec.json.encode(result), mtime=0)
    return (_MARK + base64.b64encode(packed)).decode("ascii")


def read_result(log: bytes) -> FilerResult | None:
    """What `result_line` wrote, from a log that ends with it; None when there is no whole one."""
    at = log.rfind(_MARK)
    if at < 0 or not log.endswith(b"\n"):
        return None
    try:
        packed = base64.b64decode(log[at + len(_MARK) :].strip(), validate=True)
        return msgspec.json.decode(gzip.decompress(packed), type=FilerResult)
    except (binascii.Error, OSError, EOFError, zlib.error, msgspec.MsgspecError):
        return None
