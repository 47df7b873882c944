"""The recorded requests of clients that no package index has, byte for byte in what matters, against a whole server.

Their URLs are moved below the server's files; nothing else is changed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.behaviour.sites import Site

from .conftest import NewSite

DATA = Path(__file__).parents[1] / "data" / "clients"
JSON = {"Content-Type": "application/json"}
ENDED = ("COMPLETE", "EXECUTOR_ERROR", "SYSTEM_ERROR", "CANCELED")


@pytest.fixture(scope="module")
def site(new_site: NewSite) -> Site:
    """One server for these tests."""
    return new_site()


@pytest.fixture
def http(site: Site) -> Iterator[httpx.Client]:
    """A connection that adds no header of its own but those of HTTP."""
    with httpx.Client(base_url=site.url, timeout=10) as client:
        del client.headers["accept"], client.headers["accept-encoding"], client.headers["user-agent"]
        yield client


def recorded(name: str, site: Site, *moves: tuple[str, str]) -> dict[str, Any]:
    """The recorded task, with the first of each pair in it replaced by the second, below the server's files."""
    text = (DATA / f"{name}.json").read_text()
    for old, new in moves:
        assert old in text
        text = text.replace(old, new.format(files=site.files))
    return dict(json.loads(text))


def write(path: str, text: str) -> Path:
    """The file, with the directories above it."""
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def poll(http: httpx.Client, url: str, **params: Any) -> dict[str, Any]:
    """The task once it has ended, asked for as this client asks."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        answer = http.get(url, **params)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "application/json"
        if answer.json()["state"] in ENDED:
            return dict(answer.json())
        time.sleep(0.05)
    raise AssertionError(f"{url} has not ended")


# Cromwell: `endpoint` is the whole .../v1/tasks; akka-http refuses what is not application/json.

CROMWELL_SCRIPT = """#!/bin/bash
cd {execution}
tmpDir=$(mktemp -d "{execution}/tmp.XXXXXX")
mkfifo "$tmpDir/out" "$tmpDir/err"
tee '{execution}/stdout' < "$tmpDir/out" &
tee '{execution}/stderr' < "$tmpDir/err" >&2 &
(
{command}
) > "$tmpDir/out" 2> "$tmpDir/err"
echo $? > {execution}/rc.tmp
wait
{after}
mv {execution}/rc.tmp {execution}/rc
"""


def cromwell(site: Site, name: str, command: str, after: str = "") -> tuple[dict[str, Any], Path]:
    """The recorded task, and its execution directory on the shared file system, with the script in it."""
    task = recorded(name, site, ('"/data/', '"{files}/data/'))
    script = Path(task["executors"][0]["command"][1])
    text = CROMWELL_SCRIPT.format(execution=script.parent, command=command, after=after)
    write(str(script), text)
    return task, script.parent


def test_cromwell_runs_its_script_and_reads_rc_and_both_streams_from_files(site: Site, http: httpx.Client):
    task, execution = cromwell(site, "cromwell-1-hello", "echo hello; echo trouble >&2; false")
    created = http.post("/v1/tasks", json=task, headers={"Accept": "*/*"})
    assert created.json().keys() == {"id"}
    shown = poll(http, f"/v1/tasks/{created.json()['id']}?view=FULL")
    assert shown["state"] == "COMPLETE", shown["logs"]
    assert (execution / "rc").read_text() == "1\n"
    assert (execution / "stdout").read_text() == "hello\n"
    assert (execution / "stderr").read_text() == "trouble\n"
    assert shown["tags"] == {key: value for key, value in task["tags"].items() if value is not None}
    assert "internal_path_prefix" in " ".join(shown["logs"][0]["system_logs"])
    assert all(isinstance(one, str) for one in shown["logs"][0].get("metadata", {}).values())
    assert shown["logs"][0]["end_time"].endswith("Z")


GLOB = "glob-92c32533196901dff1ff1c2ac9d68d33"


@pytest.fixture(scope="module")
def gathered(site: Site) -> tuple[dict[str, Any], Path]:
    """The recorded task with a glob at its end, and its execution directory."""
    task, execution = cromwell(
        site,
        "cromwell-2-gather-glob",
        "cat ../../call-CountLines/shard-*/execution/count.txt > total.txt; cp total.txt report.txt",
        f"mkdir {GLOB}; (ln *.txt {GLOB}/ 2>/dev/null || cp *.txt {GLOB}/); ls -1 {GLOB} > {GLOB}.list",
    )
    for one in task["inputs"][:-1]:
        write(one["url"], "3\n")
    with httpx.Client(base_url=site.url) as client:
        task_id = client.post("/v1/tasks", json=task).json()["id"]
        return poll(client, f"/v1/tasks/{task_id}?view=FULL"), execution


def test_cromwell_gathers_its_shards_and_lists_its_globs(gathered: tuple[dict[str, Any], Path]):
    shown, execution = gathered
    assert shown["state"] == "COMPLETE", shown["logs"]
    assert (execution / f"{GLOB}.list").read_text() == "report.txt\ntotal.txt\n"
    assert (execution / GLOB / "total.txt").read_text() == "3\n3\n3\n"


def test_cromwell_makes_its_glob_directories_itself(gathered: tuple[dict[str, Any], Path]):
    shown, _ = gathered
    assert shown["logs"][0]["logs"][0]["stderr"] == ""


def test_cromwell_cancels_with_an_empty_body_and_gets_an_object(site: Site, http: httpx.Client):
    task, _ = cromwell(site, "cromwell-1-hello", "sleep 97321")
    task_id = http.post("/v1/tasks", json=task).json()["id"]
    site.wait(task_id, "RUNNING")
    answer = http.post(f"/v1/tasks/{task_id}:cancel")
    assert "content-type" not in answer.request.headers
    assert (answer.status_code, answer.json()) == (200, {})
    assert answer.headers["content-type"] == "application/json"
    assert poll(http, f"/v1/tasks/{task_id}?view=MINIMAL") == {"id": task_id, "state": "CANCELED"}


# Nextflow: no view while it polls, Content-Type on GET too.


def nextflow(site: Site, script: str) -> tuple[dict[str, Any], Path]:
    """The recorded task and its work directory, with the wrapper that Nextflow puts there."""
    task = recorded("nf-ga4gh-task", site, ('"/shared/', '"{files}/shared/'))
    work = Path(task["inputs"][0]["url"]).parent
    write(f"{work}/.command.sh", script)
    wrapper = "cd /work; bash .command.sh > >(tee .command.out) 2> >(tee .command.err >&2); r=$?; sleep .2; exit $r"
    write(f"{work}/.command.run", wrapper)
    write(task["inputs"][2]["url"], "one\ntwo\n")
    return task, work


@pytest.fixture
def lenient(new_site: NewSite) -> Iterator[tuple[Site, httpx.Client]]:
    """A server as docs/api.md has it for Nextflow: a missing output is no failure."""
    site = new_site(TESK_TASKS_MISSING_OUTPUTS="warn")
    with httpx.Client(base_url=site.url, headers=JSON) as client:
        yield site, client


def test_nextflow_polls_without_a_view_and_finds_its_files_by_then(lenient: tuple[Site, httpx.Client]):
    site, http = lenient
    task, work = nextflow(site, "wc -l < b.txt > b.count; echo hello; echo no >&2")
    task_id = http.post("/v1/tasks", json=task).json()["id"]
    assert poll(http, f"/v1/tasks/{task_id}") == {"id": task_id, "state": "COMPLETE"}
    assert (work / "b.count").read_text() == "2\n"
    assert (work / ".command.out").read_text() == "hello\n"
    assert (work / ".command.err").read_text() == "no\n"
    assert sorted((work / ".command.log").read_text().split()) == ["hello", "no"]
    full = http.get(f"/v1/tasks/{task_id}?view=FULL").json()
    assert [one["type"] for one in full["outputs"]] == ["FILE"] * 5
    assert any(".exitcode" in one for one in full["logs"][0]["system_logs"])


def test_nextflow_reads_the_exit_code_of_the_first_log_and_its_files_after_a_failure(
    lenient: tuple[Site, httpx.Client],
):
    site, http = lenient
    task, work = nextflow(site, "echo before; exit 9")
    task_id = http.post("/v1/tasks", json=task).json()["id"]
    assert poll(http, f"/v1/tasks/{task_id}")["state"] == "EXECUTOR_ERROR"
    assert http.get(f"/v1/tasks/{task_id}?view=FULL").json()["logs"][0]["logs"][0]["exit_code"] == 9
    assert (work / ".command.out").read_text() == "before\n"


def test_nextflow_asks_for_service_info_without_a_prefix_and_cancels_with_no_length(site: Site, http: httpx.Client):
    assert http.get("/service-info", headers=JSON).json()["type"]["artifact"] == "tes"
    task_id = http.post("/v1/tasks", json=site.task("sleep", "97331")).json()["id"]
    answer = http.post(f"/v1/tasks/{task_id}:cancel", headers=JSON, content=b"")
    assert answer.request.headers["content-length"] == "0"
    assert answer.json() == {}
    assert poll(http, f"/v1/tasks/{task_id}", headers=JSON)["state"] == "CANCELED"


# The WDL engine in Rust (crankshaft): a group's list each second, one FULL at the end.


def crankshaft(site: Site, command: str, n: int) -> tuple[dict[str, Any], Path]:
    """The recorded task, with its bucket below the server's files, and the directory that its outputs go to."""
    task = recorded("wdl-engine-task", site, ('"s3://bucket/', f'"file://{{files}}/bucket{n}/'))
    task["inputs"][0]["content"] = command
    task["tags"]["crankshaft-task-group"] += str(n)
    write(task["inputs"][1]["url"].removeprefix("file://"), "one\ntwo\n")
    return task, Path(task["outputs"][0]["url"].removeprefix("file://")).parent


