"""What a web server says that a file's bytes come to, and what they do come to."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterator, Mapping

__all__ = ["Check", "promised"]

_SIZES = {"sha-256": 32, "sha-512": 64, "md5": 16}
"""Bytes of the digests that are looked at, the best one first."""
_WHOLE = ("repr-digest", "digest", "x-goog-hash")
"""Headers about the file, whatever part of it was sent: RFC 9530, RFC 3230 before it, Google's."""
_SENT = ("content-digest", "content-md5")
"""Headers about the bytes of this answer."""


class Check:
    """The digest of bytes that arrive in order, to be compared with one that was promised."""

    def __init__(self, name: str, expected: bytes) -> None:
        self.name = name
        self._expected = expected
        self._found = hashlib.new(name.replace("-", ""), usedforsecurity=False)

    def update(self, block: memoryview) -> None:
        """Take the next bytes."""
        self._found.update(block)

    @property
    def holds(self) -> bool:
        """Whether these were the promised bytes."""
        return self._found.digest() == self._expected


def promised(headers: Mapping[str, str], *, whole: bool) -> Check | None:
    """What to hold a file against by the `headers` of an answer (names in lower case), if anything can be; `whole`:
    the answer has all of the file.

    What is not understood promises nothing.
    """
    found: dict[str, bytes] = {}
    for header in (*_WHOLE, *_SENT) if whole else _WHOLE:
        said = headers.get(header, "")
        for name, digest in [("md5", said)] if header == "content-md5" else _pairs(said):
            decoded = _decoded(digest)
            if name in _SIZES and len(decoded) == _SIZES[name]:
                found.setdefault(name, decoded)
    return next((Check(name, found[name]) for name in _SIZES if name in found), None)


def _pairs(said: str) -> Iterator[tuple[str, str]]:
    """`name=digest` or `name=:digest:`, with commas between; several headers of one name have been joined so."""
    for one in said.split(","):
        name, _, digest = one.strip().partition("=")
        yield name.strip().lower(), digest.strip().strip(":")


def _decoded(digest: str) -> bytes:
    try:
        return base64.b64decode(digest, validate=True)
    except (binascii.Error, ValueError):
        return b""
