"""The filer as a program."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tesk.filer.program import Phase, main
from tesk.plan.model import Delivery, Plan, Transfer
from tesk.storage import StorageOptions


def run(
    plan: Plan | str, tmp_path: Path, roots: Path, scratch: Path, phase: Phase = "both"
) -> tuple[int, list[dict[str, Any]]]:
    (tmp_path / "plan.json").write_text(plan if isinstance(plan, str) else plan.to_json())
    printed = io.StringIO()
    options = StorageOptions(file_roots=(str(roots),))
    code = main(str(tmp_path / "plan.json"), str(scratch), phase, options=options, out=printed)
    return code, [json.loads(line) for line in printed.getvalue().splitlines()]


def both(roots: Path) -> Plan:
    return Plan(
        executors=(),
        inputs=(Transfer("/in", "FILE", content="é"),),
        outputs=(Delivery("/in", f"{roots}/out"), Delivery("/none", f"{roots}/none")),
    )


def test_in_and_out(tmp_path: Path, roots: Path, scratch: Path) -> None:
    assert run(both(roots), tmp_path, roots, scratch, "in") == (0, [{"staged_in": 1}])
    assert not (roots / "out").exists()
    code, lines = run(both(roots), tmp_path, roots, scratch, "out")
    assert code == 1
    assert lines == [
        {"delivered": {"url": f"{roots}/out", "path": "/in", "size_bytes": 2}},
        {"missing": "output /none: it does not exist"},
    ]


def test_missing_outputs_may_be_a_warning(tmp_path: Path, roots: Path, scratch: Path) -> None:
    plan = Plan(executors=(), outputs=(Delivery("/none", f"{roots}/none"),), missing_outputs="warn")
    assert run(plan, tmp_path, roots, scratch) == (
        0,
        [{"missing": "output /none: it does not exist"}, {"staged_in": 0}][::-1],
    )


def test_a_failed_stage_in_ends_it(tmp_path: Path, roots: Path, scratch: Path) -> None:
    plan = Plan(
        executors=(),
        inputs=(Transfer("/in", "FILE", f"{roots}/none"), Transfer("/x", "FILE", content="")),
        outputs=(Delivery("/x", f"{roots}/out"),),
    )
    code, lines = run(plan, tmp_path, roots, scratch)
    assert (code, lines) == (1, [{"failed": f"input /in: {roots}/none does not exist"}])
    assert not (roots / "out").exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"inputs": 1}'])
def test_what_is_no_plan_is_said(tmp_path: Path, roots: Path, scratch: Path, text: str) -> None:
    code, ((line),) = run(text, tmp_path, roots, scratch)
    assert code == 1
    assert "this is not a plan" in line["failed"]


def test_a_plan_or_scratch_that_is_not_there_is_said(tmp_path: Path, roots: Path, scratch: Path) -> None:
    printed = io.StringIO()
    assert main(str(tmp_path / "none"), str(scratch), options=StorageOptions(), out=printed) == 1
    assert "No such file" in json.loads(printed.getvalue())["failed"]
    code, ((line),) = run(both(roots), tmp_path, roots, tmp_path / "no-scratch")
    assert code == 1
    assert "no-scratch does not exist" in line["failed"]


def test_a_plan_from_standard_input(roots: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Plan(executors=(), inputs=(Transfer("/x", "FILE", content="x"),))
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(plan.to_json().encode())))
    printed = io.StringIO()
    assert main("-", str(scratch), "in", options=StorageOptions(), out=printed) == 0
    assert (scratch / "x").read_text() == "x"
