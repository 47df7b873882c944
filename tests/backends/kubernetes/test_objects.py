"""Single facts about the objects of an attempt; the golden files show them whole."""

from __future__ import annotations

import copy
import dataclasses
from typing import get_args

import msgspec
import pytest
from lightkube.models.core_v1 import PodSecurityContext, SecurityContext
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import ConfigMap
from tests.backends.kubernetes.attempts import (
    CASES,
    CHEAP,
    COPYING,
    EVERYTHING,
    KEY,
    MINIMAL,
    ODD,
    OWNER,
    SAY,
    SITE,
    SPOT,
    objects,
)

from tesk.backends.base import AttemptKey
from tesk.backends.kubernetes.escape import escaped
from tesk.backends.kubernetes.labels import EXECUTOR, STEP, Step, key_of, labels_of, selector_of
from tesk.backends.kubernetes.names import (
    Owner,
    attempt_name,
    claim_name,
    executor_name,
    filer_name,
    plan_names,
    report_name,
)
from tesk.backends.kubernetes.objects import make_executor_job, make_filer_job, make_taskmaster_job, owner_of
from tesk.backends.kubernetes.options import (
    CONTAINER_SECURITY,
    POD_SECURITY,
    AccessMode,
    KubernetesOptions,
    Preemptible,
)
from tesk.backends.kubernetes.pods import executor_pod, filer_pod, launcher_directory, task_pod, taskmaster_pod
from tesk.backends.kubernetes.security import own_security
from tesk.plan.model import Mount, Plan


def test_names_are_those_of_tesk_and_tell_attempts_apart() -> None:
    again = AttemptKey(KEY.task, 12)
    assert attempt_name(KEY) == "task-0123456789abc"
    assert report_name(KEY) == "task-0123456789abc-report"
    assert claim_name(KEY) == "task-0123456789abc-pvc"
    assert filer_name(KEY, "in") == "task-0123456789abc-inputs-filer"
    assert filer_name(again, "out") == "task-0123456789abc-a12-outputs-filer"
    assert executor_name(again, 7) == "task-0123456789abc-a12-ex-07"
    assert plan_names(again, 2) == ("task-0123456789abc-a12", "task-0123456789abc-a12-plan-01")


def test_labels_tell_again_what_they_were_made_from() -> None:
    labels = labels_of("lab", AttemptKey("task-x", 3), "executor", 11)
    assert (key_of(labels), labels[STEP], labels[EXECUTOR]) == (("task-x", 3), "executor", "11")
    assert selector_of("lab").items() <= selector_of("lab", KEY).items()


@pytest.mark.parametrize(
    "labels", [None, {}, {"tesk/task": "a"}, {"tesk/task": "a", "tesk/attempt": "x"}, {"job-name": "a"}]
)
def test_labels_of_others_are_of_no_attempt(labels: dict[str, str] | None) -> None:
    assert key_of(labels) is None


def test_the_owner_is_the_config_map_that_is_called_like_its_attempt() -> None:
    labels = labels_of("tesk", KEY, "plan")
    first = ConfigMap(metadata=ObjectMeta(name=KEY.task, uid="u", labels=labels, annotations={"tesk/parts": "3"}))
    assert owner_of(first) == Owner(KEY, "u", 3)
    assert owner_of(ConfigMap(metadata=ObjectMeta(name=f"{KEY.task}-plan-01", uid="u", labels=labels))) is None
    assert owner_of(ConfigMap(metadata=ObjectMeta(name="kube-root-ca.crt", uid="u"))) is None


@pytest.mark.parametrize("case", CASES)
def test_every_object_and_pod_carries_our_labels_and_those_of_the_site_never_win(case: str) -> None:
    key, plan, options = CASES[case]
    options = dataclasses.replace(options, labels={**options.labels, "tesk/task": "other"})
    for one in objects(key, plan, options):
        for metadata in (one.metadata, *([one.spec.template.metadata] if one.kind == "Job" else [])):
            assert {**options.labels, **selector_of(options.instance, key)}.items() <= metadata.labels.items()
            assert metadata.labels[STEP] in get_args(Step)
            assert options.annotations.items() <= (metadata.annotations or {}).items()


