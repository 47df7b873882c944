"""What a report keeps of a stream: all of it, or its head and its tail with a line between them."""

from __future__ import annotations

__all__ = ["excerpt", "gap", "joined"]


def gap(size: int) -> bytes:
    """The line that stands for `size` bytes."""
    return f"\n[... {size} bytes left out ...]\n".encode()


def joined(head: bytes, tail: bytes, size: int) -> str:
    """The text of a stream of `size` bytes, of which `head` and `tail` are known.

    Bytes that are not UTF-8 are shown as U+FFFD; a character that the gap cuts is left out.
    """
    left_out = size - len(head) - len(tail)
    if left_out <= 0:
        return (head + tail).decode("utf-8", "replace")
    return head.decode("utf-8", "ignore") + gap(left_out).decode() + tail.decode("utf-8", "replace")


def excerpt(data: bytes, limit: int) -> str:
    """The text of a whole stream, cut to `limit` bytes: half of them from its head, half from its tail."""
    if len(data) <= limit:
        return joined(data, b"", len(data))
    return joined(data[: limit // 2], data[len(data) - (limit - limit // 2) :], len(data))
