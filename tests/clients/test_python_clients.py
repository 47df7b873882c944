"""py-tes (the official client: snakemake and Toil use 0.4.2, cwl-tes 1.1.4) and pydantic-tes (Galaxy), as they are.

Their models are strict: a key that they do not know, a null or a number of another type fails a call.
"""

from __future__ import annotations

import pytest

from .conftest import Refused, Speaker, Start

pytestmark = pytest.mark.slow  # installs the clients

TRUE = {"executors": [{"image": "a", "command": ["true"]}]}
OLD, NEW, PYDANTIC = "py-tes-0.4.2", "py-tes-1.1.4", "pydantic-tes-0.4.0"


@pytest.fixture(params=[OLD, NEW, PYDANTIC])
def client(request: pytest.FixtureRequest, start: Start) -> Speaker:
    """One client after the other."""
    return start(request.param, "speak_pydantic_tes.py" if request.param == PYDANTIC else "speak_py_tes.py")


@pytest.fixture(params=[OLD, NEW])
def py_tes(request: pytest.FixtureRequest, start: Start) -> Speaker:
    """One py-tes after the other."""
    return start(request.param, "speak_py_tes.py")


@pytest.fixture
def old(start: Start) -> Speaker:
    """py-tes 0.4.2."""
    return start(OLD, "speak_py_tes.py")


@pytest.fixture
def new(start: Start) -> Speaker:
    """py-tes 1.1.4."""
    return start(NEW, "speak_py_tes.py")


@pytest.fixture
def pydantic_tes(start: Start) -> Speaker:
    """pydantic-tes."""
    return start(PYDANTIC, "speak_pydantic_tes.py")


ONLY_IN_TES_1_1 = {
    "inputs": ["streamable"],
    "outputs": ["path_prefix"],
    "resources": ["backend_parameters", "backend_parameters_strict"],
    "executors": ["ignore_error"],
}
"""Fields that py-tes 0.4.2 cannot send. pydantic-tes knows some of them, of a draft."""


def every_field(client: Speaker) -> dict:
    """A task with every field that the client knows, which runs to its end."""
    files = client.site.files / client.name
    files.mkdir(exist_ok=True)
    (files / "in").write_text("three\nlines\nhere\n")
    (files / "tree").mkdir(exist_ok=True)
    task = {
        "name": f"all of {client.name}",
        "description": "every field",
        "inputs": [
            {"name": "in", "description": "d", "url": f"file://{files}/in", "path": "/data/in", "type": "FILE",
             "streamable": False},
            {"name": "text", "content": "by content", "path": "/data/text", "type": "FILE"},
            {"url": f"{files}/tree", "path": "/data/tree", "type": "DIRECTORY"},
        ],
        "outputs": [
            {"name": "out", "description": "d", "url": f"file://{files}/out", "path": "/out/count", "type": "FILE"},
            {"url": f"{files}/each", "path": "/out/*.txt", "path_prefix": "/out", "type": "FILE"},
            {"url": f"file://{files}/all/", "path": "/out", "type": "DIRECTORY"},
        ],
        "resources": {"cpu_cores": 1, "ram_gb": 0.5, "disk_gb": 1, "preemptible": False, "zones": ["here"],
                      "backend_parameters": {"missing_outputs": "fail"}, "backend_parameters_strict": True},
        "executors": [
            {"image": "ubuntu", "command": ["sh", "-c", "wc -l; echo to stderr >&2; echo $WHO > /out/who.txt"],
             "workdir": "/data", "stdin": "/data/in", "stdout": "/out/count", "stderr": "/vol/err",
             "env": {"WHO": client.name}},
            {"image": "ubuntu", "command": ["sh", "-c", "cat /vol/err; exit 3"], "ignore_error": True},
        ],
        "volumes": ["/vol"],
        "tags": {"client": client.name, "empty": ""},
    }  # fmt: skip
    if client.name == NEW:
        return task
    del task["outputs"][1], task["executors"][1]
    for part, names in ONLY_IN_TES_1_1.items():
        for one in [task[part]] if part == "resources" else task[part]:
            for name in names:
                if client.name == OLD or name not in ("backend_parameters", "backend_parameters_strict"):
                    one.pop(name, None)
    return task


