"""POST /tasks with an Idempotency-Key: a client that heard no answer may ask again."""

from __future__ import annotations

import asyncio

import pytest

from .conftest import TASK, Api


async def post(api: Api, key: str, **fields: object) -> tuple[int, dict[str, object]]:
    answer = await api.http.post("/v1/tasks", json={**TASK, **fields}, headers={"Idempotency-Key": key})
    return answer.status_code, answer.json()


async def test_the_same_key_gives_the_first_tasks_id(api: Api):
    answers = await asyncio.gather(*(post(api, "a-1") for _ in range(10)))
    assert all(answer == answers[0] and answer[0] == 200 for answer in answers)
    assert list(answers[0][1]) == ["id"]
    assert await api.stored() == 1
    assert (await post(api, "a-2"))[1] != answers[0][1]


async def test_a_key_with_another_task_is_refused_and_nothing_stored(api: Api):
    await post(api, "k")
    status, problem = await post(api, "k", name="another")
    assert status == 422
    assert "a key of its own" in str(problem["detail"])
    assert await api.stored() == 1


async def test_a_refused_task_does_not_use_its_key_up(api: Api):
    assert (await post(api, "k", executors=[]))[0] == 400
    assert (await post(api, "k"))[0] == 200


@pytest.mark.parametrize("key", ["", "two words", "x" * 256])
async def test_a_key_that_is_none_is_refused(api: Api, key: str):
    status, problem = await post(api, key)
    assert status == 400
    assert "Idempotency-Key" in str(problem["detail"])
    assert await api.stored() == 0
