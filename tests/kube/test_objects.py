"""The objects of an attempt on a real cluster: that it takes them, and what its nodes make of them."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import random
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from lightkube import ApiError, Client, KubeConfig
from lightkube.models.core_v1 import (
    Container,
    EnvVar,
    PersistentVolumeClaimVolumeSource,
    PodSpec,
    SecurityContext,
    Volume,
    VolumeMount,
)
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.batch_v1 import Job
from lightkube.resources.core_v1 import ConfigMap, LimitRange, Namespace, PersistentVolumeClaim, Pod, ServiceAccount

from tesk.backends.base import AttemptKey
from tesk.backends.kubernetes.handout import make_plan_config_maps, owned_by
from tesk.backends.kubernetes.labels import ATTEMPT, TASK
from tesk.backends.kubernetes.mounted import read_attempt
from tesk.backends.kubernetes.names import Owner
from tesk.backends.kubernetes.objects import (
    make_executor_job,
    make_filer_job,
    make_scratch_claim,
    make_taskmaster_job,
    owner_of,
)
from tesk.backends.kubernetes.options import KubernetesOptions
from tesk.backends.kubernetes.resources import minimums
from tesk.plan.model import ExecutorPlan, Mount, Plan, Resources, Transfer
from tests.backends.kubernetes.attempts import CASES, COPYING, SAY, SITE, STORAGE, objects
from tests.kube.cluster import Cluster

pytestmark = pytest.mark.kube

IMAGE = "localhost/busybox:1"
BUSYBOX = KubernetesOptions(image=IMAGE, run_as_user=0, taskmaster_service_account="")


@pytest.fixture(scope="module")
def client(cluster: Cluster) -> Iterator[Client]:
    """A client whose namespace is there for this module."""
    with new_namespace(cluster) as made:
        yield made


@contextlib.contextmanager
def new_namespace(cluster: Cluster, **labels: str) -> Iterator[Client]:
    """A namespace, with its service account, while the block runs."""
    name = f"tesk-objects-{secrets.token_hex(4)}"
    with Client(config=KubeConfig.from_file(str(cluster.kubeconfig)), namespace=name) as client:
        client.create(Namespace(metadata=ObjectMeta(name=name, labels=labels or None)))
        until(lambda: [one for one in client.list(ServiceAccount) if one.metadata and one.metadata.name == "default"])
        try:
            yield client
        finally:
            client.delete(Namespace, name)


def until(look: Callable[[], Any], *, seconds: float = 60.0) -> Any:
    """What `look` gives once that is true."""
    end = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < end, "it does not become true"
        time.sleep(0.1)
    return found


def start(client: Client, key: AttemptKey, plan: Plan, options: KubernetesOptions = BUSYBOX, **more: Any) -> Owner:
    """Make the ConfigMaps of an attempt; the owner, as the API server calls it."""
    first, *others = make_plan_config_maps(key, plan, options, STORAGE, **more)
    owner = owner_of(client.create(first))
    assert owner is not None
    for one in others:
        client.create(owned_by(one, owner, options))
    return owner


def run(client: Client, job: Job, *, seconds: float = 60.0) -> Pod:
    """Make `job` and await its pod's end."""
    made = client.create(job)
    assert made.metadata is not None
    labels = {"batch.kubernetes.io/job-name": str(made.metadata.name)}

    def ended() -> Pod | None:
        pods = list(client.list(Pod, labels=labels))
        return next((one for one in pods if one.status and one.status.phase in ("Succeeded", "Failed")), None)

    return until(ended, seconds=seconds)  # type: ignore[no-any-return]


def log(client: Client, pod: Pod) -> str:
    """What the pod printed."""
    assert pod.metadata is not None
    return "".join(client.log(str(pod.metadata.name)))


def with_command(job: Job, *command: str) -> Job:
    """`job` with another program in its container, which stands in for ours."""
    assert job.spec is not None
    assert job.spec.template.spec is not None
    (container,) = job.spec.template.spec.containers
    container.command, container.args = list(command), None
    return job


def new_key() -> AttemptKey:
    return AttemptKey(f"task-{secrets.token_hex(6)}", 1)


