"""Calls and watches against a real API server."""

from __future__ import annotations

import asyncio
import secrets
import statistics
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from lightkube import SingleConfig
from lightkube.config import models
from lightkube.models.batch_v1 import JobSpec
from lightkube.models.core_v1 import Container, EnvVar, PodSpec, PodTemplateSpec, ResourceQuotaSpec
from lightkube.models.meta_v1 import ObjectMeta, OwnerReference
from lightkube.resources.batch_v1 import Job
from lightkube.resources.core_v1 import ConfigMap, Namespace, Pod, ResourceQuota, ServiceAccount

from tesk.backends.kubernetes.api import Call, path_of
from tesk.backends.kubernetes.cluster import Cluster
from tesk.backends.kubernetes.connection import find_config, open_client
from tesk.backends.kubernetes.errors import Gone, NameTaken, Refused, StillThere
from tesk.backends.kubernetes.pace import Deadline, Pace
from tesk.backends.kubernetes.rights import Right, missing_rights
from tesk.backends.kubernetes.watch import Watch
from tests.kube.cluster import find_cluster

pytestmark = pytest.mark.kube

OURS = {"tesk/task": None}
BUSYBOX = "localhost/busybox:1"


def connect(namespace: str) -> Cluster:
    return Cluster.connect(str(find_cluster().kubeconfig), namespace=namespace, qps=10_000, burst=10_000)


@pytest.fixture(scope="module")
def space() -> Iterator[str]:
    """A namespace for this module, gone at its end."""
    name = f"tesk-cluster-{secrets.token_hex(3)}"

    async def make() -> None:
        async with connect(name) as cluster:
            await cluster.create(Namespace(metadata=ObjectMeta(name=name)))

    async def drop() -> None:
        async with connect(name) as cluster:
            await cluster.delete(Namespace, name)

    asyncio.run(make())
    yield name
    asyncio.run(drop())


@pytest.fixture
async def cluster(space: str) -> AsyncIterator[Cluster]:
    """A connection; what tests made with our labels is gone after each."""
    async with connect(space) as cluster:
        yield cluster
        for kind in (Job, Pod, ConfigMap):
            await cluster.delete_all(kind, OURS, grace_seconds=0)


def meta(name: str, step: str = "plan", attempt: int = 1, **more: Any) -> ObjectMeta:
    labels = {"tesk/task": name, "tesk/attempt": str(attempt), "tesk/step": step}
    return ObjectMeta(name=name, labels=labels, **more)


def config_map(name: str, *, step: str = "plan", attempt: int = 1, **data: str) -> ConfigMap:
    return ConfigMap(metadata=meta(name, step, attempt), data=data)


def shell(name: str, script: str) -> Pod:
    main = Container(name="main", image=BUSYBOX, command=["sh", "-c", script])
    spec = PodSpec(containers=[main], restartPolicy="Never", terminationGracePeriodSeconds=0)
    return Pod(metadata=meta(name), spec=spec)


async def until(true: Callable[[], bool], within: float = 20.0) -> float:
    """Seconds until it is so."""
    began = time.perf_counter()
    async with asyncio.timeout(within):
        while not true():
            await asyncio.sleep(0.002)
    return time.perf_counter() - began


async def test_create_twice_gives_the_same_object(cluster: Cluster) -> None:
    first, second = [await cluster.create(config_map("one")) for _ in range(2)]
    assert first.metadata is not None
    assert second.metadata is not None
    assert first.metadata.uid == second.metadata.uid


@pytest.mark.parametrize("other", [{"attempt": 2}, {"step": "report"}])
async def test_create_leaves_what_has_other_labels(cluster: Cluster, other: dict[str, Any]) -> None:
    await cluster.create(config_map("one", x="theirs"))
    with pytest.raises(NameTaken, match="ConfigMap one exists already"):
        await cluster.create(config_map("one", x="ours", **other))
    there = await cluster.get(ConfigMap, "one")
    assert there is not None
    assert there.data == {"x": "theirs"}


