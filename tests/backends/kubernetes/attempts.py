"""Attempts, sites and plans that the tests of Kubernetes objects share."""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any

import msgspec

from tesk.backends.base import AttemptKey
from tesk.backends.kubernetes.handout import make_plan_config_maps, owned_by
from tesk.backends.kubernetes.names import Owner
from tesk.backends.kubernetes.objects import (
    make_executor_job,
    make_filer_job,
    make_pod,
    make_scratch_claim,
    make_taskmaster_job,
    needs_scratch,
)
from tesk.backends.kubernetes.options import (
    Allowed,
    FileVolume,
    KubernetesOptions,
    Minimums,
    Preemptible,
    ReportPlace,
    Requirements,
    SecretMount,
    Toleration,
)
from tesk.backends.kubernetes.report_map import make_report_config_map
from tesk.plan.model import Delivery, ExecutorPlan, Mount, Place, Plan, Resources, SharedMount, Transfer
from tesk.storage import StorageSettings
from tesk.taskmaster.report import ExecutorEnd, Report
from tesk.tes.states import State

KEY = AttemptKey("task-0123456789abc", 1)
OWNER = Owner(KEY, "8e7d1f0a-0000-4000-8000-000000000001")
SITE = KubernetesOptions(image="registry.example.org/tesk:1.0")
STORAGE = StorageSettings()
SAY = ExecutorPlan("busybox:1.36", ("echo", "hello"))
REPORT = Report(
    State.RUNNING,
    "2026-05-01T09:00:00.000Z",
    executors=(ExecutorEnd("2026-05-01T09:00:01.000Z", "2026-05-01T09:00:02.000Z", 3, "out", "err"),),
    system_logs=("executor 0 ended with exit code 3",),
)

MINIMAL = Plan((SAY,))

COPYING = Plan(
    executors=(
        ExecutorPlan(
            "ubuntu:24.04",
            ("/bin/md5sum", "/data/in.txt"),
            workdir="/data",
            stdin="/data/in.txt",
            stdout="/data/out/sum.txt",
            stderr="/data/out/errors",
            env={"Z": "first", "A": "second"},
        ),
        SAY,
    ),
    mounts=(Mount("/data"), Mount("/etc/tool.conf", "FILE", read_only=True)),
    directories=("/data", "/data/out"),
    inputs=(
        Transfer("/data/in.txt", "FILE", url="s3://bucket/in.txt"),
        Transfer("/etc/tool.conf", "FILE", content="x"),
    ),
    outputs=(Delivery("/data/out/sum.txt", "s3://bucket/sum.txt"),),
    resources=Resources(cpu_cores=1.5, ram_bytes=2 * 10**9, disk_bytes=5 * 10**9),
    parameters={
        "node_selector.disk": "ssd",
        "toleration_profile": "spot",
        "priority_class": "low",
        "service_account": "reader",
        "gpu": "2",
        "max_runtime": "600",
    },
)

EVERYTHING = KubernetesOptions(
    image="registry.example.org/tesk:1.0",
    namespace="tasks",
    instance="lab",
    image_pull_policy="Always",
    image_pull_secrets=("registry",),
    storage_class="fast",
    access_mode="ReadWriteMany",
    node_selector={"pool": "batch"},
    tolerations=(Toleration(key="batch", operator="Exists", effect="NoSchedule"),),
    labels={"cost-centre": "42"},
    annotations={"sidecar.istio.io/inject": "false"},
    taskmaster_service_account="runner",
    executor_service_account="nobody",
    executor_secret=SecretMount("licence", "/licence"),
    storage_secret="s3-keys",
    file_volumes=(FileVolume("archive", "/archive", read_only=True), FileVolume("results", "/results")),
    security_context={"fsGroup": None, "runAsGroup": 7},
    run_as_user=0,
    executor_security_context={"runAsUser": 1001, "allowPrivilegeEscalation": False},
    max_runtime=3600,
    taskmaster_resources=Requirements({"cpu": "20m"}),
    filer_resources=Requirements({"cpu": "1", "memory": "1Gi"}, {"cpu": "1", "memory": "1Gi"}),
    allowed=Allowed(
        ("disk",),
        ("low",),
        ("reader",),
        {"spot": (Toleration("spot", "Equal", "true", "NoExecute", 30),)},
        "nvidia.com/gpu",
    ),
    log_bytes=1000,
    minimums=Minimums(cpu_millicores=50),
    reports=ReportPlace("10.1.2.3", 8001, "tesk-reports-0123456789"),
)

