"""Reports as lines of a taskmaster's log, for a server that reads along or is sent the same lines (`pushing`).

A line has the executors that ended since the line before. Whoever reads from the first line on knows the newest report.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import gzip
import json
import zlib

from tesk.taskmaster.report import Report

__all__ = ["ReportReader", "ReportWriter"]

_PLAIN, _PACKED = b"tesk-report ", b"tesk-report.gz "
_LONG = 8000
"""Bytes from which on a line is compressed: nodes keep 10 MiB of a log by default."""


class ReportWriter:
    """Makes the lines."""

    def __init__(self) -> None:
        self._told = 0

    def line(self, report: Report) -> bytes:
        """The line for `report`, the next one."""
        delta = dataclasses.replace(report, executors=report.executors[self._told :])
        text = f'{{"after":{self._told},"report":{delta.to_json()}}}'.encode("utf-8", "surrogatepass")
        self._told = len(report.executors)
        if len(text) < _LONG:
            return _PLAIN + text + b"\n"
        return _PACKED + base64.b64encode(gzip.compress(text, mtime=0)) + b"\n"


class ReportReader:
    """Reads them again, out of a log that comes in pieces. `lines` is how many reports there were."""

    def __init__(self) -> None:
        self._held = b""
        self.lines = 0
        self.newest: Report | None = None

    def feed(self, data: bytes) -> bool:
        """Take the next bytes of the log, which begin where the log begins; whether there is a newer report."""
        *lines, self._held = (self._held + data).split(b"\n")
        before = self.lines
        for line in lines:
            self._read(line)
        return self.lines > before

    @property
    def unread(self) -> int:
        """How many bytes of an unfinished line are held."""
        return len(self._held)

    def _read(self, line: bytes) -> None:
        """Take one line; one that is cut or none of ours says nothing."""
        try:
            if line.startswith(_PACKED):
                text = gzip.decompress(base64.b64decode(line.removeprefix(_PACKED), validate=True))
            elif line.startswith(_PLAIN):
                text = line.removeprefix(_PLAIN)
            else:
                return
            raw = json.loads(text)
            known = self.newest.executors if self.newest is not None else ()
            if raw["after"] > len(known):
                return
            delta = Report.from_json(json.dumps(raw["report"]))
            self.newest = dataclasses.replace(delta, executors=(*known[: raw["after"]], *delta.executors))
            self.lines += 1
        except (ValueError, KeyError, TypeError, binascii.Error, OSError, EOFError, zlib.error):
            return