def ended(client: Speaker, task_id: str) -> str:
    """The task's id, once it has ended."""
    client.site.wait(task_id)
    return task_id


def has(shown: object, sent: object) -> bool:
    """Whether all that was sent is shown, whatever else is."""
    if isinstance(sent, dict):
        return isinstance(shown, dict) and all(key in shown and has(shown[key], one) for key, one in sent.items())
    if isinstance(sent, list):
        return isinstance(shown, list) and len(shown) == len(sent) and all(map(has, shown, sent))
    return bool(shown == sent)


def test_a_task_with_every_field_is_read_in_each_view_while_queued_and_at_its_end(client: Speaker):
    task = every_field(client)
    task_id = client("create", task=task)
    client("get", id=task_id, view="FULL")
    ended(client, task_id)
    full = client("get", id=task_id, view="FULL")
    assert full["state"] == "COMPLETE", full["logs"]
    assert has(full, task)
    basic = client("get", id=task_id, view="BASIC")
    assert "content" not in basic["inputs"][1]
    assert "system_logs" not in basic["logs"][-1]
    assert "stdout" not in basic["logs"][-1]["logs"][0]
    assert (client.site.files / client.name / "out").read_text() == "3\n"
    assert (client.site.files / client.name / "all" / "who.txt").read_text() == f"{client.name}\n"


def test_py_tes_reads_the_ends_of_executors_and_the_sizes_of_outputs(py_tes: Speaker):
    task_id = ended(py_tes, py_tes("create", task=every_field(py_tes)))
    (log,) = py_tes("get", id=task_id, view="FULL")["logs"]
    assert [one["exit_code"] for one in log["logs"]] == ([0, 3] if py_tes.name == NEW else [0])
    assert log["start_time"] <= log["logs"][0]["start_time"] <= log["logs"][0]["end_time"] <= log["end_time"]
    sizes = {one["url"].rsplit("/", 1)[-1]: one["size_bytes"] for one in log["outputs"]}
    assert sizes["out"] == 2


def test_py_tes_waits_for_the_end(py_tes: Speaker):
    task_id = py_tes("create", task={"executors": [{"image": "a", "command": ["sleep", "0.2"]}]})
    assert py_tes("wait", id=task_id) == {"id": task_id, "state": "COMPLETE"}


FAILURES = {
    "EXECUTOR_ERROR": {"executors": [{"image": "a", "command": ["sh", "-c", "echo why >&2; exit 7"]}]},
    "SYSTEM_ERROR": {
        "executors": [{"image": "a", "command": ["true"]}],
        "outputs": [{"url": "{files}/never", "path": "/out/never", "type": "FILE"}],
    },
}


@pytest.mark.parametrize("state", FAILURES)
def test_a_failed_task_is_read_in_each_view(client: Speaker, state: str):
    task = dict(FAILURES[state])
    for output in task.get("outputs", []):
        task["outputs"] = [{**output, "url": output["url"].format(files=client.site.files)}]
    task_id = ended(client, client("create", task=task))
    for view in ("BASIC", "FULL"):
        shown = client("get", id=task_id, view=view)
        assert shown["state"] == state
    assert shown["logs"][-1]["system_logs"]
    if state == "EXECUTOR_ERROR":
        assert shown["logs"][-1]["logs"][0]["exit_code"] == 7
        assert shown["logs"][-1]["logs"][0]["stderr"] == "why\n"


def test_a_canceled_task_is_read_in_each_view_and_canceled_again(client: Speaker):
    task_id = client("create", task={"executors": [{"image": "a", "command": ["sleep", "97311"]}]})
    client.site.wait(task_id, "RUNNING")
    client("get", id=task_id, view="FULL")
    assert client("cancel", id=task_id) in (None, {})
    ended(client, task_id)
    for view in ("BASIC", "FULL"):
        assert client("get", id=task_id, view=view)["state"] == "CANCELED"
    assert client("cancel", id=task_id) in (None, {})
    assert client("get", id=task_id, view="FULL")["state"] == "CANCELED"


