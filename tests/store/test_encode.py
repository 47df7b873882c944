"""What of a task and of a report is kept, and how it is written."""

from __future__ import annotations

import json
from typing import Any

from tests.store.tasks import CREATED

from tesk.plan.model import Delivery, ExecutorPlan, Plan, Transfer
from tesk.store import encode_log, encode_task, noted_log
from tesk.store.encode import encode_json
from tesk.taskmaster.report import ExecutorEnd, OutputFile, Report
from tesk.tes.models import TesTask
from tesk.tes.states import State

PLAN = Plan(executors=(ExecutorPlan("i", ("c",)),))


def kept(sent: dict[str, Any], plan: Plan = PLAN) -> dict[str, Any]:
    """The FULL view of what is kept of a task."""
    task = encode_task(TesTask.model_validate_json(json.dumps(sent)), id="t", creation_time=CREATED, plan=plan)
    found: dict[str, Any] = json.loads(task.full or task.basic)
    return found


def test_only_what_the_client_sent_is_kept() -> None:
    sent = {
        "name": "ä\u0000",
        "executors": [{"image": "i", "command": ["c", ""], "env": {"A": ""}}],
        "resources": {"cpu_cores": 2, "ram_gb": 0.5, "preemptible": False},
        "tags": {"a": ""},
        "volumes": [],
    }
    assert kept(sent) == {**sent, "creation_time": CREATED}


def test_nulls_and_what_is_the_servers_are_left_out() -> None:
    sent: dict[str, Any] = {
        "id": "mine",
        "state": "COMPLETE",
        "logs": [],
        "creation_time": "1999-01-01T00:00:00Z",
        "description": None,
        "tags": {"parent": None, "a": "b"},
        "executors": [{"image": "i", "command": ["c"], "workdir": None}],
    }
    assert kept(sent) == {
        "executors": [{"image": "i", "command": ["c"]}],
        "tags": {"a": "b"},
        "creation_time": CREATED,
    }


def test_types_are_filled_in_from_the_plan_or_as_file() -> None:
    sent = {
        "executors": [{"image": "i", "command": ["c"]}],
        "inputs": [
            {"path": "/in/said", "url": "s3://b/said", "type": "DIRECTORY"},
            {"path": "/in/planned/", "url": "s3://b/planned/"},
            {"path": "/in/plain", "content": "x"},
        ],
        "outputs": [
            {"path": "/out/said", "url": "s3://b/o1", "type": "DIRECTORY"},
            {"path": "/out/unknown", "url": "s3://b/o2"},
            {"path": "/out/*.txt", "path_prefix": "/out", "url": "s3://b/o3"},
        ],
    }
    plan = Plan(
        executors=PLAN.executors,
        inputs=(Transfer("/in/planned", "DIRECTORY", url="s3://b/planned/"),),
        outputs=(Delivery("/out/unknown", "s3://b/o2", type=None),),
    )
    found = kept(sent, plan)
    assert [one["type"] for one in found["inputs"]] == ["DIRECTORY", "DIRECTORY", "FILE"]
    assert [one["type"] for one in found["outputs"]] == ["DIRECTORY", "FILE", "FILE"]


def test_basic_leaves_out_content_and_full_is_kept_only_where_it_differs() -> None:
    sent = {
        "executors": [{"image": "i", "command": ["c"], "stdout": "/out", "stderr": "/err"}],
        "inputs": [{"path": "/a", "content": "x"}],
    }
    task = encode_task(TesTask.model_validate(sent), id="t", creation_time=CREATED, plan=PLAN)
    assert task.full is not None
    assert json.loads(task.basic)["inputs"] == [{"path": "/a", "type": "FILE"}]
    assert json.loads(task.basic)["executors"] == sent["executors"]
    del sent["inputs"]
    task = encode_task(TesTask.model_validate(sent), id="t", creation_time=CREATED, plan=PLAN)
    assert task.full is None
    assert (task.id, task.name, task.creation_time, task.plan) == ("t", None, CREATED, PLAN.to_json().encode())


def test_a_plans_notes_are_the_tasks_notes() -> None:
    task = TesTask.model_validate({"executors": [{"image": "i", "command": ["c"]}]})
    plan = Plan(executors=PLAN.executors, notes=("from the plan",))
    assert encode_task(task, id="t", creation_time=CREATED, plan=plan).notes == ("from the plan",)
    assert encode_task(task, id="t", creation_time=CREATED, plan=plan, notes=["x"]).notes == ("x",)


def test_a_report_becomes_a_task_log_in_both_views() -> None:
    report = Report(
        state=State.EXECUTOR_ERROR,
        start_time="2026-01-01T00:00:00Z",
        end_time="2026-01-01T00:00:09Z",
        executors=(ExecutorEnd("2026-01-01T00:00:01Z", "2026-01-01T00:00:02Z", 3, "out\x00", "ärr"),),
        outputs=(OutputFile("s3://b/o", "/o", 2**40),),
        system_logs=("from the report",),
        metadata={"engine": "sandbox"},
    )
    log = encode_log(report, ["a note"])
    common = {
        "metadata": {"engine": "sandbox"},
        "start_time": "2026-01-01T00:00:00Z",
        "end_time": "2026-01-01T00:00:09Z",
        "outputs": [{"url": "s3://b/o", "path": "/o", "size_bytes": "1099511627776"}],
    }
    executor = {"start_time": "2026-01-01T00:00:01Z", "end_time": "2026-01-01T00:00:02Z", "exit_code": 3}
    assert log.full is not None
    assert json.loads(log.basic) == {**common, "logs": [executor]}
    assert json.loads(log.full) == {
        **common,
        "logs": [{**executor, "stdout": "out\x00", "stderr": "ärr"}],
        "system_logs": ["a note", "from the report"],
    }


def test_a_report_of_nothing_has_the_required_lists_and_no_nulls() -> None:
    log = encode_log(Report(State.INITIALIZING))
    assert json.loads(log.basic) == {"logs": [], "outputs": []}
    assert log.full is None


def test_sentences_are_added_to_what_is_known_of_an_attempt() -> None:
    stored = encode_log(Report(State.RUNNING, start_time="2026-01-01T00:00:00Z"), ["a note"])
    noted = noted_log(stored.full, ["it was lost"], end_time=CREATED)
    assert noted.full is not None
    assert json.loads(noted.full) == {
        "logs": [],
        "start_time": "2026-01-01T00:00:00Z",
        "end_time": CREATED,
        "outputs": [],
        "system_logs": ["a note", "it was lost"],
    }
    assert "system_logs" not in json.loads(noted.basic)
    assert json.loads(noted_log(None, ["x"], end_time=CREATED).basic) == {
        "logs": [],
        "outputs": [],
        "end_time": CREATED,
    }


def test_a_file_name_that_is_not_utf8_can_be_told() -> None:
    assert encode_json({"path": b"/out/\xff\xe4.txt".decode("utf-8", "surrogateescape")}) == b'{"path":"/out/??.txt"}'