@pytest.mark.parametrize("exit_code", [0, 5])
def test_crankshaft_polls_its_group_and_reads_the_work_directory_after_any_exit_code(
    site: Site, http: httpx.Client, exit_code: int
):
    task, outputs = crankshaft(
        site, f"mkdir sub; wc -l < /mnt/task/inputs/4/a.txt > sub/n; exit {exit_code}", exit_code
    )
    task_id = http.post("/ga4gh/tes/v1/tasks", json=task).json()["id"]
    group = {"tag_key": "crankshaft-task-group", "tag_value": task["tags"]["crankshaft-task-group"]}
    query = {**group, "page_size": 2047, "view": "MINIMAL"}
    end = time.monotonic() + 30
    while True:
        page = http.get("/ga4gh/tes/v1/tasks", params=query).json()
        (only,) = page["tasks"]
        assert not page.get("next_page_token")
        if only["state"] in ENDED:
            break
        assert time.monotonic() < end
        time.sleep(0.05)
    assert only == {"id": task_id, "state": "COMPLETE"}
    shown = http.get(f"/ga4gh/tes/v1/tasks/{task_id}?view=FULL").json()
    assert [one["exit_code"] for one in shown["logs"][-1]["logs"]] == [exit_code]
    assert (outputs / "work" / "sub" / "n").read_text() == "2\n"
    assert (outputs / "stdout").read_text() == ""


