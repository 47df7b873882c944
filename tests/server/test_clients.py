"""What each real client needs of the server: the table "cross-client contract", as far as HTTP holds it."""

from __future__ import annotations

import re

import pytest

from tesk.store import Change, encode_log
from tesk.taskmaster.report import OutputFile, Report
from tesk.taskmaster.steps import Usage
from tesk.tes.states import State

from .conftest import TASK, Api

PREFIXES = ["/ga4gh/tes/v1", "/v1", ""]


@pytest.mark.parametrize("prefix", PREFIXES)
async def test_py_tes_finds_the_same_api_under_each_prefix(api: Api, prefix: str):
    info = await api.http.get(f"{prefix}/service-info")
    assert info.json()["type"] == {"group": "org.ga4gh", "artifact": "tes", "version": "1.1.0"}
    created = await api.http.post(f"{prefix}/tasks", json=TASK)
    task_id = created.json()["id"]
    assert (await api.http.get(f"{prefix}/tasks/{task_id}")).json() == {"id": task_id, "state": "QUEUED"}
    assert (await api.http.get(f"{prefix}/tasks")).json() == {"tasks": [{"id": task_id, "state": "QUEUED"}]}
    assert (await api.http.post(f"{prefix}/tasks/{task_id}:cancel")).json() == {}
    assert (await api.get(task_id, "MINIMAL"))["state"] == "CANCELING"


@pytest.mark.parametrize("prefix", PREFIXES)
async def test_toil_gets_the_old_service_info_with_no_other_key(api: Api, prefix: str):
    answer = await api.http.get(f"{prefix}/tasks/service-info")
    assert answer.status_code == 200
    assert set(answer.json()) == {"name", "doc", "storage"}
    assert "file:///data" in answer.json()["storage"]


async def test_snakemake_and_toil_send_none_none_as_basic_auth(api: Api):
    for authorization in ("Basic Tm9uZTpOb25l", "Bearer x", "nonsense"):
        answer = await api.http.post("/v1/tasks", json=TASK, headers={"Authorization": authorization})
        assert answer.status_code == 200


async def test_py_tes_takes_no_key_but_id_from_create(api: Api):
    answer = await api.http.post("/v1/tasks", json=TASK)
    assert list(answer.json()) == ["id"]
    assert re.fullmatch(r"[a-z][a-z0-9-]{0,62}", answer.json()["id"])


async def test_py_tes_is_shown_no_field_that_it_did_not_send(api: Api):
    sent = {
        "name": "n",
        "inputs": [{"url": "file:///data/a", "path": "/in/a"}],
        "outputs": [{"url": "file:///data/b", "path": "/out/b"}],
        "resources": {"cpu_cores": 1, "ram_gb": 0.5},
        "executors": [{"image": "ubuntu", "command": ["true"], "env": {"A": "b"}}],
    }
    task_id = (await api.http.post("/v1/tasks", json=sent)).json()["id"]
    shown = await api.get(task_id)
    assert shown.pop("id") == task_id
    assert shown.pop("state") == "QUEUED"
    assert shown.pop("creation_time")
    assert shown.pop("logs", []) == []
    # tes (Rust) cannot read a file without its type
    assert shown["inputs"][0].pop("type") == "FILE"
    assert shown["outputs"][0].pop("type") == "FILE"
    assert shown == sent
    assert type(shown["resources"]["cpu_cores"]) is int


async def test_pydantic_tes_and_cromwell_send_null_for_what_is_not_set(api: Api):
    task_id = await api.create(
        id=None,
        state=None,
        inputs=None,
        outputs=None,
        volumes=None,
        logs=None,
        creation_time=None,
        tags={"workflow_id": "w", "parent_workflow_id": None},
        resources={"cpu_cores": None, "backend_parameters": {"missing_outputs": None, "other": None}},
    )
    shown = await api.get(task_id)
    assert shown["tags"] == {"workflow_id": "w"}
    assert "null" not in str(shown).lower().replace("none", "null")


async def test_rust_clients_need_times_with_a_zone(api: Api):
    shown = await api.get(await api.create())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", shown["creation_time"])


async def test_rust_clients_need_both_lists_in_every_log(api: Api):
    task_id = await api.create(resources={"backend_parameters": {"unheard_of": "x"}})
    for shown in (await api.get(task_id), await api.get(task_id, "BASIC")):
        assert all(log["logs"] == log["outputs"] == [] for log in shown["logs"])
    await api.finish(task_id)
    (log,) = (await api.get(task_id))["logs"]
    assert log["logs"][0]["exit_code"] == 0
    assert log["outputs"][0]["size_bytes"] == "5"


async def test_py_tes_waits_from_queued(api: Api):
    assert (await api.get(await api.create(), "MINIMAL"))["state"] == "QUEUED"


CANCELS = {
    "Cromwell": {},
    "Nextflow and py-tes": {"headers": {"Content-Type": "application/json"}, "content": b""},
    "crankshaft": {"headers": {"Content-Type": "application/json"}, "content": b"null"},
    "Funnel": {"headers": {"Content-Type": "application/json"}, "content": b"{}"},
    "anything": {"content": b"\xff[not json"},
    "the web component": {"method": "DELETE"},
    "encoded": {"colon": "%3Acancel"},
    "encoded in lower case": {"colon": "%3acancel"},
}