async def test_object_without_labels_is_never_taken_for_ours(cluster: Cluster) -> None:
    bare = ConfigMap(metadata=ObjectMeta(name="bare"), data={"x": "theirs"})
    await cluster.create(bare)
    try:
        for attempt in (bare, config_map("bare")):
            with pytest.raises(NameTaken):
                await cluster.create(attempt)
        with pytest.raises(NameTaken):
            await cluster.replace_or_create(config_map("bare"))
    finally:
        await cluster.delete(ConfigMap, "bare")


async def test_create_tells_when_the_name_is_not_free_yet(cluster: Cluster) -> None:
    held = ConfigMap(metadata=meta("held", finalizers=["tesk.test/held"]))
    made = await cluster.create(held)
    await cluster.delete(ConfigMap, "held")
    with pytest.raises(StillThere):
        await cluster.create(held)
    assert made.metadata is not None
    released = ConfigMap(metadata=meta("held"))
    await cluster.api.send(
        Call("release", "PUT", path_of(ConfigMap, cluster.namespace, "held"), body=released), Deadline(5)
    )
    assert await cluster.get(ConfigMap, "held") is None


async def test_absence_is_none_and_its_deletion_is_fine(cluster: Cluster) -> None:
    assert await cluster.get(Job, "nothing") is None
    await cluster.delete(Job, "nothing")


async def test_delete_with_uid_leaves_a_namesake(cluster: Cluster) -> None:
    made = await cluster.create(config_map("one"))
    assert made.metadata is not None
    await cluster.delete(ConfigMap, "one", uid="11111111-1111-1111-1111-111111111111")
    assert await cluster.get(ConfigMap, "one") is not None
    await cluster.delete(ConfigMap, "one", uid=made.metadata.uid)
    assert await cluster.get(ConfigMap, "one") is None


async def test_deleting_the_owner_deletes_what_it_owns(cluster: Cluster) -> None:
    owner = await cluster.create(config_map("owner"))
    assert owner.metadata is not None
    reference = OwnerReference("v1", "ConfigMap", "owner", owner.metadata.uid or "", blockOwnerDeletion=False)
    await cluster.create(ConfigMap(metadata=meta("owned", ownerReferences=[reference])))
    async with Watch(cluster, ConfigMap, OURS, keep=lambda _: None) as watch:
        await cluster.delete(ConfigMap, "owner")
        await until(lambda: not watch.objects)


async def test_replacing_with_the_uid_known_is_one_request(cluster: Cluster) -> None:
    first = await cluster.replace_or_create(config_map("one", x="1"))
    assert first.metadata is not None
    before = cluster.sent.total()
    second = await cluster.replace_or_create(config_map("one", x="2"), uid=first.metadata.uid)
    assert (second.data, cluster.sent.total() - before) == ({"x": "2"}, 1)


async def test_replacing_what_was_deleted_meanwhile_makes_it_again(cluster: Cluster) -> None:
    first = await cluster.replace_or_create(config_map("one", x="1"))
    assert first.metadata is not None
    await cluster.delete(ConfigMap, "one")
    again = await cluster.replace_or_create(config_map("one", x="2"), uid=first.metadata.uid)
    assert again.data == {"x": "2"}


async def test_delete_all_takes_ours_alone(cluster: Cluster) -> None:
    await asyncio.gather(*(cluster.create(config_map(f"n{number}")) for number in range(30)))
    assert await cluster.delete_all(ConfigMap, OURS) == 30
    assert await cluster.delete_all(ConfigMap, OURS) == 0
    everything = await cluster.list(ConfigMap, {})
    assert [one.metadata.name for one in everything if one.metadata] == ["kube-root-ca.crt"]


async def test_list_over_several_pages_is_whole(cluster: Cluster) -> None:
    names = {f"n{number:03d}" for number in range(230)}
    await asyncio.gather(*(cluster.create(config_map(name, x="y" * 1000)) for name in names))
    found = await cluster.list(ConfigMap, OURS)
    assert {one.metadata.name for one in found if one.metadata} == names
    assert cluster.sent["GET configmaps"] >= 3
    short = await cluster.list_metadata(ConfigMap, OURS)
    assert {one.name for one in short} == names
    assert short[0].labels is not None
    assert await cluster.list(ConfigMap, {"tesk/task": ["n001", "n002"]}) != []