@pytest.mark.parametrize("case", CASES)
def test_all_but_the_first_object_belong_to_it_and_hold_up_no_deletion(case: str) -> None:
    first, *others = objects(*CASES[case])
    assert first.metadata.ownerReferences is None
    for one in others:
        (reference,) = one.metadata.ownerReferences
        assert (reference.kind, reference.name, reference.uid) == ("ConfigMap", first.metadata.name, OWNER.uid)
        assert reference.blockOwnerDeletion is False


@pytest.mark.parametrize("case", CASES)
def test_making_objects_changes_nothing_they_are_made_from(case: str) -> None:
    key, plan, options = CASES[case]
    before = copy.deepcopy((plan, options))
    made = [one.to_dict() for one in objects(key, plan, options)]
    for one in objects(key, plan, options):
        if one.kind == "Job":
            one.spec.template.spec.containers[0].volumeMounts.clear()
            one.spec.template.metadata.labels.clear()
            one.metadata.labels.clear()
    assert (plan, options) == before
    assert [one.to_dict() for one in objects(key, plan, options)] == made


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("plain", "plain"),
        ("$(VAR)", "$$(VAR)"),
        ("$$(VAR)", "$$$$(VAR)"),
        ("$", "$$"),
        ("$$", "$$$$"),
        ("a$", "a$$"),
        ("$(", "$$("),
        ("${VAR} $VAR", "$${VAR} $$VAR"),
    ],
)
def test_every_dollar_is_sent_twice(text: str, sent: str) -> None:
    assert escaped(text) == sent
    assert _expanded_by_kubernetes(sent) == text


def _expanded_by_kubernetes(text: str) -> str:
    """What the kubelet makes of `text`, all names being known (kubernetes/third_party/forked/golang/expansion)."""
    found, at = "", 0
    while at < len(text):
        if text[at] == "$" and at + 1 < len(text):
            following = text[at + 1]
            end = text.find(")", at) if following == "(" else -1
            if following == "$":
                found, at = found + "$", at + 2
            elif end >= 0:
                found, at = found + "EXPANDED", end + 1
            else:
                found, at = found + text[at : at + 2], at + 2
        else:
            found, at = found + text[at], at + 1
    return found


def test_argv_options_and_variables_arrive_as_they_are_in_their_order() -> None:
    (container,) = executor_pod(OWNER, ODD, SITE, 0).containers
    executor = ODD.executors[0]
    got = [_expanded_by_kubernetes(one) for one in container.command or ()]
    assert got == ["/.tesk-/launcher", "--stdout", executor.stdout, "--log-bytes", "65536", "--", *executor.command]
    assert [(one.name, _expanded_by_kubernetes(one.value or "")) for one in container.env or ()] == list(
        executor.env.items()
    )
    assert container.workingDir is None
    assert container.args is None


@pytest.mark.parametrize(
    ("paths", "place"),
    [
        ([], "/.tesk"),
        (["/data"], "/.tesk"),
        (["/.tesk"], "/.tesk-"),
        (["/.tesk/x"], "/.tesk-"),
        (["/.tesk", "/.tesk-/y"], "/.tesk--"),
        (["/.tesk-data"], "/.tesk"),
    ],
)
def test_the_launcher_lies_where_the_task_has_nothing(paths: list[str], place: str) -> None:
    assert launcher_directory(Plan((SAY,), mounts=tuple(Mount(one) for one in paths))) == place