@pytest.mark.parametrize("client", CANCELS)
async def test_every_clients_cancel_is_understood(api: Api, client: str):
    request = {"method": "POST", "colon": ":cancel", **CANCELS[client]}
    task_id = await api.create()
    url = f"/v1/tasks/{task_id}{request.pop('colon')}"
    answer = await api.http.request(url=url, **request)
    assert answer.status_code == 200
    assert answer.json() == {}
    assert answer.headers["content-type"] == "application/json"
    assert (await api.get(task_id, "MINIMAL"))["state"] == "CANCELING"


@pytest.mark.parametrize("state", [State.COMPLETE, State.EXECUTOR_ERROR, State.SYSTEM_ERROR])
async def test_crankshaft_may_cancel_what_has_ended_again_and_again(api: Api, state: State):
    task_id = await api.create()
    await api.finish(task_id, state)
    for _ in range(2):
        answer = await api.http.post(f"/v1/tasks/{task_id}:cancel", content=b"null")
        assert (answer.status_code, answer.json()) == (200, {})
    assert (await api.get(task_id, "MINIMAL"))["state"] == state


async def test_crankshaft_lists_its_group_with_ended_tasks(api: Api):
    mine = [await api.create(tags={"crankshaft-task-group": "g-1-2"}) for _ in range(3)]
    await api.create(tags={"crankshaft-task-group": "g-1-20"})
    await api.finish(mine[0])
    answer = await api.http.get("/tasks?tag_key=crankshaft-task-group&tag_value=g-1-2&page_size=2047&view=MINIMAL")
    assert {one["id"] for one in answer.json()["tasks"]} == set(mine)
    assert "next_page_token" not in answer.json()


async def test_the_web_component_leaves_an_ampersand_and_empty_filters(api: Api):
    task_id = await api.create()
    answer = await api.http.get("/tasks?page_size=5&view=MINIMAL&name_prefix=&page_token=&")
    assert answer.json() == {"tasks": [{"id": task_id, "state": "QUEUED"}]}
    assert (await api.http.get("/service-info?")).status_code == 200


async def test_nextflow_polls_without_a_view_and_reads_two_fields(api: Api):
    task_id = await api.create(name="n")
    answer = await api.http.get(f"/v1/tasks/{task_id}", headers={"Content-Type": "application/json"})
    assert answer.json() == {"id": task_id, "state": "QUEUED"}


async def test_akka_and_gson_take_results_as_application_json_alone(api: Api):
    task_id = await api.create()
    for path in ("/service-info", "/tasks/service-info", "/tasks", f"/tasks/{task_id}"):
        assert (await api.http.get(path)).headers["content-type"] == "application/json"
    assert (await api.http.post("/tasks", json=TASK)).headers["content-type"] == "application/json"


async def test_service_info_names_storage_and_parameters(api: Api):
    info = (await api.http.get("/service-info")).json()
    assert info["id"] == "org.lab.tesk"
    assert info["organization"].keys() == {"name", "url"}
    assert info["version"]
    assert {"file:///data", "s3://", "https://"} <= set(info["storage"])
    assert info["tesResources_backend_parameters"] == ["executor_retries", "max_runtime", "missing_outputs"]
    assert "contactUrl" not in info


async def test_a_parameter_that_is_not_supported_is_neither_stored_nor_returned(api: Api):
    parameters = {"Missing_Outputs": "warn", "vm_size": "big"}
    task_id = await api.create(resources={"backend_parameters": parameters})
    shown = await api.get(task_id)
    assert shown["resources"]["backend_parameters"] == {"Missing_Outputs": "warn"}
    assert "vm_size" in shown["logs"][0]["system_logs"][0]


async def test_a_field_that_tes_does_not_know_is_taken_out_and_named(api: Api):
    task_id = await api.create(gpu=1, inputs=[{"path": "/in", "content": "x", "checksum": "y"}])
    shown = await api.get(task_id)
    assert "gpu" not in shown
    assert "checksum" not in shown["inputs"][0]
    notes = " ".join(shown["logs"][0]["system_logs"])
    assert "'gpu'" in notes
    assert "'inputs[0].checksum'" in notes


async def test_create_stands_when_the_controller_does_not_work(api: Api):
    api.controller.healthy = False
    await api.create()
    assert await api.stored() == 1


async def test_cromwell_is_shown_no_size_that_it_cannot_read(api: Api):
    task_id = await api.create()
    sizes = [5, 2**31 - 1, 2**31, 10**13]
    report = Report(
        State.COMPLETE, outputs=tuple(OutputFile(f"file:///data/{size}", f"/{size}", size) for size in sizes)
    )
    await api.store.apply([Change(task_id, 1, State.COMPLETE, encode_log(report))])
    cromwell = {"User-Agent": "akka-http/10.2.10"}
    url = f"/v1/tasks/{task_id}?view=FULL"
    (log,) = (await api.http.get(url, headers=cromwell)).json()["logs"]
    assert [one.get("size_bytes") for one in log["outputs"]] == ["5", str(2**31 - 1), None, None]
    assert [one["path"] for one in log["outputs"]] == [f"/{size}" for size in sizes]
    (log,) = (await api.get(task_id))["logs"]
    assert [one["size_bytes"] for one in log["outputs"]] == [str(size) for size in sizes]


async def test_crankshaft_reads_what_a_task_used_in_the_basic_view(api: Api):
    task_id = await api.create()
    report = Report(State.COMPLETE, metadata=Usage(10, 2, 1).metadata())
    await api.store.apply([Change(task_id, 1, State.COMPLETE, encode_log(report))])
    (log,) = (await api.get(task_id, "BASIC"))["logs"]
    assert log["metadata"]["peak_memory_bytes"] == "10"
    assert log["metadata"]["cpu_time_ms"] == "3"
