"""What is seen of a step, by what a real API server said of it, and by what it could not be brought to say."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from lightkube.models.batch_v1 import Job
from lightkube.models.core_v1 import Event, PersistentVolumeClaim, Pod

from tesk.backends.kubernetes.observation import Ended, Lost, Observation, Waiting
from tesk.backends.kubernetes.observe import observe
from tesk.backends.kubernetes.trimmed import trim_event, trim_job, trim_pod

DATA = Path(__file__).parents[2] / "data" / "kubernetes"
Json = dict[str, Any]


def look(raw: Json, container: str | None = None) -> Observation:
    return observe(
        Job.from_dict(raw["job"]) if raw.get("job") else None,
        [Pod.from_dict(pod) for pod in raw.get("pods", ())],
        PersistentVolumeClaim.from_dict(raw["claim"]) if raw.get("claim") else None,
        [Event.from_dict(event) for event in raw.get("events", ())],
        container=container,
    )


def recorded(name: str) -> Json:
    raw: Json = json.loads((DATA / f"{name}.json").read_text())
    return raw


def waits(sentence: str, *, curable: bool = False, usual: bool = False) -> Waiting:
    return Waiting(sentence, curable, usual)


BWA = "localhost:5000/{}/bwa:0.7"

WAITING = {
    "account-refused": waits(
        "the cluster refuses its pod: error looking up service account observe-account/absent: "
        'serviceaccount "absent" not found'
    ),
    "claim-absent-waiting": waits(
        "its volume claim 'absent' does not exist (0/1 nodes are available: persistentvolumeclaim \"absent\" not found)"
    ),
    "claim-class-waiting": waits("storage class 'absent' does not exist"),
    "claim-late-waiting": waits(
        "volume claim 'observed-pvc' waits for the provisioner 'observe.example/none'", usual=True
    ),
    "claim-no-class-waiting": waits(
        "volume claim 'observed-pvc' gets no volume: no persistent volumes available for this claim and no storage "
        "class is set"
    ),
    "config-map-waiting": waits('its container cannot be set up: configmap "absent" not found'),
    "config-root-waiting": waits(
        "its container cannot be set up: container has runAsNonRoot and image will run as root"
    ),
    "config-secret-waiting": waits('its container cannot be set up: secret "absent" not found'),
    "cpu-waiting": waits("no node has enough cpu (0/1 nodes are available: 1 Insufficient cpu)", curable=True),
    "crash-loop-waiting": waits(
        "its container ended with exit code 4 and is started again after a pause (restarts so far: 1)"
    ),
    "gate-waiting": waits("its pod is held back by the scheduling gate kueue.x-k8s.io/admission", curable=True),
    "gpu-waiting": waits(
        "no node has enough nvidia.com/gpu (0/1 nodes are available: 1 Insufficient nvidia.com/gpu)", curable=True
    ),
    "image-hanging-waiting": waits(f"image '{BWA.format('hanging')}' is being pulled"),
    "image-limited-first": waits(f"image '{BWA.format('limited')}' cannot be pulled: 429 Too Many Requests"),
    "image-limited-again": waits(f"image '{BWA.format('limited')}' cannot be pulled: 429 Too Many Requests"),
    "image-missing-first": waits(f"image '{BWA.format('missing')}' cannot be pulled: not found"),
    "image-missing-again": waits(f"image '{BWA.format('missing')}' cannot be pulled: not found"),
    "image-private-first": waits(f"image '{BWA.format('private')}' cannot be pulled: 401 Unauthorized"),
    "image-private-again": waits(f"image '{BWA.format('private')}' cannot be pulled: 401 Unauthorized"),
    "image-name-waiting": waits(
        "image 'Not A Name' is no valid name: repository name (library/Not A Name) must be lowercase"
    ),
    "image-never-waiting": waits("image 'localhost/absent:1' is not on node 'node-1', and its pull policy is Never"),
    "image-no-registry-first": waits(
        "image 'registry.invalid/tools/bwa:0.7' cannot be pulled: dial tcp: lookup registry.invalid on 10.96.0.10:53: "
        "no such host"
    ),
    "image-refused-connection-again": waits(
        "image 'localhost:9/tools/bwa:0.7' cannot be pulled: dial tcp 127.0.0.1:9: connect: connection refused"
    ),
    "init-image-waiting": waits(
        "its init container 'launcher': image 'localhost:5000/missing/tesk:1' cannot be pulled: not found"
    ),
    "init-runs-waiting": waits("its init container 'launcher' runs first", usual=True),
    "limit-range-refused": waits(
        "the cluster refuses its pod: maximum cpu usage per Container is 100m, but limit is 200m"
    ),
    "memory-waiting": waits(
        "no node has enough cpu and memory (0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient memory)",
        curable=True,
    ),
    "mount-map-waiting": waits(
        'a volume cannot be mounted: MountVolume.SetUp failed for volume "plan" : configmap "absent" not found'
    ),
    "node-silent-unready": waits(
        "node 'observe-node-silent' does not answer; its pod may still run there", curable=True
    ),
    "quota-must-refused": waits("quota 'small' of the namespace takes its pod only with limits.cpu for: main"),
    "quota-small-refused": waits(
        "its pod is larger than quota 'small' of the namespace allows (requests.cpu: 2 more, 0 of 1 in use; "
        "requests.memory: 1Gi more, 0 of 512Mi in use)"
    ),
    "quota-used-refused": waits(
        "quota 'small' of the namespace is used up (pods: 1 more, 1 of 1 in use)", curable=True
    ),
    "retry-first": waits("it ended with exit code 4; its Job tries it again", curable=True),
    "retry-second": waits("its pod begins on node 'node-1'", curable=True, usual=True),
    "sandbox-waiting": waits(
        "node 'node-1' cannot make its pod: container init was OOM-killed (memory limit too low?)"
    ),
    "security-refused": waits(
        'the cluster refuses its pod: violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false '
        '(container "main" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities '
        '(container "main" must set securityContext.capabilities.drop=["ALL"]), runAsNonRoot != true (pod or container '
        '"main" must…'
    ),
    "selector-waiting": waits(
        "no node has the labels that it asks for (0/1 nodes are available: 1 node(s) didn't match Pod's node "
        "affinity/selector)"
    ),
    "suspended-waiting": waits(
        "its Job is suspended until someone, or a queue such as Kueue, resumes it", curable=True
    ),
    "taint-waiting": waits(
        "no node takes it that is not tainted (0/5 nodes are available: 1 node(s) didn't match Pod's node "
        "affinity/selector, 4 node(s) had untolerated taint(s))",
        curable=True,
    ),
}

ENDED: dict[str, tuple[int | None, str, str | None]] = {
    "succeeded-ended": (0, "Completed", None),
    "succeeded-complete": (0, "Completed", None),
    "exit-code-ended": (3, "Error", None),
    "exit-code-failed": (3, "Error", None),
    "killed-ended": (137, "Error", None),
    "out-of-memory-ended": (137, "OOMKilled", "it ran out of memory (its limit is 16Mi)"),
    "out-of-memory-child-ended": (5, "OOMKilled", "a process of it ran out of memory (its limit is 16Mi)"),
    "job-deadline-failed": (None, "DeadlineExceeded", "it ran longer than allowed (3 s)"),
    "pod-deadline-failed": (137, "DeadlineExceeded", "it ran longer than allowed (2 s)"),
    "no-command-ended": (
        128,
        "StartError",
        'its container could not be started: exec: "/no/such/program": stat /no/such/program: '
        "no such file or directory",
    ),
    "retry-failed": (4, "Error", "it was tried 2 times"),
    "crash-loop-failed": (
        None,
        "BackoffLimitExceeded",
        "it failed more often than its Job allows (backoffLimit 2)",
    ),
    "failure-policy-failed": (42, "Error", None),
    "sidecar-ended": (7, "Error", None),
    "sidecar-failed": (7, "Error", None),
    "injected-ended": (0, "Completed", None),
    "init-fails-ended": (
        None,
        "InitContainerFailed",
        "its init container 'launcher' ended with exit code 9, so that it never ran",
    ),
    "init-fails-failed": (
        None,
        "InitContainerFailed",
        "its init container 'launcher' ended with exit code 9, so that it never ran",
    ),
    "disk-failed": (
        137,
        "Evicted",
        "it used more disk than its limit (Pod ephemeral local storage usage exceeds the total limit of "
        "containers 2Mi)",
    ),
}

GONE = "its pod is gone: it was deleted, or removed with its node"
LOST = {
    "deleted-deleting": Lost("its pod was deleted", may_run=True),
    "deleted-ended": Lost("its pod was deleted"),
    "deleted-gone": Lost(GONE),
    "job-deleted-gone": Lost("its Job was deleted", may_run=True),
    "evicted-deleting": Lost(
        "its pod was evicted from node 'node-1', as when a node is drained", preempted=True, may_run=True
    ),
    "evicted-ended": Lost("its pod was evicted from node 'node-1', as when a node is drained", preempted=True),
    "evicted-failed": Lost(GONE),
    "node-affinity-failed": Lost(
        "node 'node-1' refused its pod: Predicate NodeAffinity failed: node(s) didn't match Pod's node "
        "affinity/selector"
    ),
    "node-cpu-failed": Lost(
        "node 'node-1' refused its pod: Node didn't have enough resource: cpu, requested: 500000, used: 10, "
        "capacity: 2000"
    ),
    "node-removed-deleting": Lost("its pod was removed with its node 'observe-node-removed'", preempted=True),
    "node-removed-failed": Lost(GONE),
    "preempted-deleting": Lost(
        "its pod was preempted on node 'observe-preempted' by a more important one", preempted=True, may_run=True
    ),
    "taint-evicted-deleting": Lost(
        "its pod was evicted for a taint on node 'observe-taint-evicted', as when that does not answer",
        preempted=True,
        may_run=True,
    ),
}


@pytest.mark.parametrize("name", WAITING)
def test_what_waits_says_why(name: str) -> None:
    seen = look(recorded(name))
    assert (seen.waiting, seen.ended, seen.lost) == (WAITING[name], None, None)


@pytest.mark.parametrize("name", ENDED)
def test_what_has_ended_says_how(name: str) -> None:
    seen = look(recorded(name))
    assert seen.ended is not None
    assert (seen.waiting, seen.lost) == (None, None)
    assert (seen.ended.exit_code, seen.ended.reason, seen.ended.problem) == ENDED[name]


@pytest.mark.parametrize("name", LOST)
def test_what_is_lost_says_how(name: str) -> None:
    seen = look(recorded(name))
    assert (seen.lost, seen.ended, seen.waiting) == (LOST[name], None, None)


@pytest.mark.parametrize("name", ["succeeded-running", "job-deadline-deleting"])
def test_what_runs_says_nothing_more(name: str) -> None:
    seen = look(recorded(name))
    assert seen == Observation(scheduled=True, started=seen.started)
    assert seen.started


@pytest.mark.parametrize("name", [*WAITING, *ENDED, *LOST])
def test_what_a_server_keeps_of_an_object_tells_the_same(name: str) -> None:
    raw = recorded(name)
    seen = observe(
        trim_job(Job.from_dict(raw["job"])) if raw.get("job") else None,
        [trim_pod(Pod.from_dict(pod)) for pod in raw.get("pods", ())],
        PersistentVolumeClaim.from_dict(raw["claim"]) if raw.get("claim") else None,
        [trim_event(Event.from_dict(event)) for event in raw.get("events", ())],  # type: ignore[arg-type]
    )
    whole = look(raw)
    assert (seen.scheduled, seen.started, seen.lost) == (whole.scheduled, whole.started, whole.lost)
    assert (seen.ended is None, seen.waiting) == (whole.ended is None, whole.waiting)


def test_a_taskmaster_that_ended_since_its_deletion_is_lost_in_what_a_server_keeps() -> None:
    pod = trim_pod(Pod.from_dict(a_pod(over(143, T2), meta=DELETED)))
    assert observe(None, [pod], None, []).lost == Lost("its Job was deleted")


def test_every_recording_is_told() -> None:
    known = {*WAITING, *ENDED, *LOST, "succeeded-running", "job-deadline-deleting"}
    alike = {"image-no-registry-again", "image-refused-connection-first", "node-silent-deleting"}
    assert {path.stem for path in DATA.glob("*.json")} <= known | alike


def test_times_and_message_are_those_of_the_container() -> None:
    raw = recorded("succeeded-ended")
    seen = look(raw)
    state = raw["pods"][0]["status"]["containerStatuses"][0]["state"]["terminated"]
    assert seen.ended == Ended(
        0,
        state["startedAt"].replace("Z", ".000Z"),
        state["finishedAt"].replace("Z", ".000Z"),
        "Completed",
        "all good",
    )
    assert seen.started == seen.ended.start


def test_a_container_that_never_started_did_not_start_in_1970() -> None:
    seen = look(recorded("no-command-ended"))
    assert seen.started is None
    assert seen.ended is not None
    assert seen.ended.start == seen.ended.end
    assert seen.ended.message == ""


@pytest.mark.parametrize(("name", "scheduled"), [("cpu-waiting", False), ("image-missing-first", True)])
def test_scheduled_is_a_pod_with_a_node(name: str, scheduled: bool) -> None:
    assert look(recorded(name)).scheduled is scheduled


# What the cluster here could not be brought to say, from the sources and documents of Kubernetes.

T0, T1, T2, T3 = (f"2026-01-01T00:00:0{second}Z" for second in range(4))


def a_job(*conditions: Json, backoff: int = 0, restart: str = "Never", meta: Json | None = None, **status: Any) -> Json:
    return {
        "metadata": {"name": "step", **(meta or {})},
        "spec": {
            "backoffLimit": backoff,
            "template": {"spec": {"restartPolicy": restart, "containers": [{"name": "main", "image": "bwa:1"}]}},
        },
        "status": {"startTime": T0, "conditions": list(conditions), **status},
    }


def a_pod(state: Json | None = None, *, meta: Json | None = None, node: str = "n1", **status: Any) -> Json:
    containers = [{"name": "main", "image": "bwa:1", "ready": True, "restartCount": 0, "imageID": "", "state": state}]
    return {
        "metadata": {"name": "step-1", "creationTimestamp": T0, **(meta or {})},
        "spec": {"nodeName": node, "containers": [{"name": "main", "image": "bwa:1"}]} if node else {"containers": []},
        "status": {"containerStatuses": containers if state else [], **status},
    }


def condition(kind: str, status: str = "True", reason: str = "", message: str = "", at: str = T2) -> Json:
    return {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": at}


def an_event(reason: str, message: str, kind: str = "Pod", name: str = "step-1", at: str = T1) -> Json:
    about = {"kind": kind, "name": name}
    return {"metadata": {}, "reason": reason, "message": message, "involvedObject": about, "lastTimestamp": at}


def running(at: str = T1) -> Json:
    return {"running": {"startedAt": at}}


def over(code: int, at: str = T1, **more: Any) -> Json:
    reason = "Completed" if code == 0 else "Error"
    return {"terminated": {"exitCode": code, "startedAt": T0, "finishedAt": at, "reason": reason, **more}}


def waiting(reason: str, message: str = "") -> Json:
    return {"waiting": {"reason": reason, "message": message}}


def see(job: Json | None, *pods: Json, claim: Json | None = None, events: Sequence[Json] = ()) -> Observation:
    return look({"job": job, "pods": pods, "claim": claim, "events": events})


DELETED = {"deletionTimestamp": T3, "deletionGracePeriodSeconds": 1}


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        (waiting("RegistryUnavailable", "tls: bad"), "image 'bwa:1' cannot be pulled: tls: bad"),
        (waiting("SignatureValidationFailed", "no key"), "image 'bwa:1' cannot be pulled: no key"),
        (
            waiting("ErrImagePull", "reading manifest 1 in docker.io/library/bwa: manifest unknown"),
            "image 'bwa:1' cannot be pulled: reading manifest 1 in docker.io/library/bwa: manifest unknown",
        ),
        (
            waiting("CreateContainerError", 'context deadline exceeded (pod: "x", container: main)'),
            "its container cannot be started: context deadline exceeded",
        ),
        (
            waiting(
                "RunContainerError",
                "failed to create containerd task: failed to create shim task: OCI runtime create failed: "
                "runc create failed: unable to start container process: permission denied: unknown",
            ),
            "its container cannot be started: permission denied",
        ),
        (waiting("SomethingNew", "said\n so."), "SomethingNew: said so"),
        (waiting("SomethingNew"), "SomethingNew"),
    ],
)
def test_reasons_of_a_waiting_container(state: Json, sentence: str) -> None:
    assert see(a_job(), a_pod(state)).waiting == waits(sentence)


def test_an_older_kubelet_tells_the_registrys_words_in_the_event_alone() -> None:
    pod = a_pod(waiting("ImagePullBackOff", 'Back-off pulling image "bwa:1"'))
    events = [
        an_event("Failed", 'Failed to pull image "bwa:1": rpc error: code = Unknown desc = denied', at=T1),
        an_event("BackOff", 'Back-off pulling image "bwa:1"', at=T2),
    ]
    assert see(a_job(), pod, events=events).waiting == waits("image 'bwa:1' cannot be pulled: denied")
    assert see(a_job(), pod).waiting == waits("image 'bwa:1' cannot be pulled")


def test_the_newest_event_tells_what_keeps_a_container_from_being_made() -> None:
    pod = a_pod(waiting("ContainerCreating"))
    attach = an_event("FailedAttachVolume", "Multi-Attach error for volume", at=T1)
    pulling = an_event("Pulling", 'Pulling image "bwa:1"', at=T2)
    of_another = an_event("FailedMount", "not ours", name="step-2", at=T3)
    assert see(a_job(), pod, events=[attach, of_another]).waiting == waits(
        "a volume cannot be attached to its node: Multi-Attach error for volume"
    )
    assert see(a_job(), pod, events=[pulling, attach]).waiting == waits("image 'bwa:1' is being pulled")


def test_of_two_events_of_one_second_the_later_one_tells_what_keeps_a_container() -> None:
    """The image of an init container was there, it ended, and the next container's is asked for."""
    second = int(datetime.fromisoformat(T1).timestamp()) * 10**9
    pulled = an_event("Pulled", 'Container image "tesk:1" already present on machine')
    pulling = an_event("Pulling", 'Pulling image "bwa:1"')
    pulled["metadata"]["name"] = f"step-1.{second + 1:x}"
    pulling["metadata"]["name"] = f"step-1.{second + 2:x}"
    pod = a_pod(waiting("PodInitializing"))
    for events in ([pulled, pulling], [pulling, pulled]):
        assert see(a_job(), pod, events=events).waiting == waits("image 'bwa:1' is being pulled")
    again = {**pulled, "lastTimestamp": T2}
    begins = waits("its pod begins on node 'n1'", curable=True, usual=True)
    assert see(a_job(), pod, events=[pulling, again]).waiting == begins


