"""What the cluster takes without TESK: Jobs and pods of busybox on a volume, made by hand."""

from __future__ import annotations

import asyncio
import time

from lightkube.models.batch_v1 import JobSpec
from lightkube.models.core_v1 import (
    Container,
    EmptyDirVolumeSource,
    PersistentVolumeClaimSpec,
    PersistentVolumeClaimVolumeSource,
    PodSpec,
    PodTemplateSpec,
    Volume,
    VolumeMount,
    VolumeResourceRequirements,
)
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.batch_v1 import Job
from lightkube.resources.core_v1 import PersistentVolumeClaim, Pod

from bench.kube_sight import Sight
from tesk.backends.kubernetes.cluster import Cluster

__all__ = ["STEPS", "chains", "first_pod", "jobs", "pods", "whole_job", "whole_jobs"]

STEPS = ("echo hello > /data/in", "md5sum /data/in > /data/out", "cat /data/out")
"""What the three do, on the volume; nothing is copied from anywhere."""


async def jobs(cluster: Cluster, sight: Sight, image: str, name: str) -> float:
    """Seconds that three Jobs take one after the other on a new volume, each waited for until it is Complete."""
    begun = time.perf_counter()
    await _claim(cluster, name)
    for number, script in enumerate(STEPS):
        step = f"{name}-{number}"
        await _job(cluster, step, _spec(image, script, name))
        await sight.until(lambda step=step: sight.complete(step))  # type: ignore[misc]
    taken = time.perf_counter() - begun
    await _remove(cluster, name, Job)
    return taken


async def pods(cluster: Cluster, sight: Sight, image: str, name: str) -> float:
    """The same with three bare pods, each waited for until its container's status tells the end."""
    begun = time.perf_counter()
    await _claim(cluster, name)
    for number, script in enumerate(STEPS):
        step = f"{name}-{number}"
        await cluster.create(Pod(metadata=ObjectMeta(name=step), spec=_spec(image, script, name)))
        await sight.until(lambda step=step: sight.has(step, "ended"))  # type: ignore[misc]
    taken = time.perf_counter() - begun
    await _remove(cluster, name, Pod)
    return taken


async def whole_job(cluster: Cluster, sight: Sight, image: str, name: str) -> float:
    """Seconds that one Job takes that does all three, in two init containers and a container, until it is Complete."""
    begun = time.perf_counter()
    await cluster.create(_whole(image, name))
    await sight.until(lambda: sight.complete(name))
    taken = time.perf_counter() - begun
    await cluster.delete(Job, name)
    return taken


async def whole_jobs(cluster: Cluster, sight: Sight, image: str, name: str, count: int) -> float:
    """Seconds that `count` of them take at once."""
    names = [f"{name}-{number:02d}" for number in range(count)]
    begun = time.perf_counter()
    await asyncio.gather(*(cluster.create(_whole(image, one)) for one in names))
    await sight.until(lambda: all(sight.complete(one) for one in names))
    taken = time.perf_counter() - begun
    for one in names:
        await cluster.delete(Job, one)
    return taken


def _whole(image: str, name: str) -> Job:
    mounts = [VolumeMount(name="data", mountPath="/data")]
    steps = [
        Container(name=f"step-{number}", image=image, command=["sh", "-c", script], volumeMounts=mounts)
        for number, script in enumerate(STEPS)
    ]
    spec = PodSpec(
        initContainers=steps[:2],
        containers=steps[2:],
        volumes=[Volume(name="data", emptyDir=EmptyDirVolumeSource())],
        restartPolicy="Never",
        automountServiceAccountToken=False,
        enableServiceLinks=False,
    )
    template = PodTemplateSpec(metadata=ObjectMeta(), spec=spec)
    return Job(metadata=ObjectMeta(name=name), spec=JobSpec(backoffLimit=0, template=template))


async def first_pod(cluster: Cluster, sight: Sight, image: str, name: str) -> float:
    """Seconds from the request for a Job until its pod is seen."""
    begun = time.perf_counter()
    await _job(cluster, name, _spec(image, "true", None))
    await sight.until(lambda: sight.has(name, "created"))
    pod = sight.pod_of(name)
    assert pod is not None
    taken = sight.times[pod]["created"] - begun
    await cluster.delete(Job, name)
    return taken


async def chains(cluster: Cluster, sight: Sight, image: str, name: str, count: int, at_once: int) -> float:
    """Seconds until `count` chains are through: a controller's pod runs, then three Jobs on a volume, one by one.

    A step follows as soon as the container's status tells the end of the one before; at most `at_once` chains run. As a
    task does, a chain ends by freeing its volume: no volume goes before the pods that had it.
    """
    places = asyncio.Semaphore(at_once)

    async def chain(one: str) -> None:
        async with places:
            await _job(cluster, one, _spec(image, "trap 'exit 0' TERM; sleep 3600 & wait", None))
            await sight.until(lambda: sight.has(one, "runs"))
            await _claim(cluster, one)
            for number, script in enumerate(STEPS):
                step = f"{one}-{number}"
                await _job(cluster, step, _spec(image, script, one))
                await sight.until(lambda step=step: sight.has(step, "ended"))  # type: ignore[misc]
            await cluster.delete(Job, one, grace_seconds=1)
            await _remove(cluster, one, Job)

    begun = time.perf_counter()
    await asyncio.gather(*(chain(f"{name}-{number:02d}") for number in range(count)))
    return time.perf_counter() - begun


async def _claim(cluster: Cluster, name: str) -> None:
    spec = PersistentVolumeClaimSpec(
        accessModes=["ReadWriteOnce"], resources=VolumeResourceRequirements(requests={"storage": "1Gi"})
    )
    await cluster.create(PersistentVolumeClaim(metadata=ObjectMeta(name=name), spec=spec))


async def _job(cluster: Cluster, name: str, spec: PodSpec) -> None:
    template = PodTemplateSpec(metadata=ObjectMeta(), spec=spec)
    await cluster.create(Job(metadata=ObjectMeta(name=name), spec=JobSpec(backoffLimit=0, template=template)))


async def _remove(cluster: Cluster, name: str, kind: type[Job] | type[Pod]) -> None:
    for number in range(len(STEPS)):
        await cluster.delete(kind, f"{name}-{number}")
    await cluster.delete(PersistentVolumeClaim, name)


def _spec(image: str, script: str, claim: str | None) -> PodSpec:
    volumes = [Volume(name="data", persistentVolumeClaim=PersistentVolumeClaimVolumeSource(claimName=claim or ""))]
    container = Container(
        name="main",
        image=image,
        command=["sh", "-c", script],
        volumeMounts=[VolumeMount(name="data", mountPath="/data")] if claim else None,
    )
    return PodSpec(
        containers=[container],
        volumes=volumes if claim else None,
        restartPolicy="Never",
        automountServiceAccountToken=False,
        enableServiceLinks=False,
    )
