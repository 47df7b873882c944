"""Tasks as JSON, joined from stored pieces: no task is ever parsed to be shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["compose", "compose_one", "fragment"]


def fragment(json_object: bytes) -> bytes:
    """The members of an encoded JSON object, without its braces.

    Raises ValueError when it is not an object.
    """
    stripped = json_object.strip()
    if stripped[:1] != b"{" or stripped[-1:] != b"}":
        raise ValueError("a task is kept as a JSON object")
    return stripped[1:-1].strip()


def compose(rows: Sequence[Sequence[Any]]) -> bytes:
    """Tasks from rows of (seq, id, state[, body, logs]), as a JSON array.

    Ids and states need no escapes (`Store.create` sees to that).
    """
    if not rows:
        return b"[]"
    if len(rows[0]) == 3:
        tasks = ",".join([f'{{"id":"{id}","state":"{state}"}}' for _, id, state in rows])
        return f"[{tasks}]".encode()
    # One list and one join: a page is copied once, whatever its size.
    parts: list[bytes] = []
    before = "["
    for _, id, state, body, logs in rows:
        parts.append(f'{before}{{"id":"{id}","state":"{state}"'.encode())
        if body:
            parts += (b",", body)
        if logs is None:
            before = "},"
        else:
            parts += (b',"logs":[', logs)
            before = "]},"
    parts.append(f"{before[:-1]}]".encode())
    return b"".join(parts)


def compose_one(row: Sequence[Any]) -> bytes:
    """The task of one row."""
    return compose([row])[1:-1]