def test_a_failed_pull_is_told_by_its_event_before_the_container_says_so() -> None:
    raw = recorded("image-missing-first")
    raw["pods"][0]["status"]["containerStatuses"][0]["state"] = waiting("ContainerCreating")
    assert look(raw).waiting == WAITING["image-missing-first"]


def test_another_failure_waits_for_the_state_that_tells_it_better() -> None:
    pod, event = a_pod(waiting("ContainerCreating")), an_event("Failed", "Error: InvalidImageName")
    assert see(a_job(), pod, events=[event]).waiting == waits("its pod begins on node 'n1'", curable=True, usual=True)


def claim(phase: str = "Pending") -> Json:
    return {"metadata": {"name": "step-pvc"}, "spec": {}, "status": {"phase": phase}}


@pytest.mark.parametrize(
    ("reason", "message", "sentence", "curable"),
    [
        ("Provisioning", "External provisioner is provisioning", "waits for the provisioner", False),
        (
            "ProvisioningFailed",
            "rpc error: code = InvalidArgument desc = bad\n type.",
            "gets no volume: bad type",
            False,
        ),
        (
            "ProvisioningFailed",
            "rpc error: code = ResourceExhausted desc = pool is full",
            "gets no volume: pool is full",
            True,
        ),
        ("WaitForFirstConsumer", "waiting for first consumer", "waits until its pod has a node", True),
    ],
)
def test_a_claim_without_a_volume_says_why(reason: str, message: str, sentence: str, curable: bool) -> None:
    event = an_event(reason, message, "PersistentVolumeClaim", "step-pvc")
    seen = see(a_job(), claim=claim(), events=[event])
    usual = reason != "ProvisioningFailed"
    assert seen.waiting == waits(f"volume claim 'step-pvc' {sentence}", curable=curable, usual=usual)


