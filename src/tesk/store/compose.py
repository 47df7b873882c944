"""Tasks as JSON, joined from stored pieces: no task is ever parsed to be shown."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

__all__ = ["compose", "fragment"]


def fragment(json_object: bytes) -> bytes:
    """The members of an encoded JSON object, without its braces.

    Raises ValueError when it is not an object.
    """
    stripped = json_object.strip()
    if stripped[:1] != b"{" or stripped[-1:] != b"}":
        raise ValueError("a task is kept as a JSON object")
    return stripped[1:-1].strip()


def compose(rows: Sequence[Sequence[Any]]) -> bytes:
    """Tasks from rows of (seq, id, state[, body, log]), joined by commas; a task has a row for each attempt.

    Ids and states need no escapes (`Store.create` sees to that).
    """
    if not rows:
        return b""
    if len(rows[0]) == 3:
        return ",".join([f'{{"id":"{id}","state":"{state}"}}' for _, id, state in rows]).encode()
    return b",".join(_task(list(one)) for _, one in groupby(rows, itemgetter(0)))


def _task(rows: list[Sequence[Any]]) -> bytes:
    _, id, state, body, log = rows[0]
    parts = [f'{{"id":"{id}","state":"{state}"'.encode()]
    if body:
        parts += (b",", body)
    if log is not None:
        parts += (b',"logs":[', b",".join(row[4] for row in rows), b"]")
    parts.append(b"}")
    return b"".join(parts)