async def test_quota_refuses_with_the_servers_words_and_bears_a_rush(cluster: Cluster) -> None:
    quota = ResourceQuota(metadata=ObjectMeta(name="few"), spec=ResourceQuotaSpec(hard={"count/configmaps": "21"}))
    await cluster.create(quota)
    try:
        await until_used(cluster)
        made = await asyncio.gather(
            *(cluster.create(config_map(f"n{number}")) for number in range(30)), return_exceptions=True
        )
        refused = [one for one in made if isinstance(one, Refused)]
        assert len(refused) == 10
        assert all(one.code == 403 and "exceeded quota: few" in one.said for one in refused)
        assert sum(isinstance(one, ConfigMap) for one in made) == 20
    finally:
        await cluster.delete(ResourceQuota, "few")


async def until_used(cluster: Cluster) -> None:
    async with asyncio.timeout(20):
        while True:
            quota = await cluster.get(ResourceQuota, "few")
            if quota is not None and quota.status is not None and quota.status.used:
                return
            await asyncio.sleep(0.05)


async def phase(cluster: Cluster, name: str, wanted: set[str]) -> None:
    async with Watch(
        cluster, Pod, {"tesk/task": name}, keep=lambda pod: pod.status.phase if pod.status else ""
    ) as pods:
        await until(lambda: pods.objects.get(name) in wanted, 60)


async def test_log_is_the_bytes_that_were_written(cluster: Cluster) -> None:
    await cluster.create(shell("binary", r"printf 'a\377\000\r\302\205b\n'; printf 'last, without an end'"))
    await phase(cluster, "binary", {"Succeeded"})
    whole = b"a\xff\x00\r\xc2\x85b\nlast, without an end"
    assert b"".join([block async for block in cluster.log("binary", "main")]) == whole
    assert b"".join([block async for block in cluster.log("binary", "main", tail_lines=1)]) == whole[-20:]
    assert b"".join([block async for block in cluster.log("binary", "main", limit_bytes=3)]) == whole[:3]


async def test_log_follows_a_running_container_to_its_end(cluster: Cluster) -> None:
    await cluster.create(shell("talks", "for n in 1 2 3 4 5 6 7 8; do echo $n; sleep 0.5; done"))
    await phase(cluster, "talks", {"Running", "Succeeded"})
    came = [(time.monotonic(), block) async for block in cluster.log("talks", "main", follow=True)]
    assert b"".join(block for _, block in came) == b"1\n2\n3\n4\n5\n6\n7\n8\n"
    assert came[-1][0] - came[0][0] > 0.4


async def test_log_of_a_pod_without_a_node_is_empty_and_of_no_pod_gone(cluster: Cluster) -> None:
    pod = shell("waits", "true")
    assert pod.spec is not None
    pod.spec.nodeSelector = {"no-such": "node"}
    await cluster.create(pod)
    assert [block async for block in cluster.log("waits", "main")] == []
    with pytest.raises(Gone):
        await anext(cluster.log("nobody", "main", follow=True))


async def test_watch_hears_of_changes_within_50_ms(cluster: Cluster) -> None:
    heard: list[tuple[str, float]] = []
    async with Watch(
        cluster,
        ConfigMap,
        OURS,
        keep=lambda one: one.data,
        tell=lambda change, _: heard.append((change, time.perf_counter())),
    ) as watch:
        delays, lags = [], []
        for number in range(20):
            asked = time.perf_counter()
            await cluster.create(config_map(f"n{number}"))
            made = time.perf_counter()
            await until(lambda wanted=number: len(heard) == wanted + 1)  # type: ignore[misc]
            delays.append(heard[-1][1] - asked)
            lags.append(heard[-1][1] - made)
        assert watch.lists == 1
    print(f"\ncreate -> heard: median {statistics.median(delays) * 1e3:.1f} ms, most {max(delays) * 1e3:.1f} ms")
    print(f"answer to the create -> heard: median {statistics.median(lags) * 1e3:.1f} ms")
    assert statistics.median(lags) < 0.05