def test_a_claim_that_waits_for_its_pod_does_not_hide_why_no_node_takes_the_pod() -> None:
    pod = a_pod(
        node="",
        conditions=[
            condition("PodScheduled", "False", "Unschedulable", "0/1 nodes are available: 1 Insufficient cpu.")
        ],
    )
    event = an_event("WaitForFirstConsumer", "waiting", "PersistentVolumeClaim", "step-pvc")
    seen = see(a_job(), pod, claim=claim(), events=[event])
    assert seen.waiting == waits("no node has enough cpu (0/1 nodes are available: 1 Insufficient cpu)", curable=True)


def test_a_claim_that_lost_its_volume_says_so() -> None:
    assert see(a_job(), claim=claim("Lost")).waiting == waits("volume claim 'step-pvc' has lost its volume")


@pytest.mark.parametrize(
    ("message", "lead", "curable"),
    [
        ("0/2 nodes are available: 2 Too many pods.", "no node has room for another pod", True),
        (
            "0/1 nodes are available: 1 node(s) had untolerated taint {node.kubernetes.io/not-ready: }.",
            "no node takes it that is not tainted",
            True,
        ),
        (
            "0/1 nodes are available: 1 node(s) were unschedulable.",
            "every node that it could use is closed for new pods",
            True,
        ),
        ("0/1 nodes are available: 1 node(s) had volume node affinity conflict.", "no node can take it", False),
        (
            "0/3 nodes are available: 1 Insufficient memory, 2 node(s) didn't match Pod's node affinity/selector.",
            "no node has enough memory",
            True,
        ),
        ('persistentvolumeclaim "a" is being deleted', "its volume claim 'a' is being deleted", False),
        ("no nodes available to schedule pods", "no node can take it", True),
        ("0/1 nodes are available: 1 something that is not known here.", "no node can take it", True),
    ],
)
def test_why_no_node_takes_it(message: str, lead: str, curable: bool) -> None:
    pod = a_pod(node="", conditions=[condition("PodScheduled", "False", "Unschedulable", message)])
    assert see(a_job(), pod).waiting == waits(f"{lead} ({message.rstrip('.')})", curable=curable)