def test_py_tes_takes_the_minimal_view(py_tes: Speaker):
    task_id = ended(py_tes, py_tes("create", task=TRUE))
    assert py_tes("get", id=task_id, view="MINIMAL") == {"id": task_id, "state": "COMPLETE"}


def test_pydantic_tes_itself_cannot_read_the_minimal_view(pydantic_tes: Speaker):
    """The specification has `id` and `state` alone, and the client's model wants `executors`: Galaxy asks for FULL."""
    task_id = ended(pydantic_tes, pydantic_tes("create", task=TRUE))
    with pytest.raises(Refused, match="executors\n  Field required"):
        pydantic_tes("get", id=task_id, view="MINIMAL")


def test_pydantic_tes_sends_null_for_every_field_that_is_not_set(pydantic_tes: Speaker):
    task = {
        "inputs": [{"path": "/in", "content": "x", "type": "FILE"}],
        "outputs": [{"path": "/o/out", "url": f"{pydantic_tes.site.files}/nulls", "type": "FILE"}],
        "resources": {},
        "executors": [{"image": "a", "command": ["cp", "/in", "/o/out"]}],
    }
    task_id = ended(pydantic_tes, pydantic_tes("create", task=task))
    shown = pydantic_tes("get", id=task_id, view="FULL")
    assert shown["state"] == "COMPLETE"
    assert has(shown, task)


def test_py_tes_reads_every_page_of_every_view(py_tes: Speaker):
    task = {"executors": [{"image": "a", "command": ["true"]}], "tags": {"of": py_tes.name}}
    made = [ended(py_tes, py_tes("create", task=task)) for _ in range(3)]
    for view in ("MINIMAL", "BASIC", "FULL"):
        seen, token = [], {}
        while True:
            page = py_tes("list", view=view, page_size=2, **token)
            assert 1 <= len(page["tasks"]) <= 2
            seen += [one["id"] for one in page["tasks"]]
            if not page.get("next_page_token"):
                break
            token = {"page_token": page["next_page_token"]}
        assert seen[:3] == made[::-1]
        assert len(set(seen)) == len(seen)
    assert len(py_tes("list")["tasks"]) == len(seen)


def test_pydantic_tes_lists(pydantic_tes: Speaker):
    task_id = ended(pydantic_tes, pydantic_tes("create", task=TRUE))
    assert {"id": task_id, "state": "COMPLETE", "executors": []} in pydantic_tes("list")["tasks"]


def test_service_info_as_toil_asks_for_it_the_old_way(old: Speaker):
    info = old("service_info")
    assert set(info) <= {"name", "doc", "storage"}
    assert f"file://{old.site.files}" in info["storage"]


def test_service_info_as_py_tes_1_1_reads_it(new: Speaker):
    info = new("service_info")
    assert info["type"] == {"group": "org.ga4gh", "artifact": "tes", "version": "1.1.0"}
    assert f"file://{new.site.files}" in info["storage"]
    assert info["tes_resources_backend_parameters"] == ["executor_retries", "max_runtime", "missing_outputs"]


def test_service_info_as_pydantic_tes_reads_it(pydantic_tes: Speaker):
    info = pydantic_tes("service_info")
    assert info["type"]["artifact"] == "tes"
    assert info["organization"]["url"].startswith("http")


def test_py_tes_sends_users_and_tokens_where_nobody_asks_for_them(py_tes: Speaker):
    assert "tasks" in py_tes("as_user", user="None", password="None")
    assert "tasks" in py_tes("as_user", user="u", password="p")
    assert "tasks" in py_tes("as_user", token="t")


def test_a_refusal_reaches_the_user_of_every_client_once(client: Speaker):
    def number() -> int:
        with client.site.client as ours:
            return len(list(ours.list(view="MINIMAL")))

    before = number()
    with pytest.raises(Refused, match="400"):
        client("create", task={"executors": [{"image": "a", "command": ["true"]}], "volumes": ["/a/../b"]})
    with pytest.raises(Refused, match="404"):
        client("get", id="task-none", view="FULL")
    with pytest.raises(Refused, match="404"):
        client("cancel", id="task-none")
    assert number() == before
