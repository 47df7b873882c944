"""Steps as Jobs, and how a taskmaster goes on from what another left, against a cluster in memory."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import TypeVar

import pytest
from tests.backends.kubernetes.attempts import KEY, OWNER, SITE, STORAGE
from tests.backends.kubernetes.fake_api import status
from tests.backends.kubernetes.world import TIME, World, metadata, settle, world

from tesk.backends.kubernetes.labels import selector_of
from tesk.backends.kubernetes.mounted import Handout
from tesk.backends.kubernetes.result import FilerResult, result_line
from tesk.backends.kubernetes.scene import Scene
from tesk.backends.kubernetes.steps import JobSteps
from tesk.filer import StageOut
from tesk.plan.model import Delivery, ExecutorPlan, Mount, Plan, Transfer
from tesk.taskmaster.report import ExecutorEnd, Report
from tesk.taskmaster.steps import AttemptLost, Interrupted, StepFailed
from tesk.tes.states import State

T = TypeVar("T")

PLAN = Plan(
    executors=(ExecutorPlan("i", ("one",)), ExecutorPlan("i", ("two",))),
    mounts=(Mount("/data"),),
    inputs=(Transfer("/data/in", "FILE", url="s3://bucket/in"),),
    outputs=(Delivery("/data/out", "s3://bucket/out"),),
)
IN, OUT, FIRST, SECOND = (f"{KEY.task}-{one}" for one in ("inputs-filer", "outputs-filer", "ex-00", "ex-01"))
CLAIM = f"{KEY.task}-pvc"
END = ExecutorEnd("t1", "t2", 0, "said before")
BEGUN, ONE_ENDED = Report(State.RUNNING, "t0"), Report(State.RUNNING, "t0", executors=(END,))


class Taskmaster:
    """The steps of one attempt; `notes` is what the user is told."""

    def __init__(self, cluster: World, steps: JobSteps, notes: list[str]) -> None:
        self.world = cluster
        self.steps = steps
        self.notes = notes

    async def after(self, work: Awaitable[T], job: str, container: str, **end: object) -> T:
        """What `work` gives once the Job it makes has ended."""
        task = asyncio.ensure_future(work)
        await settle(lambda: job in self.world.names("jobs"))
        self.world.ended(job, container, **end)  # type: ignore[arg-type]
        async with asyncio.timeout(10):
            return await task


@asynccontextmanager
async def taskmaster(cluster: World, earlier: Report | None = None, plan: Plan = PLAN) -> AsyncIterator[Taskmaster]:
    notes: list[str] = []
    api = cluster.api.cluster()
    async with api, Scene(api, selector_of(SITE.instance, KEY)) as scene:
        steps = JobSteps(Handout(OWNER, plan, SITE, STORAGE), api, scene, notes.append, earlier)
        yield Taskmaster(cluster, steps, notes)


def line(result: FilerResult) -> str:
    return result_line(result)


async def job(cluster: World, name: str, step: str = "executor") -> None:
    """A Job that a predecessor made."""
    labels = metadata(name, KEY, step)
    if step == "executor":
        labels["labels"]["tesk/executor"] = str(int(name[-2:]))
    cluster.put(
        "jobs", {"metadata": labels, "spec": {"backoffLimit": 0, "template": {"metadata": labels, "spec": None}}}
    )


async def test_staging_in_makes_the_volume_and_one_filer() -> None:
    async with world() as cluster, taskmaster(cluster) as made:
        await made.after(made.steps.stage_in(), IN, "filer", message=line(FilerResult()))
        assert cluster.done("POST") == [f"POST persistentvolumeclaims {CLAIM}", f"POST jobs {IN}"]


async def test_a_filers_result_outlives_its_pods_log() -> None:
    told = line(FilerResult(out=StageOut()))
    async with world() as cluster, taskmaster(cluster) as made:
        await made.after(made.steps.stage_out(), OUT, "filer", message=told)
        assert not [one for one in cluster.api.asked if one.path.endswith("/log")]


async def test_a_result_that_is_too_long_for_the_message_is_read_from_the_log() -> None:
    told = f"moving\n{line(FilerResult(('no such input',)))}\n".encode()
    async with world() as cluster, taskmaster(cluster) as made:
        with pytest.raises(StepFailed, match="no such input"):
            await made.after(made.steps.stage_in(), IN, "filer", log=told)


async def test_a_result_that_comes_to_the_log_after_the_filers_end_is_waited_for() -> None:
    async with world() as cluster, taskmaster(cluster) as made:
        cluster.late_logs[f"{OUT}-pod"] = f"{line(FilerResult(out=StageOut()))}\n".encode()
        await made.after(made.steps.stage_out(), OUT, "filer", log=b"moving\n")


async def test_streams_that_come_to_the_log_after_the_executors_end_are_waited_for() -> None:
    end = '{"exit_code": 0, "start": "t1", "end": "t2"}'
    kept = {"size": 4, "head": base64.b64encode(b"err\n").decode(), "tail": ""}
    record = json.dumps({"stdout": {"size": 0, "head": "", "tail": ""}, "stderr": kept})
    async with world() as cluster, taskmaster(cluster) as made:
        cluster.late_logs[f"{FIRST}-pod"] = f"E err\nR {record}\n".encode()
        ran = await made.after(made.steps.execute(0, lambda: None), FIRST, "executor", message=end, log=b"E e")
        assert ran.end.stderr == "err\n"
        assert made.notes == []


async def test_short_streams_come_with_the_end_and_no_log_is_read() -> None:
    streams = '"stdout": {"size": 3, "head": "b3V0", "tail": ""}, "stderr": {"size": 0, "head": "", "tail": ""}'
    end = f'{{"exit_code": 0, "start": "t1", "end": "t2", "streams": {{{streams}}}}}'
    async with world() as cluster, taskmaster(cluster) as made:
        ran = await made.after(made.steps.execute(0, lambda: None), FIRST, "executor", message=end)
        assert (ran.end.stdout, ran.end.stderr) == ("out", "")
        assert not [one for one in cluster.api.asked if one.path.endswith("/log")]


async def test_a_filers_end_that_comes_together_with_its_pods_end_counts() -> None:
    told = line(FilerResult(out=StageOut()))
    async with world() as cluster, taskmaster(cluster) as made:
        running = asyncio.create_task(made.steps.stage_out())
        await settle(lambda: OUT in cluster.names("jobs"))
        cluster.ended(OUT, "filer", message=told)
        cluster.drop("pods", f"{OUT}-pod")
        async with asyncio.timeout(10):
            await running


async def test_a_filer_that_ended_well_and_told_nothing_is_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tesk.backends.kubernetes.steps.LATE_LOG_SECONDS", 0.2)
    async with world() as cluster, taskmaster(cluster) as made:
        with pytest.raises(AttemptLost, match="its result was lost"):
            await made.after(made.steps.stage_out(), OUT, "filer")


async def test_a_successor_takes_the_end_of_an_executor_and_makes_nothing() -> None:
    async with world() as cluster:
        await job(cluster, FIRST)
        cluster.ended(FIRST, "executor", code=3)
        async with taskmaster(cluster, BEGUN) as made:
            result = await made.steps.execute(0, lambda: None)
            assert result.end.exit_code == 3
            assert cluster.done("PUT", "DELETE") == []
            assert cluster.names("jobs") == [FIRST]


async def test_a_successor_believes_the_report_of_an_executor_whose_job_is_gone() -> None:
    async with world() as cluster, taskmaster(cluster, ONE_ENDED) as made:
        assert (await made.steps.execute(0, lambda: None)).end == END
        assert cluster.done("POST") == []


async def test_an_executor_that_was_begun_and_is_gone_is_never_begun_again() -> None:
    async with world() as cluster, taskmaster(cluster, BEGUN) as made:
        with pytest.raises(AttemptLost, match="executor 0: its Job was deleted"):
            await made.steps.execute(0, lambda: None)
        assert cluster.done("POST") == []


async def test_events_tell_that_a_later_executor_was_begun() -> None:
    async with world() as cluster:
        cluster.event(SECOND, "SuccessfulCreate")
        async with taskmaster(cluster, ONE_ENDED) as made:
            with pytest.raises(AttemptLost, match="executor 1: its Job was deleted"):
                await made.steps.execute(1, lambda: None)
            assert cluster.done("POST") == []


async def test_a_successor_begins_the_executor_that_comes_next() -> None:
    async with world() as cluster, taskmaster(cluster, ONE_ENDED) as made:
        result = await made.after(made.steps.execute(1, lambda: None), SECOND, "executor")
        assert result.end.exit_code == 0
        assert cluster.done("POST") == [f"POST jobs {SECOND}"]


async def test_inputs_are_not_brought_again_over_the_work_of_an_executor() -> None:
    async with world() as cluster, taskmaster(cluster, BEGUN) as made:
        await made.steps.stage_in()
        assert cluster.done("POST") == []


async def test_a_job_that_somebody_deletes_is_lost_and_not_made_anew() -> None:
    async with world() as cluster:
        await job(cluster, FIRST)
        cluster.objects["jobs", FIRST]["metadata"]["deletionTimestamp"] = "2026-05-01T09:00:00Z"
        async with taskmaster(cluster) as made:
            with pytest.raises(AttemptLost, match="executor 0: its Job was deleted"):
                await made.steps.execute(0, lambda: None)


@pytest.mark.slow
async def test_a_volume_that_somebody_deletes_ends_the_wait_for_a_node() -> None:
    async with world() as cluster:
        cluster.put("persistentvolumeclaims", {"metadata": metadata(CLAIM, KEY, "scratch")})
        async with taskmaster(cluster) as made:
            running = asyncio.create_task(made.steps.execute(0, lambda: None))
            await settle(lambda: FIRST in cluster.names("jobs"))
            cluster.pod_of(FIRST, "executor", node=None, waiting={})
            await asyncio.sleep(1.5)
            assert not running.done(), "it waits for a node"
            cluster.drop("persistentvolumeclaims", CLAIM)
            with pytest.raises(AttemptLost, match="the scratch volume was deleted"):
                async with asyncio.timeout(10):
                    await running


async def test_an_error_of_the_api_server_says_nothing_of_the_work() -> None:
    async with world() as cluster, taskmaster(cluster, BEGUN) as made:
        cluster.refusals["GET", "jobs"] = status(403, "Forbidden", "not now")
        with pytest.raises(Interrupted, match="not now"):
            await made.steps.execute(0, lambda: None)


async def test_cleaning_keeps_what_has_ended_and_takes_the_rest() -> None:
    async with world() as cluster:
        await job(cluster, SECOND)
        async with taskmaster(cluster) as made:
            await made.after(made.steps.stage_in(), IN, "filer", message=line(FilerResult()))
            await made.steps.clean()
            assert cluster.names("jobs") == [IN]
            assert cluster.names("persistentvolumeclaims") == []


async def test_scratch_is_freed_by_removing_what_ended_well_and_nothing_else() -> None:
    async with world() as cluster, taskmaster(cluster) as made:
        await made.after(made.steps.stage_in(), IN, "filer", message=line(FilerResult()))
        await made.after(made.steps.execute(0, lambda: None), FIRST, "executor", code=3)
        await made.steps.clean()
        assert set(cluster.names("jobs")) == {IN, FIRST}
        await made.steps.free_scratch()
        assert cluster.names("jobs") == [FIRST]


async def test_cleaning_leaves_alone_what_only_has_the_name_of_ours() -> None:
    async with world() as cluster, taskmaster(cluster) as made:
        spec = {"template": {"metadata": {}, "spec": None}}
        cluster.put("jobs", {"metadata": {"name": FIRST, "labels": {"tesk/task": "another"}}, "spec": spec})
        cluster.put("persistentvolumeclaims", {"metadata": metadata(CLAIM, KEY, "scratch", "elsewhere")})
        await made.steps.clean()
        assert cluster.names("jobs") == [FIRST]
        assert cluster.names("persistentvolumeclaims") == [CLAIM]


@pytest.mark.parametrize("reason", ["Evicted", "DeadlineExceeded"])
async def test_an_executor_that_the_kubelet_killed_and_lost_sight_of_has_an_exit_code(reason: str) -> None:
    message = "Pod ephemeral local storage usage exceeds the total limit of containers 2M."
    async with world() as cluster, taskmaster(cluster) as made:
        running = asyncio.create_task(made.steps.execute(0, lambda: None))
        await settle(lambda: FIRST in cluster.names("jobs"))
        cluster.pod_of(FIRST, "executor", running={"startedAt": TIME})
        await asyncio.sleep(0.2)
        for state in ({"waiting": {}}, {"terminated": {"exitCode": 137, "reason": "ContainerStatusUnknown"}}):
            assert not running.done(), "its end has not been told"
            pod = cluster.pod_of(FIRST, "executor", **state)
            pod["status"] |= {"phase": "Failed", "reason": reason, "message": message}
            cluster.put("pods", pod)
            await asyncio.sleep(0.2)
        async with asyncio.timeout(10):
            result = await running
        assert (result.end.exit_code, result.end.start_time) == (137, TIME.replace("Z", ".000Z"))
        assert result.problem is not None