@pytest.mark.parametrize("case", CASES)
def test_the_api_server_takes_every_object(client: Client, case: str) -> None:
    for one in objects(*CASES[case]):
        if one.kind == "Pod":  # what is looked up when a pod is made, and not for a Job
            one.spec.serviceAccountName = one.spec.priorityClassName = None
        answer = client.create(one, dry_run=True)
        asked, got = one.to_dict(), answer.to_dict()
        assert got["metadata"]["labels"].items() >= asked["metadata"]["labels"].items()
        if one.kind == "Job":
            asked, got = asked["spec"]["template"]["spec"], got["spec"]["template"]["spec"]
            assert got["containers"][0].get("command") == asked["containers"][0].get("command")
            assert got["volumes"][0].keys() == asked["volumes"][0].keys()


def test_argv_variables_and_paths_arrive_exactly(client: Client) -> None:
    """A script in the launcher's place tells what it was given; every mount path of the plan is there."""
    odd = ["$(HOME)", "$$", "$$(HOME)", "$$$", "a$", "$(", "${HOME}", "", " ", "a\nb", "'\"\\", "ä", "$(UNKNOWN)", "-x"]
    env = {"B": "$(A)", "A": "$$(B)$", "with space": "x", "lines": "1\n2", "empty": "", "1.x-y": "$", "$X": "ä"}
    paths = ("/a b", "/a:b,c", "/$(HOME)/$$", "/ä'\"\\", "/.tesk")
    plan = Plan(
        (ExecutorPlan(IMAGE, ("$(A)", *odd), stdout="/a b/$(A)", env=env),), mounts=tuple(Mount(one) for one in paths)
    )
    key = new_key()
    owner = start(client, key, plan)
    client.create(make_scratch_claim(owner, plan, BUSYBOX))
    tell = (
        f"#!/bin/sh\nexec 2>&1\nbase64 -w0 /proc/$$/cmdline; echo\nbase64 -w0 /proc/$$/environ; echo\n{_listing(paths)}"
    )
    prepare = "mkdir -p /s/launcher && printf '%s' \"$TELL\" > /s/launcher/launcher && chmod 755 /s/launcher/launcher"
    client.create(_on_scratch(owner, "prepare", prepare, TELL=tell))
    until(lambda: _phase(client, f"{owner.name}-prepare") == "Succeeded")
    pod = run(client, make_executor_job(owner, plan, BUSYBOX, 0))
    argv, environ, *found = log(client, pod).splitlines()
    launched = ["/.tesk-/launcher", "--stdout", "/a b/$(A)", "--log-bytes", "65536", "--", "$(A)", *odd]
    assert base64.b64decode(argv).decode().split("\0") == ["/bin/sh", *launched, ""]
    got = [one.partition("=") for one in base64.b64decode(environ).decode().split("\0")]
    # The kubelet keeps the values and shuffles the order.
    assert {name: value for name, _, value in got if name in env} == env
    assert found == ["there"] * len(paths)
    client.create(_on_scratch(owner, "look", "find /s/scratch -type f | sort"))
    until(lambda: _phase(client, f"{owner.name}-look") == "Succeeded")
    look = "".join(client.log(f"{owner.name}-look"))
    assert look.splitlines() == sorted(f"/s/scratch{one}/mark" for one in paths)


def _listing(paths: tuple[str, ...]) -> str:
    quoted = ["'" + one.replace("'", "'\\''") + "'" for one in paths]
    return "\n".join(f"touch {one}/mark && echo there" for one in quoted) + "\n"


def _on_scratch(owner: Owner, name: str, script: str, **env: str) -> Pod:
    return Pod(
        metadata=ObjectMeta(name=f"{owner.name}-{name}"),
        spec=PodSpec(
            restartPolicy="Never",
            terminationGracePeriodSeconds=0,
            containers=[
                Container(
                    name="main",
                    image=IMAGE,
                    command=["sh", "-c", script],
                    env=[EnvVar(name=one, value=value.replace("$", "$$")) for one, value in env.items()],
                    volumeMounts=[VolumeMount(name="s", mountPath="/s")],
                    securityContext=SecurityContext(runAsUser=0),
                )
            ],
            volumes=[
                Volume(name="s", persistentVolumeClaim=PersistentVolumeClaimVolumeSource(claimName=f"{owner.name}-pvc"))
            ],
        ),
    )


def _phase(client: Client, name: str) -> str | None:
    status = client.get(Pod, name).status
    return status.phase if status else None


