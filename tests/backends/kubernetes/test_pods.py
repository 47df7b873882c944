"""An attempt as one pod, seen from the server: made, read along, waited for, lost, removed; a cluster in memory."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.backends.kubernetes.attempts import KEY, MINIMAL, REPORT
from tests.backends.kubernetes.fake_api import status
from tests.backends.kubernetes.test_backend import OPTIONS, Served, put_job, put_plan, put_report, served
from tests.backends.kubernetes.world import TIME, World, metadata, settle, world

from tesk.backends.base import Attempt
from tesk.backends.kubernetes import backend as backend_module
from tesk.backends.kubernetes import following, report_place
from tesk.backends.kubernetes.mounted import read_pod
from tesk.backends.kubernetes.pace import Backoff
from tesk.backends.kubernetes.pushing import Pusher
from tesk.backends.kubernetes.report_lines import ReportWriter
from tesk.taskmaster.report import Report
from tesk.tes.states import State

PODS = dataclasses.replace(OPTIONS, layout="pod", start_timeout=0.3)
RUNNING = dataclasses.replace(REPORT, executors=(), system_logs=())
COMPLETE = dataclasses.replace(REPORT, state=State.COMPLETE, end_time="2026-05-01T09:00:05.000Z")
RUNS = {"running": {"startedAt": TIME}}
ENDED = {"terminated": {"exitCode": 0, "reason": "Completed", "startedAt": TIME, "finishedAt": TIME}}


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log is read again at once."""
    monkeypatch.setattr(following, "_SOONEST", 0.01)
    monkeypatch.setattr(following, "_LATEST", 0.05)


@asynccontextmanager
async def pods(cluster: World, report_secret: bytes = b"", **options: Any) -> AsyncIterator[Served]:
    async with served(cluster, dataclasses.replace(PODS, **options), report_secret) as made:
        yield made


@asynccontextmanager
async def listening(cluster: World, **options: Any) -> AsyncIterator[Served]:
    """A server to which pods send their reports."""
    async with pods(cluster, b"k" * 32, report_host="127.0.0.1", **options) as made:
        yield made


@asynccontextmanager
async def calling(cluster: World, directory: Path) -> AsyncIterator[Callable[[Report], None]]:
    """What the taskmaster of the pod does with what it finds: a function that tells a report, in the log, too."""
    for name, text in cluster.objects["configmaps", KEY.task]["data"].items():
        (directory / name).write_text(text)
    for name, text in cluster.objects["configmaps", KEY.task]["binaryData"].items():
        (directory / name).write_bytes(base64.b64decode(text))
    for source in cluster.objects["pods", KEY.task]["spec"]["volumes"][0]["projected"]["sources"]:
        if "secret" in source:
            ((name, text),) = cluster.objects["secrets", source["secret"]["name"]]["data"].items()
            (directory / name).write_bytes(base64.b64decode(text))
    server = read_pod(directory).server
    assert server is not None
    pusher, writer = Pusher(server.host, server.port, server.greeting), ReportWriter()

    def tell(report: Report) -> None:
        line = writer.line(report)
        cluster.logs[KEY.task] = cluster.logs.get(KEY.task, b"") + line
        pusher.tell(line)

    try:
        yield tell
    finally:
        await pusher.close()


async def offered(made: Served) -> None:
    """Offer an attempt, and see its pod made."""
    assert await made.backend.offer(Attempt(KEY, MINIMAL))
    await settle(lambda: KEY.task in made.world.names("pods"))


def put_pod(cluster: World, taskmaster: Any = RUNS, executor: Any = RUNS, **status: Any) -> None:
    """The pod with its two containers in these states."""
    there = cluster.objects.get(("pods", KEY.task), {"metadata": metadata(KEY.task, KEY, "taskmaster")})
    states = {"taskmaster": taskmaster, "ex-00": executor}
    statuses = [
        {"name": name, "image": "i", "imageID": "", "ready": False, "restartCount": 0, "state": state}
        for name, state in states.items()
    ]
    containers = [{"name": name} for name in states]
    spec = {**there.get("spec", {}), "containers": containers, "nodeName": "node-1", "restartPolicy": "Never"}
    cluster.put(
        "pods", {**there, "spec": spec, "status": {"phase": "Running", "containerStatuses": statuses, **status}}
    )


