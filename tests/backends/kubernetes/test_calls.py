"""Calls through faults that a real API server has rarely; the ordinary is in tests/kube."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from lightkube import SingleConfig
from lightkube.config import models
from lightkube.resources.batch_v1 import Job
from lightkube.resources.core_v1 import ConfigMap, Node, Pod
from tests.backends.kubernetes.fake_api import Asked, Reply, config_map, fake_api, listed, status

from tesk.backends.kubernetes.api import path_of
from tesk.backends.kubernetes.cluster import Cluster
from tesk.backends.kubernetes.connection import open_client
from tesk.backends.kubernetes.errors import Gone, Refused, StillThere, Unreachable
from tesk.backends.kubernetes.pace import Pace
from tesk.backends.kubernetes.rights import Right, missing_rights


def says(body: dict[str, Any], code: int = 200, **headers: str) -> Callable[[Asked, Reply], Any]:
    async def answer(asked: Asked, reply: Reply) -> None:
        await reply.send(body, code, **headers)

    return answer


async def breaks(asked: Asked, reply: Reply) -> None:
    reply.cut()


def ours(name: str) -> ConfigMap:
    return ConfigMap.from_dict({"metadata": {key: config_map(name)["metadata"][key] for key in ("name", "labels")}})  # type: ignore[return-value]


async def test_too_many_requests_waits_as_long_as_the_server_asks() -> None:
    busy = says(status(429, "TooManyRequests"), 429, retry_after="1")
    async with fake_api(busy, says(config_map("one"))) as api, api.cluster() as cluster:
        began = time.monotonic()
        assert await cluster.get(ConfigMap, "one") is not None
        assert 1.0 <= time.monotonic() - began < 2.0


@pytest.mark.parametrize("fault", [says(status(500, "InternalError"), 500), says({"no": "Status"}, 503), breaks])
async def test_passing_faults_are_tried_again(fault: Callable[[Asked, Reply], Any]) -> None:
    async with fake_api(fault, fault, says(config_map("one"))) as api, api.cluster() as cluster:
        assert await cluster.get(ConfigMap, "one") is not None
        assert len(api.asked) == 3


async def test_faults_that_last_end_with_the_callers_time() -> None:
    async with fake_api(says(status(503, "ServiceUnavailable", "etcd is away"), 503)) as api, api.cluster() as cluster:
        began = time.monotonic()
        with pytest.raises(Unreachable, match=r"cannot get ConfigMap one: .* 503: etcd is away") as caught:
            await cluster.get(ConfigMap, "one", within=0.5)
        assert time.monotonic() - began < 0.6
        assert caught.value.code == 503


async def test_server_that_never_answers_is_unreachable() -> None:
    async def silent(asked: Asked, reply: Reply) -> None:
        await asyncio.sleep(60)

    async with fake_api(silent) as api, api.cluster() as cluster:
        with pytest.raises(Unreachable, match="no answer in time"):
            await cluster.get(ConfigMap, "one", within=1.0)


async def test_error_is_not_absence() -> None:
    async with fake_api(says(status(403, "Forbidden"), 403)) as api, api.cluster() as cluster:
        with pytest.raises(Refused) as caught:
            await cluster.get(ConfigMap, "one")
        assert (caught.value.code, caught.value.reason, caught.value.said) == (403, "Forbidden", "said the server")
        assert len(api.asked) == 1


NO_RIGHT = says(status(403, "Forbidden", 'jobs is forbidden: User "x" cannot create resource "jobs"'), 403)


async def test_lack_of_rights_is_not_believed_while_the_server_starts() -> None:
    async with fake_api(breaks, NO_RIGHT, NO_RIGHT, says(config_map("one"))) as api, api.cluster() as cluster:
        assert await cluster.get(ConfigMap, "one") is not None
        assert len(api.asked) == 4


async def test_full_quota_is_believed_also_while_the_server_starts() -> None:
    full = says(status(403, "Forbidden", "pods is forbidden: exceeded quota: few"), 403)
    async with fake_api(breaks, full) as api, api.cluster() as cluster:
        with pytest.raises(Refused, match="exceeded quota"):
            await cluster.create(ours("one"))


async def test_lack_of_rights_that_lasts_ends_with_the_callers_time() -> None:
    async with fake_api(breaks, NO_RIGHT) as api, api.cluster() as cluster:
        with pytest.raises(Refused, match="cannot create resource"):
            await cluster.get(ConfigMap, "one", within=0.5)


async def test_create_whose_answer_was_lost_is_not_made_twice() -> None:
    exists = says(status(409, "AlreadyExists"), 409)
    async with fake_api(breaks, exists, says(config_map("one", "5"))) as api, api.cluster() as cluster:
        made = await cluster.create(ours("one"))
        assert made.metadata is not None
        assert made.metadata.resourceVersion == "5"
        assert [asked.method for asked in api.asked] == ["POST", "POST", "GET"]


async def test_create_tries_again_when_what_was_in_the_way_has_just_gone() -> None:
    exists, absent = says(status(409, "AlreadyExists"), 409), says(status(404, "NotFound"), 404)
    async with fake_api(exists, absent, says(config_map("one"), 201)) as api, api.cluster() as cluster:
        await cluster.create(ours("one"))
        assert [asked.method for asked in api.asked] == ["POST", "GET", "POST"]


async def test_create_says_when_its_forerunner_is_still_being_deleted() -> None:
    ending = config_map("one")
    ending["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    async with fake_api(says(status(409, "AlreadyExists"), 409), says(ending)) as api, api.cluster() as cluster:
        with pytest.raises(StillThere):
            await cluster.create(ours("one"))


async def test_quota_that_many_creates_touch_at_once_is_tried_again() -> None:
    conflict = says(status(409, "Conflict", 'Operation cannot be fulfilled on resourcequotas "q"'), 409)
    async with fake_api(conflict, says(config_map("one"), 201)) as api, api.cluster() as cluster:
        await cluster.create(ours("one"))
        assert len(api.asked) == 2


async def test_list_whose_pages_expire_begins_anew() -> None:
    first = says(listed("1", config_map("a"), more="here"))
    expired = says(status(410, "Expired"), 410)
    async with fake_api(first, expired, first, says(listed("1", config_map("b")))) as api, api.cluster() as cluster:
        found = await cluster.list(ConfigMap, {"tesk/task": None})
        assert [one.metadata.name for one in found if one.metadata] == ["a", "b"]
        assert [asked.query.get("continue") for asked in api.asked] == [None, "here", None, "here"]


async def test_list_without_items_is_empty() -> None:
    async with fake_api(says({"metadata": {"resourceVersion": "1"}, "items": None})) as api, api.cluster() as cluster:
        assert await cluster.list(ConfigMap, {"tesk/task": None}) == []
        assert await cluster.delete_all(ConfigMap, {"tesk/task": None}) == 0


async def test_answer_that_is_no_object_is_an_error_with_a_sentence() -> None:
    async with fake_api(says({"metadata": "odd"})) as api, api.cluster() as cluster:
        with pytest.raises(Unreachable, match="cannot read"):
            await cluster.get(ConfigMap, "one")


async def test_deleting_everything_needs_labels() -> None:
    async with fake_api(breaks) as api, api.cluster() as cluster:
        with pytest.raises(ValueError, match="labels"):
            await cluster.delete_all(ConfigMap, {})


async def test_log_of_no_pod_is_gone() -> None:
    async with fake_api(says(status(404, "NotFound"), 404)) as api, api.cluster() as cluster:
        with pytest.raises(Gone):
            await anext(cluster.log("one", "main"))


async def test_renewed_token_is_read_again_by_calls_and_watches(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("old\n")

    async def guarded(asked: Asked, reply: Reply) -> None:
        if asked.headers.get("authorization") != f"Bearer {good}":
            await reply.send(status(401, "Unauthorized"), 401)
        else:
            await reply.send(config_map("one"))

    async with fake_api(guarded) as api:
        user = models.User(token_file=str(token))
        config = SingleConfig("pod", models.Context("pod", "pod", "here"), models.Cluster(api.url), user)
        async with Cluster(open_client(config), "here", Pace(1000.0, 1000)) as cluster:
            good = "old"
            assert await cluster.get(ConfigMap, "one") is not None
            good = "new"
            token.write_text("new\n")
            assert await cluster.get(ConfigMap, "one") is not None
            assert len(api.asked) == 3
            good = "newer"
            token.write_text("newer\n")
            assert [block async for block in cluster.log("one", "main")]


async def test_token_that_comes_late_is_waited_for(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("old")

    async def guarded(asked: Asked, reply: Reply) -> None:
        token.write_text("new")
        good = asked.headers.get("authorization") == "Bearer new" and len(api.asked) > 4
        await reply.send(config_map("one") if good else status(401, "Unauthorized"), 200 if good else 401)

    async with fake_api(guarded) as api:
        config = SingleConfig("pod", models.Context("pod"), models.Cluster(api.url), models.User(token_file=str(token)))
        async with Cluster(open_client(config), "here", Pace(1000.0, 1000)) as cluster:
            assert await cluster.get(ConfigMap, "one") is not None


async def test_rights_that_lack_are_named() -> None:
    async def only_jobs(asked: Asked, reply: Reply) -> None:
        wanted = asked.body["spec"]["resourceAttributes"]
        await reply.send({**asked.body, "status": {"allowed": wanted["resource"] == "jobs"}}, 201)

    async with fake_api(only_jobs) as api, api.cluster() as cluster:
        asked = [
            Right("create", "batch", "jobs"),
            Right("get", "", "pods", "log"),
            Right("list", "apps", "deployments"),
        ]
        missing = await missing_rights(cluster, asked)
        assert [str(right) for right in missing] == ["get pods/log", "list deployments.apps"]


async def test_all_calls_share_one_budget_of_requests() -> None:
    async with fake_api(says(config_map("one"))) as api:
        client = httpx2.AsyncClient(base_url=api.url, trust_env=False)
        async with Cluster(client, "here", Pace(20.0, 2)) as cluster:
            began = time.monotonic()
            await asyncio.gather(*(cluster.get(ConfigMap, "one") for _ in range(8)))
            assert 0.3 <= time.monotonic() - began < 1.0


@pytest.mark.parametrize(
    ("kind", "name", "path"),
    [
        (Job, "one", "/apis/batch/v1/namespaces/here/jobs/one"),
        (Pod, None, "/api/v1/namespaces/here/pods"),
        (Node, None, "/api/v1/nodes"),
    ],
)
def test_paths_are_those_of_the_kubernetes_api(kind: Any, name: str | None, path: str) -> None:
    assert path_of(kind, "here", name) == path