async def test_watch_sees_changes_deletions_and_lost_labels(cluster: Cluster) -> None:
    heard: list[tuple[str, Any]] = []
    async with Watch(
        cluster, ConfigMap, OURS, keep=lambda one: one.data, tell=lambda change, one: heard.append((change, one))
    ) as watch:
        odd = "a\x85b\u2028c\x1c"
        await cluster.create(config_map("one", x=odd))
        await cluster.replace_or_create(config_map("one", x="2"))
        await cluster.delete(ConfigMap, "one")
        await cluster.create(config_map("two"))
        bare = ConfigMap(metadata=ObjectMeta(name="two"))
        await cluster.api.send(
            Call("strip", "PUT", path_of(ConfigMap, cluster.namespace, "two"), body=bare), Deadline(5)
        )
        await until(lambda: len(heard) == 5)
        assert [change for change, _ in heard] == ["added", "modified", "deleted", "added", "deleted"]
        assert heard[0][1] == {"x": odd}
        assert watch.objects == {}
        await cluster.delete(ConfigMap, "two")


async def test_watch_is_renewed_without_a_list(cluster: Cluster) -> None:
    async with Watch(cluster, ConfigMap, OURS, keep=lambda _: None, renew_seconds=1.0) as watch:
        await asyncio.sleep(3.5)
        await cluster.create(config_map("one"))
        await until(lambda: "one" in watch.objects)
        assert (watch.lists, watch.synced) == (1, True)
        assert cluster.sent["GET configmaps"] >= 3