def tell(cluster: World, *reports: Report) -> None:
    """What the taskmaster has told so far."""
    cluster.logs[KEY.task] = log(reports)


def log(reports: Iterable[Report]) -> bytes:
    writer = ReportWriter()
    return b"".join(map(writer.line, reports))


async def test_an_attempt_is_one_pod_that_its_plan_owns() -> None:
    async with world() as cluster, pods(cluster) as made:
        await offered(made)
        assert cluster.done("POST") == [f"POST configmaps {KEY.task}", f"POST pods {KEY.task}"]
        owner = cluster.objects["pods", KEY.task]["metadata"]["ownerReferences"][0]
        assert (owner["kind"], owner["controller"]) == ("ConfigMap", True)
        assert await made.backend.attempts() == {KEY}


async def test_what_becomes_of_a_pod_before_its_making_is_answered_is_seen_at_once() -> None:
    async with world() as cluster, pods(cluster) as made:
        tell(cluster, RUNNING)
        cluster.meanwhile = lambda: put_pod(cluster)
        assert await made.backend.offer(Attempt(KEY, MINIMAL))
        await settle(lambda: made.states() == [State.INITIALIZING, State.RUNNING], seconds=1.0)


async def test_reports_are_read_in_the_log_and_all_is_removed_after_the_last() -> None:
    async with world() as cluster, pods(cluster) as made:
        await offered(made)
        tell(cluster, RUNNING)
        put_pod(cluster)
        await settle(lambda: made.states() == [State.INITIALIZING, State.RUNNING])
        tell(cluster, RUNNING, REPORT, COMPLETE)
        await settle(lambda: made.states()[-1:] == [State.COMPLETE])
        assert made.last() == COMPLETE
        assert made.freed == 1
        await made.backend.forget(KEY)
        await settle(lambda: not cluster.objects)
        assert cluster.done("DELETE") == [f"DELETE configmaps {KEY.task}", f"DELETE pods {KEY.task}"]


async def test_reports_that_are_sent_are_taken_at_once_and_no_log_is_read(tmp_path: Path) -> None:
    async with world() as cluster, listening(cluster) as made:
        await offered(made)
        async with calling(cluster, tmp_path) as tell:
            tell(RUNNING)
            await settle(lambda: made.states() == [State.RUNNING])
            put_pod(cluster)  # only now the kubelet says that it runs
            await asyncio.sleep(0.2)
            tell(REPORT)
            tell(COMPLETE)
        await settle(lambda: made.states()[-1:] == [State.COMPLETE])
        assert made.last() == COMPLETE
        assert not any(one.path.endswith("/log") for one in cluster.api.asked)
        await made.backend.forget(KEY)
        await settle(lambda: cluster.names("pods") == cluster.names("configmaps") == [])


async def test_a_pod_that_holds_on_after_its_last_report_is_removed_before_that_is_told() -> None:
    async with world() as cluster, pods(cluster) as made:
        await offered(made)
        tell(cluster, RUNNING, dataclasses.replace(COMPLETE, state=State.SYSTEM_ERROR, held=True))
        put_pod(cluster)
        await settle(lambda: made.told and made.last().state is State.SYSTEM_ERROR)
        assert not cluster.objects
        assert made.last().lost is None


