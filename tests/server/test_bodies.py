"""Request bodies in gzip: bounded, checked, and nothing else than gzip."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import AsyncIterator

import pytest

from tesk.server.bodies import MOST_MEMBERS

from .conftest import TASK, Api

GZIP = {"Content-Encoding": "gzip"}
BODY = json.dumps(TASK).encode()
MOST = 2**22
"""What the application of these tests takes (server.max_body_bytes)."""


async def pieces(body: bytes, size: int) -> AsyncIterator[bytes]:
    for at in range(0, len(body), size):
        yield body[at : at + size]


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "x-gzip", "identity, gzip"])
async def test_a_task_in_gzip_is_a_task(api: Api, coding: str):
    body = json.dumps({**TASK, "name": "pressed"}).encode()
    answer = await api.http.post("/tasks", content=gzip.compress(body), headers={"Content-Encoding": coding})
    assert answer.status_code == 200
    assert (await api.get(answer.json()["id"]))["name"] == "pressed"


@pytest.mark.parametrize("size", [1, 7, 10_000])
async def test_gzip_may_come_in_any_pieces_and_in_several_members(api: Api, size: int):
    body = gzip.compress(BODY[:10]) + gzip.compress(b"") + gzip.compress(BODY[10:])
    assert (await api.http.post("/tasks", content=pieces(body, size), headers=GZIP)).status_code == 200


@pytest.mark.parametrize("coding", ["", "identity"])
async def test_no_coding_is_none(api: Api, coding: str):
    assert (await api.http.post("/tasks", content=BODY, headers={"Content-Encoding": coding})).status_code == 200


@pytest.mark.parametrize("coding", ["deflate", "br", "gzip, gzip", "zstd", "x" * 5000])
async def test_another_coding_is_415_and_says_which_one_is_taken(api: Api, coding: str):
    answer = await api.http.post("/tasks", content=gzip.compress(BODY), headers={"Content-Encoding": coding})
    assert answer.status_code == 415
    assert answer.headers["accept-encoding"] == "gzip"
    assert "gzip" in answer.json()["detail"]
    assert len(answer.content) < 1000
    assert await api.stored() == 0


@pytest.mark.parametrize(
    "body",
    [
        BODY,
        gzip.compress(BODY)[:-1],
        gzip.compress(BODY)[:5],
        gzip.compress(BODY)[:-8] + bytes(8),
        gzip.compress(BODY) + b"garbage",
        zlib.compress(BODY),
        gzip.compress(b"") * (MOST_MEMBERS + 1),
    ],
    ids=["plain", "without its end", "head alone", "wrong sum", "with a tail", "deflate", "many members"],
)
async def test_broken_gzip_is_400_and_says_so(api: Api, body: bytes):
    answer = await api.http.post("/tasks", content=body, headers=GZIP)
    assert answer.status_code == 400
    assert "gzip" in answer.json()["detail"]
    assert await api.stored() == 0


async def test_an_empty_body_is_called_empty_also_in_gzip(api: Api):
    for body in (b"", gzip.compress(b"")):
        answer = await api.http.post("/tasks", content=body, headers=GZIP)
        assert answer.status_code == 400
        assert "empty" in answer.json()["detail"]


async def test_the_bound_is_that_of_the_unfolded_body(api: Api):
    fits = json.dumps({**TASK, "description": "x" * (MOST - 200)}).encode()
    assert len(fits) < MOST
    assert (await api.http.post("/tasks", content=gzip.compress(fits), headers=GZIP)).status_code == 200
    answer = await api.http.post("/tasks", content=gzip.compress(fits + b" " * 200), headers=GZIP)
    assert answer.status_code == 413
    assert "server.max_body_bytes" in answer.json()["detail"]


@pytest.mark.slow
async def test_a_bomb_is_refused_before_it_unfolds(api: Api):
    layer = zlib.compressobj(9, wbits=31)
    bomb = b"".join(layer.compress(bytes(2**20)) for _ in range(512)) + layer.flush()
    assert len(bomb) < MOST / 4
    assert (await api.http.post("/tasks", content=bomb, headers=GZIP)).status_code == 413


async def test_gzip_that_never_says_anything_has_an_end(api: Api):
    sent = 0

    async def nothing() -> AsyncIterator[bytes]:
        nonlocal sent
        empty_blocks = zlib.compressobj(9, wbits=31)
        yield empty_blocks.compress(b"")
        while True:
            sent += 5000
            yield b"\0\0\0\xff\xff" * 1000  # a stored block of no bytes, again and again

    answer = await api.http.post("/tasks", content=nothing(), headers=GZIP)
    assert answer.status_code == 413
    assert sent < MOST + 10_000