class Wire:
    """A wire to the API server, which can be cut and mended."""

    def __init__(self, host: str, port: int) -> None:
        self._far = (host, port)
        self._ends: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.whole = True
        self.port = 0

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Wire]:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self.cut()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        self.whole = False
        for end in list(self._ends):
            end.transport.abort()

    def mend(self) -> None:
        self.whole = True

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._carry_both(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry_both(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.whole:
            writer.transport.abort()
            return
        far_reader, far_writer = await asyncio.open_connection(*self._far)
        ends = {writer, far_writer}
        self._ends |= ends
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_carry(reader, far_writer))
                group.create_task(_carry(far_reader, writer))
        finally:
            self._ends -= ends
            for end in ends:
                end.transport.abort()


async def _carry(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    try:
        while block := await source.read(65536):
            target.write(block)
            await target.drain()
    except ConnectionError:
        pass
    finally:
        target.transport.abort()


async def test_watch_converges_after_the_server_was_away(cluster: Cluster) -> None:
    config = find_config(str(find_cluster().kubeconfig), None)
    host, _, port = config.cluster.server.removeprefix("https://").partition(":")
    async with Wire(host, int(port or 443)).open() as wire:
        there = models.Cluster(
            f"https://127.0.0.1:{wire.port}", config.cluster.certificate_auth, config.cluster.certificate_auth_data
        )
        client = open_client(config._replace(cluster=there))
        heard: list[tuple[str, Any]] = []
        async with (
            Cluster(client, cluster.namespace, Pace(1000.0, 1000)) as far,
            Watch(
                far,
                ConfigMap,
                OURS,
                keep=lambda one: one.metadata.name if one.metadata else "",
                tell=lambda change, one: heard.append((change, one)),
            ) as watch,
        ):
            await cluster.create(config_map("before"))
            await until(lambda: "before" in watch.objects)
            wire.cut()
            await until(lambda: not watch.synced)
            await cluster.delete(ConfigMap, "before")
            await cluster.create(config_map("meanwhile"))
            calling = asyncio.create_task(far.get(ConfigMap, "meanwhile"))
            await asyncio.sleep(2.0)
            assert set(watch.objects) == {"before"}, "an error is not an absence"
            wire.mend()
            took = await until(lambda: watch.synced and set(watch.objects) == {"meanwhile"})
            assert await calling is not None
            print(f"\nthe view was right {took:.2f} s after the wire was mended; lists: {watch.lists}")
            assert heard == [("added", "before"), ("deleted", "before"), ("added", "meanwhile")]


async def test_account_without_a_role_is_told_every_right_that_lacks(cluster: Cluster) -> None:
    await cluster.create(ServiceAccount(metadata=meta("nobody")))
    try:
        path = path_of(ServiceAccount, cluster.namespace, "nobody") + "/token"
        wanted = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        answer = await cluster.api.send(Call("make a token", "POST", path, body=wanted), Deadline(5))
        user = models.User(token=msgspec.json.decode(answer)["status"]["token"])
        asked = [Right("create", "batch", "jobs"), Right("get", "", "pods", "log")]
        config: SingleConfig = find_config(str(find_cluster().kubeconfig), None)._replace(user=user)
        async with Cluster(open_client(config), cluster.namespace, Pace(1000.0, 1000)) as nobody:
            assert await missing_rights(nobody, asked) == tuple(asked)
            with pytest.raises(Refused) as caught:
                await nobody.list(Job, OURS)
            assert (caught.value.code, caught.value.reason) == (403, "Forbidden")
        assert await missing_rights(cluster, asked) == ()
    finally:
        await cluster.delete(ServiceAccount, "nobody")


@dataclass(frozen=True, slots=True)
class Trimmed:
    """What a server may want to keep of a Job."""

    name: str
    task: str
    conditions: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, job: Job) -> Trimmed:
        """Of a Job of ours."""
        assert job.metadata is not None
        conditions = (job.status.conditions or ()) if job.status else ()
        labels = job.metadata.labels or {}
        return cls(job.metadata.name or "", labels["tesk/task"], tuple((one.type, one.status) for one in conditions))


def idle_job(name: str) -> Job:
    """As large as an executor's Job, but suspended: no pod comes of it."""
    main = Container(
        name="main",
        image=BUSYBOX,
        command=["/.tesk/launcher", "--", "sh", "-c", "echo " * 10],
        env=[EnvVar(name=f"V{number}", value="x" * 20) for number in range(10)],
    )
    spec = PodSpec(containers=[main], restartPolicy="Never", automountServiceAccountToken=False)
    template = PodTemplateSpec(metadata=meta(name, "executor"), spec=spec)
    template.metadata.name = None  # type: ignore[union-attr]
    return Job(metadata=meta(name, "executor"), spec=JobSpec(template=template, suspend=True, backoffLimit=0))


async def test_thousand_jobs_cost_little_when_trimmed(cluster: Cluster) -> None:
    count, few = 1000, asyncio.Semaphore(16)

    async def make(number: int) -> None:
        async with few:
            await cluster.create(idle_job(f"task-{number:04d}"))

    began, used = time.perf_counter(), time.process_time()
    await asyncio.gather(*map(make, range(count)))
    took, used = time.perf_counter() - began, time.process_time() - used
    print(f"\ncreate: {count / took:.0f}/s, {used / count * 1e3:.2f} ms of processor each")
    for name, keep in (("whole", lambda job: job), ("trimmed", Trimmed.of)):
        began, used = time.perf_counter(), time.process_time()
        async with Watch(cluster, Job, OURS, keep=keep) as watch:
            took, used = time.perf_counter() - began, time.process_time() - used
            assert len(watch.objects) == count
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        async with Watch(cluster, Job, OURS, keep=keep) as watch:
            kept, peak = (size - before for size in tracemalloc.get_traced_memory())
        tracemalloc.stop()
        print(
            f"{name}: listed in {took:.2f} s, {used / count * 1e6:.0f} us of processor each; "
            f"{kept / count / 1024:.2f} KiB each, at most {peak / 1024**2:.1f} MiB while listing"
        )
    assert kept / count < 2048
    assert peak < 8 * 1024**2
