"""make_plan: transfers, deliveries, executors, resources and parameters, and every reason at once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tesk.plan.make import CannotPlan, Reason, make_plan, supported_parameters
from tesk.plan.model import Delivery, Mount, Plan, Resources, Transfer
from tesk.plan.site import MISSING_OUTPUTS, Capacity, Parameter, Site
from tesk.tes.models import TesTask, take_unknown

CLIENTS = sorted((Path(__file__).parents[1] / "data" / "clients").glob("*.json"))
SITE = Site(file_roots=("/data", "/shared"))
EXECUTOR = {"image": "busybox", "command": ["true"]}


def task(**fields: Any) -> TesTask:
    return TesTask.model_validate_json(json.dumps({"executors": [EXECUTOR], **fields}))


def plan(site: Site = SITE, **fields: Any) -> Plan:
    return make_plan(task(**fields), site)


def reasons(site: Site = SITE, **fields: Any) -> list[Reason]:
    with pytest.raises(CannotPlan) as caught:
        plan(site, **fields)
    return list(caught.value.reasons)


def only_reason(where: str, site: Site = SITE, **fields: Any) -> str:
    """The sentence of the one reason, which is about `where`."""
    found = reasons(site, **fields)
    assert [reason.path for reason in found] == [where]
    return found[0].sentence


@pytest.mark.parametrize("client", CLIENTS, ids=lambda path: path.stem)
def test_plan_of_a_client_s_task_survives_its_json(client: Path) -> None:
    found = make_plan(TesTask.model_validate_json(client.read_bytes()), SITE)
    assert Plan.from_json(found.to_json()) == found
    assert Plan.from_json(found.to_json().encode()) == found
    assert "\n" not in found.to_json()


def test_plan_with_every_part_survives_its_json() -> None:
    found = plan(
        inputs=[
            {"path": "/data/a", "content": "line\n\u2028ü", "name": "a"},
            {"path": "/data/d", "url": "s3://b/d", "type": "DIRECTORY"},
            {"path": "/etc/one", "content": ""},
        ],
        outputs=[{"path": "/data/*.x", "path_prefix": "/data", "url": "s3://b/x", "type": "FILE", "name": "x"}],
        executors=[
            {**EXECUTOR, "stdin": "/data/a", "stdout": "/data/o", "stderr": "/data/e", "workdir": "/data/w",
             "env": {"A": "1\n2"}, "ignore_error": True},
            EXECUTOR,
        ],
        resources={"cpu_cores": 0.5, "ram_gb": 0.1, "disk_gb": 1, "preemptible": True,
                   "backend_parameters": {"missing_outputs": "warn", "other": "x"}},
        volumes=["/vol"],
    )  # fmt: skip
    assert Plan.from_json(found.to_json()) == found
    assert found.missing_outputs == "warn"
    assert found.mounts == (Mount("/data"), Mount("/etc/one", "FILE", read_only=True), Mount("/vol"))


def test_same_task_gives_the_same_json() -> None:
    made = [make_plan(TesTask.model_validate_json(CLIENTS[1].read_bytes()), SITE).to_json() for _ in range(2)]
    assert made[0] == made[1]


@pytest.mark.parametrize(
    ("sent", "transfer"),
    [
        ({"url": "s3://b/k"}, Transfer("/data/x", "FILE", url="s3://b/k")),
        ({"url": "s3://b/k", "type": "FILE"}, Transfer("/data/x", "FILE", url="s3://b/k")),
        ({"url": "s3://b/k/", "type": "DIRECTORY"}, Transfer("/data/x", "DIRECTORY", url="s3://b/k/")),
        ({"url": "s3://b/k", "path": "//data/./x/"}, Transfer("/data/x", "FILE", url="s3://b/k")),
        ({"url": "s3://b/k", "name": "reads"}, Transfer("/data/x", "FILE", url="s3://b/k", name="reads")),
        ({"url": "file:///data//in"}, Transfer("/data/x", "FILE", url="file:///data/in")),
        ({"url": "/data/in/"}, Transfer("/data/x", "FILE", url="/data/in")),
        ({"content": "c"}, Transfer("/data/x", "FILE", content="c")),
        ({"content": "c", "url": "nonsense, ignored"}, Transfer("/data/x", "FILE", content="c")),
        ({"content": ""}, Transfer("/data/x", "FILE", content="")),
        ({"content": "", "url": "s3://b/k"}, Transfer("/data/x", "FILE", url="s3://b/k")),
        ({"content": "", "url": ""}, Transfer("/data/x", "FILE", content="")),
        ({"content": "", "url": "s3://b/k", "type": "DIRECTORY"}, Transfer("/data/x", "DIRECTORY", url="s3://b/k")),
        ({"content": None, "url": "s3://b/k"}, Transfer("/data/x", "FILE", url="s3://b/k")),
        ({"url": "s3://b/k", "streamable": True}, Transfer("/data/x", "FILE", url="s3://b/k")),
    ],
)  # fmt: skip
def test_input_becomes_a_transfer(sent: dict[str, Any], transfer: Transfer) -> None:
    assert plan(inputs=[{"path": "/data/x", **sent}]).inputs == (transfer,)


@pytest.mark.parametrize(
    ("sent", "field", "says"),
    [
        ({}, "url", "neither url nor content"),
        ({"url": ""}, "url", "neither url nor content"),
        ({"content": None, "url": None}, "url", "neither url nor content"),
        ({"type": "DIRECTORY", "content": ""}, "url", "neither url nor content"),
        ({"type": "DIRECTORY", "content": "x"}, "content", "a directory has no content"),
        ({"url": "gs://b/k"}, "url", "no storage for 'gs'"),
        ({"url": "/etc/passwd"}, "url", "lies outside of the directories that this site allows ('/data', '/shared')"),
        ({"url": "s3://b/k", "path": "x"}, "path", "is not absolute"),
        ({"url": "s3://b/k", "path": "/data/../x"}, "path", "'..'"),
    ],
)
def test_input_that_cannot_be_fetched_is_refused(sent: dict[str, Any], field: str, says: str) -> None:
    assert says in only_reason(f"$.inputs[0].{field}", inputs=[{"path": "/data/x", **sent}])


def test_of_two_input_files_for_one_path_the_last_wins() -> None:
    found = plan(
        inputs=[
            {"path": "/data/x", "content": "first"},
            {"path": "/data/y", "content": "y"},
            {"path": "/data//x", "content": "last"},
        ]
    )
    assert [(one.path, one.content) for one in found.inputs] == [("/data/y", "y"), ("/data/x", "last")]


def test_two_input_directories_for_one_path_are_both_kept_in_order() -> None:
    both = [{"path": "/data/d", "url": f"s3://b/{n}", "type": "DIRECTORY"} for n in (2, 1)]
    assert [one.url for one in plan(inputs=both).inputs] == ["s3://b/2", "s3://b/1"]


@pytest.mark.parametrize(
    ("sent", "delivery"),
    [
        ({}, Delivery("/work/x", "s3://b/o")),
        ({"type": "FILE"}, Delivery("/work/x", "s3://b/o", "FILE")),
        ({"type": "DIRECTORY"}, Delivery("/work/x", "s3://b/o", "DIRECTORY")),
        ({"path": "/work/x/"}, Delivery("/work/x", "s3://b/o", "DIRECTORY")),
        ({"path": "/work/x/", "type": "FILE"}, Delivery("/work/x", "s3://b/o", "FILE")),
        ({"path_prefix": "not used"}, Delivery("/work/x", "s3://b/o")),
        ({"name": "rc"}, Delivery("/work/x", "s3://b/o", name="rc")),
        ({"url": "https://h/put"}, Delivery("/work/x", "https://h/put")),
        ({"url": "file:///shared/o/"}, Delivery("/work/x", "file:///shared/o")),
        ({"path": "/work/[x"}, Delivery("/work/[x", "s3://b/o")),
        ({"path": "//work/*.x", "path_prefix": "/work/"}, Delivery("/work/*.x", "s3://b/o", path_prefix="/work")),
        ({"path": "/work/a/*.x", "path_prefix": "/"}, Delivery("/work/a/*.x", "s3://b/o", path_prefix="/")),
        (
            {"path": "/work/run?", "path_prefix": "/work", "type": "DIRECTORY"},
            Delivery("/work/run?", "s3://b/o", "DIRECTORY", path_prefix="/work"),
        ),
    ],
)
def test_output_becomes_a_delivery(sent: dict[str, Any], delivery: Delivery) -> None:
    assert plan(outputs=[{"path": "/work/x", "url": "s3://b/o", **sent}]).outputs == (delivery,)


@pytest.mark.parametrize(
    ("sent", "field", "says"),
    [
        ({"url": ""}, "url", "the url is empty"),
        ({"url": "/etc/x"}, "url", "lies outside"),
        ({"url": "s3://b/o/", "type": "FILE"}, "url", "name the file in it"),
        ({"path": "x"}, "path", "is not absolute"),
        ({"path": "/work/*"}, "path_prefix", "no path_prefix; give what to cut from them, such as '/work'"),
        ({"path": "/work/*", "path_prefix": ""}, "path_prefix", "no path_prefix"),
        ({"path": "/work/*", "path_prefix": "work"}, "path_prefix", "is not absolute"),
        ({"path": "/work/*", "path_prefix": "/work/.."}, "path_prefix", "'..'"),
        ({"path": "/work/*", "path_prefix": "/wor"}, "path_prefix", "use '/work' or a directory above it"),
        ({"path": "/work/a*/x", "path_prefix": "/work/a1"}, "path_prefix", "use '/work'"),
        ({"path": "/work/ab*", "path_prefix": "/work/ab"}, "path_prefix", "use '/work'"),
        ({"path": "/work/*/x", "path_prefix": "/work/*"}, "path_prefix", "use '/work'"),
        ({"path": "/work/*/../x", "path_prefix": "/work"}, "path", "'..'"),
        ({"path": r"/work/*/\.\./x", "path_prefix": "/work"}, "path", "escaped '.' or '..'"),
        ({"path": "*.txt", "path_prefix": "/work"}, "path", "is not absolute"),
    ],
)
def test_output_that_cannot_be_delivered_is_refused(sent: dict[str, Any], field: str, says: str) -> None:
    assert says in only_reason(f"$.outputs[0].{field}", outputs=[{"path": "/work/x", "url": "s3://b/o", **sent}])


def test_two_outputs_for_one_url_are_refused() -> None:
    sentence = only_reason(
        "$.outputs[1].url",
        outputs=[
            {"path": "/work/a", "url": "file:///data/o"},
            {"path": "/work/b", "url": "file://localhost/data//o/"},
        ],
    )
    assert "is also the url of '/work/a'" in sentence


def test_same_output_twice_is_delivered_once() -> None:
    twice = {"path": "/krzjDP", "url": "file:///data/tmpA/", "type": "DIRECTORY"}
    assert plan(outputs=[twice, {**twice, "name": "again"}]).outputs == (
        Delivery("/krzjDP", "file:///data/tmpA", "DIRECTORY"),
    )


def test_one_path_may_go_to_two_urls() -> None:
    urls = ["s3://b/1", "s3://b/2"]
    assert [one.url for one in plan(outputs=[{"path": "/w/x", "url": url} for url in urls]).outputs] == urls


def test_patterns_may_share_a_url_since_it_is_a_directory() -> None:
    patterns = ["/work/*.a", "/work/*.b"]
    sent = [{"path": one, "path_prefix": "/work", "url": "/shared/dir"} for one in patterns]
    assert [one.path for one in plan(outputs=sent).outputs] == patterns


@pytest.mark.parametrize(
    ("image", "taken"),
    [
        ("busybox", "busybox"),
        ("docker://quay.io/a/b:1", "quay.io/a/b:1"),
        (" busybox ", "busybox"),
        ("repo@sha256:00", "repo@sha256:00"),
        ("library://a/b", "library://a/b"),
    ],
)
def test_image_is_given_to_engines_without_docker_prefix(image: str, taken: str) -> None:
    assert plan(executors=[{**EXECUTOR, "image": image}]).executors[0].image == taken


def test_executor_is_planned_with_all_it_says() -> None:
    one = plan(
        executors=[
            {"image": "i", "command": ["a", "", "b\n"], "workdir": "/w/", "stdin": "/dev//null", "stdout": "/o//o",
             "stderr": "/o/e/", "env": {"A": "", "b.c": "x=y\n"}, "ignore_error": True},
        ]
    ).executors[0]  # fmt: skip
    assert (one.command, one.workdir, one.stdin) == (("a", "", "b\n"), "/w", "/dev/null")
    assert (one.stdout, one.stderr, one.env) == ("/o/o", "/o/e", {"A": "", "b.c": "x=y\n"})
    assert one.ignore_error
    assert plan().executors[0].ignore_error is False


@pytest.mark.parametrize(
    ("sent", "field", "says"),
    [
        ({"image": ""}, "image", "the image is blank"),
        ({"image": "  "}, "image", "the image is blank"),
        ({"image": "docker://"}, "image", "the image is blank"),
        ({"image": "--privileged"}, "image", "is not the name of an image"),
        ({"image": "docker://-v=/:/host"}, "image", "is not the name of an image"),
        ({"image": "a b"}, "image", "is not the name of an image"),
        ({"image": "a\0b"}, "image", "is not the name of an image"),
        ({"command": []}, "command", "the command is empty"),
        ({"command": ["", "x"]}, "command[0]", "the name of the program is empty"),
        ({"command": ["a", "b\0c"]}, "command[1]", "holds NUL"),
        ({"env": {"": "x"}}, "env", "is not a variable's name"),
        ({"env": {"A=B": "x"}}, "env", "'A=B' is not a variable's name"),
        ({"env": {"A\0": "x"}}, "env", "is not a variable's name"),
        ({"env": {"A": "x\0"}}, "env", "the value of 'A' holds NUL"),
        ({"workdir": "w"}, "workdir", "is not absolute"),
        ({"workdir": "/a/../w"}, "workdir", "'..'"),
        ({"stdin": "in"}, "stdin", "is not absolute"),
        ({"stdout": "out"}, "stdout", "such as '/data/out'"),
        ({"stderr": "/a/\n"}, "stderr", "control character"),
    ],
)
def test_executor_that_no_engine_could_start_is_refused(sent: dict[str, Any], field: str, says: str) -> None:
    sentence = only_reason(f"$.executors[1].{field}", executors=[EXECUTOR, {**EXECUTOR, **sent}])
    assert says in sentence
    assert sentence.isprintable()


def test_argument_that_is_not_utf8_is_refused() -> None:
    odd = TesTask.model_construct(**{**dict(task()), "executors": task().executors})
    odd.executors[0].command = ["cat", "\udcff"]
    with pytest.raises(CannotPlan, match=r"command\[1\].*is not UTF-8"):
        make_plan(odd, SITE)


def test_task_without_executors_is_refused() -> None:
    assert "nothing to run" in only_reason("$.executors", executors=[])


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (None, Resources()),
        ({}, Resources()),
        ({"cpu_cores": 2}, Resources(cpu_cores=2)),
        ({"cpu_cores": 0.25}, Resources(cpu_cores=0.25)),
        ({"ram_gb": 1.073741824}, Resources(ram_bytes=2**30)),
        ({"ram_gb": 0}, Resources()),
        ({"ram_gb": 1e-12}, Resources()),
        ({"disk_gb": 10}, Resources(disk_bytes=10**10)),
        ({"disk_gb": 0.0}, Resources()),
        ({"preemptible": True}, Resources(preemptible=True)),
        ({"preemptible": None, "zones": ["a"]}, Resources()),
        ({"cpu_cores": 4, "ram_gb": 8, "disk_gb": 100}, Resources(4, 8 * 10**9, 10**11)),
    ],
)
def test_resources_are_kept_in_bytes(sent: dict[str, Any] | None, expected: Resources) -> None:
    capacity = Capacity(cpu_cores=4, ram_bytes=8 * 10**9, disk_bytes=10**11)
    for site in (Site(), Site(capacity=capacity)):
        assert plan(site, resources=sent).resources == expected


SMALL = Site(capacity=Capacity(cpu_cores=2, ram_bytes=7_999_999_999, disk_bytes=20 * 10**9))


@pytest.mark.parametrize(
    ("sent", "field", "sentence"),
    [
        ({"cpu_cores": 64}, "cpu_cores", "asks for 64 cpu cores; this machine has 2"),
        ({"cpu_cores": 2.5}, "cpu_cores", "asks for 2.5 cpu cores; this machine has 2"),
        ({"cpu_cores": 0}, "cpu_cores", "asks for 0 cpu cores; ask for more than 0, or leave it out"),
        ({"cpu_cores": -1}, "cpu_cores", "asks for -1 cpu cores; ask for more than 0, or leave it out"),
        ({"ram_gb": 8}, "ram_gb", "asks for 8 GB of memory; this machine has 7.99 GB"),
        ({"ram_gb": -0.5}, "ram_gb", "asks for -0.5 GB of memory; ask for more than 0, or leave it out"),
        ({"ram_gb": -1.7e308}, "ram_gb", "asks for -1.7e+308 GB of memory; ask for more than 0, or leave it out"),
        ({"disk_gb": 1234567.5}, "disk_gb", "asks for 1234567.5 GB of disk; this machine has 20 GB"),
        ({"disk_gb": 1e300}, "disk_gb", "asks for 1e+300 GB of disk; this machine has 20 GB"),
    ],
)
def test_more_than_the_machine_has_is_refused_with_the_numbers(sent: dict[str, Any], field: str, sentence: str) -> None:
    assert only_reason(f"$.resources.{field}", SMALL, resources=sent) == sentence


def test_capacity_is_named_as_the_site_calls_it() -> None:
    site = Site(capacity=Capacity(cpu_cores=8), capacity_of="the largest node")
    assert only_reason("$.resources.cpu_cores", site, resources={"cpu_cores": 9}).endswith("the largest node has 8")


def test_absurd_sizes_are_refused_where_the_capacity_is_not_known() -> None:
    assert "no machine has" in only_reason("$.resources.ram_gb", resources={"ram_gb": 1e300})


def parameters(strict: bool | None = None, **found: str) -> dict[str, Any]:
    return {"resources": {"backend_parameters": found, "backend_parameters_strict": strict}}


WARN_SITE = Site(missing_outputs="warn", backend_parameters={"missing_outputs": MISSING_OUTPUTS, "vmsize": Parameter()})


@pytest.mark.parametrize(
    ("site", "sent", "expected"),
    [
        (Site(), {}, "fail"),
        (WARN_SITE, {}, "warn"),
        (Site(), {"missing_outputs": "warn"}, "warn"),
        (WARN_SITE, {"Missing_Outputs": "FAIL"}, "fail"),
        (WARN_SITE, {"VmSize": "big"}, "warn"),
    ],
)
def test_missing_outputs_is_the_task_s_or_else_the_site_s(site: Site, sent: dict[str, str], expected: str) -> None:
    for strict in (None, False, True):
        found = plan(site, **parameters(strict, **sent))
        assert (found.missing_outputs, found.notes) == (expected, ())


def test_unsupported_parameter_is_noted_once_each() -> None:
    assert plan(**parameters(False, VmSize="x", gpu="1", missing_outputs="warn")).notes == (
        "backend parameter 'VmSize' is not supported here and was ignored",
        "backend parameter 'gpu' is not supported here and was ignored",
    )


def test_unsupported_parameter_is_refused_when_strict() -> None:
    found = reasons(**parameters(True, VmSize="x", gpu="1"))
    assert found == [
        ("$.resources.backend_parameters['VmSize']",
         "backend parameter 'VmSize' is not supported here; supported: missing_outputs"),
        ("$.resources.backend_parameters['gpu']",
         "backend parameter 'gpu' is not supported here; supported: missing_outputs"),
    ]  # fmt: skip


def test_bad_value_of_missing_outputs_is_refused() -> None:
    where = "$.resources.backend_parameters['missing_outputs']"
    assert only_reason(where, **parameters(missing_outputs="maybe")) == (
        "'maybe' is not a value of missing_outputs; use 'fail' or 'warn'"
    )


@pytest.mark.parametrize("strict", [True, False])
def test_same_parameter_twice_in_different_case_is_refused(strict: bool) -> None:
    where = "$.resources.backend_parameters['VMSIZE']"
    sentence = only_reason(where, WARN_SITE, **parameters(strict, VmSize="a", VMSIZE="b"))
    assert "names the same parameter as 'VmSize'" in sentence


def test_only_supported_parameters_may_be_stored_spelled_as_they_were() -> None:
    sent = task(**parameters(VmSize="a", gpu="1", MISSING_outputs="warn"))
    assert supported_parameters(sent, WARN_SITE) == {"VmSize": "a", "MISSING_outputs": "warn"}
    assert supported_parameters(task(), WARN_SITE) == {}
    assert supported_parameters(task(resources={}), WARN_SITE) == {}


PARAMETERS = {
    "missing_outputs": MISSING_OUTPUTS,
    "gpu": Parameter("number", most=8),
    "max_runtime": Parameter("number"),
    "executor_retries": Parameter("number", least=0, most=10),
    "priority_class": Parameter(values=("low", "High", "high")),
    "node_selector.site.org/disk": Parameter(name="node_selector.site.org/Disk"),
}


@pytest.mark.parametrize(
    ("sent", "planned"),
    [
        ({}, {}),
        ({"missing_outputs": "warn"}, {}),
        ({"GPU": " 08"}, {"gpu": "8"}),
        ({"Executor_Retries": "0"}, {"executor_retries": "0"}),
        ({"priority_class": "LOW"}, {"priority_class": "low"}),
        ({"priority_class": "high"}, {"priority_class": "high"}),
        ({"node_selector.Site.org/disk": "SSD_1"}, {"node_selector.site.org/Disk": "SSD_1"}),
    ],
)
def test_parameters_that_a_backend_acts_on_are_in_the_plan(sent: dict[str, str], planned: dict[str, str]) -> None:
    found = plan(Site(backend_parameters=PARAMETERS), **parameters(True, **sent))
    assert found.parameters == planned
    assert Plan.from_json(found.to_json()) == found
    assert ("parameters" in found.to_json()) == bool(planned)


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("gpu", "0", "give a whole number from 1 to 8"),
        ("gpu", "9", "give a whole number from 1 to 8"),
        ("gpu", "-1", "give a whole number from 1 to 8"),
        ("gpu", "1.5", "give a whole number from 1 to 8"),
        ("gpu", "٣", "give a whole number from 1 to 8"),
        ("gpu", "9" * 5000, "give a whole number from 1 to 8"),
        ("executor_retries", "11", "give a whole number from 0 to 10"),
        ("executor_retries", "twice", "give a whole number from 0 to 10"),
        ("max_runtime", "", "give a whole number from 1 to 2147483647"),
        ("priority_class", "urgent", "use 'low' or 'High' or 'high'"),
        (
            "node_selector.site.org/disk",
            "a b",
            "give at most 63 of A-Z, a-z, 0-9, '-', '_' and '.', with a letter or digit first and last",
        ),
    ],
)
def test_a_value_that_the_site_does_not_allow_is_refused(name: str, value: str, wanted: str) -> None:
    sentence = only_reason(
        f"$.resources.backend_parameters['{name}']",
        Site(backend_parameters=PARAMETERS),
        **parameters(False, **{name: value}),
    )
    assert sentence.endswith(f"is not a value of {name}; {wanted}")


def test_unknown_field_is_noted() -> None:
    sent = task(priority=1, executors=[{**EXECUTOR, "gpu": 1}])
    assert set(make_plan(sent, SITE, tuple(take_unknown(sent))).notes) == {
        "field 'priority' is not part of TES 1.1.0 and was ignored",
        "field 'executors[0].gpu' is not part of TES 1.1.0 and was ignored",
    }


def test_unknown_field_is_refused_where_the_site_says_so() -> None:
    with pytest.raises(CannotPlan) as caught:
        make_plan(task(), Site(unknown_fields="refuse"), ("executors[0].gpu",))
    assert caught.value.reasons == (
        ("$.executors[0].gpu", "field 'executors[0].gpu' is not part of TES 1.1.0; take it out"),
    )


def test_fields_of_the_server_are_ignored_with_a_note() -> None:
    sent = {
        "id": "mine",
        "state": "COMPLETE",
        "logs": [{"logs": [], "outputs": []}],
        "creation_time": "2020-01-01T00:00:00Z",
    }
    assert plan(**sent).notes == tuple(
        f"field '{field}' is set by the server alone; the value that was sent was ignored" for field in sent
    )
    assert plan(id=None, state=None, logs=[], creation_time="").notes == ()


def test_all_reasons_come_at_once_in_the_order_of_the_task_s_parts() -> None:
    found = reasons(
        Site(capacity=Capacity(cpu_cores=2), unknown_fields="refuse"),
        volumes=["/", "/data/in/sub", "rel"],
        executors=[
            {"image": "", "command": [], "stdout": "/etc/o", "workdir": "w"},
            {"image": "i", "command": ["\0"], "env": {"": ""}},
        ],
        resources={"cpu_cores": 3, "ram_gb": -1, "backend_parameters": {"x": "1"}, "backend_parameters_strict": True},
        outputs=[
            {"path": "/proc/x", "url": "gs://b/o"},
            {"path": "/w/*", "url": ""},
            {"path": "/w/a", "url": "s3://b/o"},
            {"path": "/w/b", "url": "s3://b/o"},
        ],
        inputs=[{"path": "x"}, {"path": "/data/in", "url": "file:///etc/passwd"}],
    )
    assert [reason.path for reason in found] == [
        "$.inputs[0].path",
        "$.inputs[0].url",
        "$.inputs[1].url",
        "$.outputs[0].url",
        "$.outputs[0].path",
        "$.outputs[1].url",
        "$.outputs[1].path_prefix",
        "$.outputs[3].url",
        "$.resources.cpu_cores",
        "$.resources.ram_gb",
        "$.resources.backend_parameters['x']",
        "$.executors[0].image",
        "$.executors[0].command",
        "$.executors[0].workdir",
        "$.executors[0].stdout",
        "$.executors[1].command[0]",
        "$.executors[1].env",
        "$.volumes[0]",
        "$.volumes[1]",
        "$.volumes[2]",
    ]
    assert all(reason.sentence and reason.sentence.isprintable() for reason in found)


def test_message_of_the_exception_names_each_place_and_sentence() -> None:
    with pytest.raises(CannotPlan) as caught:
        plan(executors=[], volumes=["v"])
    assert str(caught.value) == "; ".join(f"{one.path}: {one.sentence}" for one in caught.value.reasons)
    assert "$.executors: " in str(caught.value)
    assert "$.volumes[0]: " in str(caught.value)


def test_input_with_a_fault_of_its_own_causes_no_second_reason_for_stdin() -> None:
    where = "$.inputs[0].url"
    only_reason(where, inputs=[{"path": "/in.txt", "url": "gs://b/k"}], executors=[{**EXECUTOR, "stdin": "/in.txt"}])


def test_task_is_left_as_it_was() -> None:
    sent = task(inputs=[{"path": "/data/x/", "content": "c"}], **parameters(gpu="1"))
    before = sent.model_dump_json()
    make_plan(sent, SITE)
    assert sent.model_dump_json() == before


def test_reading_a_plan_needs_no_pydantic() -> None:
    code = "import sys, tesk.plan.model, tesk.plan.reasons; sys.exit('pydantic' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"executors": [{}]}', '{"executors": [], "mounts": [1]}'])
def test_what_is_not_a_plan_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="this is not a plan"):
        Plan.from_json(text)