async def test_what_the_log_told_already_is_not_told_again_by_what_is_sent(tmp_path: Path) -> None:
    async with world() as cluster, listening(cluster) as made:
        await offered(made)
        tell_log = cluster.logs
        tell_log[KEY.task] = log((RUNNING, REPORT))
        put_pod(cluster)
        await settle(lambda: made.states()[-1:] == [State.RUNNING] and made.last() == REPORT)
        tell_log[KEY.task] = b""
        before = len(made.told)
        async with calling(cluster, tmp_path) as tell:
            tell(RUNNING)
            tell(REPORT)
            tell(COMPLETE)
        await settle(lambda: made.states()[before:] == [State.COMPLETE])


async def test_a_taskmaster_that_hangs_up_is_read_in_its_log(tmp_path: Path) -> None:
    async with world() as cluster, listening(cluster) as made:
        await offered(made)
        async with calling(cluster, tmp_path) as tell:
            tell(RUNNING)
            await settle(lambda: made.states() == [State.RUNNING])
            put_pod(cluster)
        tell_log = cluster.logs
        tell_log[KEY.task] += log((RUNNING, COMPLETE)).split(b"\n", 1)[1]
        await settle(lambda: made.states() == [State.RUNNING, State.COMPLETE])


async def test_a_pod_that_is_deleted_by_force_is_lost_once_its_taskmaster_calls_no_more(tmp_path: Path) -> None:
    async with world() as cluster, listening(cluster) as made:
        await offered(made)
        put_pod(cluster)
        async with calling(cluster, tmp_path) as say:
            say(RUNNING)
            await settle(lambda: State.RUNNING in made.states())
            cluster.drop("pods", KEY.task)
            await settle(lambda: made.backend.waits(KEY) is not None, seconds=10)
            assert made.backend.waits(KEY) == "the task waits: its pod was deleted, and it may still run"
            assert made.last().lost is None
        await settle(lambda: made.last().lost is not None)
        assert made.last().lost == "taskmaster: its pod was deleted"


async def test_what_a_pod_tells_that_was_deleted_by_force_counts(tmp_path: Path) -> None:
    async with world() as cluster, listening(cluster) as made:
        await offered(made)
        put_pod(cluster)
        async with calling(cluster, tmp_path) as say:
            say(RUNNING)
            await settle(lambda: State.RUNNING in made.states())
            cluster.drop("pods", KEY.task)
            await asyncio.sleep(0.1)
            say(COMPLETE)
            await settle(lambda: made.last() == COMPLETE)


async def test_a_server_that_may_make_no_secret_reads_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_place, "_SECONDS", 0.2)
    async with world() as cluster:
        cluster.refusals["POST", "secrets"] = status(403, "Forbidden"), 403
        async with listening(cluster) as made:
            await offered(made)
            tell(cluster, RUNNING, COMPLETE)
            put_pod(cluster)
            await settle(lambda: made.states()[-1:] == [State.COMPLETE])


async def test_a_server_that_comes_back_finds_its_secret() -> None:
    async with world() as cluster:
        async with listening(cluster):
            made = cluster.names("secrets")
        async with listening(cluster) as again:
            assert cluster.names("secrets") == made != []
            await offered(again)
            sources = cluster.objects["pods", KEY.task]["spec"]["volumes"][0]["projected"]["sources"]
            assert sources[-1]["secret"]["name"] == made[0]


async def test_what_has_ended_stays_while_somebody_follows_its_streams() -> None:
    async with world() as cluster, pods(cluster) as made:
        await offered(made)
        tell(cluster, RUNNING, COMPLETE)
        put_pod(cluster)
        await settle(lambda: made.states()[-1:] == [State.COMPLETE])
        async with contextlib.aclosing(made.backend.logs(KEY, 0, "stdout", follow=True)) as pieces:
            reading = asyncio.ensure_future(anext(pieces, None))
            await asyncio.sleep(0.1)
            await made.backend.forget(KEY)
            await asyncio.sleep(0.3)
            assert cluster.names("pods") == [KEY.task]
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        await settle(lambda: not cluster.objects)