ODD = Plan(
    executors=(
        ExecutorPlan(
            "images.example.org:5000/a/b@sha256:0123",
            ("sh", "-c", "echo $HOME $(HOME) $$ $$(HOME)", "", "a\nb", "'\"\\", "ä$"),
            stdout="/a $(X)/$$",
            env={"A B": "$(PATH)", "empty": "", "lines": "1\n2", "yes": "no", "$X": "$$"},
        ),
    ),
    mounts=(Mount("/.tesk"), Mount("/a $(X)"), Mount("/a:b,c")),
    directories=("/a $(X)", "/.tesk", "/a:b,c"),
)

SPOT = KubernetesOptions(
    image="registry.example.org/tesk:1.0",
    node_selector={"pool": "batch", "zone": "a"},
    tolerations=(Toleration(key="batch", operator="Exists"),),
    preemptible=Preemptible({"pool": "spot", "machines": "any"}, (Toleration("spot", "Equal", "true", "NoSchedule"),)),
)
CHEAP = msgspec.structs.replace(COPYING, resources=Resources(preemptible=True))

SHARING = KubernetesOptions(
    image="registry.example.org/tesk:1.0",
    file_volumes=(
        FileVolume("archive", "/archive"),
        FileVolume("genomes", "/genomes", read_only=True, name="genomes"),
        FileVolume("workflows", "/shared", name="work"),
        FileVolume("others", "/others", name="others"),
    ),
)
IN_PLACE = Plan(
    executors=(SAY,),
    outputs=(Delivery("/work/*.count", "/shared/run/1", "FILE", "/work", in_place=True),),
    shared=(
        SharedMount("/work", Place("work", "run/1")),
        SharedMount("/work/genome.fa", Place("genomes", "hg/genome.fa"), "FILE", read_only=True),
    ),
    shared_inputs=(Transfer("/work/genome.fa", "FILE", "/genomes/hg/genome.fa"),),
    shared_directories=("/work",),
)
BOTH_WAYS = msgspec.structs.replace(
    IN_PLACE, mounts=(Mount("/work/said", "FILE"),), inputs=(Transfer("/work/said", "FILE", content="x"),)
)

CASES: dict[str, tuple[AttemptKey, Plan, KubernetesOptions]] = {
    "minimal": (KEY, MINIMAL, SITE),
    "everything": (KEY, COPYING, EVERYTHING),
    "no-scratch": (
        KEY,
        Plan((SAY,), resources=Resources(cpu_cores=0.0001, ram_bytes=1, disk_bytes=3 * 10**9)),
        EVERYTHING,
    ),
    "second-attempt": (AttemptKey(KEY.task, 2), COPYING, SITE),
    "odd-strings": (KEY, ODD, SITE),
    "preemptible": (KEY, CHEAP, SPOT),
    "shared": (KEY, IN_PLACE, SHARING),
    "shared-and-scratch": (KEY, BOTH_WAYS, SHARING),
}


def objects(key: AttemptKey, plan: Plan, options: KubernetesOptions) -> list[Any]:
    """Every object of an attempt, in the order in which they are made; and the pod of layout `pod`."""
    first, *others = make_plan_config_maps(key, plan, options, STORAGE)
    owner = Owner(key, OWNER.uid, 1 + len(others))
    found: list[Any] = [first, *(owned_by(one, owner, options) for one in others)]
    found += [make_taskmaster_job(owner, plan, options), make_report_config_map(owner, REPORT, options)]
    if needs_scratch(plan):
        found += [make_scratch_claim(owner, plan, options), make_filer_job(owner, plan, options, "in")]
    found += [make_executor_job(owner, plan, options, index) for index in range(len(plan.executors))]
    if plan.outputs:
        found.append(make_filer_job(owner, plan, options, "out"))
    found.append(make_pod(owner, plan, options))
    return found


def readable(found: Any) -> dict[str, Any]:
    """An object as plain data, with the JSON that is compressed in it as data too: zlib's bytes differ by version."""
    data: dict[str, Any] = found.to_dict()
    for name, packed in (data.get("binaryData") or {}).items():
        data["binaryData"][name] = json.loads(gzip.decompress(base64.b64decode(packed)))
    for name, text in (data.get("data") or {}).items():
        data["data"][name] = json.loads(text)
    return data
