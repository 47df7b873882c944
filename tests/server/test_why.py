"""GET /tasks/{id}/why."""

from __future__ import annotations

from .conftest import Api


async def test_why_a_task_does_not_run_is_one_sentence(api: Api) -> None:
    task_id = await api.create()
    answer = await api.http.get(f"/v1/tasks/{task_id}/why")
    assert answer.json() == {"id": task_id, "why": f"{task_id} waits for its turn"}
    await api.finish(task_id)
    assert (await api.http.get(f"/v1/tasks/{task_id}/why")).status_code == 200


async def test_of_a_task_that_is_not_there_nothing_is_told(api: Api) -> None:
    for name in ("task-none", "a%2Fb"):
        assert (await api.http.get(f"/v1/tasks/{name}/why")).status_code == 404
