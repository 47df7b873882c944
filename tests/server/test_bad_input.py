"""Whatever is sent: an answer below 500 that says what to change, and nothing stored."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from .conftest import TASK, Api


def task(**fields: Any) -> bytes:
    return json.dumps({**TASK, **fields}).encode()


def executor(**fields: Any) -> bytes:
    return task(executors=[{**TASK["executors"][0], **fields}])


BAD: dict[str, tuple[bytes, int, set[str]]] = {
    "nothing": (b"", 400, set()),
    "blank": (b" \n", 400, set()),
    "text": (b"hello", 400, set()),
    "half of it": (task()[:-3], 400, set()),
    "two of it": (task() + task(), 400, set()),
    "not UTF-8": (task(name="x").replace(b'"x"', b'"\xff"'), 400, set()),
    "UTF-16": (task().decode().encode("utf-16"), 400, set()),
    "half a surrogate": (task().replace(b"ubuntu", b"\\ud800"), 400, set()),
    "2 MiB of [": (b"[" * 2**21, 400, set()),
    "2 MiB of {": (b'{"a":' * (2**21 // 5), 400, set()),
    "deep in a field nobody knows": (b'{"gpu":' + b"[" * 2**20 + b"]" * 2**20 + b"}", 400, set()),
    "a list": (b"[]", 400, {"$"}),
    "null": (b"null", 400, {"$"}),
    "a number": (b"5", 400, {"$"}),
    "an empty object": (b"{}", 400, {"$.executors"}),
    "too large": (b"x" * (2**22 + 1), 413, set()),
    "no executors": (task(executors=[]), 400, {"$.executors"}),
    "executors of the wrong kind": (task(executors={"image": "a"}), 400, {"$.executors"}),
    "executors null": (task(executors=None), 400, {"$.executors"}),
    "an executor that is text": (task(executors=["a"]), 400, {"$.executors[0]"}),
    "an executor with nothing": (
        task(executors=[{}]),
        400,
        {"$.executors[0].image", "$.executors[0].command"},
    ),
    "a command that is text": (executor(command="true"), 400, {"$.executors[0].command"}),
    "a command of numbers": (executor(command=["sleep", 5]), 400, {"$.executors[0].command[1]"}),
    "no command": (executor(command=[]), 400, {"$.executors[0].command"}),
    "a blank image": (executor(image=" "), 400, {"$.executors[0].image"}),
    "a relative redirect": (executor(stdout="out"), 400, {"$.executors[0].stdout"}),
    "a number as a variable": (executor(env={"A": 1}), 400, {"$.executors[0].env.A"}),
    "a truth in words": (executor(ignore_error="yes"), 400, {"$.executors[0].ignore_error"}),
    "cores in words": (task(resources={"cpu_cores": "2"}), 400, {"$.resources.cpu_cores"}),
    "cores beyond 32 bits": (task(resources={"cpu_cores": 2**31}), 400, {"$.resources.cpu_cores"}),
    "cores beyond all bits": (task(resources={"cpu_cores": 10**400}), 400, {"$.resources.cpu_cores"}),
    "infinite memory": (
        task(resources={"ram_gb": 5}).replace(b"5", b"1e999"),
        400,
        {"$.resources.ram_gb"},
    ),
    "no number": (task(resources={"ram_gb": float("nan")}), 400, {"$.resources.ram_gb"}),
    "more than the machine": (task(resources={"cpu_cores": 5}), 400, {"$.resources.cpu_cores"}),
    "strict parameters": (
        task(resources={"backend_parameters": {"x": "y"}, "backend_parameters_strict": True}),
        400,
        {"$.resources.backend_parameters['x']"},
    ),
    "a relative input": (task(inputs=[{"content": "x", "path": "in"}]), 400, {"$.inputs[0].path"}),
    "dots": (task(inputs=[{"content": "x", "path": "/a/../../b"}]), 400, {"$.inputs[0].path"}),
    "NUL in a path": (task(inputs=[{"content": "x", "path": "/a\0b"}]), 400, {"$.inputs[0].path"}),
    "a new line in a path": (task(volumes=["/a\nb"]), 400, {"$.volumes[0]"}),
    "an input of a type nobody knows": (
        task(inputs=[{"content": "x", "path": "/a", "type": "SOCKET"}]),
        400,
        {"$.inputs[0].type"},
    ),
    "an input in the file of another": (
        task(inputs=[{"content": "x", "path": "/a"}, {"content": "y", "path": "/a/b"}]),
        400,
        {"$.inputs[1].path"},
    ),
    "too many tags": (task(tags={f"t{number}": "" for number in range(1001)}), 400, {"$.tags"}),
    "an input from nowhere": (task(inputs=[{"path": "/a"}]), 400, {"$.inputs[0].url"}),
    "outside the roots": (
        task(inputs=[{"path": "/a", "url": "file:///etc/passwd"}]),
        400,
        {"$.inputs[0].url"},
    ),
    "wildcards without a prefix": (
        task(outputs=[{"path": "/out/*", "url": "file:///data/o"}]),
        400,
        {"$.outputs[0].path_prefix"},
    ),
    "one url for two": (
        task(outputs=[{"path": f"/out/{n}", "url": "file:///data/o"} for n in (1, 2)]),
        400,
        {"$.outputs[1].url"},
    ),
    "tags that are no text": (task(tags={"a b": [1]}), 400, {"$.tags['a b']"}),
    "a state nobody knows": (task(state="DONE"), 400, {"$.state"}),
    "many at once": (
        executor(command=[], stdin="in", image=""),
        400,
        {"$.executors[0].command", "$.executors[0].stdin", "$.executors[0].image"},
    ),
}


@pytest.mark.parametrize("what", BAD)
async def test_bad_input_is_refused_with_every_reason_and_not_stored(api: Api, what: str):
    body, status, paths = BAD[what]
    answer = await api.http.post("/v1/tasks", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert problem["type"] == "about:blank"
    assert problem["title"]
    assert problem["detail"].endswith(".")
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert {one["path"] for one in problem.get("errors", ())} == paths
    assert all(one["message"] for one in problem.get("errors", ()))
    assert await api.stored() == 0


async def test_a_body_that_says_it_is_too_large_is_not_even_read(api: Api):
    read = False

    async def body():
        nonlocal read
        read = True
        yield b"x"

    headers = {"Content-Length": str(2**22 + 1)}
    answer = await api.http.post("/v1/tasks", content=body(), headers=headers)
    assert answer.status_code == 413
    assert "server.max_body_bytes" in answer.json()["detail"]


async def test_many_faults_give_a_small_answer(api: Api):
    answer = await api.http.post("/v1/tasks", content=task(inputs=[{}] * 1000))
    assert answer.status_code == 400
    assert len(answer.json()["errors"]) == 100
    assert "1000" in answer.json()["detail"]
    assert len(answer.content) < 20_000


@pytest.mark.parametrize(
    "body",
    [
        task(inputs=[1] * 10**6),
        task(executors=[1] * 10**6),
        executor(command=[1] * 10**6),
        executor(env=dict.fromkeys(map(str, range(200_000)), 1)),
        task(tags=dict.fromkeys(map(str, range(200_000)), 1)),
        task(volumes=[1] * 10**6),
        task(logs=[1] * 10**6),
        task(inputs=[{}] * 90_000),
        task(**dict.fromkeys(map(str, range(200_000)))),
        task(tags=dict.fromkeys(map(str, range(1001)), "")),
        task(resources={"backend_parameters": dict.fromkeys(map(str, range(1001)), "")}),
    ],
    ids=[
        "inputs",
        "executors",
        "command",
        "env",
        "tags",
        "volumes",
        "logs",
        "empty",
        "unknown",
        "many tags",
        "parameters",
    ],
)
async def test_a_million_faults_are_refused_at_once(api: Api, body: bytes):
    began = time.perf_counter()
    answer = await api.http.post("/v1/tasks", content=body)
    assert answer.status_code == 400
    assert len(answer.content) < 20_000
    assert time.perf_counter() - began < 3
    assert await api.stored() == 0


@pytest.mark.parametrize(
    "sent",
    [{"name": "\0 \ud7ff ü"}, {"tags": {"k" * 5000: "v" * 5000, "": ""}}, {"name": ""}],
    ids=["name", "tags", "empty"],
)
async def test_odd_text_comes_back_as_it_was(api: Api, sent: dict[str, Any]):
    shown = await api.get(await api.create(**sent))
    assert sent.items() <= shown.items()


@pytest.mark.parametrize(
    "path",
    [
        "/v1/tasks/none",
        "/v1/tasks/%00",
        "/v1/tasks/%ff",
        "/v1/tasks/a%2Fb",
        "/v1/tasks/" + "x" * 5000,
        "/v1/nothing",
        "/",
    ],
)
async def test_what_is_not_there_is_404(api: Api, path: str):
    answer = await api.http.get(path)
    assert answer.status_code == 404
    assert answer.json()["title"] == "Not Found"


async def test_cancel_of_no_task_is_404(api: Api):
    assert (await api.http.post("/v1/tasks/none:cancel")).status_code == 404
    assert (await api.http.post("/v1/tasks/%00:cancel")).status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PUT", "/v1/tasks", "GET, HEAD, OPTIONS, POST"),
        ("DELETE", "/tasks", "GET, HEAD, OPTIONS, POST"),
        ("POST", "/v1/tasks/t1", "GET, HEAD, OPTIONS"),
        ("DELETE", "/v1/tasks/t1", "GET, HEAD, OPTIONS"),
        ("GET", "/v1/tasks/t1:cancel", "DELETE, OPTIONS, POST"),
        ("PUT", "/v1/tasks/t1:cancel", "DELETE, OPTIONS, POST"),
        ("POST", "/service-info", "GET, HEAD, OPTIONS"),
        ("POST", "/tasks/t1/logs", "GET, HEAD, OPTIONS"),
        ("PATCH", "/healthz", "GET, HEAD, OPTIONS"),
    ],
)
async def test_a_method_that_is_not_possible_is_405_and_says_which_are(api: Api, method: str, path: str, allow: str):
    answer = await api.http.request(method, path)
    assert answer.status_code == 405
    assert answer.headers["allow"] == allow
    assert allow in answer.json()["detail"]
