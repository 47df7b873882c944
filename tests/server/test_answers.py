"""Entity tags and 304, gzip answers, HEAD and OPTIONS (RFC 9110)."""

from __future__ import annotations

import gzip

import pytest

from tesk.server.answers import LEAST_GZIP_BYTES, has_tag, takes_gzip
from tesk.tes.states import State

from .conftest import TASK, Api

LARGE = "a long text\n" * (LEAST_GZIP_BYTES // 12 + 1)
TAGGED = ("/v1/tasks/{id}", "/v1/tasks/{id}?view=FULL", "/tasks", "/service-info", "/v1/tasks/service-info")


@pytest.mark.parametrize("path", TAGGED)
async def test_who_holds_the_answer_already_is_told_so_without_a_body(api: Api, path: str):
    path = path.format(id=await api.create())
    first = await api.http.get(path)
    tag = first.headers["etag"]
    for method in ("GET", "HEAD"):
        again = await api.http.request(method, path, headers={"If-None-Match": tag})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == tag
        assert again.headers["cache-control"] == first.headers["cache-control"] == "no-cache"
        assert "content-type" not in again.headers
        assert "content-length" not in again.headers


async def test_a_task_that_has_changed_is_sent_again_under_another_tag(api: Api):
    task_id = await api.create()
    for path in (f"/tasks/{task_id}", "/tasks"):
        tag = (await api.http.get(path)).headers["etag"]
        assert (await api.http.get(path)).headers["etag"] == tag
    await api.finish(task_id, State.COMPLETE)
    for path in (f"/tasks/{task_id}", "/tasks"):
        changed = await api.http.get(path, headers={"If-None-Match": tag})
        assert changed.status_code == 200
        assert "COMPLETE" in changed.text
        assert changed.headers["etag"] != tag


@pytest.mark.parametrize(
    ("held", "same"),
    [
        ([b'W/"abc"'], True),
        ([b'"abc"'], True),  # weak comparison: a strong tag with the same text is the same
        ([b'"x", W/"abc"'], True),
        ([b'"x"', b'W/"abc"'], True),
        ([b'"a,b",W/"abc"'], True),
        ([b"*"], True),
        ([b" * "], True),
        ([b'"x"'], False),
        ([b'"abcd"'], False),
        ([b'"ab", "c"'], False),
        ([b"abc"], False),
        ([b'W/abc, "'], False),
        ([b'"*"'], False),
        ([b""], False),
    ],
)
def test_tags_are_compared_weakly(held: list[bytes], same: bool):
    assert has_tag(held, b"abc") is same


async def test_a_star_does_not_hide_that_there_is_no_such_task(api: Api):
    task_id = await api.create()
    star = {"If-None-Match": "*"}
    assert (await api.http.get(f"/tasks/{task_id}", headers=star)).status_code == 304
    assert (await api.http.get("/tasks/none", headers=star)).status_code == 404
    assert (await api.http.get("/tasks?page_size=0", headers=star)).status_code == 400


async def test_a_create_takes_no_notice_of_if_none_match(api: Api):
    answer = await api.http.post("/tasks", json=TASK, headers={"If-None-Match": "*"})
    assert answer.status_code == 200
    assert "etag" not in answer.headers


async def test_a_large_answer_is_gzip_for_who_takes_it(api: Api):
    task_id = await api.create(description=LARGE)
    path = f"/tasks/{task_id}?view=FULL"
    plain = await api.http.get(path, headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert plain.headers["vary"] == "Accept-Encoding"
    async with api.http.stream("GET", path, headers={"Accept-Encoding": "gzip"}) as answer:
        raw = b"".join([one async for one in answer.aiter_raw()])
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.headers["vary"] == "Accept-Encoding"
    assert int(answer.headers["content-length"]) == len(raw) < len(plain.content) / 10
    assert gzip.decompress(raw) == plain.content
    assert answer.headers["etag"] == plain.headers["etag"]
    held = {"If-None-Match": plain.headers["etag"], "Accept-Encoding": "gzip"}
    again = await api.http.get(path, headers=held)
    assert again.status_code == 304
    assert again.headers["vary"] == "Accept-Encoding"
    assert "content-encoding" not in again.headers


async def test_a_very_large_answer_is_the_same_text_after_gzip(api: Api):
    task_id = await api.create(description=LARGE * 30)
    path = f"/tasks/{task_id}?view=FULL"
    plain = await api.http.get(path, headers={"Accept-Encoding": "identity"})
    pressed = await api.http.get(path, headers={"Accept-Encoding": "gzip"})
    assert pressed.headers["content-encoding"] == "gzip"
    assert pressed.content == plain.content


async def test_a_small_answer_is_never_gzip_and_does_not_vary(api: Api):
    answer = await api.http.get(f"/tasks/{await api.create()}", headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in answer.headers
    assert "vary" not in answer.headers


async def test_a_log_is_never_gzip_since_its_lines_would_wait(api: Api):
    task_id = await api.create()
    api.controller.chunks.put_nowait(LARGE.encode())
    answer = await api.http.get(f"/tasks/{task_id}/logs", headers={"Accept-Encoding": "gzip"})
    assert answer.text == LARGE
    assert "content-encoding" not in answer.headers


@pytest.mark.parametrize(
    ("accepted", "takes"),
    [
        (b"gzip", True),
        (b"gzip, deflate, br", True),
        (b"br;q=1.0, gzip;q=0.8", True),
        (b"GZIP ; Q=0.001", True),
        (b"*", True),
        (b"x-gzip", True),
        (b"gzip;q=0", False),
        (b"gzip;q=0.000", False),
        (b"gzip;q=0, *", False),
        (b"*;q=0", False),
        (b"identity", False),
        (b"deflate, br", False),
        (b"", False),
    ],
)
def test_gzip_is_for_who_accepts_it(accepted: bytes, takes: bool):
    assert takes_gzip(accepted) is takes


@pytest.mark.parametrize(
    "path", [*TAGGED, "/healthz", "/readyz", "/tasks/{id}/logs", "/tasks/none", "/tasks?view=NO", "/none"]
)
@pytest.mark.parametrize("accepted", ["identity", "gzip"])
async def test_head_has_the_headers_of_get_and_no_body(api: Api, path: str, accepted: str):
    path = path.format(id=await api.create(description=LARGE))
    headers = {"Accept-Encoding": accepted, "X-Request-ID": "r"}
    got = await api.http.get(path, headers=headers)
    head = await api.http.head(path, headers=headers)
    assert (head.status_code, dict(head.headers)) == (got.status_code, dict(got.headers))
    if got.status_code == 200:
        assert head.content == b""


@pytest.mark.parametrize(
    ("path", "allow"),
    [
        ("/v1/tasks", "GET, HEAD, OPTIONS, POST"),
        ("/v1/tasks/t1", "GET, HEAD, OPTIONS"),
        ("/v1/tasks/t1:cancel", "DELETE, OPTIONS, POST"),
        ("/v1/tasks/service-info", "GET, HEAD, OPTIONS"),
        ("/service-info", "GET, HEAD, OPTIONS"),
    ],
)
async def test_options_says_what_is_possible(api: Api, path: str, allow: str):
    answer = await api.http.options(path)
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["allow"] == allow


async def test_options_of_nothing_is_404(api: Api):
    assert (await api.http.options("/none")).status_code == 404
