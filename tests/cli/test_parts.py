"""The programs that a backend sends to where a task runs."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.command import Call

from tesk.plan.model import Delivery, ExecutorPlan, Plan, Transfer


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