def test_an_executor_sees_its_pieces_of_scratch_and_the_launcher_and_no_more() -> None:
    pod = executor_pod(OWNER, COPYING, SITE, 0)
    mounts = {
        one.mountPath: (one.name, one.subPath, bool(one.readOnly)) for one in pod.containers[0].volumeMounts or ()
    }
    assert mounts == {
        "/data": ("scratch", "scratch/data", False),
        "/etc/tool.conf": ("scratch", "scratch/etc/tool.conf", True),
        "/.tesk": ("scratch", "launcher", True),
    }
    assert [one.name for one in pod.volumes or ()] == ["scratch"]


@pytest.mark.parametrize(("path", "own"), [("/data", True), ("/etc/hosts", False)])
def test_an_executor_of_a_pod_has_a_copy_of_the_pods_host_files_unless_the_task_brings_one(
    path: str, own: bool
) -> None:
    plan = Plan((SAY, SAY), mounts=(Mount(path, "FILE", read_only=True),))
    taskmaster, _, second = task_pod(OWNER, plan, SITE).containers
    mounts = [(one.mountPath, one.subPath) for one in second.volumeMounts or ()]
    assert [one for one, _ in mounts].count("/etc/hosts") == 1
    assert (("/etc/hosts", "ex-01.hosts") in mounts) == own
    assert ("/etc/resolv.conf", "ex-01.resolv.conf") in mounts
    assert "/etc/hosts" not in [one.mountPath for one in taskmaster.volumeMounts or ()]


def test_without_scratch_the_launcher_is_brought_by_a_container_of_our_image() -> None:
    pod = executor_pod(OWNER, MINIMAL, SITE, 0)
    (bringing,) = pod.initContainers or ()
    assert bringing.image == SITE.image
    assert bringing.command == ["/usr/local/bin/launcher", "--install", "/.tesk"]
    assert [one.to_dict() for one in pod.volumes or ()] == [{"name": "launcher", "emptyDir": {}}]
    (mount,) = pod.containers[0].volumeMounts or ()
    assert (mount.mountPath, mount.readOnly) == ("/.tesk", True)


def test_only_the_taskmaster_gets_a_token_and_only_filers_get_the_credentials() -> None:
    taskmaster = taskmaster_pod(OWNER, COPYING, EVERYTHING)
    filer = filer_pod(OWNER, COPYING, EVERYTHING, "in")
    executor = executor_pod(OWNER, COPYING, EVERYTHING, 0)
    pods = (taskmaster, filer, executor)
    assert [one.automountServiceAccountToken for one in pods] == [True, False, False]
    assert [bool(one.containers[0].envFrom) for one in pods] == [False, True, False]
    assert [one.enableServiceLinks for one in pods] == [False, False, False]


def test_executors_run_once_and_what_is_ours_is_tried_again() -> None:
    assert make_executor_job(OWNER, COPYING, SITE, 0).spec.backoffLimit == 0  # type: ignore[union-attr]
    assert make_filer_job(OWNER, COPYING, SITE, "in").spec.backoffLimit == 3  # type: ignore[union-attr]
    assert make_taskmaster_job(OWNER, MINIMAL, SITE).spec.backoffLimit == 6  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("site", "task", "deadline"), [(None, None, None), (60, None, 60), (None, "30", 30), (60, "30", 30), (60, "90", 60)]
)
def test_the_shorter_of_the_site_s_and_the_task_s_runtime_counts(
    site: int | None, task: str | None, deadline: int | None
) -> None:
    plan = Plan((SAY,), parameters={"max_runtime": task} if task else {})
    assert executor_pod(OWNER, plan, KubernetesOptions(max_runtime=site), 0).activeDeadlineSeconds == deadline


def test_the_nodes_a_task_chooses_are_those_of_its_filers_too_and_never_against_the_site() -> None:
    plan = msgspec.structs.replace(COPYING, parameters={"node_selector.pool": "gold", "node_selector.disk": "ssd"})
    for pod in (executor_pod(OWNER, plan, EVERYTHING, 0), filer_pod(OWNER, plan, EVERYTHING, "out")):
        assert pod.nodeSelector == {"pool": "batch", "disk": "ssd"}
    assert taskmaster_pod(OWNER, COPYING, EVERYTHING).nodeSelector == {"pool": "batch"}


