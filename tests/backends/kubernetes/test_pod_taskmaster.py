"""A pod's taskmaster with real launchers around it, as processes of this machine: no cluster, no containers."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.backends.kubernetes.attempts import KEY, SITE
from tests.backends.kubernetes.pod_processes import SECRET, SOON, Pod, shell
from tests.backends.kubernetes.test_pushing import Heard, listening
from tests.launcher.compiler import build_launcher

from tesk.backends.kubernetes.mounted import SHARED_READY
from tesk.backends.kubernetes.options import ReportPlace
from tesk.backends.kubernetes.report_lines import ReportReader
from tesk.plan.model import Delivery, Place, Plan, SharedMount, Transfer
from tesk.storage import SharedRoot
from tesk.tes.states import State

Begin = Callable[..., Pod]


@pytest.fixture
def pod(tmp_path: Path) -> Iterator[Begin]:
    launcher = build_launcher()
    with contextlib.ExitStack() as made:

        def begin(plan: Plan, shared: Path | None = None, **site: Any) -> Pod:
            roots = () if shared is None else (SharedRoot("work", "/shared", str(shared)),)
            pod = Pod(tmp_path, plan, launcher, dataclasses.replace(SITE, **site), shared=roots)
            made.enter_context(pod.processes)
            return pod

        yield begin


def eventually(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_inputs_come_executors_take_turns_and_outputs_leave(pod: Begin, tmp_path: Path) -> None:
    out = f"file://{tmp_path}/files/out"
    plan = shell(
        "cat data/in > data/one; echo first",
        "cat data/one data/one > data/two; echo second >&2",
        inputs=(Transfer("/data/in", "FILE", content="hello\n"),),
        outputs=(Delivery("/data/two", out, "FILE"),),
    )
    begun = pod(plan)
    executors = [begun.executor(1), begun.executor(0)]
    report = begun.report()
    assert report.state is State.COMPLETE, report
    assert [(one.exit_code, one.stdout, one.stderr) for one in report.executors] == [
        (0, "first\n", ""),
        (0, "", "second\n"),
    ]
    assert (tmp_path / "files" / "out").read_text() == "hello\nhello\n"
    assert [one.url for one in report.outputs] == [out]
    assert [one.wait(SOON) for one in executors] == [0, 0]
    assert begun.taskmaster.returncode == 0
    assert report.metadata["peak_memory_bytes"]


async def test_its_reports_are_sent_too_and_the_server_has_the_last_before_it_ends(pod: Begin) -> None:
    heard = Heard()
    async with listening(heard, secret=SECRET) as port:
        begun = pod(shell("true", "exit 3"), reports=ReportPlace("127.0.0.1", port, "any"))
        executors = [begun.executor(0), begun.executor(1)]
        while begun.taskmaster.poll() is None:
            await asyncio.sleep(0.01)
        assert begun.report() == heard.reports[-1][1]
    assert heard.reports[-1][1].state is State.EXECUTOR_ERROR
    assert {key for key, _, _ in heard.reports} == {KEY}
    assert [one.wait(SOON) for one in executors] == [0, 3]


def test_a_server_that_is_not_there_is_not_waited_for(pod: Begin) -> None:
    begun = pod(shell("true"), reports=ReportPlace("127.0.0.1", 1, "any"))
    begun.executor(0)
    assert begun.report().state is State.COMPLETE


def test_those_after_a_failed_one_never_start_and_end_by_themselves(pod: Begin) -> None:
    begun = pod(shell("exit 3", "touch data/ran"))
    waiting = begun.executor(1)
    begun.executor(0)
    report = begun.report()
    assert (report.state, [one.exit_code for one in report.executors]) == (State.EXECUTOR_ERROR, [3])
    assert waiting.wait(SOON) in (0, 125)
    assert not (begun.scratch / "data/ran").exists()


def test_one_whose_image_comes_late_starts_late(pod: Begin) -> None:
    begun = pod(shell("true", "touch data/ran"))
    begun.executor(0).wait(SOON)
    time.sleep(0.3)
    assert begun.taskmaster.poll() is None
    begun.executor(1)
    assert begun.report().state is State.COMPLETE
    assert (begun.scratch / "data/ran").exists()


def test_one_that_comes_after_the_end_finds_nobody(pod: Begin) -> None:
    begun = pod(shell("exit 3", "touch data/ran"))
    begun.executor(0)
    begun.report()
    assert begun.executor(1).wait(SOON) == 125
    assert not (begun.scratch / "data/ran").exists()


def test_a_taskmaster_that_dies_takes_all_with_it_and_reports_no_end(pod: Begin) -> None:
    begun = pod(shell("touch data/ran; sleep 60", "true"))
    executors = [begun.executor(0), begun.executor(1)]
    eventually((begun.scratch / "data/ran").exists)
    begun.taskmaster.kill()
    assert [one.wait(SOON) for one in executors] == [125, 125]
    assert begun.report().state is State.RUNNING


def test_a_pod_that_is_taken_away_reports_no_end(pod: Begin) -> None:
    """All containers are told to end at once; the executor's answer to that is no end of its own."""
    begun = pod(shell("touch data/ran; sleep 60"))
    executor = begun.executor(0)
    eventually((begun.scratch / "data/ran").exists)
    begun.taskmaster.send_signal(signal.SIGTERM)
    executor.send_signal(signal.SIGTERM)
    assert begun.report().state is State.RUNNING
    assert begun.taskmaster.returncode == 143


