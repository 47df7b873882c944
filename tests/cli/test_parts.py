"""The programs that a backend sends to where a task runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.cli.command import Call, environment

from tesk.plan.model import Delivery, ExecutorPlan, Mount, Plan, Transfer


def plan(path: Path) -> Path:
    """A plan with one input that travels in it and one output."""
    made = Plan(
        executors=(ExecutorPlan("x", ("true",)),),
        inputs=(Transfer("/data/in.txt", "FILE", content="hello"),),
        outputs=(Delivery("/data/in.txt", (path / "out" / "copy.txt").as_uri(), "FILE"),),
    )
    (path / "plan.json").write_text(made.to_json())
    (path / "scratch").mkdir()
    (path / "out").mkdir()
    return path / "plan.json"


def test_filer_moves_files_in_and_then_out(call: Call, tmp_path: Path) -> None:
    file = plan(tmp_path)
    result = call("filer", file, "--scratch", tmp_path / "scratch", "--in")
    assert (result.code, json.loads(result.out)) == (0, {"staged_in": 1})
    assert (tmp_path / "scratch/data/in.txt").read_text() == "hello"
    assert list((tmp_path / "out").iterdir()) == []
    out = call("filer", file, "--scratch", tmp_path / "scratch", "--out", "--file-root", "out")
    assert out.code == 0
    assert json.loads(out.out)["delivered"]["size_bytes"] == 5
    assert (tmp_path / "out/copy.txt").read_text() == "hello"


def test_filer_fails_with_a_sentence(call: Call, tmp_path: Path) -> None:
    file = plan(tmp_path)
    refused = call("filer", file, "--scratch", tmp_path / "scratch")
    assert refused.code == 1
    assert "failed" in json.loads(refused.out.splitlines()[-1])
    missing = call("filer", "none.json", "--scratch", tmp_path / "scratch")
    assert missing.code == 1
    assert "none.json" in json.loads(missing.out)["failed"]


def test_taskmaster_runs_a_plan_and_tells_each_state(call: Call, tmp_path: Path) -> None:
    made = Plan(
        executors=(ExecutorPlan("x", ("cp", "/data/in.txt", "/data/out.txt")),),
        inputs=(Transfer("/data/in.txt", "FILE", content="hello"),),
        outputs=(Delivery("/data/out.txt", (tmp_path / "out.txt").as_uri(), "FILE"),),
        mounts=(Mount("/data"),),
    )
    (tmp_path / "plan.json").write_text(made.to_json())
    result = call("taskmaster", tmp_path / "plan.json", "--engine", "sandbox", "--file-root", tmp_path)
    reports = [json.loads(line) for line in result.out.splitlines()]
    assert result.code == 0
    assert [one["state"] for one in reports] == ["INITIALIZING", "RUNNING", "RUNNING", "COMPLETE"]
    assert reports[-1]["outputs"][0]["size_bytes"] == 5
    assert (tmp_path / "out.txt").read_text() == "hello"


def test_taskmaster_tells_a_failed_executor_by_its_exit_code(call: Call, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(Plan(executors=(ExecutorPlan("x", ("sh", "-c", "exit 4")),)).to_json())
    result = call("taskmaster", tmp_path / "plan.json", "--engine", "sandbox")
    assert result.code == 1
    assert json.loads(result.out.splitlines()[-1])["state"] == "EXECUTOR_ERROR"


def test_taskmaster_refuses_what_is_no_plan(call: Call, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text("{")
    result = call("taskmaster", tmp_path / "plan.json")
    assert result.code == 1
    assert "plan.json" in result.err


def test_in_a_pod_each_says_what_it_did_not_find(call: Call, tmp_path: Path) -> None:
    for arguments in (("taskmaster", "--kubernetes", tmp_path), ("filer", "--kubernetes", tmp_path, "--in")):
        result = call(*arguments)
        assert (result.code, result.out) == (1, "")
        assert result.err.startswith(f"tesk: {tmp_path} holds no attempt: ")
    unclear = call("filer", "--kubernetes", tmp_path)
    assert unclear.code == 2
    assert "--in, or --out" in unclear.err


def test_what_runs_in_a_pod_imports_little() -> None:
    """A pod's start waits for it: the library of options costs 0.1 s, that of the API 0.15 s, pydantic 0.2 s."""
    script = "import sys, tesk.cli.pod, {}; print(*{{one.partition('.')[0] for one in sys.modules}})"
    heavy = {"typer", "click", "rich", "pydantic", "sqlalchemy", "starlette", "uvicorn", "httpx", "obstore"}
    for module, more in (("filing", {"lightkube", "httpx2", "yaml"}), ("taskmaster", set())):
        command = [sys.executable, "-c", script.format(f"tesk.backends.kubernetes.{module}")]
        done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True)
        assert not (heavy | more) & set(done.stdout.split())