def test_crankshaft_cancels_with_null_and_again_when_it_is_over(site: Site, http: httpx.Client):
    task, _ = crankshaft(site, "sleep 97341", 9)
    task_id = http.post("/v1/tasks", json=task).json()["id"]
    for state in ("RUNNING", "CANCELED"):
        site.wait(task_id, state)
        answer = http.post(f"/v1/tasks/{task_id}:cancel", headers=JSON, content=b"null")
        assert (answer.status_code, answer.json()) == (200, {})
    (log,) = http.get(f"/v1/tasks/{task_id}?view=FULL").json()["logs"]
    assert log["outputs"] == []
    assert all(isinstance(one["exit_code"], int) for one in log["logs"])


# Clients that are not recorded, but described.


def test_cwl_tes_sends_one_directory_twice_with_a_slash_and_half_a_core_s_memory(site: Site, http: httpx.Client):
    tree = f"file://{site.files}/tmpXXXX/"
    task = {
        "name": "echo",
        "inputs": [{"path": "/var/lib/cwl/stg5f/in.txt", "content": "text", "type": "FILE"}],
        "outputs": [
            {"path": "/krzjDP/out.txt", "url": f"{tree}out.txt", "type": "FILE"},
            {"path": "/krzjDP", "url": tree, "type": "DIRECTORY"},
            {"path": "/krzjDP", "url": tree, "type": "DIRECTORY"},
        ],
        "executors": [{"image": "a", "command": ["sh", "-c", "cat /var/lib/cwl/stg5f/in.txt; pwd > $HOME/where"],
                       "workdir": "/krzjDP", "stdout": "/krzjDP/out.txt",
                       "env": {"HOME": "/krzjDP", "TMPDIR": "/tmp"}}],
        "resources": {"cpu_cores": 1, "ram_gb": 0.268435456, "disk_gb": 1.024},
        "tags": {"CWLDocumentId": "file:///x.cwl"},
    }  # fmt: skip
    task_id = http.post("/ga4gh/tes/v1/tasks", json=task).json()["id"]
    assert poll(http, f"/ga4gh/tes/v1/tasks/{task_id}?view=MINIMAL")["state"] == "COMPLETE"
    assert (site.files / "tmpXXXX" / "out.txt").read_text() == "text"
    assert (site.files / "tmpXXXX" / "where").read_text() == "/krzjDP\n"