def test_a_cluster_that_grows_cures_a_missing_label() -> None:
    message = "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."
    pod = a_pod(node="", conditions=[condition("PodScheduled", "False", "Unschedulable", message)])
    event = an_event("TriggeredScaleUp", "pod triggered scale-up: [{spot 0->1 (max: 5)}]")
    seen = see(a_job(), pod, events=[event]).waiting
    assert seen is not None
    assert seen.curable
    assert seen.sentence.endswith("; the cluster is adding a node")


def test_before_anything_is_known_it_waits() -> None:
    assert see(a_job()).waiting == waits("its pod is being made", curable=True, usual=True)
    assert see(a_job(), a_pod(node="")).waiting == waits("its pod waits for the scheduler", curable=True, usual=True)
    assert see(a_job(), a_pod()).waiting == waits("its pod begins on node 'n1'", curable=True, usual=True)


def test_a_refusal_that_was_overcome_is_forgotten() -> None:
    events = [
        an_event("FailedCreate", "Error creating: exceeded quota", "Job", "step", at=T1),
        an_event("SuccessfulCreate", "Created pod: step-1", "Job", "step", at=T2),
    ]
    assert see(a_job(), events=events).waiting == waits("its pod is being made", curable=True, usual=True)


@pytest.mark.parametrize(
    ("reason", "message", "lost"),
    [
        (
            "Terminated",
            "Pod was terminated in response to imminent node shutdown.",
            Lost("node 'n1' was shut down", True),
        ),
        ("NodeShutdown", "Pod was rejected as the node is shutting down.", Lost("node 'n1' was shut down", True)),
        (
            "Preempting",
            "Preempted in order to admit critical pod",
            Lost("its pod was preempted on node 'n1' by a more important one", True),
        ),
        (
            "Evicted",
            "The node was low on resource: memory. Threshold quantity: 100Mi, available: 20Mi.",
            Lost(
                "its pod was evicted from node 'n1': The node was low on resource: memory. Threshold quantity: 100Mi, "
                "available: 20Mi"
            ),
        ),
        ("NodeLost", "Node n1 which was running pod step-1 is unresponsive", Lost("node 'n1' was lost", True)),
        (
            "UnexpectedAdmissionError",
            "Pod was rejected: Allocate failed due to no healthy devices present",
            Lost("node 'n1' refused its pod: Allocate failed due to no healthy devices present"),
        ),
    ],
)
def test_a_pod_that_its_node_ended_is_lost(reason: str, message: str, lost: Lost) -> None:
    assert see(a_job(), a_pod(over(137), phase="Failed", reason=reason, message=message)).lost == lost
    assert see(a_job(), a_pod(phase="Failed", reason=reason, message=message)).lost == lost