def test_a_container_that_is_killed_as_a_whole_is_an_end(pod: Begin) -> None:
    begun = pod(shell("touch data/ran; sleep 60"))
    executor = begun.executor(0)
    eventually((begun.scratch / "data/ran").exists)
    executor.kill()
    report = begun.report()
    assert (report.state, [one.exit_code for one in report.executors]) == (State.EXECUTOR_ERROR, [137])
    assert report.system_logs == ("executor 0 was ended by signal 9: its container was killed",)


def test_one_that_runs_too_long_is_ended(pod: Begin) -> None:
    begun = pod(shell("sleep 60", parameters={"max_runtime": "1"}))
    begun.executor(0)
    report = begun.report()
    assert (report.state, [one.exit_code for one in report.executors]) == (State.EXECUTOR_ERROR, [143])
    assert report.system_logs == ("executor 0 was ended by signal 15: it ran longer than allowed (1 s)",)


def test_an_input_that_cannot_be_had_starts_nothing(pod: Begin, tmp_path: Path) -> None:
    inputs = (Transfer("/data/in", "FILE", url=f"file://{tmp_path}/files/missing"),)
    begun = pod(shell("touch data/ran", inputs=inputs))
    executor = begun.executor(0)
    report = begun.report()
    assert report.state is State.SYSTEM_ERROR
    assert "missing" in report.system_logs[0]
    assert executor.wait(SOON) in (0, 125)
    assert not (begun.scratch / "data/ran").exists()


def test_a_waiting_taskmaster_is_small(pod: Begin) -> None:
    begun = pod(shell("touch data/ran; sleep 60", inputs=(Transfer("/data/in", "FILE", content="x"),)))
    begun.executor(0)
    eventually((begun.scratch / "data/ran").exists)
    status = Path(f"/proc/{begun.taskmaster.pid}/status").read_text()
    assert int(status.partition("VmRSS:")[2].split()[0]) < 40 * 1024
    assert len(os.listdir(f"/proc/{begun.taskmaster.pid}/task")) == 1


GENOME = Place("work", "genome")
SHARES: dict[str, Any] = {
    "mounts": (),
    "directories": (),
    "shared": (SharedMount("/run", Place("work", "run/1")), SharedMount("/run/genome", GENOME, "FILE", read_only=True)),
    "shared_inputs": (Transfer("/run/genome", "FILE", "/shared/genome"),),
    "outputs": (Delivery("/run/out", "/shared/run/1/out", in_place=True),),
}


def everything(below: Path) -> set[str]:
    return {str(one.relative_to(below)) for one in below.rglob("*")}


def test_executors_may_be_shown_shared_storage_once_it_is_ready(pod: Begin, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "genome").write_text("ACGT")
    begun = pod(shell(f"echo hello >{shared}/run/1/out", **SHARES), shared)
    eventually((begun.control / SHARED_READY).exists)
    assert everything(shared) == {"genome", "run", "run/1", "run/1/genome"}
    begun.scratch.mkdir()
    begun.executor(0)
    report = begun.report()
    assert (report.state, report.held) == (State.COMPLETE, False), report
    assert [(one.url, one.size_bytes) for one in report.outputs] == [("/shared/run/1/out", 6)]
    assert everything(shared) == {"genome", "run", "run/1", "run/1/out"}


def test_where_it_is_not_ready_no_executor_may_be_made_and_the_pod_waits_for_its_end(
    pod: Begin, tmp_path: Path
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    begun = pod(shell("true", **SHARES), shared)
    reader = ReportReader()
    assert begun.taskmaster.stdout is not None
    while reader.newest is None or not reader.newest.state.terminal:
        reader.feed(begun.taskmaster.stdout.readline())
    assert (reader.newest.state, reader.newest.held) == (State.SYSTEM_ERROR, True)
    assert any("/shared/genome does not exist" in one for one in reader.newest.system_logs)
    with pytest.raises(subprocess.TimeoutExpired):
        begun.taskmaster.wait(0.3)
    assert not (begun.control / SHARED_READY).exists()
    begun.taskmaster.terminate()
    assert begun.taskmaster.wait(SOON) == 143
    assert everything(shared) == set()


def test_a_pod_that_is_taken_away_leaves_no_mount_point(pod: Begin, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "genome").write_text("ACGT")
    begun = pod(shell("sleep 60", **SHARES), shared)
    eventually((begun.control / SHARED_READY).exists)
    begun.taskmaster.terminate()
    assert begun.taskmaster.wait(SOON) == 143
    assert everything(shared) == {"genome", "run", "run/1"}