async def test_a_server_that_comes_back_hears_the_newest_report_alone() -> None:
    async with world() as cluster:
        put_plan(cluster)
        tell(cluster, RUNNING, REPORT, COMPLETE)
        put_pod(cluster, ENDED, ENDED, phase="Succeeded")
        async with pods(cluster) as made:
            assert await made.backend.attempts() == {KEY}
            await settle(lambda: made.states() == [State.COMPLETE])


async def test_a_pod_is_carried_to_its_end_where_new_attempts_are_jobs() -> None:
    async with world() as cluster:
        put_plan(cluster)
        tell(cluster, RUNNING)
        put_pod(cluster)
        async with pods(cluster, layout="jobs") as made:
            await settle(lambda: made.states() == [State.INITIALIZING, State.RUNNING])
            tell(cluster, RUNNING, COMPLETE)
            await settle(lambda: made.states()[-1:] == [State.COMPLETE])


async def test_a_job_is_carried_to_its_end_where_new_attempts_are_pods() -> None:
    async with world() as cluster:
        put_plan(cluster)
        put_job(cluster)
        put_report(cluster, RUNNING)
        async with pods(cluster) as made:
            put_report(cluster, COMPLETE)
            await settle(lambda: made.states()[-1:] == [State.COMPLETE])


async def test_the_last_line_may_come_after_the_end_of_the_container() -> None:
    async with world() as cluster:
        put_plan(cluster)
        tell(cluster, RUNNING)
        cluster.late_logs[KEY.task] = log((RUNNING, REPORT, COMPLETE))
        put_pod(cluster, ENDED, ENDED, phase="Succeeded")
        async with pods(cluster) as made:
            await settle(lambda: made.states() == [State.RUNNING, State.COMPLETE])


async def test_a_pod_that_is_deleted_is_a_lost_attempt_of_which_nothing_stays() -> None:
    async with world() as cluster, pods(cluster) as made:
        await offered(made)
        tell(cluster, RUNNING)
        put_pod(cluster)
        await settle(lambda: State.RUNNING in made.states())
        cluster.drop("pods", KEY.task)
        await settle(lambda: made.last().lost is not None)
        assert made.last().lost == "taskmaster: its pod was deleted"
        assert not cluster.objects


async def test_a_pod_that_is_deleted_and_does_not_go_is_waited_for_and_told() -> None:
    """As while its kubelet pulls an image for it, and tells nothing of what runs in it; however long that takes."""
    async with world() as cluster, pods(cluster, queue_timeout=0.3) as made:
        await offered(made)
        tell(cluster, RUNNING)
        put_pod(cluster)
        await settle(lambda: State.RUNNING in made.states())
        cluster.objects["pods", KEY.task]["metadata"].update(deletionTimestamp=TIME, deletionGracePeriodSeconds=30)
        put_pod(cluster, PULL, PULL, phase="Pending")
        await settle(lambda: made.backend.waits(KEY) is not None, seconds=10)
        assert made.backend.waits(KEY) == "the task waits: its pod was deleted, and it may still run"
        assert made.last().lost is None
        cluster.drop("pods", KEY.task)
        await settle(lambda: made.last().lost is not None)
        assert made.last().lost == "taskmaster: its pod was deleted"


@pytest.mark.parametrize(
    ("reason", "why"), [("OOMKilled", "it ran out of memory"), ("Error", "it ended with exit code 137 and told no end")]
)
async def test_a_taskmaster_that_dies_is_a_lost_attempt(reason: str, why: str) -> None:
    async with world() as cluster, pods(cluster) as made:
        await offered(made)
        tell(cluster, RUNNING)
        put_pod(cluster)
        await settle(lambda: State.RUNNING in made.states())
        died = {"terminated": {"exitCode": 137, "reason": reason, "startedAt": TIME, "finishedAt": TIME}}
        put_pod(cluster, died, ENDED, phase="Failed")
        await settle(lambda: made.last().lost is not None, seconds=20)
        assert (made.last().lost or "").startswith(f"taskmaster: {why}")