def test_a_kubelets_own_disruption_is_told_by_its_condition() -> None:
    by = condition("DisruptionTarget", reason="TerminationByKubelet", message="node low on disk.")
    seen = see(a_job(), a_pod(over(137, T3), phase="Failed", conditions=[by]))
    assert seen.lost == Lost("its pod was ended by its cluster (TerminationByKubelet): node low on disk")


def test_a_disruption_that_has_not_come_is_none() -> None:
    by = condition("DisruptionTarget", reason="EvictionByEvictionAPI")
    assert see(a_job(), a_pod(running(), conditions=[by])) == Observation(True, "2026-01-01T00:00:01.000Z")


@pytest.mark.parametrize("kind", ["Complete", "SuccessCriteriaMet", "Failed", "FailureTarget", "Suspended"])
def test_a_condition_that_is_not_true_says_nothing(kind: str) -> None:
    job = a_job(condition(kind, "False", "BackoffLimitExceeded"))
    assert see(job).waiting == waits("its pod is being made", curable=True, usual=True)
    assert see(job, a_pod(running())).waiting is None


def test_a_disruption_that_is_not_true_takes_nothing_away() -> None:
    by = condition("DisruptionTarget", "False", "EvictionByEvictionAPI")
    seen = see(a_job(), a_pod(over(1), phase="Failed", conditions=[by]))
    assert seen.ended is not None
    assert seen.ended.exit_code == 1


