"""What a filer tells its taskmaster: as its last line, and as its termination message."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from tests.backends.kubernetes.attempts import KEY, OWNER, SITE, STORAGE

from tesk.backends.kubernetes import filing
from tesk.backends.kubernetes.handout import make_plan_config_maps
from tesk.backends.kubernetes.options import KubernetesOptions
from tesk.backends.kubernetes.pods import OWNER_FILE
from tesk.backends.kubernetes.result import FilerResult, read_result, result_line
from tesk.filer import StageOut
from tesk.plan.model import Delivery, ExecutorPlan, Mount, Plan, Transfer
from tesk.storage import StorageSettings

MANY = FilerResult(out=StageOut(missing=tuple(f"output {number} is missing" for number in range(1000))))


def test_a_result_comes_back_whatever_was_written_before_it() -> None:
    log = f"moved tesk-result nothing\n{result_line(MANY)}\n".encode()
    assert read_result(log) == MANY


@pytest.mark.parametrize("log", [b"", b"tesk-result \n", b"tesk-result bm90IGd6aXA=\n", b"tesk-result !\n"])
def test_what_is_no_result_is_none(log: bytes) -> None:
    assert read_result(log) is None


def test_a_result_that_was_cut_anywhere_is_none() -> None:
    log = f"{result_line(MANY)}\n".encode()
    assert not [end for end in range(len(log)) if read_result(log[:end]) is not None]


def attempt(directory: Path, plan: Plan, storage: StorageSettings = STORAGE, site: KubernetesOptions = SITE) -> Path:
    """What a filer's pod finds."""
    for one in make_plan_config_maps(KEY, plan, site, storage):
        files = {**(one.data or {}), **(one.binaryData or {})}
        for name, text in files.items():
            data = base64.b64decode(text) if name in (one.binaryData or {}) else text.encode()
            (directory / name).write_bytes(data)
    (directory / OWNER_FILE).write_text(OWNER.uid)
    return directory


def volume(directory: Path) -> Path:
    """A scratch volume as stage-in leaves it."""
    made = directory / "volume"
    (made / "scratch").mkdir(parents=True)
    return made


def plan(outputs: int) -> Plan:
    return Plan(
        (ExecutorPlan("i", ("true",)),),
        mounts=(Mount("/data"),),
        outputs=tuple(Delivery(f"/data/{number}-{'x' * 50}", f"http://nowhere/{number}") for number in range(outputs)),
    )


def test_a_short_result_is_the_termination_message_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = tmp_path / "message"
    message.touch()
    assert filing.main(attempt(tmp_path, plan(1)), volume(tmp_path), "out", message) == 0
    told = read_result(capsys.readouterr().out.encode())
    assert told is not None
    assert told.out is not None
    assert len(told.out.missing) == 1
    assert read_result(message.read_bytes() + b"\n") == told


def test_a_result_too_long_for_the_message_is_in_the_log_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filing, "_LONGEST_MESSAGE", 10)
    message = tmp_path / "message"
    message.touch()
    assert filing.main(attempt(tmp_path, plan(1)), volume(tmp_path), "out", message) == 0
    assert read_result(capsys.readouterr().out.encode()) is not None
    assert message.read_bytes() == b""


def test_where_there_is_no_message_the_log_is_enough(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = tmp_path / "none"
    assert filing.main(attempt(tmp_path, plan(1)), volume(tmp_path), "out", message) == 0
    assert read_result(capsys.readouterr().out.encode()) is not None
    assert not message.exists()


def test_an_input_that_is_not_there_is_a_result_and_no_crash(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filing, "_make_scratch", lambda _: None)  # the launcher is in the image alone
    wanted = Plan(
        (ExecutorPlan("i", ("true",)),),
        mounts=(Mount("/data"),),
        inputs=(Transfer("/data/in", "FILE", url="file:///nowhere/in"),),
    )
    assert filing.main(attempt(tmp_path, wanted), volume(tmp_path), "in", tmp_path / "none") == 0
    told = read_result(capsys.readouterr().out.encode())
    assert told is not None
    assert "/nowhere/in" in told.problems[0]
