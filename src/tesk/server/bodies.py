"""The body of a request: bounded as it comes and as it unfolds."""

from __future__ import annotations

import zlib

from starlette.requests import ClientDisconnect, Request

from tesk.server.problems import Problem

__all__ = ["read_body"]

MOST_MEMBERS = 1000
"""Each costs far more than its 20 bytes, and nobody writes so many."""

_GZIP = 31  # zlib's word for "with gzip's header and sum"


async def read_body(request: Request, most: int) -> bytes:
    """The whole body, out of its gzip if it is in one; at most `most` bytes either way.

    Raises Problem: 413 when it is larger, 400 when it is broken off or no gzip, 415 for any other content coding.
    """
    take = _taker(request, most)
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > most:
        raise _too_large(most)
    came = 0
    try:
        async for chunk in request.stream():
            came += len(chunk)
            if came > most:
                raise _too_large(most)
            take.add(chunk)
    except ClientDisconnect:
        raise Problem(400, "The connection ended before the body did.") from None
    return take.end()


def _taker(request: Request, most: int) -> _Plain:
    codings = [one.strip().lower() for value in request.headers.getlist("content-encoding") for one in value.split(",")]
    codings = [one for one in codings if one not in ("", "identity")]
    if not codings:
        return _Plain(most)
    if codings in (["gzip"], ["x-gzip"]):
        return _Gzip(most)
    raise Problem(
        415,
        f"A body in the content coding {', '.join(codings)[:80]!r} cannot be read here; send it as it is, or in gzip.",
        headers={"Accept-Encoding": "gzip"},
    )


class _Plain:
    """A body that comes as it is."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.body = bytearray()

    def add(self, chunk: bytes) -> None:
        self.body += chunk

    def end(self) -> bytes:
        return bytes(self.body)


class _Gzip(_Plain):
    """A body in one gzip member, or in several, one after the other (RFC 1952, 2.2)."""

    def __init__(self, most: int) -> None:
        super().__init__(most)
        self.member = zlib.decompressobj(_GZIP)
        self.members = 0

    def add(self, chunk: bytes) -> None:
        while chunk:
            if self.member.eof or not self.members:
                self._next_member()
            try:
                # one byte more than fits shows that it does not, before the rest of a bomb is unfolded
                self.body += self.member.decompress(chunk, self.most - len(self.body) + 1)
            except zlib.error:
                raise Problem(400, "The body is not the gzip that its Content-Encoding says it is.") from None
            if len(self.body) > self.most:
                raise _too_large(self.most)
            chunk = self.member.unused_data or self.member.unconsumed_tail

    def _next_member(self) -> None:
        self.members += 1
        if self.members > MOST_MEMBERS:
            raise Problem(400, f"The body's gzip has more than {MOST_MEMBERS} members; press it as one.")
        self.member = zlib.decompressobj(_GZIP)

    def end(self) -> bytes:
        if self.members and not self.member.eof:
            raise Problem(400, "The body's gzip ends too early; send all of it.")
        return super().end()


def _too_large(most: int) -> Problem:
    return Problem(413, f"The body is larger than the {most} bytes that this site takes (server.max_body_bytes).")