def test_an_end_before_the_deletion_is_an_end() -> None:
    assert see(a_job(), a_pod(over(0, T1), meta=DELETED)).ended == Ended(
        0, "2026-01-01T00:00:00.000Z", "2026-01-01T00:00:01.000Z", "Completed"
    )


@pytest.mark.parametrize("code", [0, 1, 137, 143])
@pytest.mark.parametrize("at", [T2, T3])
def test_an_end_since_the_deletion_is_none_whatever_the_command_made_of_the_signal(code: int, at: str) -> None:
    seen = see(a_job(), a_pod(over(code, at), meta=DELETED))
    assert seen.lost == Lost("its pod was deleted")
    assert seen.ended is None


def test_a_success_counts_also_during_the_deletion_where_the_job_might_have_tried_again() -> None:
    job = a_job(condition("SuccessCriteriaMet"), backoff=3)
    ended = see(job, a_pod(over(0, T3), meta=DELETED)).ended
    assert ended is not None
    assert ended.exit_code == 0


@pytest.mark.parametrize("job", [None, a_job(meta={"deletionTimestamp": T2})])
def test_a_pod_that_goes_with_its_job_is_lost_for_that(job: Json | None) -> None:
    assert see(job, a_pod(running(), meta=DELETED)).lost == Lost("its Job was deleted", may_run=True)
    by = condition("DisruptionTarget", reason="EvictionByEvictionAPI")
    lost = see(job, a_pod(running(), meta=DELETED, conditions=[by])).lost
    assert lost == Lost("its pod was evicted from node 'n1', as when a node is drained", True, may_run=True)