def test_a_pod_finds_plan_site_and_owner_and_all_is_gone_with_the_first_object(client: Client, tmp_path: Path) -> None:
    """A plan over two ConfigMaps; the files are read by what the taskmaster reads them with."""
    key = new_key()
    noise = random.Random(5).randbytes(700 << 10).hex()
    plan = msgspec.structs.replace(COPYING, inputs=(Transfer("/data/in.txt", "FILE", content=noise),), parameters={})
    owner = start(client, key, plan, part_bytes=400 << 10)
    assert owner.parts > 1
    script = "cd /tesk/attempt && for one in *; do echo $one; base64 $one | tr -d '\\n'; echo; done"
    pod = run(client, with_command(make_taskmaster_job(owner, plan, BUSYBOX), "sh", "-c", script))
    lines = log(client, pod).splitlines()
    for name, text in zip(lines[::2], lines[1::2], strict=True):
        (tmp_path / name).write_bytes(base64.b64decode(text))
    found = read_attempt(tmp_path)
    assert (found.owner, found.plan, found.options, found.storage) == (owner, plan, BUSYBOX, STORAGE)
    client.create(make_scratch_claim(owner, plan, BUSYBOX))
    client.delete(ConfigMap, owner.name)
    labels = {TASK: key.task, ATTEMPT: "1"}
    kinds: tuple[Any, ...] = (ConfigMap, Job, Pod, PersistentVolumeClaim)
    until(lambda: not any(list(client.list(kind, labels=labels)) for kind in kinds))


def test_our_own_pods_are_fit_for_a_namespace_with_restricted_pods(cluster: Cluster) -> None:
    site = dataclasses.replace(SITE, taskmaster_service_account="")
    owner = Owner(new_key(), "8e7d1f0a-0000-4000-8000-000000000001")
    with new_namespace(cluster, **{"pod-security.kubernetes.io/enforce": "restricted"}) as client:
        plan = msgspec.structs.replace(COPYING, parameters={})
        for job in (make_taskmaster_job(owner, plan, site), make_filer_job(owner, plan, site, "in")):
            assert job.spec is not None
            client.create(Pod(metadata=ObjectMeta(name="x"), spec=job.spec.template.spec), dry_run=True)


def test_a_minimum_of_the_namespace_is_met(cluster: Cluster) -> None:
    plan = Plan((SAY,), resources=Resources(cpu_cores=0.01, ram_bytes=10 << 20))
    claim = msgspec.structs.replace(COPYING, resources=Resources(disk_bytes=1000))
    owner = Owner(new_key(), "8e7d1f0a-0000-4000-8000-000000000001")
    items = [
        {"type": "Container", "min": {"cpu": "50m", "memory": "32Mi"}},
        {"type": "PersistentVolumeClaim", "min": {"storage": "1Mi"}},
    ]
    with new_namespace(cluster) as client:
        client.create(LimitRange.from_dict({"metadata": {"name": "least"}, "spec": {"limits": items}}))
        least = minimums(client.list(LimitRange))
        for options, taken in ((BUSYBOX, False), (dataclasses.replace(BUSYBOX, minimums=least), True)):
            template = make_executor_job(owner, plan, options, 0).spec.template  # type: ignore[union-attr]
            made = (
                Pod(metadata=ObjectMeta(name="x"), spec=template.spec),
                make_scratch_claim(owner, claim, options),
            )
            for one in made:
                if taken:
                    client.create(one, dry_run=True)
                else:
                    with pytest.raises(ApiError, match="minimum"):
                        client.create(one, dry_run=True)


def test_an_executor_that_takes_too_long_is_ended_and_its_pod_and_log_stay(client: Client) -> None:
    plan = Plan((ExecutorPlan(IMAGE, ("x",)),), parameters={"max_runtime": "2"})
    owner = start(client, new_key(), plan)
    job = with_command(make_executor_job(owner, plan, BUSYBOX, 0), "sh", "-c", "echo begun; exec sleep 60")
    assert job.spec is not None
    assert job.spec.template.spec is not None
    job.spec.template.spec.initContainers = None
    pod = run(client, job)
    assert pod.status is not None
    assert (pod.status.phase, pod.status.reason) == ("Failed", "DeadlineExceeded")
    assert log(client, pod) == "begun\n"
