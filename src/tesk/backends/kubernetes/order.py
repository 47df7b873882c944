"""Whether the containers of a pod start one after the other here, as layout `pod` needs it: tried with a small pod.

That order is the kubelet's practice and no promise of the API (docs/decisions/0013-pod.md).
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import secrets
import time

from lightkube.models.core_v1 import PodSpec
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import Event, Pod

from tesk.backends.finding import Finding
from tesk.backends.key import AttemptKey
from tesk.backends.kubernetes.cluster import Cluster
from tesk.backends.kubernetes.errors import ClusterError, Refused
from tesk.backends.kubernetes.mounted import ATTEMPT_DIRECTORY, CONTROL_DIRECTORY, LAUNCHER_PROGRAM, PYTHON_PROGRAM
from tesk.backends.kubernetes.names import Owner, container_name
from tesk.backends.kubernetes.observe import observe_pod
from tesk.backends.kubernetes.options import KubernetesOptions
from tesk.backends.kubernetes.pods import launcher_directory, task_pod
from tesk.plan.model import ExecutorPlan, Plan

__all__ = ["check_order", "make_probe"]

_WHAT = "order of containers"
_SECOND = container_name(0)
_LOOK_AGAIN = 0.3
_GRACE = 1
_GONE_WITHIN = 15.0
_HOPELESS = 15.0
"""Seconds for what waiting does not cure, such as an image that cannot be pulled."""
_WITHIN = 15.0
_LATE = "import os, sys, time; time.sleep(1); os.execv(sys.argv[1], sys.argv[1:])"
"""The first container makes nothing for a second: whoever does not wait for its hook comes before that."""


def make_probe(options: KubernetesOptions, name: str) -> Pod:
    """A pod of the shape of an attempt's, whose second container ends with 0 if it finds what the first one made.

    It has our own image alone, and nothing of the site: no credentials, no files. It is of no attempt.
    """
    plain = dataclasses.replace(options, storage_secret="", file_volumes=(), executor_secret=None)
    plan = Plan(executors=(ExecutorPlan(options.image, ("true",)),))
    spec = task_pod(Owner(AttemptKey(name, 1), ""), plan, plain)
    first, second = spec.containers
    hold = [LAUNCHER_PROGRAM, "--hold", CONTROL_DIRECTORY, "1", "--", LAUNCHER_PROGRAM, "--await", "/never"]
    first.command = [PYTHON_PROGRAM, "-c", _LATE, *hold]
    first.volumeMounts = [one for one in first.volumeMounts or () if one.mountPath != ATTEMPT_DIRECTORY]
    second.command = [f"{launcher_directory(plan)}/launcher", "--version"]
    _without_attempt(spec)
    return Pod(
        metadata=ObjectMeta(
            name=name,
            labels={**options.labels, "app.kubernetes.io/managed-by": "tesk", "tesk/check": "order"},
            annotations=dict(options.annotations) or None,
        ),
        spec=spec,
    )


def _without_attempt(spec: PodSpec) -> None:
    spec.volumes = [one for one in spec.volumes or () if one.projected is None]
    spec.terminationGracePeriodSeconds = _GRACE
    # should nobody be left to remove it
    spec.activeDeadlineSeconds = 300


async def check_order(cluster: Cluster, options: KubernetesOptions, *, seconds: float = 60.0) -> Finding:
    """Run such a pod, look for so many `seconds`, and remove it.

    Raises ClusterError when the cluster cannot be asked.
    """
    name = f"tesk-check-{secrets.token_hex(4)}"
    try:
        await cluster.create(make_probe(options, name), within=_WITHIN)
        return await _watch(cluster, name, seconds)
    except Refused as error:
        return Finding(_WHAT, "no", f"not tried: {error}")
    finally:
        await _remove(cluster, name)


async def _watch(cluster: Cluster, name: str, seconds: float) -> Finding:
    """What becomes of the pod `name`."""
    begun = time.monotonic()
    while True:
        pod = await cluster.get(Pod, name, within=_WITHIN)
        events = await cluster.list(Event, {}, fields={"involvedObject.name": name}, within=_WITHIN)
        seen = observe_pod(pod, events, container=_SECOND)
        if seen.lost is not None:
            return Finding(_WHAT, "no", f"not known: {seen.lost.sentence}")
        if seen.ended is not None:
            return _found(seen.ended.exit_code, seen.ended.problem)
        why, took = seen.waiting, time.monotonic() - begun
        hopeless = why is not None and not why.curable and not why.usual
        if took > (min(seconds, _HOPELESS) if hopeless else seconds):
            said = why.sentence if why is not None else "nothing says why"
            message = f"the pod that tries it did not come to its end within {took:.0f} s: {said}"
            return Finding(_WHAT, "fail" if hopeless else "no", message)
        await asyncio.sleep(_LOOK_AGAIN)


def _found(code: int | None, problem: str | None) -> Finding:
    if code == 0:
        return Finding(_WHAT, "ok", "the second container of a pod started when the first one's hook had ended")
    said = problem or f"exit code {code}"
    return Finding(
        _WHAT,
        "fail",
        "the second container of a pod did not find what the first one makes before its hook ends "
        f"({said}): containers do not start in their order here; set kubernetes.layout to jobs",
    )


async def _remove(cluster: Cluster, name: str) -> None:
    """Return once the pod is gone, or its node has had time enough."""
    with contextlib.suppress(TimeoutError, ClusterError):
        async with asyncio.timeout(_GONE_WITHIN):
            await cluster.delete(Pod, name, grace_seconds=_GRACE)
            while True:
                if await cluster.get(Pod, name) is None:
                    return
                await asyncio.sleep(_LOOK_AGAIN)