def test_a_deadline_is_told_before_the_job_says_so() -> None:
    job = a_job()
    job["spec"]["activeDeadlineSeconds"] = 2
    seen = see(job, a_pod(over(143, T3), meta=DELETED))
    assert seen.ended is not None
    assert (seen.ended.reason, seen.ended.exit_code) == ("DeadlineExceeded", 143)
    assert see(job, a_pod(running(), meta=DELETED)).lost is None
    job["spec"]["activeDeadlineSeconds"] = 3
    assert see(job, a_pod(over(143, T3), meta=DELETED)).lost == Lost("its pod was deleted")


def test_a_container_that_the_kubelet_lost_sight_of_has_no_end() -> None:
    unknown = over(137, reason="ContainerStatusUnknown", message="The container could not be located")
    assert see(a_job(), a_pod(unknown)).lost == Lost("node 'n1' lost sight of its container")


def test_a_pod_of_unknown_phase_is_not_lost() -> None:
    seen = see(a_job(), a_pod(running(), phase="Unknown"))
    assert seen.lost is None
    assert seen.waiting == waits("node 'n1' does not answer; its pod may still run there", curable=True)


def test_a_sidecar_that_is_not_ready_does_not_silence_the_node() -> None:
    unready = [condition("Ready", "False"), condition("ContainersReady", "False")]
    assert see(a_job(), a_pod(running(), phase="Running", conditions=unready)).waiting is None


def test_a_job_without_pods_tells_what_it_can() -> None:
    done = a_job(condition("SuccessCriteriaMet"), completionTime=T2, succeeded=1)
    assert see(done).ended == Ended(0, "2026-01-01T00:00:00.000Z", "2026-01-01T00:00:02.000Z", "Completed")
    policy = a_job(condition("Failed", reason="PodFailurePolicy", message="rule 0"))
    assert see(policy).ended == Ended(
        None, None, "2026-01-01T00:00:02.000Z", "PodFailurePolicy", problem="its Job failed: rule 0"
    )


@pytest.mark.parametrize(
    ("reason", "lost"),
    [
        ("Preempted", Lost("its pod was preempted by a more important one", preempted=True)),
        (
            "TaintManagerEviction",
            Lost("its pod was evicted for a taint on its node, as when that does not answer", preempted=True),
        ),
        ("NodeNotReady", Lost("its pod was removed after its node had stopped to answer", preempted=True)),
        ("Evicted", Lost("its pod was evicted by its node")),
    ],
)
def test_events_outlive_a_pod(reason: str, lost: Lost) -> None:
    job = a_job(condition("FailureTarget", reason="BackoffLimitExceeded"))
    assert see(job, events=[an_event(reason, "")]).lost == lost