GONE = {"terminated": {"exitCode": 137, "reason": "Error", "startedAt": TIME, "finishedAt": TIME}}
UNKNOWN = {"terminated": {"exitCode": 137, "reason": "ContainerStatusUnknown"}}


@pytest.mark.parametrize(
    ("told", "start"),
    [
        (GONE, "2026-05-01T09:00:00"),
        (RUNS, "2026-05-01T09:00:00"),
        (UNKNOWN, RUNNING.start_time),
        ({}, RUNNING.start_time),
    ],
)
async def test_an_executor_that_outgrows_scratch_is_ended_whatever_is_told_of_its_end(
    told: dict[str, Any], start: str
) -> None:
    async with world() as cluster, pods(cluster) as made:
        await offered(made)
        tell(cluster, RUNNING)
        put_pod(cluster)
        await settle(lambda: State.RUNNING in made.states())
        message = 'Usage of EmptyDir volume "scratch" exceeds the limit "1".'
        put_pod(cluster, GONE, told, phase="Failed", reason="Evicted", message=message)
        await settle(lambda: made.states()[-1:] == [State.EXECUTOR_ERROR], seconds=20)
        (end,) = made.last().executors
        assert end.exit_code == 137
        assert end.start_time.startswith(start)
        assert "executor 0 was ended by signal 9: it used more disk" in made.last().system_logs[0]


@pytest.mark.parametrize(("reason", "why"), [("OOMKilled", "more memory than its container"), ("Error", "was killed")])
async def test_a_container_that_was_killed_as_a_whole_is_told_with_the_kubelets_reason(reason: str, why: str) -> None:
    killed = {"terminated": {"exitCode": 137, "reason": reason, "startedAt": TIME, "finishedAt": TIME}}
    end = dataclasses.replace(REPORT.executors[0], exit_code=137)
    said = ("executor 0 was ended by signal 9: its container was killed",)
    async with world() as cluster, pods(cluster) as made:
        await offered(made)
        tell(cluster, RUNNING)
        put_pod(cluster, executor=killed)
        await settle(lambda: State.RUNNING in made.states())
        told = dataclasses.replace(COMPLETE, state=State.EXECUTOR_ERROR, executors=(end,), system_logs=said)
        tell(cluster, RUNNING, told)
        await settle(lambda: made.states()[-1:] == [State.EXECUTOR_ERROR])
        (sentence,) = made.last().system_logs
        assert sentence.startswith("executor 0 was ended by signal 9: it")
        assert why in sentence


async def test_a_scratch_that_outgrows_its_size_before_anything_ran_is_the_tasks_own_fault() -> None:
    async with world() as cluster, pods(cluster) as made:
        await offered(made)
        gone = {"terminated": {"exitCode": 137, "reason": "Error", "startedAt": TIME, "finishedAt": TIME}}
        message = 'Usage of EmptyDir volume "scratch" exceeds the limit "1".'
        put_pod(cluster, gone, gone, phase="Failed", reason="Evicted", message=message)
        await settle(lambda: made.states()[-1:] == [State.SYSTEM_ERROR], seconds=20)
        assert made.last().lost is None
        assert "it used more disk than its limit" in made.last().system_logs[0]


