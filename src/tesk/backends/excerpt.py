"""What a report keeps of a stream: all of it, or its head and its tail with a line between them."""

from __future__ import annotations

__all__ = ["gap", "joined"]


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
