"""The transport into an application of this process: answers come piece by piece."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from tesk.cli.asgi import App, AppTransport


def client(app: App) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=AppTransport(app), base_url="http://tesk")


async def begin(send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x", b"y")]})


async def test_a_request_arrives_whole_and_its_answer_too() -> None:
    seen: dict[str, Any] = {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.update(scope, body=(await receive())["body"])
        await begin(send)
        for number in range(20):
            await send({"type": "http.response.body", "body": b"%d," % number, "more_body": True})
        await send({"type": "http.response.body", "body": b"end"})

    async with client(app) as http:
        answer = await http.post("/a%2Fb?q=1", content=b"hello")
    assert answer.headers["x"] == "y"
    assert answer.text == "".join(f"{number}," for number in range(20)) + "end"
    assert (seen["method"], seen["path"], seen["raw_path"]) == ("POST", "/a/b", b"/a%2Fb")
    assert (seen["query_string"], seen["body"]) == (b"q=1", b"hello")


async def test_a_piece_arrives_before_the_next_is_made() -> None:
    go = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await begin(send)
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        await go.wait()
        await send({"type": "http.response.body", "body": b"second"})

    async with client(app) as http, http.stream("GET", "/") as answer:
        pieces = answer.aiter_bytes()
        assert await anext(pieces) == b"first"
        go.set()
        assert await anext(pieces) == b"second"


async def test_a_reader_that_leaves_ends_the_application() -> None:
    ended: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await begin(send)
            while True:
                await send({"type": "http.response.body", "body": b"again", "more_body": True})
        finally:
            ended.append("yes")

    async with client(app) as http, http.stream("GET", "/") as answer:
        assert await anext(answer.aiter_bytes())
    assert ended == ["yes"]


async def test_the_applications_error_is_ours() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("broken")

    async with client(app) as http:
        with pytest.raises(RuntimeError, match="broken"):
            await http.get("/")


async def test_an_application_without_an_answer_is_an_error() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        return

    async with client(app) as http:
        with pytest.raises(httpx.RemoteProtocolError, match="without an answer"):
            await http.get("/")
