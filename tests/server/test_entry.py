"""What every request goes through: ids, the access log, HEAD, health, and the last net for errors."""

from __future__ import annotations

import json
import logging
import re

import httpx
import pytest

from tesk.server.logs import JsonLines
from tesk.store import StoreError, Unstorable

from .conftest import TASK, Api


async def test_a_request_id_is_given_and_a_good_one_is_kept(api: Api):
    assert re.fullmatch(r"[0-9a-f]{16}", (await api.http.get("/healthz")).headers["x-request-id"])
    answer = await api.http.get("/v1/tasks/none", headers={"X-Request-ID": "a-B_c.9"})
    assert answer.headers["x-request-id"] == "a-B_c.9"
    assert answer.json()["request_id"] == "a-B_c.9"


@pytest.mark.parametrize("bad", ["", "a b", 'a"b', "x" * 129, "ü".encode("latin-1")])
async def test_a_request_id_that_could_harm_is_replaced(api: Api, bad):
    answer = await api.http.get("/healthz", headers={"X-Request-ID": bad})
    assert re.fullmatch(r"[0-9a-f]{16}", answer.headers["x-request-id"])


async def test_the_access_log_has_one_json_line_for_each_request(api: Api, caplog):
    with caplog.at_level(logging.INFO, "tesk.access"):
        await api.http.get("/ga4gh/tes/v1/tasks/none?view=FULL", headers={"X-Request-ID": "r1"})
    (record,) = [one for one in caplog.records if one.name == "tesk.access"]
    event = json.loads(JsonLines().format(record))
    assert event.pop("time").endswith("Z")
    assert event.pop("milliseconds") > 0
    assert event == {
        "event": "request",
        "request_id": "r1",
        "method": "GET",
        "path": "/ga4gh/tes/v1/tasks/none",
        "status": 404,
        "client": "127.0.0.1",
    }


def test_other_records_are_json_lines_too():
    try:
        raise ValueError("two\nlines")
    except ValueError as error:
        record = logging.LogRecord("tesk.x", logging.ERROR, "f", 1, "a\n%s", ("b",), (ValueError, error, None))
    line = JsonLines().format(record)
    assert "\n" not in line
    event = json.loads(line)
    assert (event["level"], event["message"]) == ("error", "a\nb")
    assert "two\nlines" in event["traceback"]


@pytest.mark.parametrize("path", ["/v1/service-info", "/v1/tasks", "/v1/tasks/{id}", "/v1/tasks/service-info"])
async def test_head_says_what_get_would(api: Api, path: str):
    path = path.format(id=await api.create())
    got, head = await api.http.get(path), await api.http.head(path)
    assert head.status_code == 200
    for name in ("content-type", "content-length"):
        assert head.headers[name] == got.headers[name]


async def test_an_error_nobody_expected_is_a_problem_without_its_innards(api: Api, caplog, monkeypatch):
    async def broken(*_: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(api.store, "get", broken)
    answer = await api.http.get("/v1/tasks/t1")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    assert "secret" not in answer.text
    assert answer.json()["request_id"] in caplog.text
    assert "secret detail" in caplog.text


async def test_a_store_that_does_not_work_is_told_to_clients_that_may_try_again(api: Api, caplog, monkeypatch):
    async def broken(*_: object) -> None:
        raise StoreError("The database /secret/place cannot be used (disk is full).")

    monkeypatch.setattr(api.store, "create", broken)
    answer = await api.http.post("/v1/tasks", json=TASK)
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"
    assert "store" in answer.json()["detail"]
    assert "secret" not in answer.text
    assert f"request {answer.json()['request_id']}: The database /secret/place" in caplog.text


async def test_what_the_store_refuses_is_an_error_of_the_server(api: Api, monkeypatch):
    async def broken(*_: object) -> None:
        raise Unstorable("The database refuses it.")

    monkeypatch.setattr(api.store, "create", broken)
    assert (await api.http.post("/v1/tasks", json=TASK)).status_code == 500


async def test_alive_does_not_need_the_store_and_ready_does(api: Api, monkeypatch):
    assert (await api.http.get("/readyz")).json() == {"status": "ready"}

    async def broken(_: str) -> None:
        raise StoreError("the disk is gone")

    monkeypatch.setattr(api.store, "state", broken)
    assert (await api.http.get("/healthz")).json() == {"status": "alive"}
    answer = await api.http.get("/readyz")
    assert answer.status_code == 503
    assert "store" in answer.json()["detail"]


async def test_ready_needs_a_controller_that_works_and_a_server_that_stays(api: Api):
    api.controller.healthy = False
    assert "controller" in (await api.http.get("/readyz")).json()["detail"]
    api.controller.healthy = True
    api.stopping.set()
    assert "stopping" in (await api.http.get("/readyz")).json()["detail"]


async def test_a_slash_too_many_is_not_redirected(api: Api):
    answer = await api.http.get("/v1/tasks/")
    assert isinstance(answer, httpx.Response)
    assert answer.status_code == 404


async def test_every_answer_of_a_server_that_stops_ends_its_connection(api: Api):
    task_id = await api.create()
    paths = ("/healthz", f"/tasks/{task_id}", "/tasks/none", "/readyz", "/none")
    assert not [one for one in paths if "connection" in (await api.http.get(one)).headers]
    api.stopping.set()
    for path in paths:
        assert (await api.http.get(path)).headers["connection"] == "close"