def test_a_job_that_is_deleted_is_lost() -> None:
    going = a_job(meta={"deletionTimestamp": T2})
    for job in (None, going):
        assert see(job).lost == Lost("its Job was deleted")
        assert see(job, a_pod(running())).lost == Lost("its Job was deleted", may_run=True)
        ended = see(job, a_pod(over(0))).ended
        assert ended is not None
        assert ended.exit_code == 0


@pytest.mark.parametrize("in_status", [True, False])
def test_a_job_suspended_while_it_runs_is_lost_and_before_that_waits(in_status: bool) -> None:
    job = a_job(*([condition("Suspended")] if in_status else []))
    job["spec"]["suspend"] = not in_status
    waits_for_it = WAITING["suspended-waiting"]
    assert see(job, a_pod(running(), meta=DELETED)).lost == Lost(
        "its Job was suspended while it ran", preempted=True, may_run=True
    )
    assert see(job, a_pod(waiting("ContainerCreating"), meta=DELETED)).waiting == waits_for_it
    assert see(job, a_pod(node="", meta=DELETED)).waiting == waits_for_it


def test_the_newest_pod_counts() -> None:
    older = a_pod(over(1), meta={"name": "step-z", "creationTimestamp": T0}, phase="Failed")
    newer = a_pod(over(0, T3), meta={"name": "step-a", "creationTimestamp": T2})
    seen = see(a_job(backoff=3), newer, older)
    assert seen.ended is not None
    assert seen.ended.exit_code == 0


def test_a_lost_pod_that_its_job_replaces_is_no_loss() -> None:
    seen = see(a_job(backoff=3), a_pod(running(), meta=DELETED))
    assert seen.lost is None
    assert seen.waiting == waits("its pod was deleted; its Job makes another", curable=True)


def test_a_container_that_is_restarted_in_place_has_not_ended() -> None:
    seen = see(a_job(restart="OnFailure"), a_pod(over(1)))
    assert seen.ended is None
    assert seen.waiting == waits("it ended with exit code 1; its Job tries it again", curable=True)
    done = see(a_job(restart="OnFailure"), a_pod(over(0))).ended
    assert done is not None


def test_the_main_container_is_named_by_the_caller_or_by_the_job() -> None:
    pod = a_pod(over(3))
    pod["status"]["containerStatuses"].insert(
        0, {"name": "proxy", "image": "p", "imageID": "", "ready": True, "restartCount": 0, "state": running()}
    )
    raw = {"job": a_job(), "pods": [pod]}
    assert look(raw).ended is not None
    assert look(raw, container="proxy").ended is None


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (waiting("ErrImagePull", "no"), "its sidecar 'proxy': image 'proxy:1' cannot be pulled: no"),
        (running(), "its sidecar 'proxy' runs first"),
    ],
)
def test_a_sidecar_that_does_not_start_holds_it_up(status: Json, sentence: str) -> None:
    pod = a_pod(waiting("PodInitializing"))
    pod["spec"]["initContainers"] = [{"name": "proxy", "image": "proxy:1", "restartPolicy": "Always"}]
    proxy = {"name": "proxy", "image": "proxy:1", "imageID": "", "ready": False, "restartCount": 0, "state": status}
    pod["status"]["initContainerStatuses"] = [proxy]
    assert see(a_job(), pod).waiting == waits(sentence, usual=sentence.endswith("first"))
    proxy.update(started=True, state=running())
    assert see(a_job(), pod).waiting == waits("its pod begins on node 'n1'", curable=True, usual=True)


def test_sentences_are_one_line_and_bounded() -> None:
    seen = see(a_job(), a_pod(waiting("ErrImagePull", "word\n " * 5000))).waiting
    assert seen is not None
    assert "\n" not in seen.sentence
    assert len(seen.sentence) < 400


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("Evicted", "Pod ephemeral local storage usage exceeds the total limit of containers 2M. "),
        ("DeadlineExceeded", ""),
    ],
)
@pytest.mark.parametrize("state", [running(), waiting("PodInitializing")])
def test_a_pod_that_failed_has_not_ended_before_its_container_has(reason: str, message: str, state: Json) -> None:
    failed = {"phase": "Failed", "reason": reason, "message": message}
    seen = see(a_job(), a_pod(state, **failed))
    assert (seen.ended, seen.lost) == (None, None)
    ended = see(a_job(), a_pod(over(143, T3), **failed)).ended
    assert ended is not None
    assert (ended.exit_code, ended.reason) == (143, reason)