def test_a_preemptible_task_runs_where_the_site_says_and_its_taskmaster_does_not() -> None:
    for pod in (executor_pod(OWNER, CHEAP, SPOT, 0), task_pod(OWNER, CHEAP, SPOT)):
        assert pod.nodeSelector == {"disk": "ssd", "zone": "a", "pool": "spot", "machines": "any"}
        assert [one.key for one in pod.tolerations or ()] == ["batch", "spot"]
    pod = taskmaster_pod(OWNER, CHEAP, SPOT)
    assert (pod.nodeSelector, [one.key for one in pod.tolerations or ()]) == (SPOT.node_selector, ["batch"])


@pytest.mark.parametrize(
    ("mode", "follows"), [("ReadWriteOnce", True), ("ReadWriteOncePod", True), ("ReadWriteMany", False)]
)
def test_filers_of_a_preemptible_task_stay_on_ordinary_nodes_where_its_volume_is_seen_from_all(
    mode: AccessMode, follows: bool
) -> None:
    options = dataclasses.replace(SPOT, access_mode=mode)
    for phase in ("in", "out"):
        pod = filer_pod(OWNER, CHEAP, options, phase)
        assert (pod.nodeSelector or {})["pool"] == ("spot" if follows else "batch")
        assert ("spot" in [one.key for one in pod.tolerations or ()]) is follows


@pytest.mark.parametrize(
    ("plan", "options"),
    [(COPYING, SPOT), (CHEAP, dataclasses.replace(SPOT, preemptible=Preemptible()))],
    ids=["not asked for", "not there"],
)
def test_other_tasks_and_other_sites_have_nothing_of_it(plan: Plan, options: KubernetesOptions) -> None:
    for pod in (
        executor_pod(OWNER, plan, options, 0),
        filer_pod(OWNER, plan, options, "in"),
        task_pod(OWNER, plan, options),
    ):
        assert pod.nodeSelector == {"disk": "ssd", "pool": "batch", "zone": "a"}
        assert [one.key for one in pod.tolerations or ()] == ["batch"]


def test_our_own_containers_give_up_what_they_do_not_need_unless_the_site_says_otherwise() -> None:
    pod, container = own_security(KubernetesOptions())
    assert pod is not None
    assert container is not None
    assert (pod.runAsNonRoot, pod.runAsUser, pod.fsGroup) == (True, None, 10001)
    assert container.to_dict() == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    pod, container = own_security(
        KubernetesOptions(run_as_user=0, security_context={"fsGroup": None, "capabilities": {"add": ["CHOWN"]}})
    )
    assert pod is not None
    assert container is not None
    assert (pod.runAsNonRoot, pod.runAsUser, pod.fsGroup) == (False, 0, None)
    assert container.capabilities is not None
    assert container.capabilities.add == ["CHOWN"]


def test_executors_keep_what_the_cluster_gives_them_unless_the_site_says_otherwise() -> None:
    pod = executor_pod(OWNER, MINIMAL, KubernetesOptions(), 0)
    assert (pod.securityContext, pod.containers[0].securityContext) == (None, None)


def test_a_security_context_that_kubernetes_does_not_know_is_an_error() -> None:
    with pytest.raises(ValueError, match="runAsUser"):
        executor_pod(OWNER, MINIMAL, KubernetesOptions(executor_security_context={"runAsUser": "me"}), 0)


def test_the_keys_of_security_contexts_are_kubernetes_own() -> None:
    assert frozenset(PodSecurityContext.__struct_fields__) == POD_SECURITY
    assert frozenset(SecurityContext.__struct_fields__) - POD_SECURITY == CONTAINER_SECURITY
