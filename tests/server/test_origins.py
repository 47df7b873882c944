"""CORS as configured, and no writing by other pages."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import httpx
import pytest

from tesk.config import Config
from tesk.config.models import ServerConfig
from tesk.server.app import create_app
from tesk.server.listen import Listeners, hosts_of

from .conftest import TASK, Api

PORTAL = "https://portal.example.org"
Pages = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


@pytest.fixture
def allowing(api: Api, tmp_path: Path) -> Pages:
    """A client of the application with these `cors_origins`."""

    @asynccontextmanager
    async def make(*origins: str, hosts: frozenset[str] | None = None) -> AsyncIterator[httpx.AsyncClient]:
        config = Config(state_directory=tmp_path, server=ServerConfig(cors_origins=origins))
        app = create_app(api.tasks, api.controller, config, secret=b"s", stopping=api.stopping, hosts=hosts)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://tesk:8000") as http:
            yield http

    return make


def preflight(method: str, headers: str = "", origin: str = PORTAL) -> dict[str, str]:
    asked = {"Origin": origin, "Access-Control-Request-Method": method}
    return {**asked, "Access-Control-Request-Headers": headers} if headers else asked


async def test_without_a_setting_no_page_of_another_origin_reads(allowing: Pages):
    async with allowing() as http:
        for answer in (
            await http.get("/service-info", headers={"Origin": PORTAL}),
            await http.options("/tasks", headers=preflight("POST")),
        ):
            assert not [name for name in answer.headers if name.startswith("access-control-")]


@pytest.mark.parametrize("origins", [(PORTAL,), ("https://a.example.org", PORTAL), ("*",)])
async def test_a_page_of_an_allowed_origin_reads_and_sees_tag_and_request_id(allowing: Pages, origins: tuple[str, ...]):
    async with allowing(*origins) as http:
        answer = await http.get("/service-info", headers={"Origin": PORTAL})
    assert answer.headers["access-control-allow-origin"] == ("*" if "*" in origins else PORTAL)
    exposed = set(answer.headers["access-control-expose-headers"].split(", "))
    assert exposed >= {"ETag", "X-Request-ID"}
    assert "origin" in answer.headers["vary"].lower() or "*" in origins
    assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize("origin", ["https://other.example.org", "http://portal.example.org", f"{PORTAL}:8443", "null"])
async def test_an_origin_that_is_not_listed_exactly_reads_nothing(allowing: Pages, origin: str):
    async with allowing(PORTAL) as http:
        answer = await http.get("/service-info", headers={"Origin": origin})
        asked = await http.options("/tasks", headers=preflight("POST", origin=origin))
    assert "access-control-allow-origin" not in answer.headers
    assert answer.headers["vary"] == "Origin"
    assert "access-control-allow-origin" not in asked.headers


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_a_preflight_allows_what_clients_send(allowing: Pages, method: str):
    wanted = "authorization,content-type,idempotency-key,if-none-match"
    async with allowing(PORTAL) as http:
        answer = await http.options("/ga4gh/tes/v1/tasks", headers=preflight(method, wanted))
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == PORTAL
    assert method in answer.headers["access-control-allow-methods"].split(", ")
    allowed = {one.strip().lower() for one in answer.headers["access-control-allow-headers"].split(",")}
    assert allowed >= set(wanted.split(","))
    assert "x-request-id" in answer.headers


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (preflight("POST", origin="https://other.example.org"), "'https://other.example.org' may not use this API"),
        (preflight("PATCH"), "Web pages may use GET, HEAD, POST, DELETE."),
        (preflight("POST", "x-mine"), "Web pages may send Authorization, "),
    ],
)
async def test_a_refused_preflight_says_why(allowing: Pages, asked: dict[str, str], said: str):
    async with allowing(PORTAL) as http:
        answer = await http.options("/ga4gh/tes/v1/tasks", headers=asked)
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")
    assert said in answer.json()["detail"]
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    assert "Origin" in answer.headers["vary"].split(", ")


async def test_errors_can_be_read_too(allowing: Pages, api: Api, monkeypatch):
    async def broken(*_: object) -> None:
        raise RuntimeError("broken")

    mine = {"Origin": PORTAL}
    async with allowing(PORTAL) as http:
        answers = [
            await http.get("/tasks/none", headers=mine),
            await http.post("/tasks", json={}, headers=mine),
            await http.put("/tasks", headers=mine),
            await http.get("/none", headers=mine),
        ]
        monkeypatch.setattr(api.store, "get", broken)
        answers.append(await http.get("/tasks/t1", headers=mine))
    assert [one.status_code for one in answers] == [404, 400, 405, 404, 500]
    for one in answers:
        assert one.headers["access-control-allow-origin"] == PORTAL
        assert one.headers["content-type"] == "application/problem+json"
        assert one.json()["request_id"] == one.headers["x-request-id"]


async def test_a_304_and_a_large_answer_vary_by_both(allowing: Pages, api: Api):
    task_id = await api.create(description="x" * 20_000)
    async with allowing(PORTAL) as http:
        for held in ("", "*"):
            headers = {"Origin": PORTAL, "If-None-Match": held}
            answer = await http.get(f"/tasks/{task_id}?view=FULL", headers=headers)
            assert answer.status_code == (304 if held else 200)
            assert answer.headers["vary"] == "Accept-Encoding, Origin"


@pytest.mark.parametrize(
    ("origin", "origins", "status"),
    [
        ("https://evil.example", (), 403),
        ("null", (), 403),
        ("http://localhost:3000", (), 403),
        ("https://evil.example", (PORTAL,), 403),
        ("http://tesk:8000", (), 200),  # a page of this server itself
        (PORTAL, (PORTAL,), 200),
        ("https://evil.example", ("*",), 200),
    ],
)
async def test_a_page_may_change_something_only_from_an_allowed_origin(
    allowing: Pages, api: Api, origin: str, origins: tuple[str, ...], status: int
):
    task_id = await api.create()
    before = await api.stored()
    async with allowing(*origins) as http:
        # what a form can send without asking: the browser only hides the answer
        sent = {"Origin": origin, "Content-Type": "text/plain"}
        made = await http.post("/v1/tasks", json=TASK, headers=sent)
        ended = await http.post(f"/v1/tasks/{task_id}:cancel", headers=sent)
    assert (made.status_code, ended.status_code) == (status, status)
    assert await api.stored() == before + (status == 200)
    if status == 403:
        assert "server.cors_origins" in made.json()["detail"]
        assert made.headers["x-request-id"]


async def test_who_is_no_browser_needs_no_origin(allowing: Pages):
    async with allowing() as http:
        assert (await http.post("/v1/tasks", json=TASK)).status_code == 200


OWN = frozenset({"localhost", "127.0.0.1", "[::1]", "tes.example.org"})


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LocalHost:8000", 200),
        ("localhost.:8000", 200),
        ("127.0.0.1:8000", 200),
        ("[::1]", 200),
        ("[::1]:8000", 200),
        ("tes.example.org:443", 200),
        ("evil.example:8000", 421),
        ("localhost.evil.example", 421),
        ("localhost:8000:8000", 421),
        ("[::1", 421),
        ("", 421),
    ],
)
async def test_a_name_that_is_not_the_servers_is_refused(allowing: Pages, api: Api, host: str, status: int):
    """A page of evil.example, which resolves to 127.0.0.1 now, is of the same origin to its browser."""
    before = await api.stored()
    async with allowing(hosts=OWN) as http:
        headers = {"Host": host, "Origin": f"http://{host}"}
        read = await http.get("/ga4gh/tes/v1/service-info", headers=headers)
        made = await http.post("/v1/tasks", json=TASK, headers=headers)
        alive = await http.get("/healthz", headers=headers)
    assert (read.status_code, made.status_code, alive.status_code) == (status, status, 200)
    assert await api.stored() == before + (status == 200)
    if status == 421:
        assert "server.allowed_hosts" in made.json()["detail"]
        assert made.json()["request_id"] == made.headers["x-request-id"]


@pytest.mark.parametrize(
    ("bound", "server", "own", "foreign"),
    [
        ("127.0.0.1", ServerConfig(), ["127.0.0.1", "localhost", "[::1]"], ["tes.example.org"]),
        ("127.0.1.1", ServerConfig(host="Box"), ["box", "127.0.1.1", "localhost"], ["tes.example.org"]),
        ("127.0.0.1", ServerConfig(allowed_hosts=("TES.example.org",)), ["tes.example.org", "localhost"], ["box"]),
        ("0.0.0.0", ServerConfig(host="0.0.0.0", allowed_hosts=("[2001:db8::1]",)), ["[2001:db8::1]"], ["box"]),
        ("0.0.0.0", ServerConfig(host="0.0.0.0"), None, []),
        ("0.0.0.0", ServerConfig(), None, []),  # an inherited socket counts, not the setting
        ("127.0.0.1", ServerConfig(allowed_hosts=("*",)), None, []),
    ],
)
def test_which_names_are_the_servers(bound: str, server: ServerConfig, own: list[str] | None, foreign: list[str]):
    with socket.socket() as one:
        one.bind((bound, 0))
        names = hosts_of(server, Listeners((one,)))
    if own is None:
        assert names is None
    else:
        assert names is not None
        assert names >= set(own)
        assert not names & set(foreign)


@pytest.mark.parametrize("wrong", ["tes.example.org:443", "http://tes.example.org", "2001:db8::1", "a b", ""])
def test_a_name_with_more_than_a_name_is_refused(wrong: str):
    with pytest.raises(ValueError, match="without a port"):
        ServerConfig(allowed_hosts=(wrong,))
