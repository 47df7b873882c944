"""JSON answers: their entity tag, 304 for who has them already, and gzip for who takes it.

Built at once in `__call__`, where the request's headers are known, so that an endpoint only says what the answer is.
"""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import Iterable, Sequence
from functools import lru_cache

import xxhash
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

__all__ = ["LEAST_GZIP_BYTES", "Json", "has_tag", "takes_gzip"]

LEAST_GZIP_BYTES = 14_000
"""TCP sends that much at once (RFC 6928): a smaller body arrives no sooner for being pressed, which costs 0.1 ms."""
_IN_THREAD_BYTES = 2**17
_GZIP_LEVEL = 1
_GZIP_WINDOW = 31  # zlib's word for "with gzip's header and sum"

_TYPE = (b"content-type", b"application/json")
_VARY = (b"vary", b"Accept-Encoding")
_REVALIDATE = (b"cache-control", b"no-cache")
_TAG = re.compile(rb'(?:W/)?"([\x21\x23-\x7e\x80-\xff]*)"')


class Json(Response):
    """`body`, encoded JSON, as it is.

    `tagged` gives it an entity tag, and answers 304 to a GET or HEAD whose `If-None-Match` holds that (RFC 9110,
    section 13.1.2). The tag is weak: the same for every content coding. `headers` are further ones.
    """

    def __init__(self, body: bytes, *, tagged: bool = False, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        self.body: bytes = body
        self.status_code = 200
        self.background = None
        self.tagged = tagged
        self.more_headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send what this request's headers ask for."""
        body = self.body
        large = len(body) >= LEAST_GZIP_BYTES
        headers = [_TYPE, *self.more_headers]
        if large:
            headers.append(_VARY)
        if self.tagged:
            tag = xxhash.xxh3_128_hexdigest(body).encode()
            headers += (b"etag", b'W/"%s"' % tag), _REVALIDATE
            held = [value for name, value in scope["headers"] if name == b"if-none-match"]
            if held and has_tag(held, tag):
                await send({"type": "http.response.start", "status": 304, "headers": headers[1:]})
                await send({"type": "http.response.body", "body": b""})
                return
        if large and _asks_for_gzip(scope):
            body = await asyncio.to_thread(_gzip, body) if len(body) >= _IN_THREAD_BYTES else _gzip(body)
            headers.append((b"content-encoding", b"gzip"))
        headers.append((b"content-length", b"%d" % len(body)))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


def has_tag(held: Iterable[bytes], tag: bytes) -> bool:
    """Whether one of the values of `If-None-Match` names `tag`, by the weak comparison of RFC 9110, 8.8.3.2.

    `*` names every tag; what is no entity tag names none.
    """
    return any(value.strip() == b"*" or tag in _TAG.findall(value) for value in held)


def _asks_for_gzip(scope: Scope) -> bool:
    accepted = [value for name, value in scope["headers"] if name == b"accept-encoding"]
    return bool(accepted) and takes_gzip(b",".join(accepted))


@lru_cache(maxsize=64)
def takes_gzip(accepted: bytes) -> bool:
    """Whether `Accept-Encoding: accepted` lets an answer be gzip (RFC 9110, 12.5.3)."""
    weights = {}
    for one in accepted.lower().split(b","):
        coding, _, parameter = one.partition(b";")
        name, _, weight = parameter.strip().partition(b"=")
        weights[coding.strip()] = weight.strip() if name.strip() == b"q" else b"1"
    weight = next((weights[one] for one in (b"gzip", b"x-gzip", b"*") if one in weights), b"0")
    return re.fullmatch(rb"0(\.0*)?", weight) is None


def _gzip(body: bytes) -> bytes:
    return zlib.compress(body, _GZIP_LEVEL, _GZIP_WINDOW)