PULL = {"waiting": {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "none": ErrImagePull: not found'}}


async def test_an_image_that_cannot_be_pulled_ends_the_attempt_whatever_the_taskmaster_says() -> None:
    async with world() as cluster, pods(cluster, start_timeout=3.0) as made:
        await offered(made)
        tell(cluster, dataclasses.replace(RUNNING, state=State.INITIALIZING))
        put_pod(cluster, executor=PULL)
        await settle(lambda: (made.backend.waits(KEY) or "").startswith("executor 0 waits: "), seconds=10)
        await settle(lambda: made.states()[-1:] == [State.SYSTEM_ERROR], seconds=10)
        assert "executor 0 could not start within 3 s" in made.last().system_logs[-1]
        assert not cluster.objects


async def test_a_pod_that_is_refused_is_told_as_such() -> None:
    quota = "exceeded quota: small, requested: requests.cpu=3, used: requests.cpu=0, limited: requests.cpu=1"
    async with world() as cluster, pods(cluster) as made:
        refusal = status(403, "Forbidden", f'pods "x" is forbidden: {quota}')
        cluster.refusals["POST", "pods"] = {**refusal, "details": {"kind": "pods", "name": "x"}}
        assert await made.backend.offer(Attempt(KEY, MINIMAL))
        await settle(lambda: made.states()[-1:] == [State.SYSTEM_ERROR])
        assert (
            made.last()
            .system_logs[-1]
            .startswith(
                "the task could not start within 0.3 s: its pod is larger than quota 'small' of the namespace allows"
            )
        )


async def test_what_is_refused_again_and_again_is_told_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """However seldom it is tried by now."""
    seldom = lambda first, most: Backoff(60.0, 60.0) if most == 10.0 else Backoff(first, most)  # noqa: E731
    monkeypatch.setattr(backend_module, "Backoff", seldom)
    async with world() as cluster, pods(cluster) as made:
        cluster.refusals["POST", "pods"] = status(403, "Forbidden", "no")
        assert await made.backend.offer(Attempt(KEY, MINIMAL))
        await settle(lambda: made.states()[-1:] == [State.SYSTEM_ERROR])


async def test_the_claim_that_goes_with_a_pod_says_why_it_has_no_volume() -> None:
    async with world() as cluster, pods(cluster) as made:
        await offered(made)
        why = "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims."
        put_pod(cluster, None, None, phase="Pending", conditions=[{**UNBOUND, "message": why}])
        there = cluster.objects["pods", KEY.task]
        del there["spec"]["nodeName"]
        cluster.put("pods", there)
        name = f"{KEY.task}-scratch"
        event = {"kind": "PersistentVolumeClaim", "name": name, "namespace": "somewhere"}
        cluster.put(
            "events",
            {
                "metadata": {"name": f"{name}.1"},
                "involvedObject": event,
                "reason": "ProvisioningFailed",
                "message": 'storageclass.storage.k8s.io "absent" not found',
                "type": "Warning",
            },
        )
        await settle(lambda: made.states()[-1:] == [State.SYSTEM_ERROR])
        assert made.last().system_logs[-1].endswith("storage class 'absent' does not exist")


UNBOUND = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}


async def test_a_container_that_cannot_be_started_ends_the_attempt() -> None:
    end = {"exitCode": 128, "reason": "StartError", "message": "no such user", "startedAt": TIME, "finishedAt": TIME}
    async with world() as cluster, pods(cluster) as made:
        await offered(made)
        tell(cluster, dataclasses.replace(RUNNING, state=State.INITIALIZING))
        put_pod(cluster, executor={"terminated": end})
        await settle(lambda: made.states()[-1:] == [State.SYSTEM_ERROR])
        assert made.last().system_logs == ("executor 0: its container could not be started: no such user",)


async def test_an_executor_of_a_later_turn_may_wait() -> None:
    """Only the one whose turn it is counts: the next image may still be on its way, or never be needed."""
    async with world() as cluster, pods(cluster) as made:
        await offered(made)
        tell(cluster, REPORT)  # the first has ended
        put_pod(cluster, executor=PULL)
        await settle(lambda: State.RUNNING in made.states())
        assert made.backend.waits(KEY) is None


async def test_a_plan_without_a_pod_goes_unless_it_is_offered_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend_module, "_PLAN_ALONE_SECONDS", 0.2)
    async with world() as cluster:
        put_plan(cluster)
        async with pods(cluster) as made:
            assert await made.backend.attempts() == frozenset()
            await settle(lambda: not cluster.objects)
        put_plan(cluster)
        async with pods(cluster) as made:
            await offered(made)
            await made.backend.cancel(KEY)
            await settle(lambda: made.states()[-1:] == [State.CANCELED])
            assert not cluster.objects
