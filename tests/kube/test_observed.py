"""A step on a real cluster says what keeps it, or how it ended, within ten seconds."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterator

import pytest
from lightkube import ApiError, Client, KubeConfig
from lightkube.models.core_v1 import PersistentVolumeClaimSpec, ResourceQuotaSpec, VolumeResourceRequirements
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import PersistentVolumeClaim, ResourceQuota

from tesk.backends.kubernetes.observation import Observation
from tesk.backends.kubernetes.observe import observe
from tesk.backends.kubernetes.refusals import refused
from tests.kube.cluster import Cluster
from tests.kube.scenes.play import scenes
from tests.kube.scenes.stage import Scene, Stage, registry

pytestmark = [pytest.mark.kube, pytest.mark.timeout(180)]

SOON = 10.0

WAITING = {
    "account": "the cluster refuses its pod: error looking up service account",
    "claim-absent": "its volume claim 'absent' does not exist",
    "claim-class": "storage class 'absent' does not exist",
    "config-secret": 'its container cannot be set up: secret "absent" not found',
    "cpu": r"no node has enough cpu \(0/\d+ nodes are available: .*Insufficient cpu",
    "image-hanging": "image 'localhost:.*/hanging/bwa:0.7' is being pulled",
    "image-missing": "image 'localhost:.*/missing/bwa:0.7' cannot be pulled: not found",
    "image-name": "image 'Not A Name' is no valid name",
    "image-private": "image 'localhost:.*/private/bwa:0.7' cannot be pulled: 401 Unauthorized",
    "init-image": "its init container 'launcher': image 'localhost:.*/missing/tesk:1' cannot be pulled: not found",
    "limit-range": "the cluster refuses its pod: maximum cpu usage per Container is 100m",
    "mount-map": 'a volume cannot be mounted: .*configmap "absent" not found',
    "quota-small": "its pod is larger than quota 'small' of the namespace allows",
    "quota-used": "quota 'small' of the namespace is used up",
    "security": 'the cluster refuses its pod: violates PodSecurity "restricted',
    "selector": "no node has the labels that it asks for",
    "suspended": "its Job is suspended",
}
ENDED = {
    "exit-code": (3, "Error", None),
    "killed": (137, "Error", None),
    "no-command": (128, "StartError", "its container could not be started"),
    "out-of-memory": (137, "OOMKilled", "it ran out of memory"),
    "init-fails": (None, "InitContainerFailed", "its init container 'launcher' ended with exit code 9"),
    "injected": (0, "Completed", None),
}
LOST = {
    "deleted": "its pod was deleted",
    "evicted": "its pod was evicted from node",
    "job-deleted": "its Job was deleted",
    "node-cpu": "refused its pod: Node didn't have enough resource: cpu",
}


@pytest.fixture(scope="module")
def client(cluster: Cluster) -> Iterator[Client]:
    cluster.need_here()  # a registry of this machine is one of the scenes
    with Client(KubeConfig.from_file(str(cluster.kubeconfig))) as made:
        yield made


@pytest.fixture(scope="module")
def played() -> Iterator[dict[str, Scene]]:
    with registry() as host:
        yield {scene.name: scene for scene in scenes(host)}


def watch(client: Client, scene: Scene, kind: str) -> Observation:
    """Play `scene` until what is observed has something under `kind`, or ten seconds have passed."""
    with Stage(client, scene, f"observe-{secrets.token_hex(3)}") as stage:
        if scene.until:
            stage.wait(scene.until, 30)
        if scene.act:
            scene.act(stage)
        begun = time.monotonic()
        while True:
            seen = stage.look()
            found = observe(seen.job, seen.pods, seen.claim, seen.events)
            told = getattr(found, kind)
            passing = kind == "waiting" and told and re.search(r"^its pod|being pulled$|gets no volume", told.sentence)
            late = time.monotonic() - begun > SOON
            if late or (told and not (passing and not _wanted(scene, told.sentence))):
                print(f"{scene.name}: {time.monotonic() - begun:.1f} s: {told}")
                return found
            time.sleep(0.1)


def _wanted(scene: Scene, sentence: str) -> bool:
    return re.search(WAITING[scene.name], sentence) is not None


@pytest.mark.parametrize("name", WAITING)
def test_what_keeps_a_step_is_told_soon(client: Client, played: dict[str, Scene], name: str) -> None:
    seen = watch(client, played[name], "waiting")
    assert seen.waiting is not None
    assert re.search(WAITING[name], seen.waiting.sentence), seen.waiting
    assert (seen.ended, seen.lost) == (None, None)


@pytest.mark.parametrize("name", ENDED)
def test_how_a_step_ended_is_told_soon(client: Client, played: dict[str, Scene], name: str) -> None:
    code, reason, problem = ENDED[name]
    ended = watch(client, played[name], "ended").ended
    assert ended is not None
    assert (ended.exit_code, ended.reason) == (code, reason)
    assert ended.problem is None if problem is None else problem in (ended.problem or "")


@pytest.mark.parametrize("name", LOST)
def test_how_a_step_was_lost_is_told_soon(client: Client, played: dict[str, Scene], name: str) -> None:
    seen = watch(client, played[name], "lost")
    assert seen.lost is not None
    assert LOST[name] in seen.lost.sentence
    assert seen.ended is None


def test_a_quota_on_claims_is_told_by_the_refusal_itself(client: Client, played: dict[str, Scene]) -> None:
    scene = played["suspended"]
    with Stage(client, scene, f"observe-{secrets.token_hex(3)}") as stage:
        hard = {"persistentvolumeclaims": "0"}
        quota = ResourceQuota(metadata=ObjectMeta(name="disks"), spec=ResourceQuotaSpec(hard=hard))
        client.create(quota, namespace=stage.namespace)
        stage.await_quotas()
        resources = VolumeResourceRequirements(requests={"storage": "1Mi"})
        spec = PersistentVolumeClaimSpec(accessModes=["ReadWriteOnce"], resources=resources)
        claim = PersistentVolumeClaim(metadata=ObjectMeta(name="scratch"), spec=spec)
        with pytest.raises(ApiError) as caught:
            client.create(claim, namespace=stage.namespace)
        told = refused(caught.value.status, "its volume claim")
        assert told is not None
        assert told.sentence == (
            "its volume claim is larger than quota 'disks' of the namespace allows "
            "(persistentvolumeclaims: 1 more, 0 of 0 in use)"
        )
        assert not told.curable