def test_snakemake_gets_a_private_tmp_that_is_empty_each_time(site: Site, http: httpx.Client):
    headers = {**JSON, "Authorization": "Basic Tm9uZTpOb25l"}
    task = {
        "name": "snakejob.all.1.sh",
        "description": "",
        "inputs": [{"path": "/tmp/run_snakemake.sh", "content": "mkdir /tmp/conda && ls /tmp", "type": "FILE"}],
        "outputs": [],
        "executors": [{"image": "a", "command": ["/bin/bash", "/tmp/run_snakemake.sh"], "workdir": "/tmp"}],
        "resources": {"cpu_cores": 1, "ram_gb": 1, "disk_gb": 1},
    }
    for _ in range(2):
        task_id = http.post("/v1/tasks", json=task, headers=headers).json()["id"]
        assert poll(http, f"/v1/tasks/{task_id}?view=MINIMAL", headers=headers)["state"] == "COMPLETE"
        shown = http.get(f"/v1/tasks/{task_id}?view=FULL", headers=headers).json()
        assert shown["logs"][0]["logs"][0]["stdout"] == "conda\nrun_snakemake.sh\n"


def test_the_web_components_list_with_a_trailing_ampersand_and_cancel_by_delete(site: Site, http: httpx.Client):
    task_id = http.post("/v1/tasks", json=site.task("sleep", "97351", name="of the web")).json()["id"]
    listed = http.get("/tasks?page_size=5&view=BASIC&name_prefix=of the&").json()["tasks"]
    assert [one["id"] for one in listed] == [task_id]
    assert http.get(f"/tasks/{task_id}?view=FULL").json()["name"] == "of the web"
    assert http.delete(f"/tasks/{task_id}:cancel").json() == {}
    assert poll(http, f"/tasks/{task_id}")["state"] == "CANCELED"
